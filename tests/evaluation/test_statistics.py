"""Intervals: the bootstrap where values differ, the exact bound where they cannot."""

from __future__ import annotations

import numpy as np
import pytest
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
    assert interval([0.0] * 5, within=DIFFERENCE) == {"value": 0.0, "low": 0.0, "high": 0.0}


def test_values_that_differ_keep_the_bootstrap():
    values = np.random.default_rng(0).random(50).tolist()
    assert interval(values, within=SHARE) == interval(values)
    assert interval([1.0] * 49 + [0.0], within=SHARE) == interval([1.0] * 49 + [0.0])
