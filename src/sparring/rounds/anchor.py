"""The anchor stage: log-probabilities of the pairs' responses under every anchor, once per weight hash.

One policy is in memory at a time; a policy that serves as two anchors (in round 0 the iterate is the reference)
is run once. Several devices, or the workers of a cluster, run the same packs, some each. Leaves out: the forward pass
(`training/rollout_logps.py`).
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from sparring.algorithms.algorithm import PolicyRef
from sparring.fleet.work import Job, Listeners, Places, Shards, Work, current
from sparring.recipe.sections import FitConfig
from sparring.rounds.policies import Policies
from sparring.rounds.tables import ANCHORS, AnchorRow, PairRow
from sparring.runtime import devices
from sparring.runtime.memory import release_memory
from sparring.runtime.parts import sharded
from sparring.runtime.progress import QUIET, Progress
from sparring.training.packing import Rollout, plan_rollouts
from sparring.training.rollout_logps import ANCHOR_ROOM, measuring, rollout_logps
from sparring.training.sharding import make_scorer


def rollouts_of(pairs: Sequence[PairRow]) -> list[Rollout]:
    """The rows of pairs.parquet as rollouts."""
    return [Rollout(row["prompt_ids"], [r["token_ids"] for r in row["responses"]]) for row in pairs]


def anchor_logps(
    policies: Policies,
    refs: Sequence[PolicyRef],
    pairs: Sequence[PairRow],
    config: FitConfig,
    target: Path,
    progress: Progress,
    measured: Sequence[AnchorRow] = (),
) -> dict[str, int]:
    """Write `target`; one shard per distinct policy. Returns counts.

    `measured`: rows of the same pairs measured in the same way, whose policies are not run again.
    """
    distinct = {policies.hash(ref): ref for ref in reversed(refs)}
    rollouts = rollouts_of(pairs)
    digest = hashlib.sha256()
    for rollout in rollouts:
        digest.update(repr(rollout).encode())
    content = digest.hexdigest()
    how = f"{config.layout}{config.precision}{'' if config.attention == 'blocks' else config.attention}"
    keys = [hashlib.sha256(f"{weights}{content}{how}".encode()).hexdigest() for weights in distinct]

    def results(indices: Sequence[int]) -> Iterator[tuple[int, list[AnchorRow]]]:
        for index in indices:
            yield index, rows(*list(distinct.items())[index])

    def rows(weights: str, ref: PolicyRef) -> list[AnchorRow]:
        if known := [row for row in measured if row["weights"] == weights]:
            return known
        logps = policy_logps(policies, ref, rollouts, config, f"anchor {ref.title}", progress)
        return [
            {"example": row["example"], "weights": weights, "logps": row_logps}
            for row, row_logps in zip(pairs, logps, strict=True)
        ]

    sharded(target, keys, ANCHORS, results, lambda _: None, progress.say)
    reused = len({row["weights"] for row in measured} & distinct.keys())
    return {"policies": len(distinct) - reused, "responses": sum(len(r.responses) for r in rollouts)}


def policy_logps(
    policies: Policies, ref: PolicyRef, rollouts: Sequence[Rollout], config: FitConfig, title: str, progress: Progress
) -> list[list[float]]:
    """Per rollout, the log-probability (in nats) of each response under a policy; all devices take part."""
    if not current().shares:
        return devices.on_all_ranks(_policy_logps, policies, ref, rollouts, config, title, progress=progress)
    if config.shard_weights:  # one policy over all devices
        folders = partial(policies.folders, [ref])
        run = partial(_logps_together, policies, ref, rollouts, config, title)
        return current().together(Job(title, folders, run, policies.store.root), {})
    packs = plan_rollouts(rollouts, ANCHOR_ROOM * config.micro_batch_tokens, config.layout)
    logps: list[list[float]] = [[] for _ in rollouts]
    key = policies.worker_key([ref], config.layout, config.attention, config.precision)
    work = Work(title, key, partial(policies.folders, [ref]), PackLogps(policies, ref, config))
    shards = Shards(range(len(packs)), lambda index: [rollouts[i] for i in packs[index]])
    with progress.task(title, len(rollouts)) as advance:
        for index, values in current().results(work, shards):
            for i, row in zip(packs[index], values, strict=True):
                logps[i] = row
            advance(len(packs[index]))
    return logps


@dataclass(frozen=True, slots=True)
class PackLogps:
    """Opens a policy that measures packs of responses."""

    policies: Policies
    ref: PolicyRef
    config: FitConfig

    @contextlib.contextmanager
    def __call__(self, places: Places) -> Iterator[Callable[[list[Rollout]], list[list[float]]]]:
        """A function from a pack to the log-probabilities of each of its rollouts' responses."""
        scorer, _ = make_scorer(lambda: self.policies.at(places).load_scoring(self.ref), self.config)
        with measuring(scorer, self.config.precision) as measure:
            yield measure


def _logps_together(
    policies: Policies,
    ref: PolicyRef,
    rollouts: Sequence[Rollout],
    config: FitConfig,
    title: str,
    places: Places,
    root: Path,
    listeners: Listeners,
) -> list[list[float]]:
    return _policy_logps(policies.at(places), ref, rollouts, config, title)


def _policy_logps(
    policies: Policies,
    ref: PolicyRef,
    rollouts: Sequence[Rollout],
    config: FitConfig,
    title: str,
    progress: Progress = QUIET,
) -> list[list[float]]:
    scorer, _ = make_scorer(lambda: policies.load_scoring(ref), config)
    budget = ANCHOR_ROOM * config.micro_batch_tokens
    with progress.task(title, len(rollouts)) as advance:
        logps = rollout_logps(scorer, rollouts, budget, config.precision, advance, shared=True)
    del scorer
    release_memory()  # its lean forwards are cycles, which would stay until the next policy is beside it
    return logps
