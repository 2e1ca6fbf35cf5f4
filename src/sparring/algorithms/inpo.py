"""INPO, Iterative Nash Policy Optimization (2407.00617): no-regret self-play to a Nash policy.

Each round draws K responses from the iterate, pairs them, and regresses the policy's pair
margin towards that of the mirror-descent step

    pi_{t+1}(y) ~ exp( P(y > pi_t) / eta ) ref(y)^(tau/eta) pi_t(y)^(1 - tau/eta)

The paper's eta is an inverse step: step_size = 1/eta; its tau is `kl_to_reference`. Selection
(best-worst, knockout) breaks the i.i.d. premise of its Prop. 6; i.i.d. pairs keep it. Leaves out:
the oracle (any will do).

    INPO(step_size=3.0, kl_to_reference=0.1, pairing="iid").steps(t=0, data=DataFacts(100))
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field

from sparring.algorithms.algorithm import About, DataFacts, PolicyRef, Step, Symbol
from sparring.algorithms.judged import IID, PairingName, ScheduledPlay
from sparring.games.dynamics import inpo
from sparring.games.game import Array, Game


class INPO(ScheduledPlay):
    """INPO's fields; defaults are those of the paper's runs."""

    about = About(
        "INPO",
        "2407.00617",
        "reference tau/eta, iterate 1 - tau/eta",
        pairing="knockout, best-worst, i.i.d. or all pairs",
    )
    symbols: ClassVar = {"eta": Symbol("step_size", inverse=True), "tau": Symbol("kl_to_reference")}
    on_games: ClassVar = {**IID, "step_size": 1.0, "kl_to_reference": 0.1}
    solves = "regularised"

    step_size: float = Field(default=200.0, gt=0)
    """1/eta: how far one round moves, in nats of log-ratio per unit of win rate"""
    kl_to_reference: float = Field(default=1.0 / 600.0, ge=0)
    """tau: weight of KL(policy || reference) against the win rate; 0 removes the reference"""
    pairing: PairingName = "knockout"
    """how K judged responses become pairs; iid is what the theory assumes"""

    def steps(self, t: int, data: DataFacts) -> tuple[Step, ...]:
        """One step: sample, judge, pair, fit the pair square."""
        return (self.square_step(PolicyRef(t), self.mirror_anchors(t), self.step_size_at(t)),)

    def exact_step(self, game: Game, history: Sequence[Array]) -> Array:
        """Lemma 5: the mirror-descent step."""
        step_size = self.step_size_at(len(history) - 1)
        return inpo(game.preference, history[-1], game.log_reference, step_size, self.kl_to_reference)
