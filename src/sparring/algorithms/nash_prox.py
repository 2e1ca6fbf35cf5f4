"""Nash Prox (after 2505.19731): proximal-point self-play, in which each centre is kept for some rounds of online IPO.

    pi_{k+1} = the Nash policy of  P(pi > pi') - tau KL(pi || ref) - (1/step) KL(pi || pi_k)   (and the same for pi')
    inner round: centre exp( s P(y > pi_t) ),  centre = ref^w pi_k^(1 - w),  w = tau s,  s = 1 / (tau + 1/step)

The centre pi_k is the policy at the last multiple of `period`; inner rounds move the opponent only. An exact outer step
divides KL(pi*, pi_k) by at least 1 + step * tau, whatever the step [derived]. Of the paper only the abstract and a
summary were read: the split into inner and outer rounds is reconstructed. Leaves out: its policy-gradient inner loop.

    NashProx(step_size=1.0, kl_to_reference=0.1, period=5, pairing="iid").steps(t=0, data=DataFacts(100))
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from pydantic import Field

from sparring.algorithms.algorithm import REFERENCE, About, DataFacts, PolicyRef, Step, Symbol
from sparring.algorithms.judged import IID, JudgedPlay
from sparring.games.game import Array, Game
from sparring.games.probabilities import log_normalise, win_rates


class NashProx(JudgedPlay):
    """Nash Prox's fields; the defaults are ours, at INPO's scale."""

    about = About("Nash Prox", "2505.19731", "reference w, centre 1 - w")
    symbols: ClassVar = {"eta": Symbol("step_size"), "tau": Symbol("kl_to_reference"), "M": Symbol("period")}
    on_games: ClassVar = {**IID, "step_size": 2.0, "kl_to_reference": 0.1, "period": 5}
    solves = "regularised"

    step_size: float = Field(default=300.0, gt=0)
    """inverse weight of KL(policy || centre)"""
    kl_to_reference: float = Field(default=1.0 / 600.0, ge=0)
    """tau: weight of KL(policy || reference) against the win rate"""
    period: int = Field(default=3, ge=1)
    """M: rounds for which a centre is kept; 1 is INPO's map"""

    @property
    def inner_step(self) -> float:
        """s: nats of log-ratio to the centre per unit of win rate."""
        return 1.0 / (self.kl_to_reference + 1.0 / self.step_size)

    def steps(self, t: int, data: DataFacts) -> tuple[Step, ...]:
        """One pair square on own samples, anchored to reference and centre."""
        w = self.kl_to_reference * self.inner_step
        anchors = {"reference": (REFERENCE, w), "centre": (PolicyRef(t // self.period * self.period), 1.0 - w)}
        return (self.square_step(PolicyRef(t), anchors, self.inner_step),)

    def exact_step(self, game: Game, history: Sequence[Array]) -> Array:
        """The centre exp(s P(y > pi_t))."""
        w = self.kl_to_reference * self.inner_step
        centre = history[(len(history) - 1) // self.period * self.period]
        rates = win_rates(game.preference, np.exp(history[-1]))
        return log_normalise(w * game.log_reference + (1.0 - w) * centre + self.inner_step * rates)
