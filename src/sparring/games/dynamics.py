"""Exact population updates: each method with infinitely many samples and a perfect fit.

One small pure function per method, in the log domain, over one context (n,) or a stack (C, n); the
preference has one more axis. `step_size` multiplies the win rates; INPO, COMAL and MNPO print its
inverse as eta. Histories are sequences of log-policies, oldest (the reference, round 0) first.

SPPO's and RSPO's squares aim at `mwu` and `mmd` and miss them; `response_square` is where they really go. Left out:
DPO off Bradley-Terry, chi-PO with clipping and lists, which have no closed form; sampling; anything that trains
weights.

Try: `trajectory(lambda game, past: mwu(game.preference, past[-1], 0.1), built_in("G3"), 100)`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.optimize import brentq
from scipy.special import lambertw, wrightomega

from sparring.games.equilibrium import (
    duality_gap,
    fit_rewards,
    log_kl,
    log_normalise,
    log_regularised_nash,
    log_sum_exp,
    win_rates,
)
from sparring.games.game import Array, Game

Update = Callable[[Game, Sequence[Array]], Array]
"""From a game and the log-policies of rounds 0..t to the log-policy of round t + 1."""

# ---------------------------------------------------------------- oracle methods


def _reference_weight(step_size: float, kl_to_reference: float) -> float:
    """step_size * kl_to_reference, the reference's share of a geometric mixture."""
    weight = step_size * kl_to_reference
    if step_size <= 0 or kl_to_reference < 0 or weight > 1 + 1e-9:
        raise ValueError(
            f"step_size = {step_size} with kl_to_reference = {kl_to_reference} gives the "
            f"reference a weight of {weight}, needed 0 to 1: use step_size <= 1 / kl_to_reference"
        )
    return weight


def inpo(
    preference: Array,
    log_policy: Array,
    log_reference: Array,
    step_size: float,
    kl_to_reference: float,
) -> Array:
    """Online mirror descent of INPO (2407.00617, Lemma 5): its eta is 1 / step_size.

    pi_{t+1} prop ref^w pi_t^(1 - w) exp(step_size P(. > pi_t)), w = step_size * kl_to_reference.
    """
    w = _reference_weight(step_size, kl_to_reference)
    rates = win_rates(preference, np.exp(log_policy))
    return log_normalise(w * log_reference + (1 - w) * log_policy + step_size * rates)


def mmd(
    preference: Array,
    log_policy: Array,
    log_reference: Array,
    step_size: float,
    kl_to_reference: float,
) -> Array:
    """Magnetic mirror descent: exact reverse-KL RSPO (2503.00030) and one step of MPO (2410.16714).

    The same map as `inpo` with step_size / (1 + step_size * kl_to_reference).
    """
    return inpo(
        preference,
        log_policy,
        log_reference,
        step_size / (1 + step_size * kl_to_reference),
        kl_to_reference,
    )


def mwu(preference: Array, log_policy: Array, step_size: float) -> Array:
    """Multiplicative weights, SPPO's ideal update (2405.00675).

    pi_{t+1} prop pi_t exp(step_size P(. > pi_t)).
    """
    return log_normalise(log_policy + step_size * win_rates(preference, np.exp(log_policy)))


