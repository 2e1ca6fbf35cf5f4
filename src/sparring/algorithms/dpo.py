"""DPO, Direct Preference Optimization (2305.18290), offline on a fixed set or iterative on own samples.

Iterative DPO is the baseline of INPO's tables: samples of the iterate, best against worst, the
starting policy as the reference of every round (or the iterate, by `reference`). On a
Bradley-Terry oracle its population minimiser is ref(y) exp(r(y)/beta); off Bradley-Terry there is no such
form. Leaves out: length-normalised variants.

    DPO(source="own", samples=4).steps(t=0, data=DataFacts(100))
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field

from sparring.algorithms.algorithm import About, DataFacts, Step
from sparring.algorithms.sources import EITHER_SOURCE, OWN_IID, PairSource
from sparring.games.game import Array, Game
from sparring.games.probabilities import log_normalise
from sparring.objectives.pairs import PairLogistic


class DPO(PairSource):
    """DPO's fields."""

    about = About("DPO", "2305.18290", "reference 1", loss="pair logistic", **EITHER_SOURCE)
    solves = "unknown"
    on_games: ClassVar = {**OWN_IID, "beta": 0.5}

    beta: float = Field(default=0.1, gt=0)
    """weight of the KL to the reference, per nat"""

    def steps(self, t: int, data: DataFacts) -> tuple[Step, ...]:
        """One step with one anchor."""
        return (self.pair_step(t, PairLogistic({self.anchor: 1.0}, self.beta, self.soft_labels)),)

    def exact_step(self, game: Game, history: Sequence[Array]) -> Array | None:
        """ref exp(r / beta), on Bradley-Terry games only; off them there is no such form."""
        if game.rewards is None:
            return None
        anchor = self.exact_anchor(game, history)
        return log_normalise(anchor + game.rewards / self.beta)
