"""Exact population updates: each method with infinitely many samples and a perfect fit.

One small pure function per method, in the log domain, over one context (n,) or a stack (C, n); the
preference has one more axis. `step_size` multiplies the win rates; INPO, COMAL and MNPO print its
inverse as eta. Histories are sequences of log-policies, oldest (the reference, round 0) first. Leaves out: the minima
of response squares (`squares.py`), losses without a closed form.

    mwu(game.preference, game.log_reference, 0.1)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from sparring.games.equilibrium import log_regularised_nash
from sparring.games.game import Array
from sparring.games.probabilities import log_normalise, log_sum_exp, win_rates


def _reference_weight(step_size: float, kl_to_reference: float) -> float:
    """step_size * kl_to_reference, the reference's share of a geometric mixture."""
    weight = step_size * kl_to_reference
    if step_size <= 0 or kl_to_reference < 0 or weight > 1 + 1e-9:
        raise ValueError(
            f"step_size = {step_size} with kl_to_reference = {kl_to_reference} gives the "
            f"reference a weight of {weight}, needed 0 to 1: use step_size <= 1 / kl_to_reference"
        )
    return weight


def inpo(preference: Array, log_policy: Array, log_reference: Array, step_size: float, kl_to_reference: float) -> Array:
    """Online mirror descent of INPO (2407.00617, Lemma 5): its eta is 1 / step_size.

    pi_{t+1} prop ref^w pi_t^(1 - w) exp(step_size P(. > pi_t)), w = step_size * kl_to_reference.
    """
    w = _reference_weight(step_size, kl_to_reference)
    rates = win_rates(preference, np.exp(log_policy))
    return log_normalise(w * log_reference + (1 - w) * log_policy + step_size * rates)


def mmd(preference: Array, log_policy: Array, log_reference: Array, step_size: float, kl_to_reference: float) -> Array:
    """Magnetic mirror descent: exact reverse-KL RSPO (2503.00030) and one step of MPO (2410.16714).

    The same map as `inpo` with step_size / (1 + step_size * kl_to_reference).
    """
    return inpo(preference, log_policy, log_reference, step_size / (1 + step_size * kl_to_reference), kl_to_reference)


def mwu(preference: Array, log_policy: Array, step_size: float) -> Array:
    """Multiplicative weights, SPPO's ideal update (2405.00675).

    pi_{t+1} prop pi_t exp(step_size P(. > pi_t)).
    """
    return log_normalise(log_policy + step_size * win_rates(preference, np.exp(log_policy)))


def slingshot(preference: Array, log_first: Array, log_second: Array, step_size: float) -> tuple[Array, Array]:
    """Two rounds of multiplicative weights of two seats with steps of alternating, opposite signs (2505.01423).

    First with (step_size, -step_size), then with (-step_size, step_size), each from and against the policies before it.
    """
    for signed in (step_size, -step_size):
        against = win_rates(preference, np.exp(log_second)), win_rates(preference, np.exp(log_first))
        log_first = log_normalise(log_first + signed * against[0])
        log_second = log_normalise(log_second - signed * against[1])
    return log_first, log_second


def nash_md(
    preference: Array, log_policy: Array, log_reference: Array, step_size: float, kl_to_reference: float
) -> Array:
    """Nash-MD (2312.00886): `mwu` from, and against, the geometric mixture with the reference.

    m prop pi_t^(1 - w) ref^w, pi_{t+1} prop m exp(step_size P(. > m)).
    """
    w = _reference_weight(step_size, kl_to_reference)
    return mwu(preference, log_normalise((1 - w) * log_policy + w * log_reference), step_size)


