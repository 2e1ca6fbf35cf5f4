"""ORPO (2403.07691): supervised fine-tuning on the winner, and the odds ratio of winner and loser; no reference.

    - log pi(y_w) / |y_w| - lambda log sigmoid( log odds(y_w) - log odds(y_l) )
    odds(y) = p / (1 - p),  p = exp( log pi(y) / |y| )

It needs no stage of fine-tuning before it. The likelihood term counts the response's tokens, as the paper writes it;
TRL's counts the prompt's too. Leaves out: nothing of the loss.

    ORPO(odds_weight=0.1).steps(t=0, data=DataFacts(100))
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from sparring.algorithms.algorithm import About, DataFacts, Step, Symbol
from sparring.algorithms.sources import EITHER_SOURCE, OWN_IID, PairSource
from sparring.objectives.variants import PairVariant


class ORPO(PairSource):
    """ORPO's fields; the defaults are the paper's."""

    about = About("ORPO", "2403.07691", "none", loss="odds ratio, likelihood of the winner", **EITHER_SOURCE)
    symbols: ClassVar = {"lambda": Symbol("odds_weight")}
    solves = "unknown"
    on_games: ClassVar = {**OWN_IID, "reference": "none", "odds_weight": 1.0}

    reference: Literal["none"] = "none"  # type: ignore[assignment]
    """it has no reference"""
    odds_weight: float = Field(default=0.1, gt=0)
    """lambda: weight of the odds ratio (TRL calls it beta)"""
    sft_weight: float = Field(default=1.0, ge=0)
    """weight of the winner's negative log-likelihood per token"""

    @model_validator(mode="after")
    def _labels_are_hard(self) -> ORPO:
        if self.soft_labels:
            raise ValueError("soft_labels = true with ORPO, whose labels are verdicts: leave it out.")
        return self

    def steps(self, t: int, data: DataFacts) -> tuple[Step, ...]:
        """One step without an anchor."""
        objective = PairVariant(
            {}, 1.0, link="odds", per_token=True, pair_weight=self.odds_weight, sft_weight=self.sft_weight
        )
        return (self.pair_step(t, objective),)
