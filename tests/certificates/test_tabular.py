"""The tabular player: its fits are the closed forms, and a wrong loss is noticed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
import torch

from sparring.algorithms.algorithm import Column, DataFacts, PolicyRef
from sparring.algorithms.dpo import DPO
from sparring.algorithms.inpo import INPO
from sparring.algorithms.pairing import Against
from sparring.algorithms.spac import SPAC
from sparring.certificates.build import build_for_game
from sparring.certificates.certify import play
from sparring.certificates.claims.claim import Effort, distance
from sparring.certificates.claims.fits import CLOSED, closed_form, two_contexts
from sparring.certificates.players.minimise import (
    CONVERGED,
    NEAR_KINK,
    gradients_near,
    is_beside_kink,
    stationarity_gradient,
)
from sparring.certificates.players.tabular import TabularPlayer
from sparring.games.built_in import sparse_bandit
from sparring.games.files import resolve_game
from sparring.games.offline import observe_pairs
from sparring.objectives.pairs import PESSIMISM, Batch, Loss, Objective, margins, relative_logps


@pytest.mark.parametrize("name", CLOSED)
def test_f1_the_fit_is_the_closed_form(name: str):
    (claim,) = closed_form(name, Effort(rounds=4, seed=3))
    assert claim.holds, claim.measured


class WrongAnchors(INPO):
    """INPO with its two weights swapped, as in one comparison table."""

    def steps(self, t: int, data: DataFacts):
        (step,) = super().steps(t, data)
        weights = step.objective.anchors  # type: ignore[attr-defined]
        swapped = {"reference": weights["iterate"], "iterate": weights["reference"]}
        return (replace(step, objective=replace(step.objective, anchors=swapped)),)  # type: ignore[type-var]


class WrongTarget(INPO):
    """INPO with a target of 1/eta instead of 1/(2 eta)."""

    def steps(self, t: int, data: DataFacts):
        (step,) = super().steps(t, data)
        return (replace(step, objective=replace(step.objective, step_size=2 * self.step_size)),)  # type: ignore[type-var]


@pytest.mark.parametrize("wrong", [WrongAnchors, WrongTarget])
def test_f1_notices_a_wrong_loss(wrong: type[INPO]):
    algorithm = wrong(step_size=1.0, kl_to_reference=0.1, pairing="iid", samples=2)
    game = resolve_game("G3")
    fitted, closed = (play(algorithm, game, player, 3) for player in ("tabular", "exact"))
    assert distance(fitted.log_policies, closed.log_policies) > 0.01


@dataclass(frozen=True)
class Hinge:
    """Piecewise linear: no curvature anywhere, kinks at the minimum."""

    reach: float = 1.0

    def __call__(self, batch: Batch) -> Loss:
        margin_P = margins(relative_logps(batch, {"iterate": 1.0}), batch.pairs_P2)
        return Loss((batch.weight_P * (self.reach - margin_P).clamp_min(0.0)).sum(), {})


class FromIterate(INPO):
    """INPO's pairs for another loss."""

    loss: ClassVar[Objective] = Hinge()

    def steps(self, t: int, data: DataFacts):
        (step,) = super().steps(t, data)
        return (replace(step, objective=self.loss),)


class Jumping(FromIterate):
    """Its loss falls without end, at a slope that does not vanish."""

    loss: ClassVar[Objective] = Hinge(reach=1e300)


def test_a_loss_without_curvature_is_fitted():
    game = resolve_game("G3")
    player = TabularPlayer(FromIterate(step_size=1.0, kl_to_reference=0.1, pairing="iid", samples=2), game)
    fitted = player.play(1).log_policies[1, 0]
    steps = player.algorithm.steps(0, player.data_facts())
    player.policies = {PolicyRef(0): game.log_reference}
    loss = player.loss(steps[0], steps, 0)

    def value(logits: np.ndarray) -> float:
        return float(loss(torch.from_numpy(logits)))

    axis = np.linspace(-3.0, 3.0, 61)
    grid = min(value(np.array([a, b, 0.0])) for a in axis for b in axis)
    assert value(fitted) <= grid + 1e-6
    assert value(fitted) < value(game.log_reference[0]) - 0.1


