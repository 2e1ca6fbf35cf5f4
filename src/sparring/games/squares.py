"""Minima that Lambert's W gives: SPPO's and RSPO's response squares, and chi-PO's link.

The squares aim at `mwu` and `mmd` (`dynamics.py`) and miss them. Leaves out: chi-PO with clipping, which has no closed
form.

    response_square(P, log_policy, log_reference, step_size=1.0)
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.optimize import brentq
from scipy.special import lambertw, wrightomega

from sparring.games.game import Array
from sparring.games.probabilities import log_normalise, log_sum_exp, win_rates


def response_square(
    preference: Array, log_policy: Array, log_reference: Array, step_size: float, reverse_kl: float = 0.0
) -> Array:
    """Exact minimiser of SPPO's square (2405.00675), and of RSPO's with the squared log-ratio (2503.00030).

    Over responses of pi_t, 1/2 (log pi/pi_t - step_size (P(y > pi_t) - 1/2))^2 + reverse_kl (log pi/ref)^2 has the
    minimum m of each square where nothing ties the responses together; that probabilities sum to one moves it to
    log pi = m - W(c pi_0 / pi_t), pi_0 = exp(m), W Lambert's function, c the same for all responses.
    """
    rates = win_rates(preference, np.exp(log_policy)) - 0.5
    m = (log_policy + step_size * rates + 2 * reverse_kl * log_reference) / (1 + 2 * reverse_kl)
    rows = zip(*(x.reshape(-1, x.shape[-1]) for x in (m, m - log_policy)), strict=True)
    return np.stack([_normalised_square(*row) for row in rows]).reshape(m.shape)


def _normalised_square(m: Array, log_scale: Array) -> Array:
    """m - W(c exp(log_scale)) with the c at which probabilities sum to one: positive where those of m exceed one."""

    def moved(c: float) -> Array:
        with np.errstate(divide="ignore"):
            return m - (wrightomega(np.log(c) + log_scale) if c >= 0 else lambertw(c * np.exp(log_scale)).real)

    def excess(c: float) -> float:
        return float(log_sum_exp(moved(c)))

    # W is real down to -1/e.
    low, high = -np.exp(-1 - log_scale.max()) * (1 - 1e-12), 1.0
    if excess(low) < 0:
        raise ValueError("response_square: the targets' probabilities sum to far less than 1; use a smaller step_size")
    while excess(high) > 0:
        high *= 4
    return log_normalise(moved(_root(excess, low, high)))


def chi_po(log_anchor: Array, rewards: Array, beta: float) -> Array:
    """Unclipped chi-PO (2407.13399) on Bradley-Terry labels: beta (z + log z) = r - c with z = pi / anchor.

    So log z = log W(exp((r - c) / beta)), W Lambert's function, c such that probabilities sum to one.
    """
    rows = zip(*(x.reshape(-1, x.shape[-1]) for x in (log_anchor, rewards / beta)), strict=True)
    return np.stack([_normalised_link(*row) for row in rows]).reshape(log_anchor.shape)


def _normalised_link(log_anchor: Array, scaled: Array) -> Array:
    """log anchor + log W(exp(scaled - c)) with the c at which probabilities sum to one."""

    def excess(c: float) -> float:
        return float(log_sum_exp(log_anchor + np.log(wrightomega(scaled - c))))

    # W(e) = 1: at c = max - 1 every ratio is at most 1, at c = min - 1 at least 1.
    c = _root(excess, scaled.min() - 1 - 1e-9, scaled.max() - 1 + 1e-9)
    return log_normalise(log_anchor + np.log(wrightomega(scaled - c)))


def _root(function: Callable[[float], float], low: float, high: float) -> float:
    """Where a monotone function is 0, to the last digits."""
    return brentq(function, low, high, xtol=1e-300, rtol=1e-14)  # type: ignore[return-value, arg-type]
