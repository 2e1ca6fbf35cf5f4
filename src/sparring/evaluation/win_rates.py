"""Held-out play between policies: who wins how often, under one oracle.

Every sample of one policy meets every sample of the other on each prompt; empty and equal answers are decided by rule
(`decided_by_rule.py`), as in all comparisons of policies. Leaves out: sampling, intervals over anything but prompts.

    outcome = head_to_head(prompts, texts_a, texts_b, guard); interval(outcome.wins)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from sparring.evaluation.decided_by_rule import decide
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
        """Shares of wins on the prompts that were judged."""
        return [share for share in self.wins_by_prompt if share is not None]

    @property
    def preferences(self) -> list[float]:
        """Mean preferences on the prompts that were judged."""
        return [mean for mean in self.preferences_by_prompt if mean is not None]


def head_to_head(
    prompts: Sequence[str], texts_a: Sequence[Sequence[str]], texts_b: Sequence[Sequence[str]], guard: Guard
) -> Outcome:
    """A against B on all sample pairs of each prompt, decided by rule or by the oracle."""
    preferences, _ = decide(sample_pairs(prompts, texts_a, texts_b), guard)
    ends = np.cumsum([len(a) * len(b) for a, b in zip(texts_a, texts_b, strict=True)])
    parts = np.split(preferences, ends[:-1])
    failed = int(np.isnan(preferences).sum())
    return Outcome([_mean(wins(part)) for part in parts], [_mean(part) for part in parts], failed)


def sample_pairs(
    prompts: Sequence[str], texts_a: Sequence[Sequence[str]], texts_b: Sequence[Sequence[str]]
) -> list[Comparison]:
    """Every sample of A with every sample of B, prompt by prompt."""
    return [
        Comparison(prompt, a, b)
        for prompt, all_a, all_b in zip(prompts, texts_a, texts_b, strict=True)
        for a, b in product(all_a, all_b)
    ]


def _mean(values: np.ndarray) -> float | None:
    return None if np.isnan(values).all() else float(np.nanmean(values))
