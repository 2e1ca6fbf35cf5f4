"""Intervals: against exact ones, against draws, and how often they hold the truth."""

from __future__ import annotations

import importlib
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, binomtest

from sparring.evaluation import intervals
from sparring.evaluation.intervals import (
    DIFFERENCE,
    SHARE,
    CountedInterval,
    Interval,
    clustered_mean,
    from_json,
    interval,
    known_mean,
)
from sparring.runtime.files import read_json, write_json


@pytest.fixture(scope="module")
def coverage() -> Iterator[Any]:
    """The script that measures coverage for the docs."""
    docs = str(Path(__file__).parents[2] / "docs")
    sys.path.insert(0, docs)
    yield importlib.import_module("make_coverage")
    sys.path.remove(docs)


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


@pytest.mark.parametrize("tail", [0.025, 0.001])
@pytest.mark.parametrize(("won", "of"), [(1, 2), (23, 24), (12, 24), (1, 64), (250, 500)])
def test_wins_and_losses_have_clopper_and_pearsons_interval(won, of, tail):
    found = interval([1.0] * won + [0.0] * (of - won), SHARE, tail)
    exact = binomtest(won, of).proportion_ci(1 - 2 * tail, "exact")
    assert (found.low, found.high) == pytest.approx((exact.low, exact.high), abs=1e-6)


def test_other_values_have_gaffkes_interval():
    """Quantiles of a Bayesian bootstrap with one more value at the bound."""
    rng = np.random.default_rng(0)
    values, weights = rng.random(24), np.random.default_rng(1).exponential(size=(100_000, 25))
    found, shares = interval(values.tolist(), SHARE), weights / weights.sum(1, keepdims=True)
    for end, unseen, level in ((found.low, 0.0, 0.025), (found.high, 1.0, 0.975)):
        assert end == pytest.approx(np.quantile(shares @ np.append(values, unseen), level), abs=2e-3)


@pytest.mark.parametrize("nearly", [[1.0] * 23 + [383.5 / 384], [1.0] * 23 + [1 - 1e-9], [1 - 1e-7] * 23 + [1.0]])
def test_one_tie_among_384_makes_nothing_surer(nearly):
    """All won of 24 prompts x 16 answers begins at 0.858; one tie among them gave 0.992."""
    assert interval(nearly, SHARE).low == pytest.approx(0.025 ** (1 / 24), abs=2e-4)


@pytest.mark.parametrize("count", [10, 24, 100])
def test_shares_of_wins_are_covered_wherever_they_are(count):
    """By the bootstrap alone in 85 % near 0 and 1."""
    found = [interval([1.0] * k + [0.0] * (count - k), SHARE) for k in range(count + 1)]
    low, high = np.array([one.low for one in found]), np.array([one.high for one in found])
    for truth in np.linspace(0.005, 0.995, 100):
        chances = binom.pmf(np.arange(count + 1), count, truth)
        assert chances[truth < low].sum() <= 0.025 + 1e-9, truth
        assert chances[truth > high].sum() <= 0.025 + 1e-9, truth


@pytest.mark.parametrize("name", ["mean preference .957", "win rate .97", "rare losses", "difference"])
def test_leaning_values_are_covered(name, coverage):
    """By the interval of before in 84 (mean preference), 88 (win rate) and 74 % (rare losses) at 24 prompts."""
    case = coverage.CASES[name]
    rng, truth = np.random.default_rng(0), case.truth()
    found = [interval(case.draw(24, rng).tolist(), case.within) for _ in range(100)]
    assert sum(one.contains(truth) for one in found) >= 92


@pytest.mark.more
@pytest.mark.parametrize(
    "name", ["gap, attackers at .957", "rating, two players, 695 points apart", "at equal lengths, near .8"]
)
def test_what_is_derived_is_covered(name, coverage):
    """By the intervals of before: the gap's low end above the truth in 13 %, 84 %, 70 %."""
    covered, above = coverage.measured(coverage.DERIVED[name], 24, 100)
    assert covered >= 0.92
    assert above <= 0.05


def test_many_values_take_little_memory():
    """2,000 resamples of all 50,000 documents at once were 800 MB."""
    tracemalloc.start()
    found = interval(np.random.default_rng(0).random(50_000).tolist())
    assert tracemalloc.get_traced_memory()[1] < 60e6
    tracemalloc.stop()
    assert found.high - found.low == pytest.approx(2 * 1.96 * (1 / 12 / 50_000) ** 0.5, rel=0.1)


def test_differences_are_within_their_bounds():
    values = [0.0] * 28 + [-1.0, -0.5]
    found, plain = interval(values, DIFFERENCE), interval(values)
    assert -1 <= found.low <= plain.low <= found.value <= plain.high <= found.high <= 1


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_any_values_have_an_interval_that_holds_their_mean(values):
    found, turned = interval(values, SHARE), interval([1 - value for value in values], SHARE)
    assert 0 <= found.low <= found.value <= found.high <= 1
    assert (turned.low, turned.high) == pytest.approx((1 - found.high, 1 - found.low), abs=1e-6)


def test_a_cluster_that_weighs_more_is_one_cluster():
    """Wins in 3 of 4 clusters of ten; no surer than 3 of 4, and wider where one cluster holds most values."""
    owner = np.repeat(np.arange(4), 10)
    alike = clustered_mean((owner < 3).astype(float), owner, SHARE)
    exact = binomtest(3, 4).proportion_ci(0.95, "exact")
    assert (alike.low, alike.high) == pytest.approx((exact.low, exact.high), abs=1e-6)
    uneven = np.repeat(np.arange(4), [10, 10, 10, 70])
    assert clustered_mean((uneven < 3).astype(float), uneven, SHARE).high > 0.9


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


@pytest.mark.parametrize("seed", range(4))
def test_an_interval_that_is_remembered_is_that_of_its_own_values(seed):
    """Values in another order have the same ends; fewer of them, or another tail, have others."""
    rng = np.random.default_rng(seed)
    values = rng.choice([0.0, 0.5, 1.0], 30) if seed % 2 else rng.random(30)
    cases = [(values, tail) for tail in (0.025, 0.001)] + [(rng.permutation(values), 0.025), (values[:29], 0.025)]
    first = [interval(one.tolist(), SHARE, tail) for one, tail in cases]
    intervals._quantile.cache_clear()
    assert [interval(one.tolist(), SHARE, tail) for one, tail in reversed(cases)] == first[::-1]
    assert len({(one.low, one.high) for one in first}) == 3


def test_clusters_of_one_value_each_are_plain_values():
    values = np.random.default_rng(3).random(40)
    found, plain = clustered_mean(values, np.arange(40), SHARE), interval(values.tolist(), SHARE)
    assert (found.value, found.low, found.high) == pytest.approx((plain.value, plain.low, plain.high), abs=1e-12)


def test_a_mean_of_nothing_known_is_not_known():
    assert known_mean(np.array([np.nan, 0.5])) == 0.5
    assert np.isnan(known_mean(np.array([np.nan])))
