"""SPPO (2405.00675): each response's log-ratio is regressed to its win rate.

    1/2 sum over winner and loser of ( log pi(y)/pi_t(y) - eta (P_hat(y) - 1/2) )^2

The target update is pi_t exp(eta P(y > pi_t)) with log Z replaced by eta/2, which is exact only when every win rate is
1/2; a pair difference would not need it (docs/algorithms/sppo.md gives the measured distance). The paper's eta is a
step. Leaves out: the authors' `sppo_single`.

    SPPO(samples=5, labels="soft").steps(t=0, data=DataFacts(100))
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from sparring.algorithms.algorithm import REFERENCE, About, DataFacts, PolicyRef, Step, Symbol
from sparring.algorithms.judged import IID, PAIRINGS, JudgedSamples
from sparring.games.dynamics import mwu
from sparring.games.game import Array, Game
from sparring.objectives.pairs import Objective
from sparring.objectives.responses import ResponseSquare


class SPPO(JudgedSamples):
    """SPPO's fields; K, step and pairing are those of the authors' code."""

    about = About(
        "SPPO",
        "2405.00675",
        "iterate 1",
        pairing="best-worst (win rates from all comparisons)",
        loss="response squares",
    )
    symbols: ClassVar = {"eta": Symbol("step_size")}
    exact_is_aim = True
    on_games: ClassVar = {**IID, "step_size": 0.5}

    step_size: float = Field(default=1000.0, gt=0)
    """eta: nats of log-ratio per unit of win rate"""
    samples: int = Field(default=5, ge=1)
    """K, responses per prompt and round"""
    labels: Literal["soft", "hard"] = "soft"
    """soft: empirical win rates; hard: 1 for the winner and 0 for the loser"""
    unit_loss: bool = True
    """divide the loss by step_size^2 (same minimiser); false is the paper's scale"""

    @model_validator(mode="after")
    def _win_rates_are_known(self) -> Self:
        if self.labels == "soft" and self.pairing == "knockout":
            raise ValueError(
                "labels = 'soft' with pairing = 'knockout': a knockout compares too few pairs for win rates; use "
                "pairing: best_worst or all."
            )
        return self

    def squares(self) -> ResponseSquare:
        """The two squares, anchored to the iterate."""
        return ResponseSquare(self.step_size, self.labels, self.unit_loss)

    def objective(self) -> Objective:
        """The fitted loss: the squares alone."""
        return self.squares()

    def steps(self, t: int, data: DataFacts) -> tuple[Step, ...]:
        """One step: sample, judge all pairs, regress both responses of a pair."""
        anchors = {"iterate": PolicyRef(t), "reference": REFERENCE}
        return (self.judged_step(t, PAIRINGS[self.pairing], self.objective(), anchors),)

    def exact_step(self, game: Game, history: Sequence[Array]) -> Array | None:
        """Multiplicative weights, the update that the loss aims at (and misses where log Z is not eta/2)."""
        return mwu(game.preference, history[-1], self.step_size)
