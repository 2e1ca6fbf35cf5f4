"""TD-MNPO (2509.23102): INPO against a weighted history of own iterates.

    ( D_policy - rho D_ref - (1 - rho) sum_j lambda_j D_{t-j} - 1/(2 eta) )^2

The form is that of the authors' code, which averages log-probabilities over tokens; ours sums them, so its eta does
not carry over. Their comparison table swaps INPO's two weights; tau/eta is the reference's. In early rounds the
weights that exist are divided by their sum. Leaves out: heterogeneous opponents (other models), which a recipe
cannot name yet.

    MNPO(weights=(0.6, 0.4)).steps(t=1, data=DataFacts(100))
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, Self

from pydantic import Field, model_validator

from sparring.algorithms.algorithm import REFERENCE, About, DataFacts, PolicyRef, Step, Symbol
from sparring.algorithms.judged import IID, MirrorPlay
from sparring.games.dynamics import mnpo
from sparring.games.game import Array, Game


class MNPO(MirrorPlay):
    """MNPO's fields; eta .0075 (of mean log-probabilities there), rho 1/3 and a history of two are the code's."""

    about = About("MNPO", "2509.23102", "reference rho, past iterates (1 - rho) lambda_j")
    symbols: ClassVar = {
        "eta": Symbol("step_size", inverse=True),
        "tau": Symbol("kl_to_reference"),
        "lambda": Symbol("weights"),
    }
    on_games: ClassVar = {**IID, "step_size": 0.2, "kl_to_reference": 0.1, "weights": (0.7, 0.3)}
    solves = "regularised"

    step_size: float = Field(default=1.0 / 0.0075, gt=0)
    """1/eta"""
    kl_to_reference: float = Field(default=0.0025, ge=0)
    """tau; rho = tau/eta = 1/3 at the default"""
    weights: tuple[float, ...] = (0.5, 0.5)
    """lambda_j of the iterates, newest first, 1 in all; their number is the history"""

    @model_validator(mode="after")
    def _history(self) -> Self:
        if not self.weights or min(self.weights) < 0 or self.weights[0] <= 0:
            raise ValueError(
                f"weights = {self.weights}: give one or more weights, none negative, the first (iterate's) positive."
            )
        if abs((total := math.fsum(self.weights)) - 1.0) > 1e-6:
            fair = [float(f"{weight / total:.9g}") for weight in self.weights]
            raise ValueError(f"weights: they sum to {total:.6g}, but must sum to 1. In this ratio: {fair}.")
        return self

    def steps(self, t: int, data: DataFacts) -> tuple[Step, ...]:
        """One pair square whose anchor is the mixture of the reference and the recent iterates."""
        rho = self.reference_weight(t)
        recent = self.weights[: t + 1]
        shares = [weight / sum(recent) for weight in recent]
        anchors = {"reference": (REFERENCE, rho)} | {
            ("iterate" if back == 0 else f"iterate_{back}_back"): (PolicyRef(t - back), (1.0 - rho) * share)
            for back, share in enumerate(shares)
        }
        return (self.square_step(PolicyRef(t), anchors, self.step_size),)

    def exact_step(self, game: Game, history: Sequence[Array]) -> Array:
        """The mirror-descent step from the geometric mean of the history."""
        options = self.step_size, self.kl_to_reference, self.weights
        return mnpo(game.preference, history, game.log_reference, *options)
