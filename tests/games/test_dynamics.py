"""Exact dynamics against theorems and against measured values of two independent solvers.

A value written as text is checked to the digits that it has. Bounds alone would prove little: at small T some exceed
the largest possible KL.
"""

import functools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparring.games.built_in import built_in
from sparring.games.dynamics import (
    alpha_spin,
    comal,
    comal_exact,
    egpo,
    fictitious_spin,
    inpo,
    mmd,
    mnpo,
    moving_reference,
    mpo,
    mwu,
    nash_md,
    onpo,
    onpo_play,
    spin,
)
from sparring.games.equilibrium import duality_gap, nash, regularised_nash
from sparring.games.game import Game
from sparring.games.offline import observe_pairs, pessimistic_critic, spac_theory
from sparring.games.probabilities import kl, log_kl, log_normalise
from sparring.games.trajectory import trajectory

G3, GD = built_in("G3"), built_in("GD")
P, LOG_REF = G3.preference, G3.log_reference
LOG_DATA, LOG_BASE = GD.log_data, GD.log_reference
TAU = 0.1
TARGET = regularised_nash(P[0], G3.reference[0], TAU)[None]
LARGEST_KL = -math.log(G3.reference.min())


def agrees(value, text):
    """Whether a number rounds to the digits of the text."""
    mantissa, _, exponent = text.partition("e")
    unit = 10.0 ** (int(exponent or 0) - len(mantissa.partition(".")[2]))
    assert float(value) == pytest.approx(float(text), abs=unit * (0.5 + 1e-9), rel=0)


def kl_path(update, rounds, game=G3, target=TARGET):
    return trajectory(update, game, rounds).kl_from(target)


def rate(path, first, last):
    """Geometric mean of the ratios of successive values."""
    return (path[last] / path[first]) ** (1 / (last - first))


# ---------------------------------------------------------------- INPO, MMD


def test_i2_inpo_with_the_schedule_of_theorem_4():
    path = kl_path(lambda game, past: inpo(P, past[-1], LOG_REF, 2 / (TAU * (len(past) + 1)), TAU), 1000)
    for rounds, text in ((10, ".0769"), (100, "4.35e-5"), (1000, "5.2e-9")):
        agrees(path[rounds], text)
        assert path[rounds] <= 32 / (TAU**2 * (rounds + 1))


def linear_rate(eta):
    """Squared modulus of INPO's map at its fixed point, from the spectrum of P (diag p - p p^T)."""
    p = TARGET[0]
    s = np.abs(np.linalg.eigvals(P[0] @ (np.diag(p) - np.outer(p, p)))).max()
    agrees(s, ".208506")
    agrees((TAU**2 + s**2) / (2 * TAU), ".26737")
    return (1 - TAU / eta) ** 2 + (s / eta) ** 2


@pytest.mark.parametrize(
    ("eta", "predicted", "measured", "rounds"),
    [(0.3, ".92750", 0.92750, (100, 300)), (1.0, ".85347", 0.85348, (50, 150)), (5.0, ".96214", 0.96215, (100, 300))],
)
def test_i4_inpo_with_a_fixed_step_contracts_at_the_linear_rate(eta, predicted, measured, rounds):
    path = kl_path(lambda game, past: inpo(P, past[-1], LOG_REF, 1 / eta, TAU), rounds[1])
    agrees(linear_rate(eta), predicted)
    # The ratio swings about its mean, so the fifth digit of a slope depends on the rounds fitted.
    slope = np.polyfit(np.arange(*rounds), np.log(path[slice(*rounds)]), 1)[0]
    assert math.exp(slope) == pytest.approx(linear_rate(eta), abs=1e-5)
    assert math.exp(slope) == pytest.approx(measured, abs=1e-5)


def test_i4_inpo_cycles_beyond_the_largest_stable_step():
    agrees(linear_rate(0.25), "1.056")
    path = kl_path(lambda game, past: inpo(P, past[-1], LOG_REF, 4.0, TAU), 1000)
    assert path[20:].min() > 0.05
    assert path[20:].max() < 0.08


def test_i5_inpo_with_a_huge_step_jumps_between_pure_policies():
    step = 1 / 0.005
    run = trajectory(lambda game, past: inpo(P, past[-1], LOG_REF, step, 0.005 / 3), G3, 9)
    assert run.policies[1:].max(axis=-1).min() > 0.99
    assert "".join("abc"[k] for k in run.policies[1:, 0].argmax(axis=-1)) == "bccaabbcc"


