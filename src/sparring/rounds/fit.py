"""The fit stage: pairs and anchors in, a policy folder and fit.jsonl out. Leaves out: the loop (`training/fit.py`)."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sparring.algorithms.algorithm import PolicyRef, Step
from sparring.objectives.pairs import Objective, Pair
from sparring.recipe.sections import FitConfig
from sparring.rounds.anchor import rollouts_of
from sparring.rounds.policies import Policies
from sparring.rounds.store import Made
from sparring.rounds.tables import AnchorRow, PairRow
from sparring.runtime import devices
from sparring.runtime.files import write_json_lines
from sparring.runtime.layout import round_folder
from sparring.runtime.progress import Progress
from sparring.training.batches import TrainingExample
from sparring.training.fit import Row, fit
from sparring.training.sharding import make_scorer, unsharded_weights


def training_examples(
    pairs: Sequence[PairRow], anchors: Sequence[AnchorRow], names: Mapping[str, str]
) -> list[TrainingExample]:
    """Join pairs with anchors; `names` maps each anchor name to a weight hash.

    Raises:
        ValueError: log-probabilities are missing for some examples (the first ten are named).
    """
    logps = {(row["example"], row["weights"]): row["logps"] for row in anchors}
    missing = [row["example"] for row in pairs if any((row["example"], h) not in logps for h in names.values())]
    if missing:
        raise ValueError(
            f"anchors.parquet lacks {len(missing)} examples: {missing[:10]}. Delete it to have it made again."
        )
    return [
        TrainingExample(
            id=row["example"],
            rollout=rollout,
            roles=tuple(r["role"] for r in row["responses"]),
            win_rates=tuple(r["win_rate"] for r in row["responses"]),
            anchors={name: logps[row["example"], weights] for name, weights in names.items()},
            pairs=tuple(Pair(**pair) for pair in row["pairs"]),
        )
        for row, rollout in zip(pairs, rollouts_of(pairs), strict=True)
    ]


def fit_step(
    policies: Policies,
    step: Step,
    made: PolicyRef,
    examples: list[TrainingExample],
    config: FitConfig,
    seed: int,
    progress: Progress,
    report: Callable[[dict[str, float]], None],
) -> Made:
    """Train the step's policy and save it as `made`; every step's metrics go to `report` at once."""
    folder = round_folder(made.round - 1, made.seat)
    partial = policies.store.path(f"{folder}/fit.partial/x").parent
    arguments = policies, step.start, examples, step.objective, config, seed, partial
    steps = config.epochs * -(-len(examples) // config.batch_size)
    with progress.task("fit", steps) as advance:
        listeners: dict[str, Any] = {"advance": advance, "report": report, "say": progress.say}
        model, weights, verified, rows = devices.on_all_ranks(train, *arguments, **listeners)
    write_json_lines(policies.store.path(folder.fit_log), rows)
    relative = policies.save(model, made, weights)
    shutil.rmtree(partial, ignore_errors=True)
    counts = {
        "steps": len(rows),
        "first_loss": rows[0]["loss"],
        "last_loss": rows[-1]["loss"],
        "clip_share": sum(row["clipped"] for row in rows) / len(rows),
        "tokens": sum(row["tokens"] for row in rows),
        "logp_check": verified,
    }
    return Made((relative, folder.fit_log), counts)


def train(
    policies: Policies,
    start: PolicyRef,
    examples: list[TrainingExample],
    objective: Objective,
    config: FitConfig,
    seed: int,
    partial: Path,
    **listeners: Callable[..., None],
) -> tuple[nn.Module, dict[str, Float[Tensor, " ..."]] | None, float, list[Row]]:
    """Model, full weights where they are sharded, difference to the model's own logits, and log; all ranks call it."""
    torch.manual_seed(seed)  # a fresh adapter starts from random weights, everywhere the same
    scorer, verified = make_scorer(lambda: policies.load_training(start), config)
    rows = fit(scorer, examples, objective, config, seed, partial, **listeners)
    return scorer.model, unsharded_weights(scorer.model) if config.shard_weights else None, verified, rows
