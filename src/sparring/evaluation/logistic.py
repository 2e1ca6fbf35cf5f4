"""Logistic regression without an intercept, with or without an L1 penalty: ratings, style control, length control.

    w = argmin  sum_i s_i CE(p_i, sigmoid(w . x_i)) + sum_k penalty_k |w_k|           targets p_i in [0, 1]

by proximal Newton steps, halved until the loss does not rise. Without a penalty it is Newton's method, and a fit that
separates wins from losses has no finite answer: the weights are then as large as floating point lets them be. Leaves
out: many penalised weights (a step tries all patterns of signs).

    fit_logistic(np.array([[1.0], [1.0]]), np.array([1.0, 0.5]), np.ones(2))  ->  [1.0986]
"""

from __future__ import annotations

from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, log_expit

Array = NDArray[np.float64]
NEWTON_STEPS = 100
CONVERGED = 1e-13
"""relative gain of a step after which the optimum is reached: the error of the weights is then that gain squared"""
ROUNDING = 1e-15
"""relative rise of the loss that is rounding"""
SMALLEST_STEP = 1e-6
RIDGE = 1e-10
"""added to the curvature, so that a feature that never differs keeps weight 0"""


def cross_entropies(logits: Array, targets: Array) -> Array:
    """CE(p, sigmoid(z)) of each row."""
    return -targets * log_expit(logits) - (1 - targets) * log_expit(-logits)


def fit_logistic(
    features: Array, targets: Array, importance: Array, penalties: Array | None = None, start: Array | None = None
) -> Array:
    """The weights w of the module's formula, from `start` (else 0); `importance` is s."""
    weights = np.zeros(features.shape[1]) if start is None else start
    penalties = np.zeros(len(weights)) if penalties is None else penalties

    def loss(weights: Array) -> float:
        return float(importance @ cross_entropies(features @ weights, targets) + penalties @ np.abs(weights))

    value = loss(weights)
    for _ in range(NEWTON_STEPS):
        chances = expit(features @ weights)
        gradient = features.T @ (importance * (chances - targets))
        curvature = features.T @ (features * (importance * chances * (1 - chances))[:, None])
        step = _step(weights, gradient, curvature + RIDGE * np.eye(len(weights)), penalties)
        size, most = 1.0, value + ROUNDING * abs(value)
        while (moved := loss(weights + size * step)) > most and size > SMALLEST_STEP:
            size /= 2
        if moved > most:
            break
        gain, weights, value = value - moved, weights + size * step, moved
        if gain <= CONVERGED * abs(value):
            break
    return weights


def _step(weights: Array, gradient: Array, curvature: Array, penalties: Array) -> Array:
    """argmin_d g.d + d'Hd/2 + sum_k penalty_k |w + d|_k, exactly: the best of the stationary points of all signs.

    Three penalised weights have 27 patterns. Coordinate descent crawls where length and constant are nearly collinear.
    """
    if not penalties.any():
        return np.asarray(np.linalg.solve(curvature, -gradient), dtype=np.float64)
    free_K = penalties == 0
    signs_SK = np.array(list(product(*((1.0,) if free else (-1.0, 0.0, 1.0) for free in free_K))))
    active_SK = signs_SK != 0
    linear = gradient - curvature @ weights
    both_SKK = active_SK[:, :, None] & active_SK[:, None, :]
    system_SKK = np.where(both_SKK, curvature, np.eye(len(weights)))
    points_SK = np.linalg.solve(system_SKK, np.where(active_SK, -linear - penalties * signs_SK, 0.0)[..., None])[..., 0]
    loss_S = points_SK @ linear + np.abs(points_SK) @ penalties
    loss_S += np.einsum("sk,kj,sj->s", points_SK, curvature, points_SK) / 2
    loss_S[((np.sign(points_SK) != signs_SK) & ~free_K).any(1)] = np.inf
    return points_SK[loss_S.argmin()] - weights
