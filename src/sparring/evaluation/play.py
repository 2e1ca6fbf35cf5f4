"""Held-out play between policies: who wins how often, under one oracle.

Every sample of one policy meets every sample of the other on each prompt. Leaves out: sampling, intervals
over anything but prompts.

    outcome = head_to_head(prompts, texts_a, texts_b, guard); interval(outcome.wins)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from sparring.evaluation.statistics import wins
from sparring.oracles.guard import Guard
from sparring.oracles.oracle import Comparison


@dataclass(frozen=True, slots=True)
class Outcome:
    """One value per prompt that was judged: A's share of wins over B, and its mean preference."""

    wins: list[float]
    preferences: list[float]
    failed: int
    """comparisons without a verdict; they are left out"""


def head_to_head(
    prompts: Sequence[str],
    texts_a: Sequence[Sequence[str]],
    texts_b: Sequence[Sequence[str]],
    guard: Guard,
) -> Outcome:
    """All sample pairs of each prompt under the oracle."""
    spans, flat = [], []
    for prompt, ours, theirs in zip(prompts, texts_a, texts_b, strict=True):
        spans.append(len(ours) * len(theirs))
        flat += [Comparison(prompt, a, b) for a, b in product(ours, theirs)]
    answers = guard.judge(flat)
    won, preferred = [], []
    for part in np.split(answers, np.cumsum(spans)[:-1]):
        if not np.isnan(part).all():
            won.append(float(np.nanmean(wins(part))))
            preferred.append(float(np.nanmean(part)))
    return Outcome(won, preferred, int(np.isnan(answers).sum()))
