"""DNO, Direct Nash Optimization (2404.03715): the policy's margin classified by the difference of win rates.

    q ell(z) + (1 - q) ell(-z),   z = beta ( D_policy - D_iterate ),   q = sigmoid( P^(y) - P^(y') )

ell(z) = -log sigmoid(z), P^ the win rates among own samples. With exact win rates its minimum is multiplicative
weights, pi_t exp(P(y > pi_t) / beta). Transcribed from a summary of the paper. Leaves out: DNO-Prct, which is iterative
`dpo` on pairs of a large margin with a stronger model's answers among them.

    DNO(samples=8, beta=0.1).steps(t=0, data=DataFacts(100))
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Self

from pydantic import Field, model_validator

from sparring.algorithms.algorithm import About, DataFacts, PolicyRef, Step, Symbol
from sparring.algorithms.judged import IID, PAIRINGS, JudgedSamples
from sparring.games.dynamics import mwu
from sparring.games.game import Array, Game
from sparring.objectives.self_play import WinRateLogistic


class DNO(JudgedSamples):
    """DNO's fields; the defaults are ours."""

    about = About("DNO", "2404.03715", "iterate 1", loss="pair logistic with win rates")
    symbols: ClassVar = {"eta": Symbol("beta")}
    on_games: ClassVar = {**IID, "beta": 1.0}

    beta: float = Field(default=0.01, gt=0)
    """weight of the KL to the iterate: a full win rate is worth 1/beta nats"""

    @model_validator(mode="after")
    def _win_rates_are_known(self) -> Self:
        if self.pairing == "knockout":
            raise ValueError(
                "pairing = 'knockout' with DNO: a knockout compares too few pairs for win rates; use pairing: "
                "best_worst, all or iid."
            )
        return self

    def steps(self, t: int, data: DataFacts) -> tuple[Step, ...]:
        """One step on own judged samples."""
        return (self.judged_step(t, PAIRINGS[self.pairing], WinRateLogistic(self.beta), {"iterate": PolicyRef(t)}),)

    def exact_step(self, game: Game, history: Sequence[Array]) -> Array:
        """Multiplicative weights."""
        return mwu(game.preference, history[-1], 1.0 / self.beta)
