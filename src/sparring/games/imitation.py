"""Exact updates of methods that imitate a data policy: SPIN, alpha-SPIN, fictitious play.

All minimise the logistic loss on (data, sampler) pairs. Leaves out: methods with an oracle (`dynamics.py`).

    spin(log_policy, log_data, beta=1.0)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from sparring.games.game import Array
from sparring.games.probabilities import log_normalise, log_sum_exp


def spin(log_policy: Array, log_data: Array, beta: float) -> Array:
    """SPIN (2401.01335; its lambda is beta): pi_{t+1} prop pi_t (data / pi_t)^(1 / beta).

    Stable around the data policy where beta > 1/2 only.
    """
    return _imitate(log_policy, log_policy, log_data, beta)


def alpha_spin(
    log_policy: Array,
    log_base: Array,
    log_data: Array,
    beta: float,
    alpha: float,
    sampler: Literal["iterate", "mixture"] = "iterate",
) -> Array:
    """alpha-SPIN (2404.04291): SPIN's loss anchored at m prop pi_t^(1 - alpha) base^alpha.

    Opponent samples come from pi_t ("iterate") or from the mixture m itself ("mixture").
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha_spin: alpha = {alpha}; give the base's weight, from 0 to 1")
    mixture = log_normalise((1 - alpha) * log_policy + alpha * log_base)
    if sampler not in ("iterate", "mixture"):
        raise ValueError(f"alpha_spin: sampler = {sampler!r}; choose 'iterate' or 'mixture'")
    return _imitate(mixture, log_policy if sampler == "iterate" else mixture, log_data, beta)


def fictitious_spin(history: Sequence[Array], log_data: Array, beta: float, window: int | None = None) -> Array:
    """SPIN against the mean of the last `window` iterates, or of all (2404.04291)."""
    if window is not None and window < 1:
        raise ValueError(f"window = {window}; give the iterates to average, at least 1, or None for all")
    recent = np.stack(history if window is None else history[-window:], axis=-1)
    return _imitate(history[-1], log_sum_exp(recent) - np.log(recent.shape[-1]), log_data, beta)


def _imitate(log_anchor: Array, log_sampler: Array, log_data: Array, beta: float) -> Array:
    """Minimise the logistic loss on (data, sampler) pairs: anchor (data / sampler)^(1 / beta)."""
    if beta <= 0:
        raise ValueError(f"beta = {beta}; give the scale of the log-ratios in the loss, above 0")
    return log_normalise(log_anchor + (log_data - log_sampler) / beta)
