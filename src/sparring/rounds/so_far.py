"""The evaluated policies of a run, from the facts of its finished stages: their figures, the best, and an early stop.

So the run, its report and `status` agree. Loads no model code. Leaves out: how "best" is chosen
(`evaluation/best_policy.py`).

    evaluated_policies(store.manifest, recipe.evaluated_rounds())[-1]["win_rate"].value
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, cast

from sparring.evaluation.best_policy import Best, EvaluatedPolicy, Stopped, find_best
from sparring.evaluation.intervals import from_json
from sparring.runtime.layout import STOP_STAGE, evaluation_stage

if TYPE_CHECKING:
    from sparring.recipe.recipe import Recipe

Manifest = Mapping[str, Any]


def evaluated_policies(manifest: Manifest, rounds: Iterable[int]) -> list[EvaluatedPolicy]:
    """The main figures of those policies that are judged."""
    stages = ((t, *(manifest.get(evaluation_stage(name, t)) for name in ("judge", "measure"))) for t in rounds)
    return [_figures(t, judged["facts"], measured["facts"]) for t, judged, measured in stages if judged and measured]


def _figures(t: int, judged: Mapping[str, Any], measured: Mapping[str, Any]) -> EvaluatedPolicy:
    figures = {"round": t, **judged, **{name: measured[name] for name in ("tokens_mean", "kl_to_start")}}
    return cast(EvaluatedPolicy, from_json(figures))


def so_far(manifest: Manifest, recipe: Recipe) -> dict[str, Any]:
    """The part of the summary that is about all evaluated policies; empty without evaluation.every."""
    if recipe.evaluation.every is None:
        return {}
    policies = evaluated_policies(manifest, recipe.evaluated_rounds())
    facts = manifest.get(STOP_STAGE, {}).get("facts")
    stop = {"stopped": facts} if facts and facts["after"] == recipe.rounds else {}
    return {"evaluated": policies, "best": best_after(manifest, recipe, recipe.rounds), **stop}


def best_after(manifest: Manifest, recipe: Recipe, t: int) -> Best | None:
    """The best of the policies that were evaluated after at most `t` of the recipe's rounds."""
    if recipe.evaluation.every is None:
        return None
    rounds = [one for one in recipe.evaluated_rounds() if one <= t]
    return find_best(evaluated_policies(manifest, rounds), recipe.evaluation.best_by)


def find_stop(manifest: Manifest, recipe: Recipe, t: int) -> Stopped | None:
    """Whether evaluation.patience ends the recipe's training after `t` rounds."""
    patience, by = recipe.evaluation.patience, recipe.evaluation.best_by
    best = best_after(manifest, recipe, t)
    if patience is None or t >= recipe.rounds or best is None or best["since"] < patience:
        return None
    return {"after": t, "of": recipe.rounds, "patience": patience, "by": by, "best": best["round"]}
