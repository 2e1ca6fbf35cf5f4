"""How much of a preference comes from rewards: the Bradley-Terry fit.

Leaves out: reward models over texts (`oracles/`).

    best_bradley_terry(built_in("G3").preference[0]).max_distance
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import ArrayLike

from sparring.games.bounded import minimise_between
from sparring.games.game import Array, square_matrix

# 0/1 preferences that a ranking explains have no finite maximum-likelihood rewards.
_REWARD_BOUND = 30.0


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

    Raises:
        ValueError: counts or shifts that are no numbers, or no minimum was reached.
    """
    if not (np.isfinite(wins).all() and (wins >= 0).all() and np.isfinite(shift).all()):
        raise ValueError(
            f"fit_rewards: least win count {wins.min()}, shift sums to {shift.sum()}; give finite "
            "numbers, wins of at least 0"
        )
    low, high = bounds
    scale = max((wins + wins.T).sum(axis=1).max(), np.abs(shift).max()) or 1.0
    wins, shift = wins / scale, shift / scale
    begin = np.full(len(wins), (low + high) / 2) if start is None else start
    try:
        return minimise_between(partial(_reward_loss, wins, shift), begin, low, high)
    except ValueError as error:
        raise ValueError(f"fit_rewards: {error}; use tighter bounds") from error


def _reward_loss(wins: Array, shift: Array, rewards: Array) -> tuple[float, Array, Array]:
    """Value, gradient and Hessian (a graph Laplacian)."""
    margins = rewards[:, None] - rewards[None, :]
    lost = 0.5 - 0.5 * np.tanh(margins / 2)
    loss = float(shift @ rewards + (wins * np.logaddexp(0.0, -margins)).sum())
    pull = wins * lost
    weights = pull * (1.0 - lost)
    weights = weights + weights.T
    return loss, shift - pull.sum(axis=1) + pull.sum(axis=0), np.diag(weights.sum(axis=1)) - weights
