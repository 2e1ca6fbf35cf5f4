"""Projected Newton: the minimum between bounds, against the closed form of a quadratic and a grid."""

from __future__ import annotations

import numpy as np
import pytest

from sparring.games.bounded import minimise_between


def test_a_diagonal_quadratic_is_cut_off_at_its_bounds():
    target, weights = np.array([-3.0, 0.2, 5.0]), np.array([1.0, 4.0, 0.1])

    def evaluate(x: np.ndarray):
        away = x - target
        return float(weights @ away**2 / 2), weights * away, np.diag(weights)

    found = minimise_between(evaluate, np.zeros(3), np.array([-1.0, -1.0, -1.0]), 2.0)
    np.testing.assert_allclose(found, [-1.0, 0.2, 2.0], atol=1e-12)


def test_a_bound_moves_the_free_entries_too():
    # x0 wants 2 and pulls x1 along; held at 1, it leaves x1 at half of that.
    curvature = np.array([[2.0, -1.0], [-1.0, 2.0]])
    slope = np.array([3.0, 0.0])

    def evaluate(x: np.ndarray):
        return float(x @ curvature @ x / 2 - slope @ x), curvature @ x - slope, curvature

    np.testing.assert_allclose(minimise_between(evaluate, np.zeros(2), -9.0, 9.0), [2.0, 1.0], atol=1e-12)
    np.testing.assert_allclose(minimise_between(evaluate, np.zeros(2), -9.0, 1.0), [1.0, 0.5], atol=1e-12)


def test_a_loss_that_is_no_number_is_refused():
    def nothing(x: np.ndarray):
        return (0.0 if x[0] == 1 else np.nan), np.ones(1), np.ones((1, 1))

    with pytest.raises(ValueError, match="it is not convex, or no number"):
        minimise_between(nothing, np.ones(1), -9.0, 9.0)


def test_a_loss_without_a_minimum_is_refused():
    def falls(x: np.ndarray):
        return float(-x.sum()), -np.ones(1), np.ones((1, 1))

    with pytest.raises(ValueError, match="no minimum in 200 Newton steps between -inf and inf"):
        minimise_between(falls, np.ones(1), -np.inf, np.inf)
