"""SPO, Self-Play Preference Optimization (2401.04056): the policy gradient of the win rate against oneself.

Each response's reward is the share of other own samples that it beats. The paper gives that to any RL method; here it
is PPO's clipped ratio on whole responses, with the round's samples: wins less losses over the pairs of K samples. At
the iterate the gradient is that of P(pi > pi_t). Leaves out: a critic, steps within a response, a KL to the reference.

    SPO(samples=4).steps(t=0, data=DataFacts(100))
"""

from __future__ import annotations

from typing import ClassVar, Self

from pydantic import Field, model_validator

from sparring.algorithms.algorithm import About, DataFacts, PolicyRef, Step, Symbol
from sparring.algorithms.judged import IID, PAIRINGS, JudgedSamples, PairingName
from sparring.objectives.self_play import ClippedRatio


class SPO(JudgedSamples):
    """SPO's fields; the clip is PPO's usual one, K and the pairing are ours."""

    about = About("SPO", "2401.04056", "iterate 1", pairing="all, or i.i.d. pairs", loss="clipped ratio")
    symbols: ClassVar = {"epsilon": Symbol("clip")}
    solves = "unknown"
    on_games: ClassVar = {**IID, "soft_labels": True}

    samples: int = Field(default=4, ge=2)
    """K, responses per prompt and round"""
    pairing: PairingName = "all"
    """all: each response meets every other, as the paper's reward asks; iid: K/2 pairs"""
    clip: float = Field(default=0.2, gt=0, lt=1)
    """how far the ratio pi/pi_t of a whole response may move before it has no gradient"""
    soft_labels: bool = False
    """use the oracle's probability instead of its verdict"""

    @model_validator(mode="after")
    def _pairs_are_not_selected(self) -> Self:
        if self.pairing not in ("all", "iid"):
            raise ValueError(
                f"pairing = {self.pairing!r} with SPO, whose reward counts wins over all samples: give pairing: all or "
                "iid."
            )
        return self

    def steps(self, t: int, data: DataFacts) -> tuple[Step, ...]:
        """One step on own judged samples, with the iterate in the ratio."""
        objective = ClippedRatio(self.clip, self.soft_labels)
        return (self.judged_step(t, PAIRINGS[self.pairing], objective, {"iterate": PolicyRef(t)}),)