def test_a_fit_that_ends_on_a_slope_is_an_error(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sparring.certificates.players.minimise.DESCENT_STEPS", 20)
    algorithm = Jumping(step_size=1.0, kl_to_reference=0.1, pairing="iid", samples=2)
    with pytest.raises(ValueError, match="the fit did not converge: gradient"):
        TabularPlayer(algorithm, resolve_game("GBT:4:0")).play(1)


@pytest.mark.parametrize(("name", "allowed"), [("steep curve", False), ("kink", True), ("branch", True)])
def test_only_beside_a_kink_a_fit_may_stop_on_a_slope(name: str, allowed: bool):
    losses = {
        "steep curve": lambda x: 50 * (x[0] - x[1]).square(),
        "kink": lambda x: (x[0] - x[1]).abs(),
        "branch": lambda x: x[0] - x[1] if x[0] > x[1] else x[1] - x[0],
    }
    loss, beside = losses[name], np.array([4e-6, 0.0])
    assert stationarity_gradient(loss, beside) > CONVERGED
    assert is_beside_kink(loss, beside) == allowed
    assert stationarity_gradient(loss, beside, NEAR_KINK) < CONVERGED, "which is why a curve must not be asked so"


def test_gradients_of_a_loss_that_branches_are_those_of_one_that_does_not():
    def hinge(x: torch.Tensor) -> torch.Tensor:
        return torch.relu(1 - x[0] + x[1])

    def branching(x: torch.Tensor) -> torch.Tensor:
        gap = 1 - x[0] + x[1]
        return gap if gap > 0 else 0.0 * gap

    near = [
        gradients_near(loss, np.array([1.0, 0.0]), 0.1, np.random.default_rng(0), 20) for loss in (hinge, branching)
    ]
    np.testing.assert_array_equal(*near)
    assert len(np.unique(near[0], axis=0)) == 2


def test_a_loss_without_a_minimum_is_said():
    ordered = np.array([[0.5, 1.0, 1.0], [0.0, 0.5, 1.0], [0.0, 0.0, 0.5]])
    game = replace(resolve_game("G3"), name="ordered", preference=ordered[None])
    notes = {name: TabularPlayer(build_for_game(name, {}), game).play(1).notes for name in ("dpo", "inpo")}
    assert notes["inpo"] == ()
    assert "no finite minimum" in notes["dpo"][0]


def test_contexts_are_fitted_apart():
    game = two_contexts()
    algorithm = build_for_game("egpo", {})
    both = play(algorithm, game, "tabular", 3).log_policies
    for context in range(2):
        alone = replace(
            game,
            preference=game.preference[context : context + 1],
            reference=game.reference[context : context + 1],
            context_weights=np.ones(1),
        )
        assert np.abs(play(algorithm, alone, "tabular", 3).log_policies[:, 0] - both[:, context]).max() < 1e-10


def test_spac_pairs_are_the_data_and_each_of_its_answers_against_own():
    game = resolve_game("GD")
    player = TabularPlayer(SPAC(), game)
    player.policies = {PolicyRef(0): game.log_reference}
    pairs = player.population(SPAC().steps(0, DataFacts(100))[0], 0)
    pessimism = pairs.terms == PESSIMISM
    assert pairs.weights[~pessimism].sum() == pytest.approx(1.0)
    assert pairs.weights[pessimism].sum() == pytest.approx(1.0)
    losers = np.bincount(pairs.pairs[pessimism, 1], pairs.weights[pessimism])
    assert losers == pytest.approx(game.reference[0])


def test_a_bound_keeps_log_ratios_in_a_box():
    game = sparse_bandit(100, 0)
    wins = observe_pairs(game, 100, 0)
    run = TabularPlayer(DPO(beta=0.1), game, wins=wins, log_ratio_bound=2.0).play(1)
    ratio = run.log_policies[1, 0] - run.log_policies[0, 0]
    assert ratio.max() - ratio.min() <= 4.0 + 1e-9


def test_offline_counts_stand_for_the_data():
    game = sparse_bandit(100, 0)
    wins = observe_pairs(game, 100, 0)
    player = TabularPlayer(DPO(), game, wins=wins, policies={PolicyRef(0): game.log_reference})
    pairs = player.population(DPO().steps(0, DataFacts(100))[0], 0)
    assert len(pairs.weights) == np.count_nonzero(wins)
    assert pairs.weights.sum() == pytest.approx(1.0)


def test_roles_decide_who_is_paired():
    """Gold over rejected answers: independent of each other, whoever drew the rest."""
    game = resolve_game("GD")
    player = TabularPlayer(DPO(), game, policies={PolicyRef(0): game.log_reference})
    columns = (Column("gold"), Column("chosen"), Column("rejected"))
    step = replace(DPO().steps(0, DataFacts(1))[0], responses=columns, pairing=Against("gold", "rejected"))
    pairs = player.population(step, 0)
    assert game.data is not None
    assert np.bincount(pairs.pairs[:, 0], pairs.weights) == pytest.approx(game.data[0])
    assert np.bincount(pairs.pairs[:, 1], pairs.weights) == pytest.approx(game.data[0])
    with pytest.raises(ValueError, match="no responses of role 'own'"):
        player.population(replace(step, pairing=Against("gold", "own")), 0)
