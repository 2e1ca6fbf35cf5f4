"""Intervals: the bootstrap where values differ, the exact bound where they cannot."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, binomtest, sem, t

from sparring.evaluation.intervals import DIFFERENCE, SHARE, bounds, interval, ratios


@pytest.mark.parametrize("count", [1, 3, 20, 200])
def test_agreement_of_all_is_as_sure_as_their_number(count):
    won, lost = (interval([value] * count, within=SHARE) for value in (1.0, 0.0))
    exact = binomtest(count, count).proportion_ci(0.95, "exact")
    assert won == {"value": 1.0, "low": pytest.approx(exact.low), "high": 1.0}
    assert lost == {"value": 0.0, "low": 0.0, "high": pytest.approx(1 - exact.low)}


def test_bounds_of_differences_are_their_own():
    assert interval([1.0] * 5, within=DIFFERENCE)["low"] == pytest.approx(2 * 0.025 ** (1 / 5) - 1)
    few = 1 - 0.025 ** (1 / 5)
    assert interval([0.0] * 5, within=DIFFERENCE) == {
        "value": 0.0,
        "low": pytest.approx(-few),
        "high": pytest.approx(few),
    }


@given(st.floats(0, 1), st.integers(1, 2000))
def test_values_that_are_alike_are_no_more_certain_than_at_a_bound(value, count):
    found = interval([value] * count, within=SHARE)
    assert 0 <= found["low"] <= value <= found["high"] <= 1
    assert found["high"] - found["low"] == pytest.approx(1 - 0.025 ** (1 / count))


def test_one_value_says_nearly_nothing():
    assert interval([0.7], within=SHARE) == {"value": 0.7, "low": pytest.approx(0.0175), "high": pytest.approx(0.9925)}


def test_values_that_differ_keep_the_bootstrap():
    values = np.random.default_rng(0).random(50).tolist()
    assert interval(values, within=SHARE) == interval(values)
    assert interval([1.0] * 45 + [0.0] * 19, within=SHARE) == interval([1.0] * 45 + [0.0] * 19)


@pytest.mark.parametrize(("count", "lost"), [(10, 1), (30, 1), (64, 2), (200, 3)])
def test_few_losses_are_no_surer_than_none(count, lost):
    """One loss of 30 gave .900 to 1 where none gives .884 to 1."""
    found, none = (interval([1.0] * (count - k) + [0.0] * k, within=SHARE) for k in (lost, 0))
    wilson = binomtest(count - lost, count).proportion_ci(0.95, "wilson")
    assert found["low"] < none["low"]
    assert found["low"] == pytest.approx(wilson.low, abs=0.06)
    assert found["low"] <= wilson.low
    assert found["high"] >= wilson.high


@pytest.mark.parametrize("count", [10, 20, 40, 100])
def test_shares_of_wins_are_covered_wherever_they_are(count):
    """By the bootstrap alone in 85 % near 0 and 1."""
    found = [interval([1.0] * k + [0.0] * (count - k), 1000, within=SHARE) for k in range(count + 1)]
    low, high = (np.array([one[end] for one in found]) for end in ("low", "high"))
    for truth in np.linspace(0.5, 0.995, 100):
        chances = binom.pmf(np.arange(count + 1), count, truth)
        assert chances[(low <= truth + 1e-9) & (truth - 1e-9 <= high)].sum() > 0.915, truth


def test_differences_and_skewed_values_are_widened_within_their_bounds():
    values = [0.0] * 28 + [-1.0, -0.5]
    found, plain = interval(values, within=DIFFERENCE), interval(values)
    assert found["high"] > plain["high"]
    assert -1 <= found["low"] <= plain["low"] <= found["value"] <= plain["high"] <= 1


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(1, 5)), min_size=2, max_size=30))
def test_clusters_stand_for_their_ratio(clusters):
    means, counts = (np.array(column, dtype=float) for column in zip(*clusters, strict=True))
    sums = means * counts
    assert ratios(sums, counts).mean() == pytest.approx(sums.sum() / counts.sum(), abs=1e-12)
    assert ratios(sums, np.full(len(sums), 2.0)) == pytest.approx(sums / 2)


@pytest.mark.parametrize("tail", [0.025, 0.001])
def test_bounds_are_t_and_exact_where_all_are_alike(tail):
    values = np.array([0.4, 0.5, 0.6] * 100)
    assert bounds(values, SHARE, tail) == pytest.approx(t.interval(1 - 2 * tail, 299, 0.5, sem(values)), abs=1e-4)
    alike = binomtest(16, 16).proportion_ci(1 - 2 * tail, "exact")
    assert bounds(np.ones(16), SHARE, tail) == pytest.approx((alike.low, 1.0))


def test_bounds_of_one_lost_prompt_in_sixteen_are_no_narrower_than_exact_ones():
    """By t alone, sure of 70 % or more at this tail."""
    exact = binomtest(15, 16).proportion_ci(0.998, "exact")
    low, high = bounds(np.array([1.0] * 15 + [0.0]), SHARE, 0.001)
    assert low < exact.low + 0.02
    assert exact.high - 0.02 < high <= 1.0