@pytest.mark.parametrize(("step", "text"), [(0.1, ".9808"), (0.4, ".9310")])
def test_r1_magnetic_mirror_descent(step, text):
    path = kl_path(lambda game, past: mmd(P, past[-1], LOG_REF, step, TAU), 1000)
    agrees(rate(path, 100, 300), text)
    bound = path[0] * (1 + step * TAU) ** -np.arange(len(path), dtype=float)
    assert (path <= bound + 1e-15).all()


@given(n=st.integers(2, 8), seed=st.integers(0, 1000), step=st.floats(0.01, 10))
def test_r2_mmd_is_its_closed_form_and_inpo_with_another_step(n, seed, step):
    game = built_in(f"GR:{n}:{seed}")
    start = log_normalise(np.random.default_rng(seed).normal(size=(1, n)))
    rates = (game.preference @ np.exp(start)[..., None])[..., 0]
    closed = (start + step * TAU * game.log_reference + step * rates) / (1 + step * TAU)
    mirror = mmd(game.preference, start, game.log_reference, step, TAU)
    inverse = inpo(game.preference, start, game.log_reference, 1 / (1 / step + TAU), TAU)
    assert np.abs(mirror - log_normalise(closed)).max() < 1e-13
    assert np.abs(mirror - inverse).max() < 1e-13


# ---------------------------------------------------------------- averages and optimism


@pytest.mark.parametrize(
    ("rounds", "average", "last"),
    [(100, ".214", ".15"), (1000, ".0507", ".30"), (10_000, ".0099", ".31"), (100_000, ".0032", ".35")],
)
def test_i6_m2_multiplicative_weights_settle_on_average_only(rounds, average, last):
    step = math.sqrt(LARGEST_KL / rounds)
    run = trajectory(lambda game, past: mwu(P, past[-1], step), G3, rounds)
    # The policies that were played are those of rounds 0..T-1.
    mean_gap = duality_gap(P, run.averages[rounds - 1])[0]
    agrees(mean_gap, average)
    agrees(run.gaps()[rounds], last)
    assert mean_gap <= 4 * math.sqrt(LARGEST_KL / rounds)


@functools.cache
def optimistic_run():
    return trajectory(lambda game, past: onpo_play(P, past, 0.5), G3, 20_000)


@pytest.mark.parametrize(
    ("rounds", "average"), [(10, ".239"), (100, ".0540"), (1000, ".0034"), (5000, ".00067"), (20_000, ".00017")]
)
def test_o1_onpo_settles_on_average_at_one_over_t(rounds, average):
    mean_gap = duality_gap(P, optimistic_run().averages[rounds - 1])[0]
    agrees(mean_gap, average)
    assert mean_gap <= 4 * math.sqrt(LARGEST_KL) / rounds


@pytest.mark.parametrize(("rounds", "last"), [(10, ".245"), (100, ".191"), (1000, ".00124"), (5000, "2.7e-13")])
def test_o2_onpo_settles_in_its_last_iterate(rounds, last):
    # The paper counts from pi_1: its pi_T is the policy of round T - 1 here.
    agrees(optimistic_run().gaps()[rounds - 1], last)


def test_onpo_with_two_seats_is_onpo_from_the_history():
    policy = base = LOG_REF
    for t in range(50):
        assert np.abs(policy - optimistic_run().log_policies[t]).max() < 1e-12
        policy, base = onpo(P, policy, base, 0.5)


# ---------------------------------------------------------------- Nash-MD, EGPO


def test_n1_nash_md_with_a_falling_step():
    path = kl_path(lambda game, past: nash_md(P, past[-1], LOG_REF, 2 / (TAU * (len(past) + 1)), TAU), 1000)
    for rounds, text in ((10, "1.35e-3"), (100, "7.5e-5"), (1000, "5.4e-7")):
        agrees(path[rounds], text)
        assert path[rounds] <= 8 / (TAU**2 * (rounds + 1))


@pytest.mark.parametrize(("step", "limit"), [(0.3, "1.1e-4"), (1, "1.4e-3"), (2, "6.5e-3")])
def test_n2_nash_md_with_a_fixed_step_is_biased(step, limit):
    path = kl_path(lambda game, past: nash_md(P, past[-1], LOG_REF, step, TAU), 1000)
    agrees(path[-1], limit)
    assert path[-1] == pytest.approx(path[-2], rel=1e-9)


