"""Readings of SPAC's loss against plain sums, the least-squares critic, and steps of alternating sign."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sparring.games.built_in import built_in
from sparring.games.dynamics import mwu, slingshot
from sparring.games.equilibrium import nash
from sparring.games.probabilities import log_kl, log_normalise
from sparring.games.readings import READINGS, Reading, least_squares_critic, play_reading, reading_loss

WINS = np.array([[0.0, 3.0, 1.0], [1.0, 0.0, 2.0], [0.0, 1.0, 0.0]])
ITERATE = np.log(np.array([0.5, 0.3, 0.2]))
LOGITS = np.array([0.7, -0.4, 0.1])


def ell(z: float) -> float:
    return math.log1p(math.exp(-z))


def by_hand(reading: Reading) -> float:
    """The loss in loops, as its formula says."""
    f, own, total = log_normalise(LOGITS) - ITERATE, np.exp(ITERATE), WINS.sum()
    data = (WINS.sum(0) + WINS.sum(1)) / (2 * total)
    value = sum(WINS[i, j] * ell(f[i] - f[j]) for i in range(3) for j in range(3)) / math.sqrt(total)
    for k in range(3):
        if reading == "literal":
            value += own[k] * f[k]
        if reading in ("own ratio", "per answer"):
            value += own[k] * ell(-f[k])
        for i in range(3):
            if reading == "linear":
                value += own[k] * data[i] * (f[k] - f[i])
            if reading == "smoothed":
                value += own[k] * data[i] * ell(f[i] - f[k])
        if reading == "per answer":
            value += data[k] * ell(f[k])
    return value


@pytest.mark.parametrize("reading", READINGS)
def test_a_reading_is_its_formula_and_has_its_gradient(reading: Reading) -> None:
    loss = reading_loss(reading, WINS, ITERATE)
    value, gradient = loss(LOGITS)
    assert value == pytest.approx(by_hand(reading), rel=1e-12)
    for k in range(3):
        move = 1e-6 * np.eye(3)[k]
        assert gradient[k] == pytest.approx((loss(LOGITS + move)[0] - loss(LOGITS - move)[0]) / 2e-6, abs=1e-8)


def test_a_played_reading_is_a_minimum() -> None:
    policy = play_reading("smoothed", WINS, ITERATE, rounds=1)
    assert np.abs(reading_loss("smoothed", WINS, ITERATE)(policy)[1]).max() < 1e-5


def test_the_least_squares_critic_is_the_lowest_in_its_ellipsoid() -> None:
    policy, radius = np.array([0.1, 0.1, 0.8]), 1.5
    both = WINS + WINS.T
    design = np.diag(both.sum(1)) - both + np.eye(3)
    centre = least_squares_critic(WINS, policy, 0.0)
    assert design @ centre == pytest.approx(2 * (WINS.sum(1) - WINS.sum(0)))
    shift = policy - (WINS.sum(0) + WINS.sum(1)) / (2 * WINS.sum())
    move = least_squares_critic(WINS, policy, radius) - centre
    assert move @ design @ move == pytest.approx(radius**2)
    for other in np.random.default_rng(0).normal(size=(50, 3)):
        other *= radius / math.sqrt(other @ design @ other)
        assert shift @ move <= shift @ other + 1e-9


def test_two_seats_with_alternating_signs_converge_and_one_does_not() -> None:
    game = built_in("G3")
    preference, start = game.preference[0], game.log_reference[0]
    aim = np.log(nash(preference))
    first = second = alone = start
    for _ in range(300):
        first, second = slingshot(preference, first, second, 2.0)
        alone = mwu(preference, mwu(preference, alone, 2.0), -2.0)
    before = float(log_kl(aim, start))
    assert float(log_kl(aim, first)) < before / 100
    assert float(log_kl(aim, second)) < before / 100
    assert float(log_kl(aim, alone)) > before
