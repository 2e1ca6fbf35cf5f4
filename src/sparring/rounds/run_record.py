"""The run's own part of the summary: recipe, versions, weights, and every round's stages and fit.

Leaves out: the measures on held-out prompts (`evaluate.py`).

    run_record(policies, recipe)["rounds"][0]["stages"]["fit"]["seconds"]
"""

from __future__ import annotations

import json
import time
from collections import Counter
from typing import Any

import sparring
from sparring.algorithms.algorithm import PolicyRef
from sparring.recipe.recipe import Recipe
from sparring.rounds.policies import Policies
from sparring.rounds.resume import other_settings
from sparring.rounds.store import Store
from sparring.runtime.files import read_object
from sparring.runtime.layout import COLLECTION, DATA_STAGE, LOCK, TEACHER_STAGE, round_folder


def run_record(policies: Policies, recipe: Recipe) -> dict[str, Any]:
    """The run's part of the summary, when all rounds are finished."""
    store = policies.store
    weights = {str(ref): policies.hash(ref) for ref in map(PolicyRef, range(recipe.rounds + 1))}
    return {
        "name": store.root.name,
        "sparring_version": sparring.__version__,
        "finished": time.strftime("%Y-%m-%dT%H:%M:%S"),
        "algorithm": recipe.build_algorithm().about._asdict(),
        "recipe": recipe.resolved(),
        "fit_settings": other_settings(store.root),
        "lock": {**read_object(store.root / LOCK), "weights": weights},
        "rounds": [{"round": t, "stages": _stages(store, t)} for t in range(recipe.rounds)],
        "fit": [_fit_log(store, t) for t in range(recipe.rounds)],
        **({"train_sets": sets} if (sets := store.manifest[DATA_STAGE]["facts"].get("train_sets")) else {}),
        "dropped": _dropped(store),
    }


def _dropped(store: Store) -> dict[str, dict[str, int]]:
    """Rows left out before the first round: of the data, of a teacher's answers, and of a collection."""
    facts = {key: entry["facts"] for key, entry in store.manifest.items()}
    dropped = dict(facts[DATA_STAGE]["dropped"])
    if TEACHER_STAGE in facts:
        dropped["teacher"] = facts[TEACHER_STAGE]["dropped"]
    if pairs := facts.get(COLLECTION.stage("pair")):
        failed = facts[COLLECTION.stage("judge")]["failed"]
        reasons = Counter(pairs["dropped_examples"]) + Counter(pairs["dropped_pairs"])
        dropped["collection"] = dict(reasons + Counter({"comparison without a verdict": failed}))
    return dropped


def _stages(store: Store, t: int) -> dict[str, Any]:
    """Seconds and counts of a round's stages, those of other seats (`half/fit`) too."""
    prefix = f"{round_folder(t)}/"
    entries = {key.removeprefix(prefix): entry for key, entry in store.manifest.items() if key.startswith(prefix)}
    return {key: {name: entry[name] for name in ("seconds", "facts")} for key, entry in entries.items()}


def _fit_log(store: Store, t: int) -> list[dict[str, Any]]:
    lines = (store.root / round_folder(t).fit_log).read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]
