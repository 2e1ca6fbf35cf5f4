"""How much of a preference comes from rewards: the Bradley-Terry fit.

Leaves out: reward models over texts (`oracles/`).

    best_bradley_terry(built_in("G3").preference[0]).max_distance
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from sparring.games.game import Array, square_matrix

_NEWTON_STEPS = 200
# 0/1 preferences that a ranking explains have no finite maximum-likelihood rewards.
_REWARD_BOUND = 30.0
_SLOPE = 1e-11
# How close to a bound a reward counts as held there; keeps the projected step from zigzagging.
_NEAR = 1e-9


@dataclass(frozen=True, slots=True)
class BradleyTerryFit:
    """The Bradley-Terry model nearest in likelihood to a preference matrix."""

    rewards: Array
    """Maximum-likelihood rewards, mean 0; a spread of 60 at most where there is no maximum."""
    max_distance: float
    """Largest |P_ij - s(r_i - r_j)|: 0 when the preference comes from a reward."""
    mean_distance: float
    """Mean of the same over pairs i != j."""


def best_bradley_terry(P: ArrayLike) -> BradleyTerryFit:
    """Fit r to max sum_ij P_ij log s(r_i - r_j), s the logistic function (Bradley-Terry, 1952)."""
    preference = square_matrix(P)
    n = len(preference)
    rewards = fit_rewards(preference / n, np.zeros(n), (-_REWARD_BOUND, _REWARD_BOUND))
    rewards = rewards - rewards.mean()
    errors = np.abs(0.5 + 0.5 * np.tanh((rewards[:, None] - rewards[None, :]) / 2) - preference)
    return BradleyTerryFit(rewards, float(errors.max()), float(errors.sum() / max(n * (n - 1), 1)))


def fit_rewards(wins: Array, shift: Array, bounds: tuple[float, float], start: Array | None = None) -> Array:
    """Minimise shift . f + sum_ij wins_ij log(1 + exp(f_j - f_i)) over low <= f_i <= high.

    Projected Newton (Bertsekas, 1982): entries that their slope holds at a bound stay there, the
    others take a Newton step, cut off at the bounds and halved until the loss falls enough.
    """
    if not (np.isfinite(wins).all() and (wins >= 0).all() and np.isfinite(shift).all()):
        raise ValueError(
            f"fit_rewards: least win count {wins.min()}, shift sums to {shift.sum()}; give finite "
            "numbers, wins of at least 0"
        )
    low, high = bounds
    scale = max((wins + wins.T).sum(axis=1).max(), np.abs(shift).max()) or 1.0
    wins, shift = wins / scale, shift / scale
    rewards = np.full(len(wins), (low + high) / 2) if start is None else np.clip(start, low, high)
    for _ in range(_NEWTON_STEPS):
        loss, slope, curvature = _reward_loss(wins, shift, rewards)
        if np.abs(np.clip(rewards - slope, low, high) - rewards).max() < _SLOPE:
            return rewards
        direction = _free_newton_step(rewards, slope, curvature, bounds)
        moved = np.clip(rewards + direction, low, high)
        # The last term is rounding: without it the final steps could never be accepted.
        while _reward_loss(wins, shift, moved)[0] > (loss + 1e-4 * slope @ (moved - rewards) + 1e-15 * (1 + abs(loss))):
            direction = direction / 2
            moved = np.clip(rewards + direction, low, high)
        rewards = moved
    raise ValueError(f"fit_rewards: no minimum in {_NEWTON_STEPS} steps on [{low}, {high}]; use tighter bounds")


def _reward_loss(wins: Array, shift: Array, rewards: Array) -> tuple[float, Array, Array]:
    """Value, gradient and Hessian (a graph Laplacian)."""
    margins = rewards[:, None] - rewards[None, :]
    lost = 0.5 - 0.5 * np.tanh(margins / 2)
    loss = float(shift @ rewards + (wins * np.logaddexp(0.0, -margins)).sum())
    pull = wins * lost
    weights = pull * (1.0 - lost)
    weights = weights + weights.T
    return loss, shift - pull.sum(axis=1) + pull.sum(axis=0), np.diag(weights.sum(axis=1)) - weights


def _free_newton_step(rewards: Array, slope: Array, curvature: Array, bounds: tuple[float, float]) -> Array:
    """The Newton step of entries that are free to move, and the negative slope of those that a bound stops."""
    low, high = bounds
    stopped = ((rewards <= low + _NEAR) & (slope > 0)) | ((rewards >= high - _NEAR) & (slope < 0))
    free = np.flatnonzero(~stopped)
    # A common shift of connected rewards changes nothing: without the ridge the block is singular.
    block = curvature[np.ix_(free, free)] + 1e-10 * np.eye(len(free))
    direction = -slope
    direction[free] = -np.linalg.solve(block, slope[free])
    return direction
