"""A study: several methods from the same start, prompts and budget, over several seeds, as one resumable piece of work.

    out/METHOD/seed-S/      a run, exactly as `sparring run` makes it
    out/verdicts.jsonl      the oracle's verdicts between the methods' final policies
    out/study.json          every number; study.md shows them
    out/seed-S.html         the runs of one seed side by side

With `tasks`, lm-eval's documents are in out/scores/. A finished run is not made again, no verdict is asked twice, and
what several runs make alike is made once (`twins.py`), so the same command goes on where it stopped. A run that a
tripwire ends is a result and is reported as one. Leaves out: the numbers (`studies/numbers.py`).

    run_study(load_study(Path("study.yaml")), Path("runs/study"), Progress())
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from itertools import combinations, product
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field, ValidationError, field_validator

from sparring.evaluation.decided_by_rule import decide, undecided
from sparring.evaluation.intervals import known_mean
from sparring.oracles.abilities import announce
from sparring.oracles.guard import Guard
from sparring.oracles.oracle import Comparison
from sparring.recipe.reading import parse_recipe, read_recipe, shipped_recipes
from sparring.recipe.recipe import Recipe
from sparring.recipe.sections import Frozen
from sparring.report.compare import gather, write_comparison
from sparring.report.summary import Summary
from sparring.rounds.evaluate import stored_by_prompt
from sparring.rounds.policies import Policies, start_folder
from sparring.rounds.run import run
from sparring.rounds.store import Store
from sparring.runtime.errors import Tripwire
from sparring.runtime.explain import explain
from sparring.runtime.files import write_json, write_text
from sparring.runtime.locks import locked_folder
from sparring.runtime.memory import release_memory
from sparring.runtime.plain_yaml import read_yaml
from sparring.runtime.progress import Progress
from sparring.studies.judges import MissingJudge, alike, check_study, contest_judge, unfinished
from sparring.studies.numbers import Pair, Preferences, Tables, markdown, numbers
from sparring.studies.tasks import Tasks, TaskScores, task_rows
from sparring.studies.twins import twins_of

START = "start"
"""the common start policy's name among the methods"""
WAVE = 256
"""comparisons judged together"""


