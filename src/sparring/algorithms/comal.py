"""COMAL (2410.23223): a Nash policy of the unregularised game by a sequence of regularised ones.

Inner rounds are INPO's, anchored to a reference that becomes the current policy every `period` rounds (a
proximal-point step). With the inner games solved the last iterate converges to an exact Nash policy, where INPO's
goes to a biased one; with too few rounds between refreshes it does not (docs/algorithms/comal.md). Leaves out: the
authors' rejected answer, the second-ranked (we take the worst), and their choice of the best checkpoint by
validation loss.

    COMAL(step_size=1.0, kl_to_reference=0.1, period=6, pairing="iid").steps(t=7, data=DataFacts(100))
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field

from sparring.algorithms.algorithm import About, DataFacts, PolicyRef, Step, Symbol
from sparring.algorithms.judged import IID, MirrorPlay
from sparring.games.dynamics import comal
from sparring.games.game import Array, Game


class COMAL(MirrorPlay):
    """COMAL's fields; step and weight are those of the authors' script, the period is the paper's."""

    about = About("COMAL", "2410.23223", "moving reference rho, iterate 1 - rho")
    symbols: ClassVar = {
        "eta": Symbol("step_size", inverse=True),
        "tau": Symbol("kl_to_reference"),
        "M": Symbol("period"),
    }
    on_games: ClassVar = {**IID, "step_size": 1.0, "kl_to_reference": 0.1, "period": 20}

    step_size: float = Field(default=500.0, gt=0)
    """1/eta of the inner INPO steps"""
    kl_to_reference: float = Field(default=1.0 / 1500.0, gt=0)
    """tau: weight of KL(policy || moving reference); the script has tau/eta = 1/3"""
    period: int = Field(default=6, ge=1)
    """M: rounds between refreshes of the reference"""

    def steps(self, t: int, data: DataFacts) -> tuple[Step, ...]:
        """One INPO step whose reference is the iterate of the last refresh."""
        rho = self.reference_weight(t)
        iterate, moving = PolicyRef(t), PolicyRef(t // self.period * self.period)
        anchors = {"moving_reference": (moving, rho), "iterate": (iterate, 1.0 - rho)}
        return (self.square_step(iterate, anchors, self.step_size),)

    def exact_step(self, game: Game, history: Sequence[Array]) -> Array:
        """The mirror-descent step with the moving reference."""
        return comal(game.preference, history, self.step_size, self.kl_to_reference, self.period)
