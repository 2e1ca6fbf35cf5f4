"""Readings of SPAC's single-network loss, and critics of other theories, on counted comparisons of one context.

Expectations over own answers are exact, over data they are counts. Leaves out: the library's own loss on the same data
(`certificates/claims/offline.py`), and the explicit critic of SPAC's theory (`offline.py`).

    play_reading("smoothed", observe_pairs(sparse_bandit(400, 0), 400, seed=0), log_start)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

from sparring.games.game import Array
from sparring.games.probabilities import log_normalise

Reading = Literal["none", "literal", "own ratio", "smoothed", "linear", "per answer"]
READINGS: tuple[Reading, ...] = get_args(Reading)
FAR = 20.0
"""nats: an update keeps every logit this near to the iterate's, where a reading has no finite minimum"""


def _softplus(z: Array) -> Array:
    return np.logaddexp(0.0, z)


def _own_term(reading: Reading, f: Array, own: Array, data: Array) -> tuple[float, Array]:
    """The second term of a reading and its gradient in the critic f; `own`, `data`: (n,) distributions of answers."""
    if reading == "literal":
        return float(own @ f), own
    if reading == "linear":
        return float((own - data) @ f), own - data
    if reading == "own ratio":
        return float(own @ _softplus(f)), own * expit(f)
    if reading == "per answer":
        return float(own @ _softplus(f) + data @ _softplus(-f)), own * expit(f) - data * expit(-f)
    if reading == "smoothed":
        joint, z = data[:, None] * own, f[:, None] - f
        pull = joint * expit(-z)
        return float((joint * _softplus(-z)).sum()), pull.sum(axis=0) - pull.sum(axis=1)
    return 0.0, np.zeros_like(f)


def reading_loss(
    reading: Reading, wins: Array, log_iterate: Array, bound: float = 4.0
) -> Callable[[Array], tuple[float, Array]]:
    """The loss of a policy's logits (n,), with its gradient: sqrt(n) times the preference loss plus the own term.

    The critic is f = log pi - log pi_t, kept within `bound` in the literal and the linear form, as in the library's.
    """
    total, own, data = wins.sum(), np.exp(log_iterate), (wins.sum(axis=0) + wins.sum(axis=1)) / (2 * wins.sum())
    clipped = reading in ("literal", "linear")

    def loss(logits: Array) -> tuple[float, Array]:
        log_policy = log_normalise(logits)
        ratio = log_policy - log_iterate
        f = np.clip(ratio, -bound, bound) if clipped else ratio
        z = f[:, None] - f
        pull = wins / np.sqrt(total) * expit(-z)
        value, slope = _own_term(reading, f, own, data)
        value += float((wins * _softplus(-z)).sum() / np.sqrt(total))
        slope = (slope + pull.sum(axis=0) - pull.sum(axis=1)) * (np.abs(ratio) < bound if clipped else 1.0)
        return value, slope - np.exp(log_policy) * slope.sum()

    return loss


def play_reading(reading: Reading, wins: Array, log_start: Array, rounds: int = 3) -> Array:
    """(n,): the log-policy after so many rounds, each anchored at the policy before it."""
    log_policy = log_normalise(log_start)
    for _ in range(rounds):
        limits = [(u - FAR, u + FAR) for u in log_policy]
        options = {"maxiter": 1000, "ftol": 1e-11, "gtol": 1e-8}
        loss = reading_loss(reading, wins, log_policy)
        found = minimize(loss, log_policy, jac=True, method="L-BFGS-B", bounds=limits, options=options)
        log_policy = log_normalise(found.x)
    return log_policy


def least_squares_critic(wins: Array, policy: Array, radius: float, ridge: float = 1.0) -> Array:
    """A critic from an ellipsoid, as PACLE's (2108.08812) in its case without transitions.

    argmin over f of E_policy f - E_data f subject to ||f - f_hat||_Sigma <= radius, where f_hat is the ridge estimate
    of f_i - f_j from 4 (win - 1/2), the Bradley-Terry probability to first order, and Sigma its design matrix.
    """
    n_actions, both = len(wins), wins + wins.T
    design = np.diag(both.sum(axis=1)) - both + ridge * np.eye(n_actions)
    estimate = np.linalg.solve(design, 2.0 * (wins.sum(axis=1) - wins.sum(axis=0)))
    shift = policy - (wins.sum(axis=0) + wins.sum(axis=1)) / (2 * wins.sum())
    direction = np.linalg.solve(design, shift)
    length = np.sqrt(max(float(shift @ direction), 1e-300))
    return estimate - radius * direction / length


def least_squares_play(wins: Array, log_start: Array, rounds: int = 40, bound: float = 4.0) -> list[Array]:
    """Log-policies 0..T against `least_squares_critic`, with the steps of `spac_theory`; critics are cut to a width of
    `bound`. The radius is 2 sqrt(n_actions): a label 4 (win - 1/2) is within 2 of 0, once for each arm."""
    step = 2 * np.sqrt(np.log(len(wins)) / rounds) / bound
    history = [log_normalise(log_start)]
    for _ in range(rounds):
        critic = least_squares_critic(wins, np.exp(history[-1]), 2.0 * np.sqrt(len(wins)))
        history.append(log_normalise(history[-1] + step * np.clip(critic, critic.max() - bound, None)))
    return history
