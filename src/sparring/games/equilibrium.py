"""Equilibria and distances of finite preference games: what the dynamics are held against.

Solvers (`nash`, `regularised_nash`) take one matrix P; gaps and divergences also take stacks of
contexts, (..., n, n) with (..., n). Policies are probabilities, float64.

Left out: games whose two sides have different actions, sampled estimates of these quantities.

Try: `duality_gap(P, nash(P))` with `P = built_in("G3").preference[0]`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linprog
from scipy.special import rel_entr

from sparring.games.game import Array

# The dual simplex needs minutes at 2,000 actions where the interior point needs seconds.
_INTERIOR_POINT_FROM = 200
_LARGEST_GAP = 1e-7
_ANOTHER = 1e-5
_ACCURACY = 1e-12
_NEWTON_STEPS = 200
# 0/1 preferences that a ranking explains have no finite maximum-likelihood rewards.
_REWARD_BOUND = 30.0
_SLOPE = 1e-11
# How close to a bound a reward counts as held there; keeps the projected step from zigzagging.
_NEAR = 1e-9


# ---------------------------------------------------------------- log-domain helpers


def log_sum_exp(logits: Array) -> Array:
    """log sum exp over the last axis."""
    top = logits.max(axis=-1, keepdims=True)
    return top[..., 0] + np.log(np.exp(logits - top).sum(axis=-1))


def log_normalise(logits: Array) -> Array:
    """Log-probabilities proportional to exp(logits) over the last axis."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def win_rates(preference: Array, policy: Array) -> Array:
    """P(y > policy) for every action y: the expected win rate against the policy."""
    return np.matmul(preference, policy[..., None])[..., 0]


# ---------------------------------------------------------------- equilibria


def nash(P: ArrayLike) -> Array:
    """A Nash policy of the symmetric zero-sum game, by linear programming.

    Minimises the best response's win rate: min t over policies p with P p <= t; its value is 1/2.
    Where the equilibrium is not unique, one of them.
    """
    preference = _square(P)
    n = len(preference)
    result = linprog(
        c=np.append(np.zeros(n), 1.0),
        # Subtracting 1/2 makes the payoff skew and its value 0, which the solvers resolve best.
        A_ub=np.hstack([preference - 0.5, -np.ones((n, 1))]),
        b_ub=np.zeros(n),
        A_eq=np.append(np.ones(n), 0.0)[None],
        b_eq=np.ones(1),
        bounds=[(0, None)] * n + [(None, None)],
        method="highs-ipm" if n > _INTERIOR_POINT_FROM else "highs",
    )
    if result.x is None:
        raise ValueError(f"nash: no equilibrium found for {n} actions ({result.message}); check P")
    policy = np.clip(result.x[:n], 0.0, None)
    policy /= policy.sum()
    gap = duality_gap(preference, policy)
    if not gap < _LARGEST_GAP:
        raise ValueError(
            f"nash: the solver's policy has a duality gap of {gap:.1e}, above {_LARGEST_GAP:.0e} "
            f"({result.message}); check that P + P^T = 1"
        )
    return policy


def nash_is_unique(P: ArrayLike) -> bool:
    """Whether `nash` is the only one: random directions, maximised over all equilibria, must not move away from it."""
    preference = _square(P)
    n, found = len(preference), nash(preference)
    for direction in np.random.default_rng(0).normal(size=(2, n)):
        for sign in (1.0, -1.0):
            other = linprog(
                c=sign * direction,
                A_ub=preference - 0.5,
                b_ub=np.zeros(n),
                A_eq=np.ones((1, n)),
                b_eq=np.ones(1),
                bounds=[(0, None)] * n,
            )
            if other.x is not None and np.abs(other.x - found).max() > _ANOTHER:
                return False
    return True


def regularised_nash(P: ArrayLike, reference: ArrayLike, tau: float) -> Array:
    """The unique policy proportional to reference * exp(P policy / tau), to 1e-12.

    It is the equilibrium of P(p > q) - tau KL(p || reference) + tau KL(q || reference), the game of
    INPO (2407.00617). Newton on log-policies with step halving: the Jacobian
    I - (P - 1/2)(diag p - p p^T) / tau has eigenvalues 1 + i s, s real, so it is never singular.
    A small tau is approached from 1 in quarters, each solution starting the next.
    """
    policy = np.asarray(reference, dtype=np.float64)
    if not (policy > 0).all():
        raise ValueError(f"reference has least entry {policy.min()}; give probabilities above 0")
    return np.exp(log_regularised_nash(P, np.log(policy), tau))


def log_regularised_nash(P: ArrayLike, log_reference: Array, tau: float) -> Array:
    """`regularised_nash` from and to log-probabilities, for references that underflow."""
    preference = _square(P)
    if log_reference.shape != preference[0].shape or not np.isfinite(log_reference).all():
        raise ValueError(
            f"reference has shape {log_reference.shape}, needed {preference[0].shape}: give "
            f"{len(preference)} probabilities above 0"
        )
    if not (math.isfinite(tau) and tau > 0):
        raise ValueError(f"regularised_nash: tau = {tau}; give a finite number above 0 (or use `nash`)")
    logits, error = log_reference, math.inf
    for level in _descending(tau):
        logits, error = _solve(preference - 0.5, log_reference, level, logits)
    if error > _ACCURACY:
        raise ValueError(
            f"regularised_nash: error {error:.1e} above {_ACCURACY:.0e} at tau = {tau} with "
            f"{len(preference)} actions; use a larger tau"
        )
    return log_normalise(logits)


