"""The recipe of a run's folder: written at the start, compared when a run resumes, and what may change then.

`rounds` may grow, `fit` may change for what is not fitted yet (after a tripwire, a lower learning rate), `evaluation`
is done again as far as it changed, and fields that decide where, how fast or at what price may change at any time. The
settings of fits that were finished before a change stay in fit_settings.json, by folder. Leaves out: running anything.

    take_recipe(store, recipe, check_resumable(store, recipe), Progress()); fit_settings(store, recipe, round_folder(1))
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import takewhile
from pathlib import Path
from typing import Any

import yaml

from sparring.algorithms.algorithm import Reuse, Step
from sparring.recipe.reading import load_recipe, parse_recipe
from sparring.recipe.recipe import Recipe
from sparring.recipe.sections import EndpointConfig, FitConfig
from sparring.rounds.state import read_manifest, read_stored, rounds_made
from sparring.rounds.store import Store
from sparring.runtime import layout
from sparring.runtime.files import read_object, write_json, write_text
from sparring.runtime.plain_yaml import yaml_text
from sparring.runtime.progress import Progress

Plain = dict[str, Any]
FREE = (
    *("fit.micro_batch_tokens", "fit.shard_weights", "fit.checkpoint_minutes"),
    *("sampling.batch_size", "sampling.engine", "sampling.vllm", "evaluation", "trackers"),
    *("keep_iterates", "keep_every", "warm", "judge_while_sampling"),
    *("data.teacher.base_url", "data.teacher.key_env"),
)
"""fields and sections that may change at any time: where and how fast, and what comes after training"""
LIMITS = EndpointConfig.model_fields.keys() - {"model", "base_url", "key_env"}
"""fields of served models and judges that may change at any time: they choose no answer"""
ANCHORED = {"fit.layout", "fit.attention", "fit.precision"}
"""anchors are measured as the fit will measure: a change makes those of unfinished fits again"""


Changes = dict[str, tuple[Any, Any]]
"""old and new value by field"""


def check_resumable(store: Store, recipe: Recipe) -> Changes:
    """Compare the recipe with the one that the folder's run was started with; writes nothing.

    A folder in which no stage but the data's has finished takes any recipe: a mistake at the start can be corrected.
    `rounds` may go back to what is fitted.

    Raises:
        ValueError: the folder holds a run of another recipe; names the fields.
    """
    if not (store.root / layout.RECIPE).exists() or not store.manifest.keys() - {layout.DATA_STAGE}:
        return {}
    asked = recipe.resolved()
    changes = _changes(_completed(read_stored(store.root)), asked)
    later = range(asked["rounds"], changes.get("rounds", (0, 0))[0])
    fitted = any(layout.round_folder(t).stage("fit") in store.manifest for t in later)
    if refused := {n: both for n, both in changes.items() if not _may_change(n) or (fitted and n == "rounds")}:
        raise ValueError(
            f"{store.root} holds a run of another recipe:\n"
            + "\n".join(f"  {name}: {yaml_text(was)} -> {yaml_text(now)}" for name, (was, now) in refused.items())
            + "\nGive another --out, or undo the difference (only rounds may grow, fit may change for what is not "
            "fitted yet, and evaluation at any time)."
        )
    return changes


def take_recipe(store: Store, recipe: Recipe, changes: Changes, progress: Progress) -> None:
    """Write recipe.yaml, and forget what the changes act on.

    Raises:
        ValueError: `fit` changed, and everything is fitted already; nothing was written.
    """
    path = store.root / layout.RECIPE
    before = _completed(read_stored(store.root)) if path.exists() and store.manifest else {}
    if store.manifest.keys() == {layout.DATA_STAGE} and before != recipe.resolved():
        store.forget(layout.DATA_STAGE)  # its inputs do not hold all that may have changed
    if fit_changes := {name: both for name, both in changes.items() if name.startswith("fit.")}:
        _change_fit(store, recipe, before["fit"], fit_changes, progress)
    _evaluate_again(store, changes)
    write_text(path, yaml.safe_dump(recipe.resolved(), sort_keys=False, allow_unicode=True))


def _completed(before: Plain) -> Plain:
    """A stored recipe with the defaults of fields that came after it, which is how that run was made."""
    try:
        return parse_recipe(before).resolved()
    except ValueError:  # a field that is gone or renamed: the difference shows it
        return before


def _changes(before: Plain, asked: Plain) -> dict[str, tuple[Any, Any]]:
    """Old and new value of every field that differs."""
    old, new = _flat(before), _flat(asked)
    both = {name: (old.get(name), new.get(name)) for name in {**old, **new}}
    return {name: (was, now) for name, (was, now) in both.items() if was != now}


def _may_change(name: str) -> bool:
    if name.split(".")[-1] in LIMITS and name.startswith(("oracle.", "data.teacher.")):
        return True
    return name == "rounds" or any(f"{name}.".startswith(f"{free}.") for free in ("fit", *FREE))


def _evaluate_again(store: Store, changes: Mapping[str, tuple[Any, Any]]) -> None:
    """Forget the parts of a finished evaluation that a change acts on."""
    changed = {name.removeprefix("evaluation.") for name in changes if name.startswith("evaluation.")}
    if changed:
        store.forget(layout.SUMMARY_STAGE)
        store.forget(layout.STOP_STAGE)
    if changed - {"every", "patience", "best_by"}:
        for key in [key for key in store.manifest if layout.in_evaluation(key) and layout.stage_name(key) == "judge"]:
            store.forget(key)
    if changed & {"prompts", "samples"}:
        for key in [key for key in store.manifest if layout.in_evaluation(key)]:
            store.forget(key)
    were, are = changes.get("evaluation.opponents", ([], []))
    for old in were:
        if old not in are:
            store.forget(layout.evaluation_stage("ask", old["name"]))


def _change_fit(
    store: Store, recipe: Recipe, before: Plain, changes: dict[str, tuple[Any, Any]], progress: Progress
) -> None:
    """Keep the settings of finished fits; the others will use the recipe's."""
    words = "; ".join(f"{name} = {now} (was {was})" for name, (was, now) in changes.items())
    folders = _fit_folders(recipe)
    # A finished fit that comes after an unfinished one will be made again: its start differs.
    done = [*takewhile(lambda folder: store.finished(folder.stage("fit")), folders)]
    if done == folders and changes.keys() - FREE:
        raise ValueError(
            f"{words}: all {recipe.rounds} rounds in {store.root} are fitted already. Undo the change, raise rounds, "
            "delete a round's policy folder to have it and the later ones fitted again, or give another --out."
        )
    stored = read_settings(store.root)
    write_json(store.path(layout.FIT_SETTINGS), {folder: stored.get(folder, before) for folder in done})
    if changes.keys() & ANCHORED:
        for folder in folders[len(done) :]:
            store.forget(folder.stage("anchor"))
    if done != folders:
        already = f"; {layout.FIT_SETTINGS} holds what {', '.join(done)} used" if done else ""
        progress.say(f"note  {words}, from {folders[len(done)]} on{already}")


