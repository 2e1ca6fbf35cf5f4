"""T-SPIN, triplet SPIN (2601.08198): gold over own samples, and own samples over those of the start; no reference.

    ell( beta (log pi(gold) - log pi(own)) ) + history_weight * ell( beta (log pi(own) - log pi(start)) )

ell(z) = -log sigmoid(z). The second term keeps what earlier rounds have gained. The paper draws the start's samples
once; here every round draws its own, so that no state is carried. Leaves out: nothing of the loss.

    TSPIN(history_weight=0.5).steps(t=0, data=DataFacts(100))
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from pydantic import Field

from sparring.algorithms.algorithm import REFERENCE, About, Algorithm, Column, DataFacts, Draw, PolicyRef, Step, Symbol
from sparring.algorithms.pairing import Ladder
from sparring.games.game import Array, Game
from sparring.games.probabilities import log_normalise
from sparring.objectives.pairs import PairLogistic
from sparring.objectives.self_play import TermWeights


class TSPIN(Algorithm):
    """T-SPIN's fields; the defaults are ours."""

    about = About(
        "T-SPIN",
        "2601.08198",
        "none",
        samples="iterate and start",
        pairing="gold over own over start",
        loss="two pair logistics",
        needs="prompts with gold answers",
    )
    symbols: ClassVar = {"alpha": Symbol("beta"), "b": Symbol("history_weight")}
    on_games: ClassVar = {"beta": 1.0}
    solves = "unknown"

    beta: float = Field(default=0.1, gt=0)
    """scale of the log-probabilities"""
    history_weight: float = Field(default=1.0, ge=0)
    """weight of own samples over the start's"""
    samples: int = Field(default=1, ge=1)
    """own responses per prompt and round, and as many of the start"""

    def steps(self, t: int, data: DataFacts) -> tuple[Step, ...]:
        """One step; no oracle is asked."""
        own, start = Draw("own", self.samples, {PolicyRef(t): 1.0}), Draw("start", self.samples, {REFERENCE: 1.0})
        objective = TermWeights(PairLogistic({}, self.beta), self.history_weight)
        return (Step(PolicyRef(t), (Column("gold"), own, start), Ladder(), objective, {}),)

    def exact_step(self, game: Game, history: Sequence[Array]) -> Array | None:
        """(data/pi_t + b)^(1/beta) where own and start samples have one law, as in round 0, or b is 0 [derived]."""
        b = self.history_weight
        if b and not np.allclose(history[-1], game.log_reference, rtol=0, atol=1e-12):
            return None
        return log_normalise(np.log(np.exp(game.log_data - history[-1]) + b) / self.beta)
