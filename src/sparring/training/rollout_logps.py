"""The anchor pass: log-probabilities of responses under a frozen policy, without gradients.

Runs in the same layout and precision as the fit, so that a policy that has not moved has log-ratios of
zero, up to rounding in bfloat16. Leaves out: which policies are needed (`rounds/anchor.py`).

    logps = rollout_logps(PolicyScorer(model), rollouts, budget=8192, precision="bfloat16")
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice

import torch

from sparring.runtime import devices
from sparring.runtime.precision import products_in
from sparring.training.accumulate import accumulating
from sparring.training.packing import Rollout, plan_rollouts
from sparring.training.scorer import PolicyScorer

Measure = Callable[[Sequence[Rollout]], list[list[float]]]
"""rollouts that are run together in, the log-probabilities of each one's responses out"""
ANCHOR_ROOM = 2
"""Tokens run at once, as a multiple of the fit's: no layer is stored, and longer products are faster (docs/log.md)."""


@contextmanager
def measuring(scorer: PolicyScorer, precision: str = "bfloat16") -> Iterator[Measure]:
    """A function that measures packs, one after the other in the thread that entered this block.

    One region for all: the weights' low-precision copies are made once, not for every pack.
    """
    scorer.eval()
    low = products_in(precision, scorer.causal.device.type)
    # In inference mode autocast would cast every weight again for every pack.
    with torch.no_grad(), accumulating(), low:
        yield partial(_pack_logps, scorer)


def _pack_logps(scorer: PolicyScorer, rollouts: Sequence[Rollout]) -> list[list[float]]:
    flat = iter(scorer(scorer.pack(rollouts)).tolist())
    return [list(islice(flat, len(rollout.responses))) for rollout in rollouts]


def rollout_logps(
    scorer: PolicyScorer,
    rollouts: Sequence[Rollout],
    budget: int,
    precision: str = "bfloat16",
    advance: Callable[[int], None] = lambda _: None,
    shared: bool = False,
) -> list[list[float]]:
    """Per rollout, the log-probability (nats) of each response, summed over its tokens.

    `budget` is the number of tokens run at once. `shared`: all ranks call this with the same rollouts; each runs some
    of the packs, and all return all values.
    """
    logps: list[list[float]] = [[] for _ in rollouts]
    packs = plan_rollouts(rollouts, budget, scorer.layout)
    own_packs = devices.share(packs) if shared else packs
    with measuring(scorer, precision) as measure:
        for group in own_packs:
            for index, row in zip(group, measure([rollouts[i] for i in group]), strict=True):
                logps[index] = row
            advance(len(group))
    if not shared:
        return logps
    # Sharded weights need as many passes on every rank: ranks with a pack less than rank 0 run an idle one.
    for _ in range(len(own_packs), len(packs[:: devices.count()])):
        with measuring(scorer, precision) as measure:
            measure([rollouts[packs[-1][-1]]])
    if others := sum(not row for row in logps):
        advance(others)
    return [next(filter(None, rows)) for rows in zip(*devices.all_gather(logps), strict=True)]
