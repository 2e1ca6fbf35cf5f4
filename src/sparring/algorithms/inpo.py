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

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from sparring.algorithms.algorithm import REFERENCE, About, DataFacts, PolicyRef, Step, Symbol
from sparring.algorithms.judged import JudgedPlay, PairingName, reference_weight
from sparring.games.dynamics import inpo
from sparring.games.game import Array, Game


class INPO(JudgedPlay):
    """INPO's fields; defaults are those of the paper's runs."""

    about: ClassVar[About] = About(
        "INPO",
        "2407.00617",
        "reference tau/eta, iterate 1 - tau/eta",
        "iterate, K per prompt",
        "knockout, best-worst, i.i.d. or all pairs",
        "pair square",
        "prompts and an oracle",
    )
    symbols: ClassVar[Mapping[str, Symbol]] = {
        "eta": Symbol("step_size", inverse=True),
        "tau": Symbol("kl_to_reference"),
    }
    on_games: ClassVar[Mapping[str, Any]] = {"step_size": 1.0, "kl_to_reference": 0.1, "pairing": "iid", "samples": 2}
    solves: ClassVar[Literal["nash", "regularised", "data"]] = "regularised"

    step_size: float = Field(default=200.0, gt=0)
    """1/eta: how far one round moves, in nats of log-ratio per unit of win rate"""
    kl_to_reference: float = Field(default=1.0 / 600.0, ge=0)
    """tau: weight of KL(policy || reference) against the win rate; 0 removes the reference"""
    schedule: Literal["fixed", "theorem"] = "fixed"
    """theorem: eta_t = tau (t + 2) / 2 (Theorem 4), which needs kl_to_reference > 0; step_size is not used"""
    pairing: PairingName = "knockout"
    """how K judged responses become pairs; iid is what the theory assumes"""

    @model_validator(mode="after")
    def _weights_are_positive(self) -> Self:
        if self.schedule == "theorem" and self.kl_to_reference == 0:
            raise ValueError("kl_to_reference = 0 with schedule = 'theorem': eta_t would be 0; give tau > 0.")
        if self.schedule == "fixed":
            reference_weight(self.step_size, self.kl_to_reference)
        return self

    def step_size_at(self, t: int) -> float:
        """The step of round t: fixed, or 2 / (tau (t + 2))."""
        return self.step_size if self.schedule == "fixed" else 2.0 / (self.kl_to_reference * (t + 2))

    def steps(self, t: int, data: DataFacts) -> tuple[Step, ...]:
        """One step: sample, judge, pair, fit the pair square."""
        step_size = self.step_size_at(t)
        rho = reference_weight(step_size, self.kl_to_reference)
        iterate = PolicyRef(t)
        anchors = {"reference": (REFERENCE, rho), "iterate": (iterate, 1.0 - rho)}
        return (self.square_step(iterate, anchors, step_size),)

    def exact_step(self, game: Game, history: Sequence[Array]) -> Array:
        """Lemma 5: the mirror-descent step."""
        step_size = self.step_size_at(len(history) - 1)
        return inpo(game.preference, history[-1], game.log_reference, step_size, self.kl_to_reference)
