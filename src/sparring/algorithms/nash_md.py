"""Nash-MD (2312.00886), iterative form: mirror descent from the mixture of iterate and reference.

    m_t ~ pi_t^(1 - w) ref^w,   pi_{t+1} ~ m_t exp( step P(. > m_t) ),      w = step * tau

Both responses of a pair come from m_t. A language model samples the mixture token by token, which is not the
sequence-level mixture of the theory; on games of one-token responses they are the same. A fixed step converges
to a biased point. Leaves out: the original on-policy gradient, another algorithm with the same fixed point.

    NashMD(step_size=0.5, kl_to_reference=0.1, pairing="iid").steps(t=0, data=DataFacts(100))
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field

from sparring.algorithms.algorithm import REFERENCE, About, DataFacts, Draw, PolicyRef, Step, Symbol
from sparring.algorithms.judged import IID, ScheduledPlay
from sparring.games.dynamics import nash_md
from sparring.games.game import Array, Game


class NashMD(ScheduledPlay):
    """Nash-MD's fields; the defaults are ours, with the mixture weight 1/8 of EGPO's comparison."""

    about = About("Nash-MD", "2312.00886", "reference w, iterate 1 - w", samples="token-geometric mixture of both")
    symbols: ClassVar = {"eta": Symbol("step_size"), "tau": Symbol("kl_to_reference")}
    on_games: ClassVar = {**IID, "step_size": 0.3, "kl_to_reference": 0.1}
    solves = "regularised"

    step_size: float = Field(default=1.25, gt=0)
    """eta: nats of log-ratio per unit of win rate"""
    kl_to_reference: float = Field(default=0.1, ge=0)
    """tau: weight of KL(policy || reference)"""

    def steps(self, t: int, data: DataFacts) -> tuple[Step, ...]:
        """One pair square on pairs from the mixture that also anchors it."""
        w, iterate = self.reference_weight(t), PolicyRef(t)
        draw = self.own_draw(iterate)
        if t > 0 and w > 0:
            draw = Draw("own", self.samples, {iterate: 1.0 - w, REFERENCE: w}, "token_geometric")
        return (self.square_step(iterate, self.mirror_anchors(t), self.step_size_at(t), draw),)

    def exact_step(self, game: Game, history: Sequence[Array]) -> Array:
        """Mirror descent from the sequence-level mixture."""
        options = self.step_size_at(len(history) - 1), self.kl_to_reference
        return nash_md(game.preference, history[-1], game.log_reference, *options)
