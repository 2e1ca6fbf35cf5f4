"""SPACE (2512.07175): SPIN as noise-contrastive estimation, each answer classified by itself.

    log(1 + mu exp(-r(gold))) + mu log(1 + exp(r(own)) / mu),   r(y) = log pi(y) - log pi_t(y)

Its exact minimum is the data policy in one round, for every mu [derived], where SPIN's overshoots at small beta. The
loss is transcribed from a summary of the paper. Leaves out: the paper's optimiser and schedule (`fit`).

    SPACE(samples=1).steps(t=0, data=DataFacts(100))
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field

from sparring.algorithms.algorithm import About, Algorithm, Column, DataFacts, Draw, PolicyRef, Step, Symbol
from sparring.algorithms.pairing import Against
from sparring.games.game import Array, Game
from sparring.objectives.self_play import NoiseContrastive


class SPACE(Algorithm):
    """SPACE's fields; mu is the paper's."""

    about = About(
        "SPACE",
        "2512.07175",
        "iterate 1",
        samples="iterate",
        pairing="gold against own",
        loss="noise-contrastive, each answer by itself",
        needs="prompts with gold answers",
    )
    symbols: ClassVar = {"mu": Symbol("noise_ratio")}
    on_games: ClassVar = {}
    solves = "data"

    noise_ratio: float = Field(default=1.0, gt=0)
    """mu: weight and prior odds of own samples against gold answers"""
    samples: int = Field(default=1, ge=1)
    """own responses per prompt and round"""

    def steps(self, t: int, data: DataFacts) -> tuple[Step, ...]:
        """One step; no oracle is asked."""
        responses = Column("gold"), Draw("own", self.samples, {PolicyRef(t): 1.0})
        objective = NoiseContrastive(self.noise_ratio)
        return (Step(PolicyRef(t), responses, Against("gold", "own"), objective, {"iterate": PolicyRef(t)}),)

    def exact_step(self, game: Game, history: Sequence[Array]) -> Array:
        """The data policy."""
        return game.log_data