@pytest.mark.parametrize(("step", "text"), [(0.3, ".937"), (0.5, ".892")])
def test_e1_egpo_is_linear(step, text):
    path = kl_path(lambda game, past: egpo(P, past[-1], LOG_REF, step, TAU)[1], 200)
    agrees(rate(path, 100, 200), text)
    assert rate(path, 100, 200) <= 1 - step * TAU


# ---------------------------------------------------------------- COMAL, MPO, MNPO


@pytest.mark.parametrize(("tau", "count"), [(0.1, 18), (0.5, 183)])
def test_c1_c2_comal_comes_closer_at_each_outer_step(tau, count):
    run = trajectory(lambda game, past: comal_exact(P, past[-1], tau), G3, 200)
    assert (np.diff(run.kl_from(nash(P[0])[None])) <= 1e-15).all()
    assert np.argmax(run.gaps() < 1e-7) == count


def test_comal_reaches_a_pure_nash_past_underflow():
    game = built_in("GBT:6:0")
    target = nash(game.preference[0])[None]
    run = trajectory(lambda game, past: comal_exact(game.preference, past[-1], 1e-3), game, 30)
    path = run.kl_from(target)
    assert run.log_policies[-1].min() < -2000
    assert (np.diff(path) <= 1e-15).all()
    assert path[-1] < 1e-12


