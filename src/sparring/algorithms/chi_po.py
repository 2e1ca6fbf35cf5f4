"""chi-PO (2407.13399): DPO with a link that adds chi-squared regularisation, for sparse coverage.

    -log sigmoid( clip_{2R}[ beta phi(pi(y_w)/ref(y_w)) - beta phi(pi(y_l)/ref(y_l)) ] ),   phi(z) = z + log z

Transcribed from a note on the paper, not from the paper itself. Leaves out: the paper's choice of R from a
reward bound, which is not known for a language model.

    ChiPO(beta=0.1).steps(t=0, data=DataFacts(100))
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from sparring.algorithms.algorithm import About, DataFacts, Step, Symbol
from sparring.algorithms.sources import EITHER_SOURCE, OWN_IID, PairSource
from sparring.games.game import Array, Game
from sparring.games.squares import chi_po
from sparring.objectives.pairs import ChiSquaredLogistic


class ChiPO(PairSource):
    """chi-PO's fields; the defaults are ours."""

    about = About("chi-PO", "2407.13399", "reference 1", loss="pair logistic with a chi-squared link", **EITHER_SOURCE)
    symbols: ClassVar = {"R": Symbol("reward_bound")}
    solves = "unknown"
    on_games: ClassVar = {**OWN_IID, "beta": 0.5}

    reference: Literal["start", "iterate"] = "start"  # type: ignore[assignment]
    """the anchor: the run's starting policy in every round, or the policy at the round's start"""
    beta: float = Field(default=0.1, gt=0)
    """weight of the regularisation"""
    reward_bound: float = Field(default=4.0, gt=0)
    """R: the argument of the sigmoid is clipped to [-2R, 2R]"""
    ratio_bound: float = Field(default=20.0, gt=0)
    """log-ratios are cut at this before the exponential, so that it stays finite"""

    @model_validator(mode="after")
    def _labels_are_verdicts(self) -> Self:
        if self.soft_labels:
            raise ValueError(
                "soft_labels = true, which this method does not use: its labels are verdicts: leave it out, or use dpo."
            )
        return self

    def steps(self, t: int, data: DataFacts) -> tuple[Step, ...]:
        """One step with one anchor."""
        objective = ChiSquaredLogistic(self.beta, self.reward_bound, self.ratio_bound, self.anchor)
        return (self.pair_step(t, objective),)

    def exact_step(self, game: Game, history: Sequence[Array]) -> Array | None:
        """On Bradley-Terry games whose rewards no clip reaches; there is no closed form elsewhere."""
        if game.rewards is None or float((game.rewards.max(-1) - game.rewards.min(-1)).max()) >= 2 * self.reward_bound:
            return None
        anchor = self.exact_anchor(game, history)
        log_policy = chi_po(anchor, game.rewards, self.beta)
        return log_policy if float((log_policy - anchor).max()) < self.ratio_bound else None
