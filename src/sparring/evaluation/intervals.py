"""An estimate with its 95 % interval over prompts.

Prompts, not comparisons, are the independent unit: answers to one prompt share its difficulty, so intervals are
bootstrapped over prompts. Where all values are alike, or there is only one, no resample differs, and the interval is
exact; where they are few or lean to one side the bootstrap is too narrow, and Wilson's interval widens it. Leaves out:
length-controlled win rates.

    interval([1.0, 0.5, 0.75])  ->  Interval(value=0.75, low=0.5, high=1.0)
    interval([1.0, 1.0, 1.0], within=SHARE)  ->  Interval(value=1.0, low=0.29, high=1.0)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import skew, t

from sparring.oracles.preferences import TIE

Array = NDArray[np.float64]
Bounds = tuple[float, float]
"""the smallest and the largest value that is possible"""
SHARE: Bounds = (0.0, 1.0)
"""bounds of win rates, preferences and other shares"""
DIFFERENCE: Bounds = (-1.0, 1.0)
"""bounds of the difference of two shares; gaps 2 P - 1 lie within them too"""
FEW = 20
"""values below which a bootstrap is too narrow"""
LEANING = 0.2
"""skewness of the mean, skew(values) / sqrt(n), above which it is: 64 prompts of which 85 % are won"""


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its 95 % interval. In JSON: {"value": ..., "low": ..., "high": ...}."""

    value: float
    low: float
    high: float

    def contains(self, number: float) -> bool:
        """Whether the interval, its ends included, holds `number`."""
        return self.low <= number <= self.high

    def scaled(self, factor: float) -> Interval:
        """All three numbers times a positive factor: 100 makes percentage points of a share."""
        return Interval(factor * self.value, factor * self.low, factor * self.high)

    def stretched(self, *numbers: float) -> Interval:
        """The same estimate, the ends moved out where needed to hold `numbers`."""
        return Interval(self.value, min(self.low, *numbers), max(self.high, *numbers))

    def span(self, form: str) -> str:
        """Both ends in a number format: "51.0% to 68.3%" by ".1%"."""
        return f"{self.low:{form}} to {self.high:{form}}"

    def __format__(self, form: str) -> str:
        """Estimate and ends in a number format: "60.0% (51.0% to 68.3%)" by ".1%"."""
        return f"{self.value:{form}} ({self.span(form)})"


@dataclass(frozen=True, slots=True)
class CountedInterval(Interval):
    """An interval with the number of values behind it."""

    count: int


def from_json(data: Any) -> Any:
    """Parsed JSON in which every object with exactly the keys of an interval is one again."""
    if isinstance(data, list):
        return [from_json(one) for one in data]
    if not isinstance(data, dict):
        return data
    if data.keys() == {"value", "low", "high"}:
        return Interval(**data)
    if data.keys() == {"value", "low", "high", "count"}:
        return CountedInterval(**data)
    return {key: from_json(one) for key, one in data.items()}


def interval(values: Sequence[float], resamples: int = 2000, seed: int = 0, within: Bounds | None = None) -> Interval:
    """Mean and its 95 % percentile-bootstrap interval over `values` (one per prompt), which lie `within` bounds.

    Raises:
        ValueError: there are no values.
    """
    if not len(values):
        raise ValueError("an interval needs at least one value")
    array = np.asarray(values, dtype=np.float64)
    if within is not None and (exact := unanimous(array, within)) is not None:
        return exact
    draws = np.random.default_rng(seed).integers(len(array), size=(resamples, len(array)))
    bootstrap = percentiles(float(array.mean()), array[draws].mean(1))
    return bootstrap if within is None else widened(array, bootstrap, within)