def _fit_folders(recipe: Recipe) -> list[layout.StepFolder]:
    return [layout.round_folder(t, step.trains) for t, steps in enumerate(recipe.steps()) for step in steps]


def _flat(section: Mapping[str, Any], prefix: str = "") -> Plain:
    """Fields by their dotted name in a recipe, such as fit.tripwires.repetition."""
    flat: Plain = {}
    for name, value in section.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value}
    return flat


def read_run_recipe(root: Path) -> Recipe:
    """The recipe of a run's folder, with the rounds that the run really has: evaluation.patience may have stopped it.

    Raises:
        ValueError: it cannot be read by this version.
    """
    recipe = load_recipe(root / layout.RECIPE)
    return recipe.after(rounds_made(read_manifest(root), recipe.rounds))


def read_settings(root: Path) -> dict[str, Plain]:
    """Whole `fit` sections by folder, of fits that were finished before their recipe's section changed."""
    return read_object(root / layout.FIT_SETTINGS) if (root / layout.FIT_SETTINGS).exists() else {}


def fit_settings(store: Store, recipe: Recipe, folder: layout.StepFolder) -> FitConfig:
    """The settings of the fit in `folder`: those it was finished with, otherwise the recipe's."""
    stored = read_settings(store.root).get(folder)
    return recipe.fit if stored is None else FitConfig.model_validate(stored)


def other_settings(root: Path) -> dict[str, Plain]:
    """The fields in which finished fits differ from recipe.yaml, by folder."""
    now = read_stored(root)["fit"]
    changed = {folder: _changes({"fit": _fit(fit)}, {"fit": _fit(now)}) for folder, fit in read_settings(root).items()}
    return {folder: {name: was for name, (was, _) in changes.items()} for folder, changes in changed.items() if changes}


def _fit(plain: Plain) -> Plain:
    """A stored `fit` section with the defaults of fields that came after it."""
    return FitConfig.model_validate(plain).model_dump(mode="json")


def stage_names(recipe: Recipe) -> Iterator[str]:
    """The manifest's key of every stage of a run, in order."""
    yield layout.DATA_STAGE
    if recipe.data.collect is not None:
        yield from map(layout.COLLECTION.stage, ("sample", "judge", "pair", "freeze"))
    if recipe.data.teacher is not None:
        yield layout.TEACHER_STAGE
    for t, steps in enumerate(recipe.steps()):
        for step in steps:
            yield from map(layout.round_folder(t, step.trains).stage, _stages_of(step, recipe))
        if recipe.evaluation.every is not None and t + 1 in recipe.evaluated_rounds():
            yield from _evaluation_of(recipe, t + 1)
    if recipe.evaluation.every is None:
        for t in (0, *recipe.evaluated_rounds()):
            yield from (layout.evaluation_stage("sample", t), layout.evaluation_stage("measure", t))
        yield from _in_roles(recipe, recipe.rounds)
        yield from (layout.evaluation_stage("ask", opponent.name) for opponent in recipe.evaluation.opponents)
    yield layout.SUMMARY_STAGE


def _evaluation_of(recipe: Recipe, t: int) -> Iterator[str]:
    """The stages that evaluate a policy while the run goes on; the first time the start and the opponents too."""
    first = t == recipe.evaluated_rounds()[0]
    for policy in (0, t) if first else (t,):
        yield from (layout.evaluation_stage("sample", policy), layout.evaluation_stage("measure", policy))
    if first:
        yield from (layout.evaluation_stage("ask", opponent.name) for opponent in recipe.evaluation.opponents)
    yield from _in_roles(recipe, t)
    yield layout.evaluation_stage("judge", t)


def _in_roles(recipe: Recipe, t: int) -> Iterator[str]:
    """The stages in which a policy plays one role of an environment at a time."""
    roles = recipe.trained_roles() if recipe.environment is not None else ()
    return (layout.evaluation_stage("sample", f"{t}-{role}") for role in roles if len(roles) > 1)


def _stages_of(step: Step, recipe: Recipe) -> Iterator[layout.StageName]:
    if not isinstance(step.responses, Reuse):
        if step.draws():
            yield "sample"
        if step.judged and recipe.environment is None:
            yield "judge"
        yield "pair"
    yield from ("anchor", "fit")
