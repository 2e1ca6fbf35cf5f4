"""An estimate with its 95 % interval over prompts.

Prompts, not comparisons, are the independent unit: answers to one prompt share its difficulty. Values that are few or
lean to one side vary less than they should where the rare others were not seen, so a bootstrap is too narrow there. The
interval is Gaffke's (Three test statistics for a nonparametric one-sided hypothesis on the mean of a nonnegative
variable, 2005): a Bayesian bootstrap over prompts (exponential weights), to which each end adds one unseen prompt at
the bound on its side. Of wins and losses it is Clopper and Pearson's, of values that are all alike exact too. Its
quantiles are integrated numerically, without draws. Leaves out: ratings, length-controlled win rates.

    interval([1.0, 0.5, 0.75])  ->  Interval(value=0.75, low=0.5, high=1.0)
    interval([1.0, 1.0, 1.0], within=SHARE)  ->  Interval(value=1.0, low=0.29, high=1.0)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import root_scalar
from scipy.special import ndtri

from sparring.oracles.preferences import TIE

Array = NDArray[np.float64]
Bounds = tuple[float, float]
"""the smallest and the largest value that is possible"""
SHARE: Bounds = (0.0, 1.0)
"""bounds of win rates, preferences and other shares"""
DIFFERENCE: Bounds = (-1.0, 1.0)
"""bounds of the difference of two shares; gaps 2 P - 1 lie within them too"""
TAIL = 0.025
"""chance to miss on either side: 95 % intervals"""
STEP = 0.2
"""between the nodes of the integral: 8 digits, from two values on"""
NODES = np.split(np.arange(0.0, 9.0, STEP), [10, 17, 25, 35])
"""in the order of their weight; of many values the first suffice"""
ROUNDING = 1e-12
BLOCK = 1_000_000
"""values that a bootstrap draws at once"""


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

    def _repr_html_(self) -> str:
        """For notebooks."""
        return f"{self:.4g}"


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


def interval(values: Sequence[float], within: Bounds | None = None, tail: float = TAIL) -> Interval:
    """Mean of `values` (one per prompt), which lie `within` bounds, with the interval that misses by `tail` a side.

    Without bounds nothing is known of the values that were not seen: a percentile bootstrap, too narrow where a few
    values carry most of the mean.

    Raises:
        ValueError: there are no values.
    """
    if not len(values):
        raise ValueError("an interval needs at least one value")
    array = np.asarray(values, dtype=np.float64)
    mean = float(array.mean())
    if within is None:
        return percentiles(mean, _resampled_means(array), tail)
    return Interval(mean, *ends(array, np.ones(len(array)), within, tail))


def clustered_mean(values: Array, cluster: NDArray[np.int64], within: Bounds, tail: float = TAIL) -> Interval:
    """Mean over `values`, value i in cluster cluster[i]; whole clusters are independent, values of one are not."""
    sums, counts = np.bincount(cluster, values), np.bincount(cluster)
    return Interval(float(values.mean()), *ends(sums, counts, within, tail))


def percentiles(value: float, resampled: Array, tail: float = TAIL) -> Interval:
    """An estimate with the two quantiles of its resampled values that leave out `tail` on either side."""
    low, high = np.quantile(resampled, [tail, 1 - tail])
    return Interval(value, float(low), float(high))


def _resampled_means(values: Array, resamples: int = 2000, seed: int = 0) -> Array:
    """Means of values drawn with replacement, in blocks of at most about a million draws."""
    rng, block = np.random.default_rng(seed), max(1, BLOCK // len(values))
    sizes = [min(block, resamples - done) for done in range(0, resamples, block)]
    return np.concatenate([values[rng.integers(len(values), size=(size, len(values)))].mean(1) for size in sizes])


def unanimous(values: Array, within: Bounds = SHARE, tail: float = TAIL) -> Interval | None:
    """The mean's exact interval where all n `values` are alike, else None; `tail` is its chance to miss on either side.

    Of all prompts a share of at most q = 1 - tail^(1/n) can then have another value, which lies within the bounds.
    At a bound this is Clopper and Pearson's interval.
    """
    if np.ptp(values) > TIE:
        return None
    (least, most), value, others = within, float(values[0]), 1.0 - tail ** (1 / len(values))
    ends_of_value = value - others * (value - least), value + others * (most - value)
    mean = float(values.mean())
    return Interval(mean, *ends_of_value).stretched(mean)


def ends(sums: NDArray[Any], counts: NDArray[Any], within: Bounds, tail: float = TAIL) -> tuple[float, float]:
    """Both ends of Gaffke's interval of sum(sums) / sum(counts), a mean over clusters of values `within` bounds.

    Clusters are independent. The unseen one is at a bound; of differences, which hardly ever reach their bounds, it is
    as far from 0 as the farthest that was seen.
    """
    (least, most), some = within, counts > 0
    counts = counts[some]
    if (exact := unanimous(sums[some] / counts, within, tail)) is not None:
        return exact.low, exact.high
    if within == DIFFERENCE:
        most = float(np.abs(sums[some] / counts).max())
        least = -most
    shares = np.clip((sums[some] - least * counts) / (most - least), 0.0, counts)
    low, high = _least_mean(shares, counts, tail), 1.0 - _least_mean(counts - shares, counts, tail)
    return least + (most - least) * low, least + (most - least) * high


def _least_mean(sums: Array, counts: NDArray[Any], tail: float) -> float:
    """The `tail` quantile of sum(E_i sums_i) / sum(E_i counts_i), E_i exponential, one more cluster having sum 0."""
    if sums.max() < ROUNDING:
        return 0.0
    distinct, times = np.unique(np.stack([sums, counts]), axis=1, return_counts=True)
    return _quantile(distinct.T.tobytes(), tuple(times.tolist()), tail)


@lru_cache(maxsize=1024)  # of wins, losses and ties the same numbers come again, in reports and most in simulations
def _quantile(distinct: bytes, each: tuple[int, ...], tail: float) -> float:
    """As `_least_mean`, of distinct pairs of sums and counts as bytes, and how often each is there."""
    seen = np.frombuffer(distinct).reshape(-1, 2).T
    (sums, counts), unseen = np.hstack([seen, [[0.0], [np.average(seen[1], weights=each)]]]), 1
    times = np.append(each, unseen)

    def excess(mean: float) -> float:
        """0 at the quantile, and nearly straight."""
        return float(ndtri(max(_chance_of_less(sums - mean * counts, times), 1e-300)) - ndtri(tail))

    highest = float(times @ sums / (times @ counts))  # the mean of that distribution, far above its quantile
    return root_scalar(excess, bracket=(1e-9 * highest, highest), method="brentq", xtol=1e-12, rtol=1e-9).root


def _chance_of_less(values: Array, times: NDArray[Any]) -> float:
    """P(sum of times_i exponentials, each multiplied by values_i, is at most 0), where their mean is not below 0.

    The generating function exp(K(s)) = prod (1 - s values_i)^-times_i, divided by -s, is integrated upwards from near
    its saddle point on the negative axis, by the trapezoid rule in v with s = saddle + i scale sinh(v).
    """

    def slope(s: float) -> float:
        return float(times @ (values / (1 - s * values))) - 1 / s

    furthest = 1 / float(values.min())
    bracket = furthest * (1 - 1e-12), furthest * 1e-12
    saddle = root_scalar(slope, bracket=bracket, method="brentq", xtol=1e-300, rtol=1e-3).root
    scale = (times @ (values / (1 - saddle * values)) ** 2 + saddle**-2) ** -0.5
    total = 0.0
    for nodes in NODES:
        path = saddle + 1j * scale * np.sinh(nodes)
        heights = np.real(-np.exp(-np.log(1 - np.outer(path, values)) @ times) / path) * np.cosh(nodes)
        total += float(heights.sum())
        if abs(heights[-1]) < ROUNDING * abs(total):
            break
    return (total - 0.5 * float(np.exp(-times @ np.log(1 - saddle * values))) / -saddle) * scale * STEP / np.pi


def known_mean(values: NDArray[np.float64]) -> float:
    """The mean of the values that are numbers; NaN where none is."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")
