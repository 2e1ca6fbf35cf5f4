"""MPO, Magnetic Preference Optimization (2410.16714): magnetic mirror descent with a moving magnet.

    pi_{t+1} = argmax P(pi > pi_t) - tau KL(pi || magnet) - (1/step) KL(pi || pi_t)

which is the INPO map with eta = 1/step + tau, and the magnet is refreshed every `period` rounds, as in COMAL.
The paper's results table was not found. Leaves out: its policy-gradient form.

    MPO(step_size=1.0, kl_to_magnet=0.1, period=10, pairing="iid").steps(t=0, data=DataFacts(100))
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field

from sparring.algorithms.algorithm import About, DataFacts, PolicyRef, Step, Symbol
from sparring.algorithms.judged import IID, JudgedPlay
from sparring.games.dynamics import mpo
from sparring.games.game import Array, Game


class MPO(JudgedPlay):
    """MPO's fields; the defaults are ours, at INPO's scale."""

    about = About("MPO", "2410.16714", "magnet step*tau/(1 + step*tau), iterate the rest")
    symbols: ClassVar = {"eta": Symbol("step_size"), "tau": Symbol("kl_to_magnet"), "M": Symbol("period")}
    on_games: ClassVar = {**IID, "step_size": 1.0, "kl_to_magnet": 0.1, "period": 20}

    step_size: float = Field(default=300.0, gt=0)
    """the paper's eta: inverse weight of KL(policy || iterate)"""
    kl_to_magnet: float = Field(default=1.0 / 600.0, ge=0)
    """tau: weight of KL(policy || magnet)"""
    period: int = Field(default=3, ge=1)
    """M: rounds between refreshes of the magnet"""

    def steps(self, t: int, data: DataFacts) -> tuple[Step, ...]:
        """One pair square whose anchor is the mixture of magnet and iterate."""
        pull = self.step_size * self.kl_to_magnet
        iterate, magnet = PolicyRef(t), PolicyRef(t // self.period * self.period)
        anchors = {"magnet": (magnet, pull / (1.0 + pull)), "iterate": (iterate, 1.0 / (1.0 + pull))}
        return (self.square_step(iterate, anchors, self.step_size / (1.0 + pull)),)

    def exact_step(self, game: Game, history: Sequence[Array]) -> Array:
        """Magnetic mirror descent."""
        return mpo(game.preference, history, self.step_size, self.kl_to_magnet, self.period)
