"""DPO-COV (2510.05526), offline: DPO that allows for wrong labels, rare answers and a judge that likes length.

With D = log pi(winner)/ref(winner) - log pi(loser)/ref(loser), z = beta D + omega (|winner| - |loser|) and ell(z) =
-log sigmoid(z), a pair's loss is

    lambda xi + ell(z + xi) - beta eta log pi(winner),    xi = max(0, log(1/lambda - 1) - z), and 0 at lambda = 1

so below z = log(1/lambda - 1) a pair pulls with lambda, however far it is on the wrong side: a label that disagrees is
taken for noise. eta raises the data's winners (pessimism), omega lets a longer winner win for its length alone. Lambda
1, eta 0 and omega 0 are DPO. Leaves out: the paper's online form, which at lambda 1 and omega 0 is `xpo`.

    DPOCOV(noise_weight=0.7).steps(t=0, data=DataFacts(100))
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from sparring.algorithms.algorithm import About, DataFacts, Step, Symbol
from sparring.algorithms.sources import EITHER_SOURCE, OWN_IID, PairSource
from sparring.games.game import Array, Game
from sparring.games.probabilities import log_normalise
from sparring.objectives.variants import CorruptedLogistic


class DPOCOV(PairSource):
    """DPO-COV's fields; the defaults are those of the paper's first experiment, with LoRA on a 7B model."""

    about = About(
        "DPO-COV",
        "2510.05526",
        "reference 1",
        loss="pair logistic of bounded slope, lengths, likelihood",
        **EITHER_SOURCE,
    )
    symbols: ClassVar = {
        "lambda": Symbol("noise_weight"),
        "eta": Symbol("pessimism"),
        "omega": Symbol("length_penalty"),
    }
    solves = "unknown"
    on_games: ClassVar = {**OWN_IID, "beta": 0.5, "noise_weight": 1.0, "pessimism": 0.0}

    reference: Literal["start", "iterate"] = "start"  # type: ignore[assignment]
    """the anchor: the run's starting policy in every round, or the policy at the round's start"""
    beta: float = Field(default=0.05, gt=0)
    """weight of the KL to the reference, per nat"""
    noise_weight: float = Field(default=0.7, gt=0, le=1)
    """lambda: the most that a pair pulls, where DPO's pairs pull up to 1; 1 trusts every label, 0.5 caps all pairs that
    the policy has on the wrong side"""
    pessimism: float = Field(default=0.0005, ge=0)
    """eta: weight of the winner's log-likelihood, in units of beta"""
    length_penalty: float = Field(default=0.0005, ge=0)
    """omega: reward that a token more is worth to the judge and is not learned"""

    @model_validator(mode="after")
    def _labels_are_verdicts(self) -> Self:
        if self.soft_labels:
            raise ValueError(
                "soft_labels = true, which this method does not use: its labels are verdicts, some of them wrong: "
                "leave it out, or use dpo."
            )
        return self

    def steps(self, t: int, data: DataFacts) -> tuple[Step, ...]:
        """One step with one anchor."""
        objective = CorruptedLogistic(
            self.anchor_weights, self.beta, self.noise_weight, self.beta * self.pessimism, self.length_penalty
        )
        return (self.pair_step(t, objective),)

    def exact_step(self, game: Game, history: Sequence[Array]) -> Array | None:
        """ref exp(r / beta) on Bradley-Terry games that no bound on the slope reaches; there is none elsewhere."""
        if game.rewards is None or self.pessimism > 0 or float(game.preference.max()) > self.noise_weight:
            return None
        return log_normalise(self.exact_anchor(game, history) + game.rewards / self.beta)
