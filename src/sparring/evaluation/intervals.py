"""Intervals over prompts, and plain facts about texts.

Prompts, not comparisons, are the independent unit: answers to one prompt share its difficulty, so intervals are
bootstrapped over prompts. Where all values are alike, or there is only one, no resample differs, and the interval is
exact; where they are few or lean to one side the bootstrap is too narrow, and Wilson's interval widens it. Leaves out:
length-controlled win rates.

    interval([1.0, 0.5, 0.75])  ->  {"value": 0.75, "low": 0.5, "high": 1.0}
    interval([1.0, 1.0, 1.0], within=SHARE)  ->  {"value": 1.0, "low": 0.29, "high": 1.0}
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import skew, t

from sparring.oracles.preferences import TIE

Bounds = tuple[float, float]
SHARE: Bounds = (0.0, 1.0)
"""what win rates, preferences and other shares lie within"""
DIFFERENCE: Bounds = (-1.0, 1.0)
"""of two shares; gaps 2 P - 1 lie within it too"""
FEW = 20
"""values below which a bootstrap is too narrow"""
LEANING = 0.2
"""skewness of the mean, skew(values) / sqrt(n), above which it is: 64 prompts of which 85 % are won"""


def interval(
    values: Sequence[float], resamples: int = 2000, seed: int = 0, within: Bounds | None = None
) -> dict[str, float]:
    """Mean and its 95 % percentile-bootstrap interval over `values` (one per prompt), which lie `within` bounds.

    Raises:
        ValueError: there are no values.
    """
    if not len(values):
        raise ValueError("an interval needs at least one value")
    array = np.asarray(values, dtype=np.float64)
    if within is not None and (exact := unanimous(array, within)) is not None:
        return {"value": float(array.mean()), "low": exact[0], "high": exact[1]}
    draws = np.random.default_rng(seed).integers(len(array), size=(resamples, len(array)))
    low, high = np.quantile(array[draws].mean(1), [0.025, 0.975])
    if within is not None:
        low, high = widened(array, (low, high), within)
    return {"value": float(array.mean()), "low": float(low), "high": float(high)}


def unanimous(values: np.ndarray, within: Bounds = SHARE, tail: float = 0.025) -> Bounds | None:
    """The mean's exact interval where all n `values` are alike, else None; `tail` is what it may miss on either side.

    Of all prompts a share of at most q = 1 - tail^(1/n) can then have another value, which lies within the bounds.
    At a bound this is Clopper and Pearson's interval.
    """
    if np.ptp(values) > TIE:
        return None
    (least, most), value, others = within, float(values[0]), 1.0 - tail ** (1 / len(values))
    return value - others * (value - least), value + others * (most - value)


def widened(values: np.ndarray, bootstrap: Bounds, within: Bounds) -> Bounds:
    """A bootstrap interval of the mean of n values, moved out to Wilson's where those are few or lean to one side.

    Wilson's is taken with t's quantile, and with the n of which wins and losses would vary as the values do (at least
    n). Shares of wins are then covered in 92 % or more, whatever they are and from n = 10 on; by the bootstrap alone in
    85 % near 0 and 1. The mean of the values must be within the bounds; single values need not be.
    """
    n = len(values)
    if n >= FEW and abs(skew(values)) / n**0.5 <= LEANING:
        return bootstrap
    low, high = _wilson(values, within, float(t.ppf(0.975, n - 1)))
    return min(bootstrap[0], low), max(bootstrap[1], high)


def bounds(values: np.ndarray, within: Bounds, tail: float) -> Bounds:
    """The mean's interval which misses on either side with a chance of `tail`: t's, moved out to Wilson's.

    Small tails (one interval of many that shall hold together) are beyond what a bootstrap of few values can reach.
    """
    if (exact := unanimous(values, within, tail)) is not None:
        return exact
    n, mean = len(values), float(values.mean())
    quantile = float(t.ppf(1 - tail, n - 1))
    half = quantile * float(values.std(ddof=1)) / n**0.5
    low, high = _wilson(values, within, quantile)
    return max(min(mean - half, low), within[0]), min(max(mean + half, high), within[1])


def _wilson(values: np.ndarray, within: Bounds, quantile: float) -> Bounds:
    n, (least, most) = len(values), within
    shares = (values - least) / (most - least)
    mean, spread = float(shares.mean()), float(shares.var(ddof=1))
    alike = max(n * mean * (1 - mean) / spread, n)
    inverse = quantile**2 / alike
    middle = (mean + inverse / 2) / (1 + inverse)
    half = (inverse * mean * (1 - mean) + inverse**2 / 4) ** 0.5 / (1 + inverse)
    return least + (most - least) * (middle - half), least + (most - least) * (middle + half)


def ratios(sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """One value per cluster, of which the mean is sum(sums) / sum(counts), and varies as that does (delta method)."""
    whole = sums.sum() / counts.sum()
    return whole + (sums - whole * counts) / counts.mean()
