"""Nash-MD (2312.00886), iterative form: mirror descent from the mixture of iterate and reference.

    m_t ~ pi_t^(1 - w) ref^w,   pi_{t+1} ~ m_t exp( step P(. > m_t) ),      w = step * tau

Both responses of a pair come from m_t. A language model samples the mixture token by token, which is not the
sequence-level mixture of the theory; on games of one-token responses they are the same. A fixed step converges
to a biased point. Leaves out: the original on-policy gradient, another algorithm with the same fixed point.

    NashMD(step_size=0.5, kl_to_reference=0.1, pairing="iid").steps(t=0, data=DataFacts(100))
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from sparring.algorithms.algorithm import REFERENCE, About, DataFacts, Draw, PolicyRef, Step, Symbol
from sparring.algorithms.judged import JudgedPlay, reference_weight
from sparring.games.dynamics import nash_md
from sparring.games.game import Array, Game


class NashMD(JudgedPlay):
    """Nash-MD's fields; the defaults are ours, with the mixture weight 1/8 of EGPO's comparison."""

    about: ClassVar[About] = About(
        "Nash-MD",
        "2312.00886",
        "reference w, iterate 1 - w",
        "token-geometric mixture of both",
        "any",
        "pair square",
        "prompts and an oracle",
    )
    symbols: ClassVar[Mapping[str, Symbol]] = {"eta": Symbol("step_size"), "tau": Symbol("kl_to_reference")}
    on_games: ClassVar[Mapping[str, Any]] = {"step_size": 0.3, "kl_to_reference": 0.1, "pairing": "iid", "samples": 2}
    solves: ClassVar[Literal["nash", "regularised", "data"]] = "regularised"

    step_size: float = Field(default=1.25, gt=0)
    """eta: nats of log-ratio per unit of win rate"""
    kl_to_reference: float = Field(default=0.1, ge=0)
    """tau: weight of KL(policy || reference)"""
    schedule: Literal["fixed", "theorem"] = "fixed"
    """theorem: step_t = 2 / (tau (t + 2)), which needs kl_to_reference > 0; step_size is not used"""

    @model_validator(mode="after")
    def _weights_are_positive(self) -> Self:
        if self.schedule == "theorem" and self.kl_to_reference == 0:
            raise ValueError("kl_to_reference = 0 with schedule = 'theorem': the step would be infinite; give tau > 0.")
        if self.schedule == "fixed":
            reference_weight(self.step_size, self.kl_to_reference)
        return self

    def step_size_at(self, t: int) -> float:
        """The step of round t."""
        return self.step_size if self.schedule == "fixed" else 2.0 / (self.kl_to_reference * (t + 2))

    def steps(self, t: int, data: DataFacts) -> tuple[Step, ...]:
        """One pair square on pairs from the mixture that also anchors it."""
        step_size = self.step_size_at(t)
        w = reference_weight(step_size, self.kl_to_reference)
        iterate = PolicyRef(t)
        draw = self.own_draw(iterate)
        if t > 0 and w > 0:
            draw = Draw("own", self.samples, {iterate: 1.0 - w, REFERENCE: w}, "token_geometric")
        anchors = {"reference": (REFERENCE, w), "iterate": (iterate, 1.0 - w)}
        return (self.square_step(iterate, anchors, step_size, draw),)

    def exact_step(self, game: Game, history: Sequence[Array]) -> Array:
        """Mirror descent from the sequence-level mixture."""
        options = self.step_size_at(len(history) - 1), self.kl_to_reference
        return nash_md(game.preference, history[-1], game.log_reference, *options)