class StudyConfig(Frozen):
    """A study file."""

    base: str
    """The recipe that all runs share: a file beside the study file, or the name of a shipped one."""
    set: tuple[str, ...] = ()
    """Changes for all runs, as `--set` takes them."""
    methods: dict[str, dict[str, Any]] = Field(min_length=1)
    """Per method, sections of the recipe that differ; `algorithm` replaces the base's, others change single fields."""
    seeds: tuple[int, ...] = Field(default=(0, 1, 2), min_length=1)
    """Every method runs once with each."""

    @field_validator("methods")
    @classmethod
    def _names(cls, methods: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        for name in methods:
            if name == START or not name.replace("-", "").replace("_", "").isalnum():
                raise ValueError(f"{name!r} names a folder: give letters, digits and hyphens, and not {START!r}.")
        return methods


Recipes = dict[tuple[str, int], Recipe]
"""by method and seed"""


def load_study(path: Path) -> Recipes:
    """All recipes of a study file, every one checked.

    Raises:
        ValueError: the file, or a recipe that it makes, has a problem; names the method.
    """
    plain = read_yaml(path, "study")
    if not isinstance(plain, dict):
        raise ValueError(f"{path} must hold the keys base and methods; see docs/how-to/study.md.")
    try:
        study = StudyConfig.model_validate(plain)
    except ValidationError as error:
        lines = "\n".join(f"  {line}" for line in explain(error, StudyConfig, plain))
        raise ValueError(f"{path} has problems:\n{lines}") from error
    for name, fields in [*study.methods.items(), ("set", [one.partition("=")[0].strip() for one in study.set])]:
        if "seed" in fields:
            raise ValueError(f"{path}, {name}: seed would be ignored; give it under seeds, with which all methods run.")
    if len(set(study.seeds)) < len(study.seeds):
        raise ValueError(f"{path}: seeds = {list(study.seeds)}: one is there twice.")
    beside = path.parent / study.base
    near = next((file for end in ("yaml", "yml") if (file := Path(f"{beside}.{end}")).is_file()), None)
    if near and not beside.is_file() and study.base not in shipped_recipes():
        raise ValueError(f"{path}, base: {study.base!r} is neither a file nor a shipped recipe. Give {near.name!r}.")
    base = read_recipe(beside if beside.is_file() else study.base, study.set)
    recipes: Recipes = {}
    for seed, (name, sections) in product(study.seeds, study.methods.items()):
        try:
            recipes[name, seed] = parse_recipe({**_merged(base, sections), "seed": seed})
        except ValueError as error:
            raise ValueError(f"{path}, method {name}: {error}") from error
    _refuse_unlike(recipes, path)
    return recipes


def _refuse_unlike(recipes: Recipes, path: Path) -> None:
    """Raise ValueError where runs would not compare: found now instead of after hours."""
    (first, _), one = next(iter(recipes.items()))
    shared = _shared(one)
    if shared["evaluation"].patience is not None:
        raise ValueError(
            f"{path}: evaluation.patience = {shared['evaluation'].patience} would end runs after different numbers of "
            "rounds, so they would not compare. Remove it."
        )
    for (name, _), other in recipes.items():
        for field, its in _shared(other).items():
            if shared[field] != its:
                raise ValueError(
                    f"{path}, method {name}: {field} is not that of {first}, so the two would not compare. "
                    f"Set {field} in the base, or under `set`, for all methods."
                )


def _shared(recipe: Recipe) -> dict[str, Any]:
    """Fields in which all methods must agree: the start, the prompts and the budget.

    Methods may train differently (data.train, data.collect, fit, adapters), but a base in 4 bits is another start.
    """
    model, data = recipe.model.model_dump(exclude={"lora"}), recipe.data
    return {
        **{f"model.{field}": value for field, value in model.items()},
        "model.lora.quantize": recipe.model.lora and recipe.model.lora.quantize,
        "data.held_out": data.held_out,
        "data.max_prompt_tokens": data.max_prompt_tokens,
        "data.prompts_per_round": data.prompts_per_round,
        "sampling": recipe.sampling,
        "rounds": recipe.rounds,
        "oracle": recipe.oracle,
        "evaluation": recipe.evaluation,
    }


def _merged(base: Mapping[str, Any], sections: Mapping[str, Any]) -> dict[str, Any]:
    merged = copy.deepcopy(dict(base))
    for name, section in sections.items():
        change = isinstance(section, dict) and isinstance(merged.get(name), dict) and name != "algorithm"
        merged[name] = {**merged[name], **section} if change else section
    return merged


def run_study(recipes: Recipes, out: Path, progress: Progress, tasks: Tasks | None = None) -> dict[str, Any]:
    """Make every run that is not there yet, judge the final policies against each other, and write the numbers.

    Raises:
        ValueError: what a run needs is missing, stored runs had another judge, every run stopped itself, or the tasks
            cannot be scored; or another process works on `out`.
    """
    folders = run_folders(recipes, out)
    if unfinished(recipes, folders):
        check_study(recipes, folders)
    with locked_folder(out):
        return _run_study(recipes, out, progress, tasks)


def _run_study(recipes: Recipes, out: Path, progress: Progress, tasks: Tasks | None) -> dict[str, Any]:
    store = Store(out)
    start = [] if tasks is None else _start_scores(recipes, tasks, out, progress)
    summaries: dict[tuple[str, int], Summary] = {}
    stopped: list[dict[str, Any]] = []
    for at, ((name, seed), recipe) in enumerate(recipes.items(), 1):
        progress.say(f"study: {name}, seed {seed} ({at} of {len(recipes)})")
        try:
            others = {key: recipes[key] for key in summaries}
            twins = twins_of(recipe, others, run_folders(others, out))
            summaries[name, seed] = run(recipe, run_folder(out, name, seed), progress, twins)
        except Tripwire as reason:
            stopped.append({"method": name, "seed": seed, "reason": str(reason)})
            progress.say(f"study: {name}, seed {seed} stopped itself and is reported as stopped: {reason}")
        release_memory()
    if not summaries:
        raise ValueError("every run of the study stopped itself, so there is nothing to compare.")
    summaries = alike(recipes, summaries)
    for seed in dict.fromkeys(seed for _, seed in summaries):
        of_seed = {name: summary for (name, s), summary in summaries.items() if s == seed}
        if len(of_seed) > 1:
            write_comparison(gather(of_seed), out / f"seed-{seed}.html")
    tables, judged = _contests(recipes, list(summaries), out, store, progress)
    result = {**numbers(summaries, tables), **judged, "stopped": stopped}
    if tasks is not None:
        result["tasks"] = task_rows(tasks.names, start, _final_scores(recipes, summaries, tasks, out, progress))
    write_json(out / "study.json", result)
    write_text(out / "study.md", markdown(result))
    return result


def run_folder(out: Path, name: str, seed: int) -> Path:
    """Folder of a run of the study."""
    return out / name / f"seed-{seed}"


def run_folders(recipes: Recipes, out: Path) -> dict[tuple[str, int], Path]:
    """Folders of all runs of the study."""
    return {key: run_folder(out, *key) for key in recipes}


def _start_scores(recipes: Recipes, tasks: Tasks, out: Path, progress: Progress) -> list[TaskScores]:
    """The common start's documents per task, before any run: what cannot be loaded stops the study here."""
    tasks.check()
    for (name, _), recipe in recipes.items():
        if recipe.model.lora is not None:
            raise ValueError(
                f"--tasks with method {name}, which trains an adapter: score its runs with sparring export and "
                "sparring evaluate leaderboard."
            )
    model = next(iter(recipes.values())).model
    scores = tasks.score(start_folder(model), out / "scores", START, progress)
    release_memory()
    return scores


def _final_scores(
    recipes: Recipes, finished: Collection[tuple[str, int]], tasks: Tasks, out: Path, progress: Progress
) -> dict[str, list[list[TaskScores]]]:
    """The final policy's documents per task, by method, for each of its scored seeds that is finished."""
    seeds = list(dict.fromkeys(seed for _, seed in recipes))[: tasks.seeds]
    scores: dict[str, list[list[TaskScores]]] = {name: [] for name, _ in recipes}
    for name, seed in finished:
        if seed in seeds:
            recipe = recipes[name, seed]
            policies = Policies(Store(run_folder(out, name, seed)), recipe.model, recipe.fit.precision)
            folder = policies.whole_weights(recipe.rounds)
            scores[name].append(tasks.score(folder, out / "scores", f"{name}, seed {seed}", progress))
            release_memory()
    for name in [name for name, of_seeds in scores.items() if not of_seeds]:
        progress.say(f"tasks: no run of {name} is scored, since those of seeds {', '.join(map(str, seeds))} stopped")
        del scores[name]
    return scores


def _contests(
    recipes: Recipes, finished: list[tuple[str, int]], out: Path, store: Store, progress: Progress
) -> tuple[dict[int, Tables], dict[str, Any]]:
    """P(first's response beats second's) by seed, pair of players and prompt: means over their stored responses.

    The second dictionary names the judge, and counts failed comparisons and prompts that one side of a pair lacks.
    """
    first = recipes[finished[0]]
    if first.oracle is None:
        return {}, {}
    runs = {key: recipes[key] for key in finished}
    guard = Guard(contest_judge(runs, run_folders(runs, out)), store.path("verdicts.jsonl"))
    asked: dict[tuple[int, Pair], list[Comparison]] = {}
    lone = 0
    for seed in dict.fromkeys(seed for _, seed in finished):
        names = [name for name, s in finished if s == seed]
        answers = {name: stored_by_prompt(run_folder(out, name, seed), recipes[name, seed].rounds) for name in names}
        answers = {START: stored_by_prompt(run_folder(out, names[0], seed), 0), **answers}
        for a, b in combinations(answers, 2):
            one, two = answers[a], answers[b]
            asked[seed, (a, b)] = [Comparison(t, x, y) for t in one if t in two for x, y in product(one[t], two[t])]
            lone += len(one.keys() ^ two.keys())
    if not isinstance(guard.oracle, MissingJudge):
        guard.probe(say=progress.say)
    announce(guard.oracle, undecided([comparison for own in asked.values() for comparison in own]), progress.say)
    tables: dict[int, Tables] = {}
    with progress.task("contests", len(asked)) as advance:
        for (seed, pair), comparisons in asked.items():
            tables.setdefault(seed, {})[pair] = _judged(comparisons, guard)
            advance(1)
    return tables, {"judge": guard.identity, "failed": guard.failed, "answered_by_one_side": lone}


def _judged(comparisons: list[Comparison], guard: Guard) -> Preferences:
    waves = [comparisons[begin : begin + WAVE] for begin in range(0, len(comparisons), WAVE)]
    verdicts = [p for wave in waves for p in decide(wave, guard)[0].tolist()]
    by_prompt: dict[str, list[float]] = {}
    for comparison, p in zip(comparisons, verdicts, strict=True):
        by_prompt.setdefault(comparison.prompt, []).append(p)
    return {text: known_mean(np.array(values)) for text, values in by_prompt.items()}