def response_square(
    preference: Array,
    log_policy: Array,
    log_reference: Array,
    step_size: float,
    reverse_kl: float = 0.0,
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


def _root(function: Callable[[float], float], low: float, high: float) -> float:
    """Where a monotone function is 0, to the last digits."""
    return brentq(function, low, high, xtol=1e-300, rtol=1e-14)  # type: ignore[return-value, arg-type]


def nash_md(
    preference: Array,
    log_policy: Array,
    log_reference: Array,
    step_size: float,
    kl_to_reference: float,
) -> Array:
    """Nash-MD (2312.00886): `mwu` from, and against, the geometric mixture with the reference.

    m prop pi_t^(1 - w) ref^w, pi_{t+1} prop m exp(step_size P(. > m)).
    """
    w = _reference_weight(step_size, kl_to_reference)
    return mwu(preference, log_normalise((1 - w) * log_policy + w * log_reference), step_size)


def egpo(
    preference: Array,
    log_policy: Array,
    log_reference: Array,
    step_size: float,
    kl_to_reference: float,
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


# ---------------------------------------------------------------- moving references


def moving_reference(history: Sequence[Array], period: int) -> Array:
    """The iterate at the last multiple of `period`: round (t // period) * period for t = newest."""
    if period < 1:
        raise ValueError(f"period = {period}; give the number of rounds between refreshes, at least 1")
    return history[(len(history) - 1) // period * period]


def comal(
    preference: Array,
    history: Sequence[Array],
    step_size: float,
    kl_to_reference: float,
    period: int,
) -> Array:
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


def mpo(
    preference: Array,
    history: Sequence[Array],
    step_size: float,
    kl_to_reference: float,
    period: int,
) -> Array:
    """Magnetic preference optimization (2410.16714): `mmd` with a magnet moved every `period`."""
    magnet = moving_reference(history, period)
    return mmd(preference, history[-1], magnet, step_size, kl_to_reference)


# ---------------------------------------------------------------- rewards


def chi_po(log_anchor: Array, rewards: Array, beta: float) -> Array:
    """Unclipped chi-PO (2407.13399) on Bradley-Terry labels: beta (z + log z) = r - c with z = pi / anchor.

    So log z = log W(exp((r - c) / beta)), W Lambert's function, c such that probabilities sum to one.
    """
    rows = zip(*(x.reshape(-1, x.shape[-1]) for x in (log_anchor, rewards / beta)), strict=True)
    return np.stack([_normalised_link(*row) for row in rows]).reshape(log_anchor.shape)


def _normalised_link(log_anchor: Array, scaled: Array) -> Array:
    def excess(c: float) -> float:
        return float(log_sum_exp(log_anchor + np.log(wrightomega(scaled - c))))

    # W(e) = 1: at c = max - 1 every ratio is at most 1, at c = min - 1 at least 1.
    c = _root(excess, scaled.min() - 1 - 1e-9, scaled.max() - 1 + 1e-9)
    return log_normalise(log_anchor + np.log(wrightomega(scaled - c)))


# ---------------------------------------------------------------- imitation of data


def _imitate(log_anchor: Array, log_sampler: Array, log_data: Array, beta: float) -> Array:
    """Minimise the logistic loss on (data, sampler) pairs: anchor (data / sampler)^(1 / beta)."""
    if beta <= 0:
        raise ValueError(f"beta = {beta}; give the scale of the log-ratios in the loss, above 0")
    return log_normalise(log_anchor + (log_data - log_sampler) / beta)


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


# ---------------------------------------------------------------- many rounds


@dataclass(frozen=True, slots=True)
class Trajectory:
    """The log-policies of rounds 0..T of one run, (T + 1, C, n)."""

    game: Game
    log_policies: Array
    notes: tuple[str, ...] = ()
    """what a reader of its numbers must know"""

    @property
    def policies(self) -> Array:
        """Probabilities of every round; `policies[t]` is (C, n)."""
        return np.exp(self.log_policies)

    @property
    def averages(self) -> Array:
        """Running average: `averages[t]` is the mean of rounds 0..t."""
        rounds = np.arange(1, len(self.log_policies) + 1)
        return np.cumsum(self.policies, axis=0) / rounds[:, None, None]

    def gaps(self, policies: Array | None = None) -> Array:
        """Duality gap of each round (of `averages`, when given), mean over contexts by weight."""
        chosen = self.policies if policies is None else policies
        return duality_gap(self.game.preference, chosen) @ self.game.context_weights

    def kl_from(self, target: Array) -> Array:
        """KL(target || pi_t) of each round, target (C, n), mean over contexts by weight."""
        with np.errstate(divide="ignore"):
            log_target = np.log(target)
        return log_kl(log_target, self.log_policies) @ self.game.context_weights


def trajectory(update: Update, game: Game, rounds: int, start: Array | None = None) -> Trajectory:
    """Play `rounds` rounds from the reference, or from log-policies `start` of shape (C, n)."""
    history = [game.log_reference if start is None else log_normalise(start)]
    for _ in range(rounds):
        history.append(update(game, history))
    return Trajectory(game, np.stack(history))


# ---------------------------------------------------------------- SPAC with an explicit critic


def observe_pairs(game: Game, n_pairs: int, seed: int) -> Array:
    """Count wins in `n_pairs` labelled comparisons of a one-context game: W[i, j] times i beat j.

    Both responses are i.i.d. from the data policy, the winner is drawn with the game's preference.
    """
    if game.n_contexts != 1:
        raise ValueError(f"observe_pairs: game {game.name} has {game.n_contexts} contexts, needed 1")
    rng = np.random.default_rng(seed)
    data = np.exp(game.log_data[0])
    left, right = rng.choice(len(data), size=(2, n_pairs), p=data / data.sum())
    left_wins = rng.uniform(size=n_pairs) < game.preference[0, left, right]
    wins = np.zeros((len(data), len(data)))
    np.add.at(wins, (np.where(left_wins, left, right), np.where(left_wins, right, left)), 1.0)
    return wins


def pessimistic_critic(
    wins: Array, policy: Array, data_weight: float, bound: float, start: Array | None = None
) -> Array:
    """SPAC's critic: argmin over f in [0, bound]^n of E_policy f - E_data f + data_weight L_D(f).

    L_D is the mean Bradley-Terry loss of the observed pairs, E_data the mean over their responses.
    """
    pairs = wins.sum()
    shift = policy - (wins.sum(axis=0) + wins.sum(axis=1)) / (2 * pairs)
    return fit_rewards(data_weight / pairs * wins, shift, (0.0, bound), start)


def spac_theory(
    wins: Array,
    log_start: Array,
    rounds: int = 40,
    bound: float = 4.0,
    data_weight: float | None = None,
    step_size: float | None = None,
) -> list[Array]:
    """SPAC with its critic kept explicit (2406.04274, theory version): log-policies 0..T.

    Each round finds the pessimistic critic f_t and moves to pi_t exp(step_size f_t). Defaults:
    data_weight sqrt(n pairs), step_size 2 sqrt(log(n actions) / rounds) / bound. The guarantee is
    for the mean of rounds 1..T; the last iterate did better on the sparse bandit.
    """
    if not wins.sum() > 0:
        raise ValueError("spac_theory: wins holds no comparison; observe at least one pair")
    weight = np.sqrt(wins.sum()) if data_weight is None else data_weight
    step = 2 * np.sqrt(np.log(len(wins)) / rounds) / bound if step_size is None else step_size
    history, critic = [log_normalise(log_start)], None
    for _ in range(rounds):
        critic = pessimistic_critic(wins, np.exp(history[-1]), weight, bound, critic)
        history.append(log_normalise(history[-1] + step * critic))
    return history
