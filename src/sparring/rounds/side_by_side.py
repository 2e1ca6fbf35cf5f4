"""Responses of a run's start and final policy beside each other: the evaluation's own, or fresh ones to new prompts.

fresh(Path("runs/demo"), ["What is a tide?"])  ->  [{"prompt": ..., "start": [...], "final": [...], ...}]
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sparring.algorithms.algorithm import REFERENCE, Draw, PolicyRef
from sparring.models.messages import as_messages
from sparring.recipe.reading import load_recipe
from sparring.report.summary import load_summary
from sparring.rounds.engines import PolicyEngines
from sparring.rounds.policies import Policies
from sparring.rounds.policy_files import check_policy
from sparring.rounds.store import Store
from sparring.runtime.layout import RECIPE
from sparring.runtime.randomness import noise_seed
from sparring.sampling.engine import Request

Rows = list[dict[str, Any]]
"""prompt, start and final (lists of responses), and the oracle's preference for the final ones or None"""


def held_out(run: Path, count: int) -> Rows:
    """The first `count` held-out prompts with the evaluation's responses.

    Raises:
        ValueError: the run is not finished.
    """
    columns = ("prompt", "start", "final", "preference")
    return [{key: row[key] for key in columns} for row in load_summary(run)["samples"][:count]]


def fresh(run: Path, prompts: Sequence[str]) -> Rows:
    """One new response of each policy to every prompt, with the run's sampling settings; the same ones every time.

    Raises:
        ValueError: the run is not finished.
    """
    load_summary(run)
    recipe = load_recipe(run / RECIPE)
    policies = Policies(Store(run), recipe.model, recipe.fit.precision)
    players = (REFERENCE, PolicyRef(recipe.rounds))
    check_policy(policies, players[1])
    engines = PolicyEngines(policies, Draw("own", 1, dict.fromkeys(players, 1.0)), recipe.sampling)
    requests = [Request(policies.chat.prompt_ids(as_messages(p)), noise_seed("samples", p)) for p in prompts]
    texts: list[list[str]] = []
    for ref in players:
        responses = engines.get((ref,)).sample(requests)
        texts.append([policies.chat.decode(response.token_ids) for response in responses])
    return [
        {"prompt": p, "start": [s], "final": [f], "preference": None} for p, s, f in zip(prompts, *texts, strict=True)
    ]
