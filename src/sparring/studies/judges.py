"""Before a study trains, find the problems that would stop it later, and judges other than those of its stored runs.

A judge is known by its identity, which changes with a function's code: runs under one and runs under the other do not
compare. Leaves out: recipes that do not compare (`reading.py`), a run's own first questions
(`rounds/preflight.py`).

    check_study(recipes, folders); judge = contest_judge(recipes, folders)
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
from jaxtyping import Float

from sparring.oracles.build import build_oracle
from sparring.oracles.guard import former_identity
from sparring.oracles.oracle import Comparison, Oracle
from sparring.recipe.reading import load_recipe
from sparring.recipe.recipe import Recipe
from sparring.report.compare import identity_of
from sparring.report.summary import Summary
from sparring.rounds.judge import judges_of
from sparring.rounds.policies import start_folder
from sparring.rounds.prepare import find_problems
from sparring.rounds.store import Store
from sparring.runtime.errors import OracleError
from sparring.runtime.files import read_json
from sparring.runtime.layout import RECIPE, SUMMARY, is_finished
from sparring.runtime.memory import release_memory

Key = TypeVar("Key")
Runs = Mapping[tuple[str, int], Recipe]
"""by method and seed"""
Folders = Mapping[tuple[str, int], Path]
Identities = dict[str, str]
"""by the recipe's field, or by an earlier identity"""


def check_study(runs: Runs, folders: Folders) -> None:
    """Look at every model and data set and build every judge, once each.

    Raises:
        ValueError: one cannot be used; or runs are still to be made, and stored ones had another judge.
    """
    _refuse_problems(runs)
    recipe = next(iter(runs.values()))
    now, today = dict[str, str](), dict[str, str]()
    for field, section in _sections(recipe).items():
        judge = build_judge(recipe, field, section)
        now[field] = judge.identity
        today |= _today(judge)
        del judge
    release_memory()
    if unfinished(runs, folders):
        _refuse_other_judges(runs, folders, now, today)


def _refuse_problems(runs: Runs) -> None:
    problems: dict[str, str] = {}
    for method, recipe in {method: recipe for (method, _), recipe in runs.items()}.items():
        name, of_choice, _ = method.partition("/")
        for problem in find_problems(recipe):
            if of_choice:  # a run that helps to choose, whose prompts are those of `choose`
                problem = problem.replace("data.held_out", "choose.held_out")
            problems.setdefault(problem, name)
    if problems:
        lines = "\n".join(f"  method {method}: {problem}" for problem, method in problems.items())
        raise ValueError(f"correct these first:\n{lines}")


def _sections(recipe: Recipe) -> dict[str, dict[str, Any]]:
    """The judges of a recipe by its field, in the order of a summary's judgments."""
    training = {} if recipe.oracle is None else {"oracle": recipe.oracle}
    return training | {f"evaluation.oracles.{i}": s for i, s in enumerate(recipe.evaluation.oracles)}


def build_judge(recipe: Recipe, field: str, section: Mapping[str, Any]) -> Oracle:
    """The judge that a section describes. Raises ValueError naming the field."""
    start = str(start_folder(recipe.model))
    try:
        return build_oracle(section, start)
    except ValueError as error:
        raise ValueError(str(error) if field == "oracle" else f"{field}: {error}") from error


def unfinished(runs: Runs, folders: Folders) -> bool:
    """Whether a run is still to be made."""
    return not all(_finished(folders[key], recipe) for key, recipe in runs.items())


def _finished(folder: Path, recipe: Recipe) -> bool:
    """Whether the run is finished under this recipe, so that `run` asks no judge again."""
    if not is_finished(Store(folder).manifest, recipe.rounds):
        return False
    before, now = load_recipe(folder / RECIPE).resolved(), recipe.resolved()
    return all(before[section] == now[section] for section in ("oracle", "evaluation"))


def _today(judge: Oracle) -> Identities:
    """The judge's identity by the one under which earlier versions stored it, where that was another."""
    former = former_identity(judge)
    return {} if former is None else {former: judge.identity}