def test_comal_and_mpo_solve_the_inner_game_between_refreshes():
    rounds = 800
    exact = trajectory(lambda game, past: comal_exact(P, past[-1], TAU), G3, 2)
    inner = trajectory(lambda game, past: comal(P, past, 1.0, TAU, rounds // 2), G3, rounds)
    magnet = trajectory(lambda game, past: mpo(P, past, 1.0, TAU, rounds // 2), G3, rounds)
    for run in (inner, magnet):
        assert np.abs(run.policies[:: rounds // 2] - exact.policies).max() < 1e-11


def test_comal_reaches_nash_where_inpo_stays_biased():
    run = trajectory(lambda game, past: comal(P, past, 1.0, TAU, 100), G3, 3000)
    fixed = trajectory(lambda game, past: inpo(P, past[-1], LOG_REF, 1.0, TAU), G3, 3000)
    assert run.gaps()[-1] < 1e-9
    assert fixed.gaps()[-1] > 0.05


def test_moving_reference_steps_at_multiples_of_the_period():
    policies = list(range(10))
    moved = [moving_reference(policies[: t + 1], 3) for t in range(8)]
    assert moved == [0, 0, 0, 3, 3, 3, 6, 6]
    with pytest.raises(ValueError, match="period = 0"):
        moving_reference(policies, 0)


def test_mnpo_with_one_weight_is_inpo_and_weighs_the_history():
    past = [log_normalise(np.random.default_rng(k).normal(size=(1, 3))) for k in range(3)]
    alone = mnpo(P, past, LOG_REF, 2.0, TAU, [7.0])
    assert np.abs(alone - inpo(P, past[-1], LOG_REF, 2.0, TAU)).max() < 1e-14
    both = mnpo(P, past, LOG_REF, 2.0, TAU, [3.0, 1.0])
    rates = (P @ np.exp(past[-1])[..., None])[..., 0]
    anchor = 0.75 * past[-1] + 0.25 * past[-2]
    expected = log_normalise(0.2 * LOG_REF + 0.8 * anchor + 2.0 * rates)
    assert np.abs(both - expected).max() < 1e-14
    # At the start only one iterate exists.
    start = mnpo(P, past[:1], LOG_REF, 2.0, TAU, [3.0, 1.0])
    assert np.abs(start - inpo(P, past[0], LOG_REF, 2.0, TAU)).max() < 1e-14
    with pytest.raises(ValueError, match="weights = "):
        mnpo(P, past, LOG_REF, 2.0, TAU, [])


@given(n=st.integers(2, 8), seed=st.integers(0, 1000), step=st.floats(0.01, 5))
@settings(deadline=None)
def test_the_regularised_nash_is_a_fixed_point(n, seed, step):
    game = built_in(f"GR:{n}:{seed}")
    matrix, reference = game.preference[0], game.log_reference[0]
    point = np.log(regularised_nash(matrix, np.exp(reference), 0.2))
    assert np.abs(inpo(matrix, point, reference, step, 0.2) - point).max() < 1e-9
    assert np.abs(mmd(matrix, point, reference, step, 0.2) - point).max() < 1e-9
    for moved in egpo(matrix, point, reference, step, 0.2):
        assert np.abs(moved - point).max() < 1e-9
    mixture = log_normalise((1 - step * 0.2) * point + step * 0.2 * reference)
    assert np.abs(nash_md(matrix, point, reference, step, 0.2) - mwu(matrix, mixture, step)).max() == 0


@given(n=st.integers(2, 6), seed=st.integers(0, 1000), step=st.floats(0.05, 5))
def test_mirror_steps_maximise_what_they_are_defined_by(n, seed, step):
    rng, game = np.random.default_rng(seed), built_in(f"GR:{n}:{seed}")
    matrix, log_ref = game.preference[0], game.log_reference[0]
    now = log_normalise(rng.normal(size=n))
    rates, tau = matrix @ np.exp(now), 0.15
    mixture = log_normalise((1 - step * tau) * now + step * tau * log_ref)
    against = matrix @ np.exp(mixture)

    def mmd_value(log_p):
        p = np.exp(log_p)
        return p @ rates - tau * log_kl(log_p, log_ref) - log_kl(log_p, now) / step

    def inpo_value(log_p):
        p = np.exp(log_p)
        return p @ (rates - tau * (now - log_ref)) - log_kl(log_p, now) / step

    def nash_md_value(log_p):
        return step * np.exp(log_p) @ against - log_kl(log_p, mixture)

    for update, value in ((mmd, mmd_value), (inpo, inpo_value), (nash_md, nash_md_value)):
        best = value(update(matrix, now, log_ref, step, tau))
        for other in rng.normal(size=(20, n)):
            assert best >= value(log_normalise(other)) - 1e-12


# ---------------------------------------------------------------- SPIN and alpha-SPIN


def imitation_path(update, rounds=400):
    return kl_path(update, rounds, GD, GD.data)


@pytest.mark.parametrize("beta", [2, 1, 0.6])
def test_p1_spin_converges_above_one_half(beta):
    assert imitation_path(lambda game, past: spin(past[-1], LOG_DATA, beta), 200)[-1] < 1e-15


def test_p1_spin_alternates_at_one_half_and_diverges_below():
    path = imitation_path(lambda game, past: spin(past[-1], LOG_DATA, 0.5), 200)
    agrees(path[200], ".388")
    agrees(path[199], ".283")
    assert imitation_path(lambda game, past: spin(past[-1], LOG_DATA, 0.3), 200)[-1] > 200


def test_p2_spin_with_beta_one_is_done_in_one_step():
    assert kl(GD.data, np.exp(spin(LOG_BASE, LOG_DATA, 1.0)))[0] < 1e-15


def fixed_point(base_weight, data_weight):
    total = base_weight + data_weight
    return log_normalise((base_weight * LOG_BASE + data_weight * LOG_DATA) / total)


@pytest.mark.parametrize(
    ("beta", "alpha", "text"),
    [(1, 0.05, "8.40e-4"), (1, 0.3, ".02028"), (0.55, 0.1, ".00101"), (0.6, 0.5, ""), (0.55, 0.3, "")],
)
def test_p3_alpha_spin_sampling_the_iterate(beta, alpha, text):
    path = imitation_path(lambda game, past: alpha_spin(past[-1], LOG_BASE, LOG_DATA, beta, alpha))
    assert bool(text) == (1 / beta < 2 - alpha)
    if text:
        agrees(path[-1], text)
        predicted = log_kl(LOG_DATA, fixed_point(alpha * beta, 1.0))[0]
        assert path[-1] == pytest.approx(predicted, rel=1e-9)
    else:
        assert path[-1] > 1e6


@pytest.mark.parametrize(
    ("beta", "alpha", "text"), [(1, 0.3, "0.0"), (0.6, 0.5, ".02180"), (0.4, 0.5, ".06130"), (0.3, 0.5, "")]
)
def test_p4_alpha_spin_sampling_the_mixture(beta, alpha, text):
    path = imitation_path(lambda game, past: alpha_spin(past[-1], LOG_BASE, LOG_DATA, beta, alpha, "mixture"))
    assert bool(text) == (1 / beta < 1 + 1 / (1 - alpha))
    if text:
        agrees(path[-1], text)
        predicted = log_kl(LOG_DATA, fixed_point(alpha * (1 - 1 / beta), 1 / beta))[0]
        assert path[-1] == pytest.approx(predicted, rel=1e-7, abs=1e-15)
    else:
        assert path[-1] > 1e6


@pytest.mark.parametrize(
    ("beta", "window", "last", "average"),
    [
        (0.5, 1, ".388", ""),
        (0.5, 2, ".077", ""),
        (0.5, 4, "1.21", ""),
        (0.5, 8, "4.5", ""),
        (0.5, None, ".051", "1.6e-6"),
        (0.6, 1, "0.0000", ""),
        (0.6, 2, "0.0000", ""),
        (0.6, 4, ".65", ""),
        (0.6, 8, "2.3", ""),
        (0.6, None, ".038", "1.5e-6"),
        (0.3, None, ".0044", "2.2e-4"),
        (1, 1, "0.0000", ""),
        (1, 2, "0.0000", ""),
        (1, 4, "1e-7", ""),
        (1, 8, ".0046", ""),
        (1, None, ".0022", ""),
    ],
)
def test_p5_fictitious_play_depends_on_its_window(beta, window, last, average):
    run = trajectory(lambda game, past: fictitious_spin(past, LOG_DATA, beta, window), GD, 200)
    agrees(run.kl_from(GD.data)[-1], last)
    if average:
        agrees(kl(GD.data, run.averages[-1])[0], average)


def test_p5_fictitious_play_with_one_iterate_diverges_like_spin():
    path = imitation_path(lambda game, past: fictitious_spin(past, LOG_DATA, 0.3, 1), 200)
    assert path[-1] > 200


def logistic_slope(log_next, log_anchor, sampler, beta):
    """Gradient in log_next of E ell(beta (D - D_anchor)), y from data and y' from the sampler."""
    ratio = log_next - log_anchor
    margins = beta * (ratio[:, None] - ratio[None, :])
    weights = np.exp(LOG_DATA[0])[:, None] * sampler[None, :] / (1 + np.exp(margins))
    return weights.sum(axis=0) - weights.sum(axis=1)


@pytest.mark.parametrize("beta", [0.3, 1.0, 4.0])
def test_imitation_updates_minimise_their_logistic_loss(beta):
    rng = np.random.default_rng(0)
    past = [log_normalise(rng.normal(size=(1, 5))) for _ in range(4)]
    now, alpha = past[-1], 0.3
    mixture = log_normalise((1 - alpha) * now + alpha * LOG_BASE)
    recent = np.exp(np.stack(past[-3:])).mean(axis=0)
    cases = [
        (spin(now, LOG_DATA, beta), now, np.exp(now)),
        (alpha_spin(now, LOG_BASE, LOG_DATA, beta, alpha), mixture, np.exp(now)),
        (alpha_spin(now, LOG_BASE, LOG_DATA, beta, alpha, "mixture"), mixture, np.exp(mixture)),
        (fictitious_spin(past, LOG_DATA, beta, 3), now, recent),
    ]
    for log_next, anchor, sampler in cases:
        assert np.abs(logistic_slope(log_next[0], anchor[0], sampler[0], beta)).max() < 1e-15


# ---------------------------------------------------------------- SPAC


def spac_suboptimality(n_pairs):
    """Best reward less that of SPAC's average, its last policy and the data, over 12 data sets."""
    game = built_in(f"SB:{n_pairs}:0")
    values = []
    for seed in range(12):
        history = np.exp(spac_theory(observe_pairs(game, n_pairs, seed), game.log_data[0]))
        policies = np.stack([history[1:].mean(axis=0), history[-1], game.data[0]])
        values.append(3.0 - policies @ game.rewards[0])
    return np.mean(values, axis=0)


@pytest.mark.parametrize(
    ("n_pairs", "average", "last"),
    [
        # Values of other random draws, with three standard errors of a mean of 12 data sets.
        (100, (0.756, 0.14), (0.674, 0.17)),
        (400, (0.362, 0.065), (0.215, 0.085)),
        (1600, (0.262, 0.027), (0.078, 0.036)),
        (6400, (0.226, 0.012), (0.033, 0.015)),
        (25_600, (0.221, 0.006), (0.027, 0.006)),
    ],
)
def test_s1_spac_learns_from_sparse_data(n_pairs, average, last):
    measured_average, measured_last, behaviour = spac_suboptimality(n_pairs)
    assert measured_average == pytest.approx(average[0], abs=average[1])
    assert measured_last == pytest.approx(last[0], abs=last[1])
    assert measured_last < measured_average < behaviour


def test_pessimistic_critic_is_optimal():
    game = built_in("SB:200:1")
    wins, policy = observe_pairs(game, 200, 0), np.full(40, 1 / 40)
    data_weight, bound = math.sqrt(200), 4.0
    critic = pessimistic_critic(wins, policy, data_weight, bound)
    margins = critic[:, None] - critic[None, :]
    pull = wins / (1 + np.exp(margins))
    seen = (wins.sum(axis=0) + wins.sum(axis=1)) / 400
    slope = policy - seen + data_weight * (pull.sum(axis=0) - pull.sum(axis=1)) / 200
    # First-order conditions of a convex problem on a box.
    assert np.abs(slope[(critic > 0) & (critic < bound)]).max() < 1e-10
    assert slope[critic == 0].min() > -1e-10
    assert slope[critic == bound].max(initial=-1.0) < 1e-10


def test_observed_pairs_follow_the_game():
    game = built_in("SB:50000:0")
    wins = observe_pairs(game, 50_000, 3)
    assert wins.sum() == 50_000
    seen = (wins.sum(axis=0) + wins.sum(axis=1)) / 100_000
    assert np.abs(seen - game.data[0]).max() < 0.01
    share = wins[0, 1] / (wins[0, 1] + wins[1, 0])
    assert share == pytest.approx(game.preference[0, 0, 1], abs=0.04)


def test_spac_needs_comparisons_and_one_context():
    with pytest.raises(ValueError, match="wins holds no comparison"):
        spac_theory(np.zeros((3, 3)), np.zeros(3))
    with pytest.raises(ValueError, match="has 2 contexts, needed 1"):
        observe_pairs(two_contexts(), 10, 0)


# ---------------------------------------------------------------- many contexts, bad settings


def two_contexts():
    games = [built_in("GR:3:1"), G3]
    preference = np.concatenate([game.preference for game in games])
    reference = np.concatenate([game.reference for game in games])
    return Game("two", preference, reference, None, None, np.array([0.25, 0.75]))


@pytest.mark.parametrize(
    "update",
    [
        lambda game, past: inpo(game.preference, past[-1], past[0], 0.7, TAU),
        lambda game, past: mmd(game.preference, past[-1], past[0], 0.7, TAU),
        lambda game, past: nash_md(game.preference, past[-1], past[0], 0.7, TAU),
        lambda game, past: egpo(game.preference, past[-1], past[0], 0.7, TAU)[1],
        lambda game, past: mwu(game.preference, past[-1], 0.7),
        lambda game, past: onpo_play(game.preference, past, 0.7),
        lambda game, past: mnpo(game.preference, past, past[0], 0.7, TAU, [0.6, 0.4]),
        lambda game, past: comal(game.preference, past, 0.7, TAU, 4),
        lambda game, past: comal_exact(game.preference, past[-1], TAU),
        lambda game, past: mpo(game.preference, past, 0.7, TAU, 4),
    ],
)
def test_contexts_do_not_mix(update):
    game = two_contexts()
    together, alone = trajectory(update, game, 20), trajectory(update, G3, 20)
    assert np.abs(together.log_policies[:, 1] - alone.log_policies[:, 0]).max() < 1e-12
    assert together.policies.sum(axis=-1) == pytest.approx(np.ones((21, 2)))
    other = duality_gap(game.preference[0], together.policies[:, 0])
    assert together.gaps() == pytest.approx(0.25 * other + 0.75 * alone.gaps())


def test_trajectory_starts_where_it_is_told():
    start = log_normalise(np.array([[0.3, -0.2, 0.5]]))
    run = trajectory(lambda game, past: mwu(P, past[-1], 0.5), G3, 2, start)
    assert np.array_equal(run.log_policies[0], start)
    assert run.averages[1] == pytest.approx(run.policies[:2].mean(axis=0))
    assert run.gaps(run.averages)[0] == run.gaps()[0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: inpo(P, LOG_REF, LOG_REF, 11.0, 0.1), "step_size = 11.0 with kl_to_reference = 0.1"),
        (lambda: inpo(P, LOG_REF, LOG_REF, 0.0, 0.1), "step_size = 0.0"),
        (lambda: egpo(P, LOG_REF, LOG_REF, 1.0, -0.1), "kl_to_reference = -0.1"),
        (lambda: spin(LOG_BASE, LOG_DATA, 0.0), "beta = 0.0"),
        (lambda: fictitious_spin([LOG_BASE], LOG_DATA, 1.0, 0), "window = 0"),
        (lambda: alpha_spin(LOG_BASE, LOG_BASE, LOG_DATA, 1, 0.1, "past"), "sampler = 'past'"),
        (lambda: alpha_spin(LOG_BASE, LOG_BASE, LOG_DATA, 1, 1.5), "alpha = 1.5"),
    ],
)
def test_bad_settings_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
