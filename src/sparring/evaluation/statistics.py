"""Intervals over prompts, and plain facts about texts.

Prompts, not comparisons, are the independent unit: answers to one prompt share its difficulty, so intervals are
bootstrapped over prompts. Leaves out: length-controlled win rates.

    interval([1.0, 0.5, 0.75])  ->  {"value": 0.75, "low": 0.5, "high": 1.0}
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

TIE = 1e-9
"""means of verdicts this near to 1/2 are ties: what is left is rounding, and would be a whole win or loss"""
REPEATING = 0.5
"""a text in which fewer than this share of trigrams are distinct is called repeating"""


def interval(values: Sequence[float], resamples: int = 2000, seed: int = 0) -> dict[str, float]:
    """Mean and its 95 % percentile-bootstrap interval over `values` (one per prompt).

    Raises:
        ValueError: there are no values.
    """
    if not len(values):
        raise ValueError("an interval needs at least one value")
    array = np.asarray(values, dtype=np.float64)
    draws = np.random.default_rng(seed).integers(len(array), size=(resamples, len(array)))
    low, high = np.quantile(array[draws].mean(1), [0.025, 0.975])
    return {"value": float(array.mean()), "low": float(low), "high": float(high)}


def wins(preferences: np.ndarray) -> np.ndarray:
    """1 where P > 1/2, 1/2 at ties (up to `TIE`), 0 below; NaN stays NaN."""
    lead = preferences - 0.5
    return np.where(np.isnan(lead), np.nan, np.where(np.abs(lead) < TIE, 0.5, lead > 0))


def words(text: str) -> list[str]:
    """Lower-case words."""
    return re.findall(r"\w+", text.lower())


def distinct_trigrams(text: str) -> float:
    """Share of a text's word trigrams that are distinct; 1 for texts of fewer than three words."""
    tokens = words(text)
    trigrams = list(zip(tokens, tokens[1:], tokens[2:], strict=False))
    return len(set(trigrams)) / len(trigrams) if trigrams else 1.0


def repeating_share(texts: Sequence[str]) -> float:
    """Share of texts most of whose trigrams repeat."""
    return float(np.mean([distinct_trigrams(text) < REPEATING for text in texts])) if texts else 0.0
