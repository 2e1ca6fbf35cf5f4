"""Equilibria against known values, an independent solver and the properties that define them."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax

from campaigns import first
from sparring.games.bradley_terry import best_bradley_terry, fit_rewards
from sparring.games.built_in import built_in
from sparring.games.equilibrium import duality_gap, log_regularised_nash, nash, regularised_gap, regularised_nash
from sparring.games.probabilities import kl, log_kl, log_normalise, log_sum_exp, win_rates

G3 = built_in("G3")
P3, REF3 = G3.preference[0], G3.reference[0]


def random_matrix(n, seed, decimals=None):
    """A random preference; few decimals make ties, certain wins and many equilibria."""
    lower = np.random.default_rng(seed).uniform(size=(n, n))
    lower = np.tril(lower if decimals is None else lower.round(decimals), -1)
    return lower + np.triu(1.0 - lower.T, 1) + 0.5 * np.eye(n)


def random_policy(n, seed, spread=1.0):
    return softmax(np.random.default_rng(seed).normal(scale=spread, size=n))


games = st.tuples(st.integers(2, 12), st.integers(0, 10_000), st.sampled_from([None, 0, 1]))

# ---------------------------------------------------------------- nash


def test_nash_of_g3_is_the_published_one():
    assert nash(P3) == pytest.approx(np.array([4, 3, 4]) / 11, abs=1e-12)


def test_nash_of_bradley_terry_is_the_best_arm():
    game = built_in("GBT:30:0")
    best = np.zeros(30)
    best[game.rewards[0].argmax()] = 1.0
    assert nash(game.preference[0]) == pytest.approx(best, abs=1e-12)


@given(games)
@settings(deadline=None)
def test_nash_is_a_policy_that_nothing_beats(spec):
    matrix = random_matrix(*spec)
    policy = nash(matrix)
    assert policy.min() >= 0
    assert policy.sum() == pytest.approx(1.0, abs=1e-12)
    assert abs(duality_gap(matrix, policy)) < 1e-9


@pytest.mark.parametrize("seed", first(20, range(150)))
def test_nash_agrees_with_nashpy(seed):
    nashpy = pytest.importorskip("nashpy", reason="nashpy is not installed")
    matrix = random_matrix(2 + seed % 4, seed)
    # Support enumeration misses equilibria to rounding (seed 43), vertex enumeration none of these.
    theirs = list(nashpy.Game(matrix - 0.5).vertex_enumeration())
    for row, column in theirs:
        assert abs(duality_gap(matrix, row)) < 1e-7
        assert abs(duality_gap(matrix, column)) < 1e-7
    assert abs(duality_gap(matrix, nash(matrix))) < 1e-7
    # Entries drawn from a density: the equilibrium is unique, so the policies agree as well.
    assert len(theirs) == 1
    assert nash(matrix) == pytest.approx(theirs[0][0], abs=1e-7)


@pytest.mark.parametrize("seed", first(14, range(50)))
def test_nash_agrees_with_nashpy_where_there_are_many(seed):
    nashpy = pytest.importorskip("nashpy", reason="nashpy is not installed")
    matrix = random_matrix(2 + seed % 7, seed, decimals=seed % 2)
    row, column = nashpy.Game(matrix - 0.5).linear_program()
    ours = nash(matrix)
    assert abs(duality_gap(matrix, ours)) < 1e-7
    # Equilibria of a zero-sum game are interchangeable: ours holds the value against theirs.
    assert abs(ours @ matrix @ column - 0.5) < 1e-7
    assert abs(row @ matrix @ ours - 0.5) < 1e-7


def test_nash_of_300_actions_by_interior_point():
    matrix = random_matrix(300, 0)
    assert abs(duality_gap(matrix, nash(matrix))) < 1e-9


@pytest.mark.more
def test_nash_of_2000_actions_takes_about_half_a_minute():
    matrix = random_matrix(2000, 0)
    began = time.process_time()
    policy = nash(matrix)
    # Dual simplex takes over 240 s. Processor time, and twice the need: a busy machine is no error.
    assert time.process_time() - began < 120
    assert abs(duality_gap(matrix, policy)) < 1e-9


# ---------------------------------------------------------------- regularised nash


@pytest.mark.parametrize(
    ("tau", "expected"), [(0.1, [0.32222, 0.39668, 0.28110]), (1 / 3, [0.424826, 0.420703, 0.154470])]
)
def test_regularised_nash_of_g3(tau, expected):
    digits = 5 if tau == 0.1 else 6
    assert regularised_nash(P3, REF3, tau) == pytest.approx(expected, abs=0.6 * 10**-digits)


@given(spec=games, log_tau=st.floats(-3, 1))
@settings(deadline=None)
def test_regularised_nash_is_its_own_best_response(spec, log_tau):
    matrix, tau = random_matrix(*spec), 10.0**log_tau
    reference = random_policy(spec[0], spec[1], spread=3.0)
    policy = regularised_nash(matrix, reference, tau)
    response = softmax(np.log(reference) + matrix @ policy / tau)
    assert np.abs(response - policy).max() < 1e-12
    assert abs(regularised_gap(matrix, policy, reference, tau)) < 1e-12


@pytest.mark.parametrize(("tau", "decimals"), [(1e-3, None), (1e-3, 0), (1e-2, None), (0.1, None), (10.0, 0)])
def test_regularised_nash_of_200_actions(tau, decimals):
    matrix, reference = random_matrix(200, 1, decimals), random_policy(200, 1)
    policy = regularised_nash(matrix, reference, tau)
    response = softmax(np.log(reference) + matrix @ policy / tau)
    assert np.abs(response - policy).max() < 1e-12


def test_regularised_nash_runs_from_nash_to_reference():
    assert regularised_nash(P3, REF3, 1e-5) == pytest.approx(nash(P3), abs=1e-3)
    assert regularised_nash(P3, REF3, 1e5) == pytest.approx(REF3, abs=1e-5)


def test_regularised_nash_refuses_bad_arguments():
    with pytest.raises(ValueError, match="tau = 0"):
        regularised_nash(P3, REF3, 0)
    with pytest.raises(ValueError, match="tau = nan"):
        regularised_nash(P3, REF3, float("nan"))
    with pytest.raises(ValueError, match=r"reference has shape \(2,\).*give 3 probabilities"):
        regularised_nash(P3, [0.5, 0.5], 1.0)
    with pytest.raises(ValueError, match=r"least entry 0.0; give probabilities above 0"):
        regularised_nash(P3, [0.5, 0.5, 0.0], 1.0)
    with pytest.raises(ValueError, match=r"duality gap of .* check that P \+ P\^T = 1"):
        nash([[0.5, 0.9], [0.9, 0.5]])
    with pytest.raises(ValueError, match=r"P has shape \(1, 3, 3\); give one n x n matrix"):
        nash(G3.preference)


def test_regularised_nash_says_so_when_it_misses_its_accuracy(monkeypatch):
    monkeypatch.setattr("sparring.games.equilibrium._NEWTON_STEPS", 1)
    with pytest.raises(ValueError, match=r"above 1e-12 at tau = 0.01 .* use a larger tau"):
        regularised_nash(random_matrix(20, 0), random_policy(20, 0), 0.01)


# ---------------------------------------------------------------- gaps and divergences


@given(games)
def test_gap_is_not_negative_and_is_the_sum_of_both_sides(spec):
    matrix, policy = random_matrix(*spec), random_policy(*spec[:2])
    gap = duality_gap(matrix, policy)
    assert gap >= -1e-15
    both = (matrix @ policy).max() - (policy @ matrix).min()
    assert gap == pytest.approx(both, abs=1e-14)


@given(spec=games, log_tau=st.floats(-3, 1))
def test_regularised_gap_is_not_negative_and_has_its_closed_form(spec, log_tau):
    matrix, tau = random_matrix(*spec), 10.0**log_tau
    policy, reference = random_policy(*spec[:2]), random_policy(spec[0], spec[1] + 1)
    gap = regularised_gap(matrix, policy, reference, tau)
    up = log_sum_exp(np.log(reference) + matrix @ policy / tau)
    down = log_sum_exp(np.log(reference) - policy @ matrix / tau)
    assert gap >= 0
    assert gap == pytest.approx(tau * (up + down) + 2 * tau * kl(policy, reference), abs=1e-12)


def test_regularised_gap_is_what_best_responses_gain():
    policy, tau = random_policy(3, 0), 0.1

    def value(p, q):
        return p @ P3 @ q - tau * kl(p, REF3) + tau * kl(q, REF3)

    best = softmax(np.log(REF3) + P3 @ policy / tau)
    expected = value(best, policy) - value(policy, best)
    assert regularised_gap(P3, policy, REF3, tau) == pytest.approx(expected, abs=1e-14)


def test_gaps_take_stacks_of_contexts():
    matrices = np.stack([random_matrix(4, seed) for seed in range(3)])
    policies = np.stack([random_policy(4, seed) for seed in range(3)])
    each = [duality_gap(*pair) for pair in zip(matrices, policies, strict=True)]
    assert np.array_equal(duality_gap(matrices, policies), each)
    stacked = regularised_gap(matrices, policies, policies[::-1], 0.5)
    assert stacked[2] == regularised_gap(matrices[2], policies[2], policies[0], 0.5)
    assert win_rates(matrices, policies)[1] == pytest.approx(matrices[1] @ policies[1])


def test_kl_at_the_edges():
    assert kl([1.0, 0.0], [0.5, 0.5]) == pytest.approx(np.log(2))
    assert kl([0.5, 0.5], [1.0, 0.0]) == np.inf
    assert kl(REF3, REF3) == 0.0


@given(n=st.integers(2, 10), seed=st.integers(0, 1000))
def test_kl_of_logs_is_kl(n, seed):
    p, q = random_policy(n, seed), random_policy(n, seed + 1)
    assert log_kl(np.log(p), np.log(q)) == pytest.approx(kl(p, q), abs=1e-14)


def test_kl_of_logs_outlives_underflow():
    far = log_normalise(np.array([0.0, -2000.0]))
    assert log_kl(np.log([0.5, 0.5]), far) == pytest.approx(1000 - np.log(2))
    pure = np.array([0.0, -np.inf])
    assert log_kl(pure, np.log([0.25, 0.75])) == pytest.approx(np.log(4))
    assert log_kl(pure, pure) == 0.0


def test_regularised_nash_outlives_underflow():
    matrix = built_in("GBT:5:0").preference[0]
    far = log_normalise(np.array([0.0, -900.0, -2000.0, -3000.0, -1000.0]))
    policy = log_regularised_nash(matrix, far, 1e-3)
    expected = log_normalise(far + matrix @ np.exp(policy) / 1e-3)
    assert policy == pytest.approx(expected, rel=1e-12)


# ---------------------------------------------------------------- structure


def test_bradley_terry_game_is_recovered():
    game = built_in("GBT:8:3")
    fit = best_bradley_terry(game.preference[0])
    assert fit.max_distance < 1e-7
    assert fit.rewards == pytest.approx(game.rewards[0] - game.rewards[0].mean(), abs=1e-6)


def test_cyclic_game_has_no_bradley_terry_model():
    fit = best_bradley_terry(P3)
    # The likelihood is stationary where expected and given wins of each arm agree.
    model = 0.5 + 0.5 * np.tanh((fit.rewards[:, None] - fit.rewards[None, :]) / 2)
    assert model.sum(axis=1) == pytest.approx(P3.sum(axis=1), abs=1e-7)
    assert 0.3 < fit.mean_distance <= fit.max_distance < 0.5


def test_certain_wins_give_finite_rewards_in_order():
    matrix = np.tril(np.ones((4, 4)), -1) + 0.5 * np.eye(4)
    fit = best_bradley_terry(matrix)
    assert np.isfinite(fit.rewards).all()
    assert (np.diff(fit.rewards) > 0).all()
    assert fit.max_distance < 1e-3


@given(n=st.integers(2, 8), seed=st.integers(0, 1000), scale=st.sampled_from([1e-2, 1.0, 1e4]))
def test_fitted_rewards_satisfy_the_conditions_of_a_minimum(n, seed, scale):
    rng = np.random.default_rng(seed)
    wins = scale * rng.poisson(1.0, size=(n, n))
    shift = rng.normal(size=n)
    rewards = fit_rewards(wins, shift, (0.0, 4.0))
    pull = wins / (1 + np.exp(rewards[:, None] - rewards[None, :]))
    slope = (shift - pull.sum(axis=1) + pull.sum(axis=0)) / scale
    assert np.abs(slope[(rewards > 0) & (rewards < 4)]).max(initial=0.0) < 1e-7
    assert slope[rewards == 0].min(initial=0.0) > -1e-7
    assert slope[rewards == 4].max(initial=0.0) < 1e-7


def test_fitted_rewards_refuse_impossible_wins():
    with pytest.raises(ValueError, match=r"least win count -1.0, .* wins of at least 0"):
        fit_rewards(np.array([[0.0, -1.0], [3.0, 0.0]]), np.zeros(2), (0.0, 4.0))
    with pytest.raises(ValueError, match="shift sums to nan"):
        fit_rewards(np.ones((2, 2)), np.array([np.nan, 0.0]), (0.0, 4.0))
