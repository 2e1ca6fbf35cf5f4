"""Intervals: the bootstrap where values differ, the exact bound where they cannot."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from sparring.evaluation.statistics import DIFFERENCE, SHARE, interval


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
    assert interval([1.0] * 49 + [0.0], within=SHARE) == interval([1.0] * 49 + [0.0])