def egpo(
    preference: Array, log_policy: Array, log_reference: Array, step_size: float, kl_to_reference: float
) -> tuple[Array, Array]:
    """Extragradient (EGPO, 2503.08942): the half-step policy and the next, both from pi_t.

    Each is prop pi_t^(1 - w) ref^w exp(step_size P(. > q)), q = pi_t and then q = half.
    """
    w = _reference_weight(step_size, kl_to_reference)
    start = (1 - w) * log_policy + w * log_reference
    half = log_normalise(start + step_size * win_rates(preference, np.exp(log_policy)))
    return half, log_normalise(start + step_size * win_rates(preference, np.exp(half)))


def onpo(preference: Array, log_policy: Array, log_base: Array, step_size: float) -> tuple[Array, Array]:
    """Optimistic step (ONPO, 2502.16852): the next policy and the next base, from those of round t.

    base_{t+1} prop base_t exp(step_size r_t), pi_{t+1} prop base_{t+1} exp(step_size r_t) with
    r_t = P(. > pi_t) as the prediction. Both start at the reference.
    """
    rates = win_rates(preference, np.exp(log_policy))
    base = log_normalise(log_base + step_size * rates)
    return log_normalise(base + step_size * rates), base


def onpo_play(preference: Array, history: Sequence[Array], step_size: float) -> Array:
    """`onpo` from the history alone: base_t is pi_t without its prediction r_{t-1}."""
    base = history[-1]
    if len(history) > 1:
        base = base - step_size * win_rates(preference, np.exp(history[-2]))
    return onpo(preference, history[-1], base, step_size)[0]


def mnpo(
    preference: Array,
    history: Sequence[Array],
    log_reference: Array,
    step_size: float,
    kl_to_reference: float,
    weights: Sequence[float],
) -> Array:
    """TD-MNPO (2509.23102): `inpo` with pi_t in the anchor replaced by prod_j pi_{t-j}^weights[j].

    Newest first. Rounds before the start have no iterate: the weights that remain are divided by
    their sum. Win rates stay those against pi_t, which the pairs are sampled from.
    """
    w = _reference_weight(step_size, kl_to_reference)
    recent = np.array(weights[: len(history)], dtype=np.float64)
    if not recent.size or (recent < 0).any() or recent.sum() <= 0:
        raise ValueError(f"mnpo: weights = {list(weights)}; give one or more, not negative, not all 0")
    shares = recent / recent.sum()
    past = sum(share * history[-1 - j] for j, share in enumerate(shares))
    rates = win_rates(preference, np.exp(history[-1]))
    return log_normalise(w * log_reference + (1 - w) * past + step_size * rates)


def moving_reference(history: Sequence[Array], period: int) -> Array:
    """The iterate at the last multiple of `period`: round (t // period) * period for t = newest."""
    if period < 1:
        raise ValueError(f"period = {period}; give the number of rounds between refreshes, at least 1")
    return history[(len(history) - 1) // period * period]


def comal(preference: Array, history: Sequence[Array], step_size: float, kl_to_reference: float, period: int) -> Array:
    """COMAL (2410.23223): `inpo` whose reference moves to the iterate every `period` rounds."""
    reference = moving_reference(history, period)
    return inpo(preference, history[-1], reference, step_size, kl_to_reference)


def comal_exact(preference: Array, log_reference: Array, kl_to_reference: float) -> Array:
    """COMAL's outer step with the inner game solved exactly: one proximal point (2410.23223)."""
    actions = log_reference.shape[-1]
    rows = log_reference.reshape(-1, actions)
    matrices = preference.reshape(-1, actions, actions)
    solved = [log_regularised_nash(matrix, row, kl_to_reference) for matrix, row in zip(matrices, rows, strict=True)]
    return np.stack(solved).reshape(log_reference.shape)


def mpo(preference: Array, history: Sequence[Array], step_size: float, kl_to_reference: float, period: int) -> Array:
    """Magnetic preference optimization (2410.16714): `mmd` with a magnet moved every `period`."""
    magnet = moving_reference(history, period)
    return mmd(preference, history[-1], magnet, step_size, kl_to_reference)


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
