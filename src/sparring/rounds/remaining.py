"""How long the rest of a run takes, by what its finished stages took: about, and at the earliest after a round.

A stage of the next rounds takes what the last one of its kind took. The evaluation takes, per response and comparison,
what the last round did, until a stage of its own kind is there. Served opponents, and judges that no training asks,
are not counted. Leaves out: times before anything has run (`planning/`).

    seconds_left(recipe, stage_names(recipe), store.manifest)  ->  840.0, or None after less than a round
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from sparring.recipe.recipe import Recipe
from sparring.rounds.price import evaluation_comparisons
from sparring.runtime.layout import DATA_STAGE, SUMMARY_STAGE, in_evaluation, stage_name

Manifest = Mapping[str, Any]


def seconds_left(recipe: Recipe, names: Iterable[str], manifest: Manifest) -> float | None:
    """Seconds of all stages that are not finished; None where a kind of them has not run."""
    parts = [_expected(recipe, name, manifest) for name in names if name not in manifest]
    known = [part for part in parts if part is not None]
    return sum(known) if len(known) == len(parts) else None


def _expected(recipe: Recipe, name: str, manifest: Manifest) -> float | None:
    alike = [entry for key, entry in manifest.items() if _kind(key) == _kind(name)]
    if alike:
        return float(alike[-1]["seconds"])
    if not in_evaluation(name):
        return None
    return _evaluation(recipe, name, manifest)


def _kind(key: str) -> tuple[str, ...]:
    """What stages have in common that take alike: their kind, and the seat of those that have one."""
    folder, _, _ = key.rpartition("/")
    return (*folder.split("/")[:1], *folder.split("/")[2:], stage_name(key))


def _evaluation(recipe: Recipe, name: str, manifest: Manifest) -> float | None:
    """Of the first stage of its kind in the evaluation, from the stages of the rounds."""
    held_out = manifest.get(DATA_STAGE, {}).get("facts", {}).get("held_out")
    if held_out is None:
        return None
    responses = recipe.evaluation.samples * min(recipe.evaluation.prompts or held_out, held_out)
    every = recipe.evaluation.every is not None  # the summary then has nothing left to judge
    if name == SUMMARY_STAGE or stage_name(name) == "judge":
        asks = recipe.oracle is not None and every == (name != SUMMARY_STAGE)
        comparisons = evaluation_comparisons(recipe, held_out, recipe.asks_oracle()) if asks else 0
        share = len(recipe.evaluated_rounds()) if every else 1
        return _scaled(manifest, "judge", ("comparisons",), math.ceil(comparisons / share)) or 0.0
    if stage_name(name) == "sample":
        return _scaled(manifest, "sample", ("responses",), responses)
    if stage_name(name) == "measure":  # the policy's own log-probabilities, and the start's
        return _scaled(manifest, "anchor", ("responses", "policies"), 2 * responses)
    return 0.0


def _scaled(manifest: Manifest, stage: str, counts: tuple[str, ...], wanted: int) -> float | None:
    """Seconds for `wanted` units, at the speed of the last round's stage; its units are the product of its counts."""
    for key in reversed(list(manifest)):
        if stage_name(key) == stage and not in_evaluation(key):
            units, facts = 1, manifest[key]["facts"]
            for count in counts:
                units *= facts.get(count, 0)
            seconds = float(manifest[key]["seconds"])
            if stage == "judge":  # what was judged while sampling went on took time too
                sampled = manifest.get(f"{key.removesuffix('judge')}sample", {"facts": {}})
                seconds += sampled["facts"].get("seconds_judging", 0.0)
            return seconds * wanted / units if units else None
    return None
