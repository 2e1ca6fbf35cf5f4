"""Which stages of a study's runs make the same files: drawn and judged once, and copied into the other runs.

All runs of a seed start from the same policy with the same prompts, so that the start's held-out answers are the same,
and methods that draw as many responses have the same first samples and verdicts. A copied stage keeps the seconds that
it took, so that a run's time stays what it would be alone. Leaves out: copying, and whether inputs agree
(`rounds/store.py`).

    twins_of(recipe, {("inpo", 0): other}, folders)  ->  {"rounds/000/sample": [folder]}
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from sparring.algorithms.algorithm import ANY_DATA, Reuse, Step
from sparring.recipe.recipe import Recipe
from sparring.runtime.layout import evaluation_stage, round_folder

Key = tuple[str, int]
"""method and seed"""


def twins_of(recipe: Recipe, others: Mapping[Key, Recipe], folders: Mapping[Key, Path]) -> dict[str, list[Path]]:
    """By stage of a run of this recipe, the folders of other runs of its study that make the same there."""
    found: dict[str, list[Path]] = {}
    for key, other in others.items():
        for stage in _common_stages(recipe, other):
            found.setdefault(stage, []).append(folders[key])
    return found


def _common_stages(one: Recipe, other: Recipe) -> list[str]:
    """Stages that depend on nothing in which two recipes of a study differ; it has the same model, prompts and judge
    in all (`reading.py`)."""
    if one.seed != other.seed or one.fit.precision != other.fit.precision or one.environment or other.environment:
        return []
    stages = [evaluation_stage("sample", 0)]
    if (one.data, one.partners) != (other.data, other.partners):
        return stages
    for step, its in zip(*(recipe.build_algorithm().steps(0, ANY_DATA) for recipe in (one, other)), strict=False):
        if step.trains != its.trains or isinstance(step.responses, Reuse) or step.responses != its.responses:
            continue
        folder = round_folder(0, step.trains)
        stages += [folder.stage("sample")] if step.draws() else []
        stages += [folder.stage("judge")] if _asks_the_same(step, its) else []
    return stages


def _asks_the_same(step: Step, its: Step) -> bool:
    """Whether two steps have the same comparisons judged, given the same responses."""
    return step.judged and its.judged and step.pairing == its.pairing
