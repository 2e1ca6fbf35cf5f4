"""Responses of a run's start and final policy beside each other: the evaluation's own, or fresh ones to new prompts.

Of a run that is not finished, the newest responses that it trains on.

fresh(Path("runs/demo"), ["What is a tide?"])  ->  [{"prompt": ..., "start": [...], "final": [...], ...}]
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sparring.report.html import policy_name
from sparring.report.summary import load_summary
from sparring.rounds.state import read_manifest
from sparring.runtime.files import read_columns
from sparring.runtime.layout import TRAIN, StepFolder, in_evaluation, stage_name, title_of
from sparring.runtime.randomness import noise_seed

Rows = list[dict[str, Any]]
"""prompt, start and final (lists of responses), and the oracle's preference for the final ones or None"""


def held_out(run: Path, count: int) -> Rows:
    """The first `count` held-out prompts with the evaluation's responses.

    Raises:
        ValueError: the run is not finished.
    """
    columns = ("prompt", "start", "final", "preference")
    return [{key: row[key] for key in columns} for row in load_summary(run)["samples"][:count]]


def in_training(run: Path, count: int) -> Rows:
    """The first `count` prompts of the newest round, with the responses that were sampled to train on.

    Raises:
        ValueError: nothing was sampled yet.
    """
    stages = [name for name in read_manifest(run) if stage_name(name) == "sample" and not in_evaluation(name)]
    if not stages:
        raise ValueError(f"{run} has no samples yet: wait for its first round, or go on with `sparring run`.")
    folder = stages[-1].rpartition("/")[0]
    sampled = read_columns(run / StepFolder(folder).samples, ["example", "policy", "text"]).to_pylist()
    answers: dict[str, list[dict[str, str]]] = {}
    for row in sampled:
        if row["example"] in answers or len(answers) < count:
            policy = " + ".join(map(policy_name, row["policy"].split(" + ")))
            answers.setdefault(row["example"], []).append({"policy": policy, "text": row["text"]})
    asked = run / StepFolder(folder).prompts  # by an environment
    train = read_columns(asked if asked.exists() else run / TRAIN, ["example", "prompt"]).to_pylist()
    prompts = {row["example"]: row["prompt"] for row in train if row["example"] in answers}
    title = title_of(folder)
    return [{"prompt": prompts[name], "stage": title, "answers": given} for name, given in answers.items()]


def fresh(run: Path, prompts: Sequence[str]) -> Rows:
    """One new response of each policy to every prompt, with the run's sampling settings; the same ones every time.

    Raises:
        ValueError: the run is not finished.
    """
    # Here, as they load torch: pages that show stored responses start without it.
    from sparring.algorithms.algorithm import REFERENCE, Draw, PolicyRef
    from sparring.models.messages import as_messages
    from sparring.rounds.engines import PolicyEngines
    from sparring.rounds.policies import Policies
    from sparring.rounds.policy_files import check_policy
    from sparring.rounds.resume import read_run_recipe
    from sparring.rounds.store import Store
    from sparring.sampling.engine import Request

    load_summary(run)
    recipe = read_run_recipe(run)
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
