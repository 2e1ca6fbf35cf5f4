"""Equilibria of finite preference games, and how far a policy is from them.

Solvers (`nash`, `regularised_nash`) take one matrix P; gaps also take stacks of contexts, (..., n, n) with (..., n).
Policies are probabilities, float64. Leaves out: games whose two sides have different actions, sampled estimates.

    duality_gap(P, nash(P))
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linprog
from scipy.special import rel_entr

from sparring.games.game import Array, square_matrix
from sparring.games.probabilities import log_normalise, log_sum_exp, win_rates

# The dual simplex needs minutes at 2,000 actions where the interior point needs seconds.
_INTERIOR_POINT_FROM = 200
_LARGEST_GAP = 1e-7
# Entries that differ by more than this belong to two Nash policies.
_ANOTHER = 1e-5
_ACCURACY = 1e-12
_NEWTON_STEPS = 200


def nash(P: ArrayLike) -> Array:
    """A Nash policy of the symmetric zero-sum game, by linear programming.

    Minimises the best response's win rate: min t over policies p with P p <= t; its value is 1/2.
    Where the equilibrium is not unique, one of them.
    """
    preference = square_matrix(P)
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
    """Whether P has one Nash policy alone: the extremes of random directions over all equilibria must be `nash(P)`."""
    preference = square_matrix(P)
    n, policy = len(preference), nash(preference)
    directions = np.random.default_rng(0).normal(size=(2, n))
    for cost in (*directions, *-directions):
        other = linprog(cost, preference - 0.5, np.zeros(n), np.ones((1, n)), np.ones(1), [(0, None)] * n)
        if other.x is not None and np.abs(other.x - policy).max() > _ANOTHER:
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
    preference = square_matrix(P)
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
    """log reference + payoff softmax(u) / tau - u, which is 0 at the equilibrium's logits u."""
    return log_reference + payoff @ np.exp(log_normalise(logits)) / tau - logits


def _solve(payoff: Array, log_reference: Array, tau: float, logits: Array) -> tuple[Array, float]:
    """Damped Newton on u = log reference + payoff softmax(u) / tau.

    Returns u and the distance of its policy from the solution to first order: covariance times the Newton step.
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
    payoff: Array, log_reference: Array, tau: float, logits: Array, direction: NDArray[np.floating]
) -> float:
    """Halve the Newton step until the residual falls; 0 where rounding lets it fall no further."""
    norm, share = np.linalg.norm(_residual(payoff, log_reference, tau, logits)), 1.0
    while share > 1e-10:
        trial = _residual(payoff, log_reference, tau, logits + share * direction)
        if np.linalg.norm(trial) < (1.0 - 1e-4 * share) * norm:
            return share
        share /= 2
    return 0.0


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
