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

from sparring.oracles.guard import Guard
from sparring.oracles.oracle import Comparison
from sparring.oracles.preferences import wins


@dataclass(frozen=True, slots=True)
class Outcome:
    """A's share of wins over B, and its mean preference, by prompt; None where no comparison was judged."""

    wins_by_prompt: list[float | None]
    preferences_by_prompt: list[float | None]
    failed: int
    """comparisons without a verdict; they are left out"""

    @property
    def wins(self) -> list[float]:
        """Of the prompts that were judged."""
        return [share for share in self.wins_by_prompt if share is not None]

    @property
    def preferences(self) -> list[float]:
        """Of the prompts that were judged."""
        return [mean for mean in self.preferences_by_prompt if mean is not None]


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
    parts = np.split(answers, np.cumsum(spans)[:-1])
    return Outcome([_mean(wins(part)) for part in parts], [_mean(part) for part in parts], int(np.isnan(answers).sum()))


def _mean(values: np.ndarray) -> float | None:
    return None if np.isnan(values).all() else float(np.nanmean(values))
