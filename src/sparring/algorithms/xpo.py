"""XPO, Exploratory Preference Optimization (2405.21046): online DPO that is drawn to what the reference rarely says.

    -log sigmoid( beta ( D_policy - D_ref ) ) + optimism * log pi(y'),   y' ~ ref

on pairs of one own and one reference sample, judged: the likelihood of the reference's own samples is lowered, so that
responses that were never tried keep their probability. Leaves out: the pairs of earlier rounds, which the paper's
algorithm keeps in its loss.

    XPO(optimism=1e-5).steps(t=0, data=DataFacts(100))
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field

from sparring.algorithms.algorithm import REFERENCE, About, Algorithm, DataFacts, Draw, PolicyRef, Step, Symbol
from sparring.algorithms.pairing import Across
from sparring.games.game import Array, Game
from sparring.games.probabilities import log_normalise
from sparring.objectives.pairs import PairLogistic
from sparring.objectives.self_play import WithLikelihood


class XPO(Algorithm):
    """XPO's fields; optimism is TRL's."""

    about = About(
        "XPO",
        "2405.21046",
        "reference 1",
        samples="iterate and reference, K each",
        pairing="own against reference sample",
        loss="pair logistic + likelihood of reference samples",
    )
    symbols: ClassVar = {"alpha": Symbol("optimism")}
    solves = "unknown"
    on_games: ClassVar = {"beta": 0.5, "optimism": 0.0}

    beta: float = Field(default=0.1, gt=0)
    """weight of the KL to the reference, per nat"""
    optimism: float = Field(default=1e-5, ge=0)
    """alpha: weight of the reference samples' log-likelihood, which is lowered; 0 is online DPO"""
    samples: int = Field(default=1, ge=1)
    """own responses per prompt and round, and as many of the reference"""
    soft_labels: bool = False
    """use the oracle's probability instead of its verdict"""

    def steps(self, t: int, data: DataFacts) -> tuple[Step, ...]:
        """One step on pairs of own and reference samples."""
        iterate = PolicyRef(t)
        draws = Draw("own", self.samples, {iterate: 1.0}), Draw("reference", self.samples, {REFERENCE: 1.0})
        inner = PairLogistic({"reference": 1.0}, self.beta, self.soft_labels)
        objective = WithLikelihood(inner, self.optimism, "reference") if self.optimism else inner
        return (Step(iterate, draws, Across(), objective, {"reference": REFERENCE}, judged=True),)

    def exact_step(self, game: Game, history: Sequence[Array]) -> Array | None:
        """ref exp(r / beta) without optimism, on Bradley-Terry games only, whoever wrote the pairs."""
        if game.rewards is None or self.optimism:
            return None
        return log_normalise(game.log_reference + game.rewards / self.beta)