def clustered_mean(
    values: Array, cluster: NDArray[np.int64], within: Bounds, resamples: int = 2000, seed: int = 0
) -> Interval:
    """Mean over `values`, value i in cluster cluster[i], and its 95 % interval when whole clusters are resampled."""
    sums, counts = np.bincount(cluster, values), np.bincount(cluster)
    mean = float(values.mean())
    if (exact := unanimous(sums / counts, within)) is not None:
        return Interval(mean, exact.low, exact.high)
    draws = np.random.default_rng(seed).integers(len(sums), size=(resamples, len(sums)))
    bootstrap = percentiles(mean, sums[draws].sum(1) / counts[draws].sum(1))
    return widened(ratios(sums, counts), bootstrap, within)


def percentiles(value: float, resampled: Array) -> Interval:
    """An estimate with the 2.5th and 97.5th percentile of its resampled values."""
    low, high = np.quantile(resampled, [0.025, 0.975])
    return Interval(value, float(low), float(high))


def unanimous(values: Array, within: Bounds = SHARE, tail: float = 0.025) -> Interval | None:
    """The mean's exact interval where all n `values` are alike, else None; `tail` is its chance to miss on either side.

    Of all prompts a share of at most q = 1 - tail^(1/n) can then have another value, which lies within the bounds.
    At a bound this is Clopper and Pearson's interval.
    """
    if np.ptp(values) > TIE:
        return None
    (least, most), value, others = within, float(values[0]), 1.0 - tail ** (1 / len(values))
    return Interval(float(values.mean()), value - others * (value - least), value + others * (most - value))


def widened(values: Array, bootstrap: Interval, within: Bounds) -> Interval:
    """A bootstrap interval of the mean of n values, moved out to Wilson's where those are few or lean to one side.

    Wilson's is taken with t's quantile, and with the n of which wins and losses would vary as the values do (at least
    n). Shares of wins are then covered in 92 % or more, whatever they are and from n = 10 on; by the bootstrap alone in
    85 % near 0 and 1. The mean of the values must be within the bounds; single values need not be.
    """
    n = len(values)
    if n >= FEW and abs(skew(values)) / n**0.5 <= LEANING:
        return bootstrap
    return bootstrap.stretched(*_wilson(values, within, float(t.ppf(0.975, n - 1))))


def interval_at(values: Array, within: Bounds, tail: float) -> Interval:
    """The mean's interval which misses on either side with a chance of `tail`: t's, moved out to Wilson's.

    Small tails (one interval of many that hold together) are beyond what a bootstrap of few values can reach.
    """
    if (exact := unanimous(values, within, tail)) is not None:
        return exact
    n, mean = len(values), float(values.mean())
    quantile = float(t.ppf(1 - tail, n - 1))
    half = quantile * float(values.std(ddof=1)) / n**0.5
    wide = Interval(mean, mean - half, mean + half).stretched(*_wilson(values, within, quantile))
    return Interval(mean, max(wide.low, within[0]), min(wide.high, within[1]))


def _wilson(values: Array, within: Bounds, quantile: float) -> tuple[float, float]:
    """Both ends of Wilson's score interval, for n_eff = mean (1 - mean) n / var, but at least n, values in [0, 1]."""
    n, (least, most) = len(values), within
    shares = (values - least) / (most - least)
    mean, spread = float(shares.mean()), float(shares.var(ddof=1))
    effective = max(n * mean * (1 - mean) / spread, n)
    inverse = quantile**2 / effective
    middle = (mean + inverse / 2) / (1 + inverse)
    half = (inverse * mean * (1 - mean) + inverse**2 / 4) ** 0.5 / (1 + inverse)
    return least + (most - least) * (middle - half), least + (most - least) * (middle + half)


def ratios(sums: NDArray[Any], counts: NDArray[Any]) -> Array:
    """One value per cluster, whose mean is sum(sums) / sum(counts) and varies as that ratio does (delta method)."""
    whole = sums.sum() / counts.sum()
    return whole + (sums - whole * counts) / counts.mean()


def known_mean(values: NDArray[np.float64]) -> float:
    """The mean of the values that are numbers; NaN where none is."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")
