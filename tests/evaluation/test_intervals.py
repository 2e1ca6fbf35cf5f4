"""Intervals: the bootstrap where values differ, the exact bound where they cannot."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, binomtest, sem, t

from sparring.evaluation.intervals import (
    DIFFERENCE,
    SHARE,
    CountedInterval,
    Interval,
    clustered_mean,
    from_json,
    interval,
    interval_at,
    known_mean,
    ratios,
)
from sparring.runtime.files import read_json, write_json


@pytest.mark.parametrize("count", [1, 3, 20, 200])
def test_agreement_of_all_is_as_sure_as_their_number(count):
    won, lost = (interval([value] * count, within=SHARE) for value in (1.0, 0.0))
    exact = binomtest(count, count).proportion_ci(0.95, "exact")
    assert won == Interval(1.0, pytest.approx(exact.low), 1.0)
    assert lost == Interval(0.0, 0.0, pytest.approx(1 - exact.low))


def test_bounds_of_differences_are_their_own():
    assert interval([1.0] * 5, within=DIFFERENCE).low == pytest.approx(2 * 0.025 ** (1 / 5) - 1)
    few = 1 - 0.025 ** (1 / 5)
    assert interval([0.0] * 5, within=DIFFERENCE) == Interval(0.0, pytest.approx(-few), pytest.approx(few))


@given(st.floats(0, 1), st.integers(1, 2000))
def test_values_that_are_alike_are_no_more_certain_than_at_a_bound(value, count):
    found = interval([value] * count, within=SHARE)
    assert 0 <= found.low <= value <= found.high <= 1
    assert found.high - found.low == pytest.approx(1 - 0.025 ** (1 / count))


def test_one_value_says_nearly_nothing():
    assert interval([0.7], within=SHARE) == Interval(0.7, pytest.approx(0.0175), pytest.approx(0.9925))


def test_values_that_differ_keep_the_bootstrap():
    values = np.random.default_rng(0).random(50).tolist()
    assert interval(values, within=SHARE) == interval(values)
    assert interval([1.0] * 45 + [0.0] * 19, within=SHARE) == interval([1.0] * 45 + [0.0] * 19)


@pytest.mark.parametrize(("count", "lost"), [(10, 1), (30, 1), (64, 2), (200, 3)])
def test_few_losses_are_no_surer_than_none(count, lost):
    """One loss of 30 gave .900 to 1 where none gives .884 to 1."""
    found, none = (interval([1.0] * (count - k) + [0.0] * k, within=SHARE) for k in (lost, 0))
    wilson = binomtest(count - lost, count).proportion_ci(0.95, "wilson")
    assert found.low < none.low
    assert found.low == pytest.approx(wilson.low, abs=0.06)
    assert found.low <= wilson.low
    assert found.high >= wilson.high


@pytest.mark.parametrize("count", [10, 20, 40, 100])
def test_shares_of_wins_are_covered_wherever_they_are(count):
    """By the bootstrap alone in 85 % near 0 and 1."""
    found = [interval([1.0] * k + [0.0] * (count - k), 1000, within=SHARE) for k in range(count + 1)]
    low, high = np.array([one.low for one in found]), np.array([one.high for one in found])
    for truth in np.linspace(0.5, 0.995, 100):
        chances = binom.pmf(np.arange(count + 1), count, truth)
        assert chances[(low <= truth + 1e-9) & (truth - 1e-9 <= high)].sum() > 0.915, truth


def test_differences_and_skewed_values_are_widened_within_their_bounds():
    values = [0.0] * 28 + [-1.0, -0.5]
    found, plain = interval(values, within=DIFFERENCE), interval(values)
    assert found.high > plain.high
    assert -1 <= found.low <= plain.low <= found.value <= plain.high <= 1


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(1, 5)), min_size=2, max_size=30))
def test_clusters_stand_for_their_ratio(clusters):
    means, counts = (np.array(column, dtype=float) for column in zip(*clusters, strict=True))
    sums = means * counts
    assert ratios(sums, counts).mean() == pytest.approx(sums.sum() / counts.sum(), abs=1e-12)
    assert ratios(sums, np.full(len(sums), 2.0)) == pytest.approx(sums / 2)


@pytest.mark.parametrize("tail", [0.025, 0.001])
def test_bounds_are_t_and_exact_where_all_are_alike(tail):
    values = np.array([0.4, 0.5, 0.6] * 100)
    found = interval_at(values, SHARE, tail)
    assert (found.low, found.high) == pytest.approx(t.interval(1 - 2 * tail, 299, 0.5, sem(values)), abs=1e-4)
    alike = binomtest(16, 16).proportion_ci(1 - 2 * tail, "exact")
    assert interval_at(np.ones(16), SHARE, tail) == Interval(1.0, pytest.approx(alike.low), 1.0)


def test_bounds_of_one_lost_prompt_in_sixteen_are_no_narrower_than_exact_ones():
    """By t alone, sure of 70 % or more at this tail."""
    exact = binomtest(15, 16).proportion_ci(0.998, "exact")
    found = interval_at(np.array([1.0] * 15 + [0.0]), SHARE, 0.001)
    assert found.low < exact.low + 0.02
    assert exact.high - 0.02 < found.high <= 1.0


def test_intervals_come_back_from_json_as_they_went(tmp_path):
    """An object with further keys, such as the win rate at equal lengths, stays an object."""
    data = {"rates": [Interval(0.5, 0.4, 0.6), None], "cycles": CountedInterval(0.1, 0.0, 0.2, 7), "value": 1.0}
    longer = {"value": 0.5, "low": 0.4, "high": 0.6, "formula": "minimal"}
    write_json(tmp_path / "data.json", {**data, "at_equal_lengths": longer})
    assert read_json(tmp_path / "data.json")["cycles"] == {"value": 0.1, "low": 0.0, "high": 0.2, "count": 7}
    assert from_json(read_json(tmp_path / "data.json")) == {**data, "at_equal_lengths": longer}


def test_an_interval_says_itself_in_a_number_format():
    gain = Interval(-0.02, -0.05, 0.01)
    assert f"{gain.scaled(100):+.1f}" == "-2.0 (-5.0 to +1.0)"
    assert gain.span(".1%") == "-5.0% to 1.0%"
    assert (gain.contains(0), gain.contains(0.02)) == (True, False)
    assert gain.stretched(-0.04, 0.03) == Interval(-0.02, -0.05, 0.03)


def test_clusters_of_one_value_each_are_plain_values():
    values = np.random.default_rng(3).random(40)
    found, plain = clustered_mean(values, np.arange(40), SHARE), interval(values.tolist(), within=SHARE)
    assert (found.value, found.low, found.high) == pytest.approx((plain.value, plain.low, plain.high), abs=1e-12)


def test_a_mean_of_nothing_known_is_not_known():
    assert known_mean(np.array([np.nan, 0.5])) == 0.5
    assert np.isnan(known_mean(np.array([np.nan])))
