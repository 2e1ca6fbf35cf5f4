"""SPIN (2401.01335) and its regularised form alpha-SPIN with fictitious play (2404.04291).

Gold answers against own samples; the loss is logistic and anchored to the iterate, or to the geometric
mixture (1 - alpha) log pi_t + alpha log pi_0 of iterate and base, which equals a KL penalty towards the base.
alpha = 0 is SPIN; alpha = 1 is a DPO with a fixed reference on (gold, own) pairs. Fictitious play draws
the opponent's responses from the average of the last `window` iterates. Which end of [0, 1] the paper calls
alpha = 1 was not found; here alpha is the base's weight (docs/algorithms/spin.md). Leaves out: SPIN's
hinge variant.

    SPIN(alpha=0.1, window=2).steps(t=3, data=DataFacts(100))
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from sparring.algorithms.algorithm import REFERENCE, About, Algorithm, Column, DataFacts, Draw, PolicyRef, Step, Symbol
from sparring.algorithms.pairing import Against
from sparring.games.dynamics import alpha_spin, fictitious_spin
from sparring.games.game import Array, Game
from sparring.objectives.pairs import PairLogistic


class SPIN(Algorithm):
    """SPIN's fields; alpha 0 and window 1 are plain SPIN."""

    about = About(
        "SPIN, alpha-SPIN, fictitious play",
        "2401.01335, 2404.04291",
        "iterate 1 - alpha, base alpha",
        samples="iterate, the last h iterates, or the mixture",
        pairing="gold against own",
        loss="pair logistic",
        needs="prompts with gold answers",
    )
    symbols: ClassVar = {"lambda": Symbol("beta"), "h": Symbol("window")}
    on_games: ClassVar = {"beta": 1.0}
    solves = "data"

    beta: float = Field(default=0.1, gt=0)
    """the papers' lambda; SPIN uses 0.1, and 5.0 in its last round"""
    alpha: float = Field(default=0.0, ge=0, le=1)
    """weight of the base policy in the geometric mixture that anchors the loss"""
    window: int | Literal["all"] = 1
    """fictitious play: opponents are the last `window` iterates, equally weighted; "all" is the full history"""
    sampler: Literal["iterates", "mixture"] = "iterates"
    """mixture: sample from the token-level geometric mixture of iterate and base instead (needs window 1)"""
    samples: int = Field(default=1, ge=1)
    """own responses per prompt and round"""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.window != "all" and self.window < 1:
            raise ValueError(f"window = {self.window}: give at least 1 (the iterate alone), or 'all'.")
        if self.sampler == "mixture" and self.window != 1:
            raise ValueError(
                f"sampler = 'mixture' with window = {self.window!r}: the mixture replaces the window; use window: 1."
            )
        return self

    def opponents(self, t: int) -> dict[PolicyRef, float]:
        """The iterates that the opponent's responses come from, equally weighted."""
        count = t + 1 if self.window == "all" else min(self.window, t + 1)
        return {PolicyRef(t - back): 1.0 / count for back in range(count)}

    def draw(self, t: int) -> Draw:
        """Own responses: from the iterates, or from the mixture that also anchors the loss."""
        if self.sampler == "mixture" and t > 0:
            weights = {PolicyRef(t): 1.0 - self.alpha, REFERENCE: self.alpha}
            return Draw("own", self.samples, weights, "token_geometric")
        return Draw("own", self.samples, self.opponents(t))

    def steps(self, t: int, data: DataFacts) -> tuple[Step, ...]:
        """One step; no oracle is asked."""
        responses, anchors = (Column("gold"), self.draw(t)), {"iterate": PolicyRef(t), "reference": REFERENCE}
        objective = PairLogistic({"iterate": 1.0 - self.alpha, "reference": self.alpha}, self.beta)
        return (Step(PolicyRef(t), responses, Against("gold", "own"), objective, anchors),)

    def base_weight(self) -> float | None:
        """What is left of the base at the fixed point of `exact_step`: 0 for SPIN, more the larger alpha is."""
        if self.alpha == 0:
            return 0.0
        if self.window != 1:
            return None
        base, data = self.alpha * self.beta, 1.0
        if self.sampler == "mixture":
            base, data = self.alpha * (1.0 - 1.0 / self.beta), 1.0 / self.beta
        return base / (base + data)

    def exact_step(self, game: Game, history: Sequence[Array]) -> Array | None:
        """The exact minimiser of the logistic loss: anchor * (data / sampler)^(1/beta)."""
        if self.window == 1:
            sampler = "mixture" if self.sampler == "mixture" else "iterate"
            return alpha_spin(history[-1], game.log_reference, game.log_data, self.beta, self.alpha, sampler)
        if self.alpha > 0:
            return None
        window = None if self.window == "all" else self.window
        return fictitious_spin(history, game.log_data, self.beta, window)
