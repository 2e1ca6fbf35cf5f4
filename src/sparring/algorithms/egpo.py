"""EGPO, extragradient preference optimization (2503.08942): a half step to look ahead, then the full step.

    pi_{t+1/2} ~ pi_t^(1 - w) ref^w exp( step P(. > pi_t) )
    pi_{t+1}   ~ pi_t^(1 - w) ref^w exp( step P(. > pi_{t+1/2}) ),      w = step * beta

Each step draws pairs from the policy it compares with, so i.i.d. pairs reproduce it exactly. Last-iterate
linear convergence to the regularised Nash policy. Leaves out: the online gradient form of the paper's runs; the
theorem's constants were not found.

    EGPO(step_size=0.3, kl_to_reference=0.1, pairing="iid").steps(t=0, data=DataFacts(100))
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field

from sparring.algorithms.algorithm import About, DataFacts, PolicyRef, Step, Symbol
from sparring.algorithms.judged import IID, MirrorPlay
from sparring.games.dynamics import egpo
from sparring.games.game import Array, Game


class EGPO(MirrorPlay):
    """EGPO's fields; beta is the paper's, the step is ours (the paper's runs are online)."""

    about = About(
        "EGPO",
        "2503.08942",
        "reference w, iterate 1 - w",
        samples="iterate, then the half step",
        loss="pair square, twice",
    )
    symbols: ClassVar = {"eta": Symbol("step_size"), "beta": Symbol("kl_to_reference")}
    on_games: ClassVar = {**IID, "step_size": 0.3, "kl_to_reference": 0.1}
    solves = "regularised"

    step_size: float = Field(default=5.0, gt=0)
    """the step of both moves"""
    kl_to_reference: float = Field(default=0.1, ge=0)
    """beta: weight of KL(policy || reference)"""

    def steps(self, t: int, data: DataFacts) -> tuple[Step, ...]:
        """Half step on the iterate's pairs, then full step from the iterate on the half step's pairs."""
        iterate, half, anchors = PolicyRef(t), PolicyRef(t + 1, "half"), self.mirror_anchors(t)
        return (
            self.square_step(iterate, anchors, self.step_size, trains="half"),
            self.square_step(iterate, anchors, self.step_size, self.own_draw(half)),
        )

    def exact_step(self, game: Game, history: Sequence[Array]) -> Array:
        """The extragradient's full step."""
        return egpo(game.preference, history[-1], game.log_reference, self.step_size, self.kl_to_reference)[1]