def _judges_of_run(folder: Path, recipe: Recipe, today: Identities) -> list[tuple[str, str]]:
    """The judges of a run so far, as field and identity: those of training, and those of a finished evaluation.

    `today`: the identities that stand for those of earlier versions.
    """
    judges = [("oracle", identity) for identity in judges_of(Store(folder).manifest).values()]
    if _finished(folder, recipe):
        judgments = read_json(folder / SUMMARY)["judgments"]
        judges += zip(_sections(recipe), (judgment["identity"] for judgment in judgments), strict=True)
    return [(field, today.get(identity, identity)) for field, identity in judges]


def _refuse_other_judges(runs: Runs, folders: Folders, now: Identities, today: Identities) -> None:
    for (method, seed), recipe in runs.items():
        for field, identity in _judges_of_run(folders[method, seed], recipe, today):
            if identity != now.get(field):
                raise ValueError(
                    f"{field}: method {method}, seed {seed}, was judged by {identity}, and new runs would be by "
                    f"{now.get(field, 'nobody')}, so the two would not compare. Give another --out, or bring the first "
                    "judge back."
                )


def contest_judge(runs: Runs, folders: Folders) -> Oracle:
    """The judge that all these finished runs were trained under; of a missing one only stored verdicts can be used.

    Raises:
        ValueError: they had several.
    """
    first = next(iter(runs.values()))
    assert first.oracle is not None
    judge, reason, today = None, "", dict[str, str]()
    try:
        judge = build_judge(first, "oracle", first.oracle)
        today = _today(judge)
        reason = f"the recipe's judge is now {judge.identity}."
    except ValueError as error:
        reason = f"it cannot be built any more: {error}"
    judges = {
        identity: key
        for key, recipe in runs.items()
        for field, identity in _judges_of_run(folders[key], recipe, today)
        if field == "oracle"
    }
    if len(judges) > 1:
        names = "; ".join(f"{method}, seed {seed}: {identity}" for identity, (method, seed) in judges.items())
        raise ValueError(f"oracle: the study's runs had several judges and do not compare. Give another --out. {names}")
    (identity,) = judges
    return judge if judge is not None and judge.identity == identity else MissingJudge(identity, reason)


def alike(runs: Mapping[Key, Recipe], summaries: Mapping[Key, Summary]) -> dict[Key, Summary]:
    """The summaries, with today's identity of a judge in place of the one that earlier versions gave it."""
    if _same_judges(summaries):
        return dict(summaries)
    sections = [(recipe, *item) for recipe in runs.values() for item in _sections(recipe).items()]
    today, built = dict[str, str](), set[str]()
    for recipe, field, section in sections:
        text = json.dumps([recipe.model.path, section], default=str)
        if text in built or '"function"' not in text:  # others had one identity only, and may take minutes to load
            continue
        built.add(text)
        with contextlib.suppress(ValueError):  # one that cannot be built any more keeps the identities that it had
            today |= _today(build_judge(recipe, field, section))
    release_memory()
    found: dict[Key, Summary] = {}
    for key, summary in summaries.items():
        judgments = [{**one, "identity": today.get(identity_of(one), identity_of(one))} for one in summary["judgments"]]
        found[key] = cast(Summary, {**summary, "judgments": judgments})
    return found


def alike_in(folders: Mapping[Key, Path], summaries: Mapping[Key, Summary]) -> dict[Key, Summary]:
    """As `alike`, of finished runs in these folders; a recipe that this version cannot read tells nothing."""
    recipes: dict[Key, Recipe] = {}
    for key, folder in () if _same_judges(summaries) else folders.items():
        with contextlib.suppress(ValueError):
            recipes[key] = load_recipe(folder / RECIPE)
    return alike(recipes, summaries)


def _same_judges(summaries: Mapping[Key, Summary]) -> bool:
    return len({tuple(map(identity_of, summary["judgments"])) for summary in summaries.values()}) == 1


class MissingJudge:
    """A judge that cannot be asked any more: its identity finds its stored verdicts."""

    def __init__(self, identity: str, reason: str) -> None:
        self.identity, self.reason = identity, reason

    def judge(self, comparisons: Sequence[Comparison]) -> Float[np.ndarray, " N"]:
        """Raises OracleError: there is nobody to ask."""
        raise OracleError(
            f"oracle {self.identity} judged the study's runs, and {len(comparisons)} verdicts of it are missing, but "
            f"{self.reason} Bring it back, or give another --out."
        )
