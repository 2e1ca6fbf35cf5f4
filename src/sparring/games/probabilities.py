"""Log-probabilities, divergences and expected win rates over the last axis.

Leaves out: equilibria (`equilibrium.py`).

    kl([0.5, 0.5], [0.9, 0.1])
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import rel_entr

from sparring.games.game import Array


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


def kl(p: ArrayLike, q: ArrayLike) -> Array:
    """KL(p || q) over the last axis; 0 log 0 = 0, and infinite where q lacks a part of p."""
    return np.maximum(rel_entr(p, q).sum(axis=-1), 0.0)


def log_kl(log_p: Array, log_q: Array) -> Array:
    """KL of log-probabilities; stays finite where q's probabilities underflow."""
    p = np.exp(log_p)
    # 0 log 0 = 0, also where both logs are minus infinity.
    ratio = np.subtract(log_p, log_q, out=np.zeros(np.broadcast(p, log_q).shape), where=p > 0)
    return np.maximum((p * ratio).sum(axis=-1), 0.0)
