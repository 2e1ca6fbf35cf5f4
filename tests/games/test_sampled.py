"""The sampled player: deterministic in its seed, its pairs follow the game, its errors shrink."""

from __future__ import annotations

import numpy as np
import pytest

from sparring.algorithms.algorithm import Facts, PolicyRef
from sparring.games.certify import build_for_game, play
from sparring.games.claim import distance, slope
from sparring.games.game import resolve_game
from sparring.games.sampled import SampledPlayer
from sparring.games.tabular import TabularPlayer

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
    step = algorithm.steps(0, Facts(1))[0]
    joints = []
    for player in (TabularPlayer(algorithm, game), SampledPlayer(algorithm, game, prompts=6000)):
        player.policies = {PolicyRef(0): game.log_reference}
        pairs, _ = player.population(step, 0)
        joint = np.zeros((game.n_actions, game.n_actions))
        np.add.at(joint, tuple(pairs.pairs.T), pairs.weights)
        joints.append(joint)
    assert [joint.sum() for joint in joints] == pytest.approx([1.0, 1.0])
    # Ties among equal actions carry no gradient.
    apart = ~np.eye(game.n_actions, dtype=bool)
    assert np.abs(joints[0] - joints[1])[apart].max() < 0.03


def test_errors_shrink_as_one_over_the_root_of_pairs():
    algorithm = build_for_game("inpo", {"eta": 1.0})
    closed = algorithm.exact_step(G3, [G3.log_reference])
    counts = (100, 400, 1600)
    means = [
        np.mean(
            [
                distance(SampledPlayer(algorithm, G3, prompts=n, seed=s).play(1).log_policies[-1], closed)
                for s in range(16)
            ]
        )
        for n in counts
    ]
    assert slope(counts, means) == pytest.approx(-0.5, abs=0.2)


@pytest.mark.parametrize("pairing", ["best_worst", "knockout", "all", "iid"])
def test_every_pairing_is_played(pairing: str):
    algorithm = build_for_game("inpo", {"pairing": pairing, "samples": 4, "target": "soft"})
    run = play(algorithm, G3, "sampled", 2, pairs=300)
    assert np.isfinite(run.log_policies).all()
    assert run.policies.sum(-1) == pytest.approx(np.ones((3, 1)))


def test_lists_are_refused():
    with pytest.raises(ValueError, match="lists are not played"):
        play(build_for_game("opo", {}), G3, "sampled", 1)
