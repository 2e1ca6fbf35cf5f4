"""The sampled player: deterministic in its seed, its pairs follow the game, its errors shrink."""

from __future__ import annotations

import numpy as np
import pytest

from sparring.algorithms.algorithm import DataFacts, PolicyRef
from sparring.certificates.build import build_for_game
from sparring.certificates.certify import play
from sparring.certificates.claims.claim import distance, slope
from sparring.certificates.players.sampled import SampledPlayer
from sparring.certificates.players.tabular import TabularPlayer
from sparring.games.files import resolve_game
from sparring.objectives.pairs import DATA

G3 = resolve_game("G3")


@pytest.mark.parametrize(
    ("name", "spec"), [("inpo", "G3"), ("egpo", "GR:4:1"), ("spin", "GD"), ("spac", "GD"), ("sppo", "G3")]
)
def test_the_seed_decides_everything(name: str, spec: str):
    algorithm, game = build_for_game(name, {}), resolve_game(spec)
    runs = [play(algorithm, game, "sampled", 2, seed=seed, pairs=200).log_policies for seed in (5, 5, 6)]
    assert np.array_equal(runs[0], runs[1])
    assert not np.array_equal(runs[0], runs[2])


ALL = {"pairing": "all", "samples": 4}


@pytest.mark.parametrize(
    ("name", "spec", "settings"),
    [
        ("inpo", "G3", {}),
        ("inpo", "G3", ALL),
        ("sppo", "G3", {}),
        ("spin", "GD", {}),
        ("dpo", "GBT:4:0", {}),
        ("nash_md", "GR:4:1", {}),
    ],
)
def test_sampled_pairs_approach_the_population(name: str, spec: str, settings: dict):
    algorithm, game = build_for_game(name, settings), resolve_game(spec)
    step = algorithm.steps(0, DataFacts(1))[0]
    joints = []
    for player in (TabularPlayer(algorithm, game), SampledPlayer(algorithm, game, prompts=6000)):
        player.policies = {PolicyRef(0): game.log_reference}
        found = player.population(step, 0)
        joint = np.zeros((game.n_actions, game.n_actions))
        np.add.at(joint, tuple(found.actions[found.pairs].T), found.weights)
        joints.append(joint)
    assert [joint.sum() for joint in joints] == pytest.approx([1.0, 1.0])
    # Ties among equal actions carry no gradient.
    apart = ~np.eye(game.n_actions, dtype=bool)
    assert np.abs(joints[0] - joints[1])[apart].max() < 0.03


def test_errors_shrink_as_one_over_the_root_of_pairs():
    algorithm = build_for_game("inpo", {"eta": 1.0})
    closed = algorithm.exact_step(G3, [G3.log_reference])
    counts = (100, 400, 1600)
    means = []
    for n in counts:
        runs = [SampledPlayer(algorithm, G3, prompts=n, seed=s).play(1) for s in range(16)]
        means.append(float(np.mean([distance(run.log_policies[-1], closed) for run in runs])))
    assert slope(counts, means) == pytest.approx(-0.5, abs=0.2)


@pytest.mark.parametrize("pairing", ["best_worst", "knockout", "all", "iid"])
def test_every_pairing_is_played(pairing: str):
    algorithm = build_for_game("inpo", {"pairing": pairing, "samples": 4, "target": "soft"})
    run = play(algorithm, G3, "sampled", 2, pairs=300)
    assert np.isfinite(run.log_policies).all()
    assert run.policies.sum(-1) == pytest.approx(np.ones((3, 1)))


def test_a_response_keeps_the_win_rate_of_its_own_prompt():
    """SPPO's label of a best response is higher than its action's mean over prompts."""
    algorithm = build_for_game("sppo", {"pairing": "best_worst", "samples": 4})
    player = SampledPlayer(algorithm, G3, prompts=500)
    player.policies = {PolicyRef(0): G3.log_reference}
    found = player.population(algorithm.steps(0, player.data_facts())[0], 0)
    best, worst = (found.win_rates[found.pairs[:, side]] for side in (0, 1))
    assert (best > worst).all()
    assert found.win_rates[found.actions == 0].std() > 0.05


def test_a_data_set_is_the_same_in_every_round():
    algorithm = build_for_game("spac", {})
    player = SampledPlayer(algorithm, resolve_game("GD"), prompts=300)
    player.play(2)
    drawn = []
    for t in range(2):
        player.policies = {PolicyRef(k): player.policies[PolicyRef(k)] for k in range(t + 1)}
        found = player.population(algorithm.steps(t, player.data_facts())[0], 0)
        data = found.terms == DATA
        drawn.append(found.actions[found.pairs[data]])
        assert player.data_facts().num_examples == 300
        player.play(2)
    assert np.array_equal(drawn[0], drawn[1])


def test_reference_samples_enter_the_loss():
    """Their likelihood pulls the policy to the reference; it was once left out without a word."""
    game = resolve_game("GR:4:1")
    runs = []
    for weight in (0.0, 50.0):
        algorithm = build_for_game("rspo", {"eta": 5.0, "c": 0.0, "reference_nll": weight})
        runs.append(play(algorithm, game, "sampled", 1, pairs=2000))
    moved = [distance(run.log_policies[1], run.log_policies[0]) for run in runs]
    assert moved[1] < 0.5 * moved[0]


def test_lists_are_refused():
    with pytest.raises(ValueError, match="lists are not played"):
        play(build_for_game("opo", {}), G3, "sampled", 1)