def _descending(tau: float) -> list[float]:
    """Values of tau from about 1 (or tau itself, when larger) down to tau, each a quarter."""
    quarterings = max(0, math.ceil(-math.log2(tau) / 2))
    return [tau * 4.0**k for k in range(quarterings, -1, -1)]


def _residual(payoff: Array, log_reference: Array, tau: float, logits: Array) -> Array:
    return log_reference + payoff @ np.exp(log_normalise(logits)) / tau - logits


def _solve(payoff: Array, log_reference: Array, tau: float, logits: Array) -> tuple[Array, float]:
    """Damped Newton on u = log reference + payoff softmax(u) / tau.

    Returns u and, to first order, how far its policy is from the solution: the Newton step says so.
    """
    error = math.inf
    for _ in range(_NEWTON_STEPS):
        residual = _residual(payoff, log_reference, tau, logits)
        policy = np.exp(log_normalise(logits))
        covariance = np.diag(policy) - np.outer(policy, policy)
        jacobian = np.eye(len(policy)) - payoff @ covariance / tau
        direction = np.linalg.solve(jacobian, residual)
        error = float(np.abs(covariance @ direction).max())
        if error <= _ACCURACY / 10:
            return logits + direction, error
        share = _step_share(payoff, log_reference, tau, logits, direction)
        if share == 0.0:
            break
        logits = logits + share * direction
    return logits, error


def _step_share(
    payoff: Array,
    log_reference: Array,
    tau: float,
    logits: Array,
    direction: NDArray[np.floating],
) -> float:
    """Halve the Newton step until the residual falls; 0 where rounding lets it fall no further."""
    norm, share = np.linalg.norm(_residual(payoff, log_reference, tau, logits)), 1.0
    while share > 1e-10:
        trial = _residual(payoff, log_reference, tau, logits + share * direction)
        if np.linalg.norm(trial) < (1.0 - 1e-4 * share) * norm:
            return share
        share /= 2
    return 0.0


# ---------------------------------------------------------------- distances


def kl(p: ArrayLike, q: ArrayLike) -> Array:
    """KL(p || q) over the last axis; 0 log 0 = 0, and infinite where q lacks a part of p."""
    return np.maximum(rel_entr(p, q).sum(axis=-1), 0.0)


def log_kl(log_p: Array, log_q: Array) -> Array:
    """KL of log-probabilities; stays finite where q's probabilities underflow."""
    p = np.exp(log_p)
    # 0 log 0 = 0, also where both logs are minus infinity.
    ratio = np.subtract(log_p, log_q, out=np.zeros(np.broadcast(p, log_q).shape), where=p > 0)
    return np.maximum((p * ratio).sum(axis=-1), 0.0)


def duality_gap(P: ArrayLike, policy: ArrayLike) -> Array:
    """gap(p) = max_y P(y > p) - min_y P(p > y) = 2 (max_y P(y > p) - 1/2); 0 exactly at a Nash."""
    best_response = win_rates(np.asarray(P), np.asarray(policy)).max(axis=-1)
    return np.maximum(2.0 * best_response - 1.0, 0.0)


def regularised_gap(P: ArrayLike, policy: ArrayLike, reference: ArrayLike, tau: float) -> Array:
    """Duality gap of INPO's KL-regularised game (2407.00617), best responses in closed form.

    tau lse(log ref + P p / tau) + tau lse(log ref - p P / tau) + 2 tau KL(p || ref).
    """
    probabilities, start = np.asarray(policy, dtype=np.float64), np.asarray(reference)
    # P - 1/2 is skew, so both sides have the same best response and the first two terms are equal.
    advantage = win_rates(np.asarray(P), probabilities) - 0.5
    best = log_sum_exp(np.log(start) + advantage / tau)
    return 2.0 * tau * (best + rel_entr(probabilities, start).sum(axis=-1))


# ---------------------------------------------------------------- structure of a preference


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
    preference = _square(P)
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
    low, high = bounds
    held = ((rewards <= low + _NEAR) & (slope > 0)) | ((rewards >= high - _NEAR) & (slope < 0))
    free = np.flatnonzero(~held)
    # A common shift of connected rewards changes nothing: without the ridge the block is singular.
    block = curvature[np.ix_(free, free)] + 1e-10 * np.eye(len(free))
    direction = -slope
    direction[free] = -np.linalg.solve(block, slope[free])
    return direction


def cyclic_triples(P: ArrayLike) -> float:
    """Share of triples i, j, k with i over j, j over k and k over i; ties make no cycle."""
    beats = (_square(P) > 0.5).astype(np.float64)
    triples = math.comb(len(beats), 3)
    # Each cyclic triple is one closed walk of length three, counted from its three starts.
    cycles = float(np.sum((beats @ beats) * beats.T)) / 3
    return cycles / triples if triples else 0.0


# ---------------------------------------------------------------- checks


def _square(P: ArrayLike) -> Array:
    preference = np.asarray(P, dtype=np.float64)
    if preference.ndim != 2 or preference.shape[0] != preference.shape[1] or not preference.size:
        raise ValueError(f"P has shape {preference.shape}; give one n x n matrix, e.g. game.preference[context]")
    return preference
