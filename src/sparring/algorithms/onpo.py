"""ONPO, Optimistic Nash Policy Optimization (2502.16852): two sequences, two fits a round, one data set.

    base_{t+1} ~ base_t exp( eta r_t ),   pi_{t+1} ~ base_{t+1} exp( eta r_t ),   r_t = P(. > pi_t)

Both fits use the pairs drawn from pi_t: the first is anchored to base_t, the second to base_{t+1}. The paper's eta is
a step here. The game is unregularised; the average converges at 1/T. Leaves out: nothing of the method; its
absolute results table and code were not found.

    ONPO(step_size=0.5, pairing="iid").steps(t=0, data=DataFacts(100))
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field

from sparring.algorithms.algorithm import About, DataFacts, PolicyRef, Reuse, Step, Symbol
from sparring.algorithms.judged import IID, JudgedPlay
from sparring.games.dynamics import onpo_play
from sparring.games.game import Array, Game


class ONPO(JudgedPlay):
    """ONPO's fields; the step is the paper's 1/eta = .01 of its grid."""

    about = About("ONPO", "2502.16852", "base 1", loss="pair square, twice")
    symbols: ClassVar = {"eta": Symbol("step_size")}
    on_games: ClassVar = {**IID, "step_size": 0.5}

    step_size: float = Field(default=100.0, gt=0)
    """eta: nats of log-ratio per unit of win rate"""

    def steps(self, t: int, data: DataFacts) -> tuple[Step, ...]:
        """Fit the base on fresh pairs, then the policy from the new base on the same pairs."""
        base, new_base = PolicyRef(t, "base"), PolicyRef(t + 1, "base")
        draw = self.own_draw(PolicyRef(t))
        return (
            self.square_step(base, {"base": (base, 1.0)}, self.step_size, draw, trains="base"),
            self.square_step(new_base, {"base": (new_base, 1.0)}, self.step_size, Reuse(0)),
        )

    def exact_step(self, game: Game, history: Sequence[Array]) -> Array:
        """Optimistic mirror descent."""
        return onpo_play(game.preference, history, self.step_size)
