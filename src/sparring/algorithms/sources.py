"""Where DPO, IPO and chi-PO take their pairs: a fixed set, or the iterate's own judged samples.

PairSource(source="own", samples=4, pairing="best_worst")
"""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from sparring.algorithms.algorithm import REFERENCE, Algorithm, Column, Draw, PolicyRef, Step
from sparring.algorithms.judged import PAIRINGS, PairingName, check_pairing
from sparring.algorithms.pairing import Against
from sparring.objectives.pairs import Objective


class PairSource(Algorithm):
    """Fields of methods with one anchor that can run offline or iteratively."""

    source: Literal["pairs", "own"] = "pairs"
    """pairs: the data's chosen and rejected (offline); own: the iterate's judged samples (iterative)"""
    reference: Literal["start", "iterate"] = "start"
    """the anchor: the run's starting policy in every round, or the policy at the round's start"""
    samples: int = Field(default=4, ge=1)
    """K, responses per prompt and round; only with source: own"""
    pairing: PairingName = "best_worst"
    """how K judged responses become pairs; only with source: own"""
    soft_labels: bool = False
    """use the oracle's probability instead of its verdict; only with source: own"""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.source == "own":
            check_pairing(self.pairing, self.samples)
        elif self.soft_labels:
            raise ValueError(
                "soft_labels = true with source = 'pairs': given pairs carry no probability. Use source: own, or "
                "soft_labels: false."
            )
        return self

    @property
    def anchor(self) -> str:
        """The anchor's name; the log measures movement against `reference` and `iterate` under these names."""
        return "reference" if self.reference == "start" else "iterate"

    def pair_step(self, t: int, objective: Objective) -> Step:
        """The round's one step under `objective`, whose only anchor is `self.anchor`."""
        iterate = PolicyRef(t)
        anchors = {self.anchor: REFERENCE if self.reference == "start" else iterate}
        common: dict[str, Any] = {"start": iterate, "anchors": anchors, "objective": objective}
        if self.source == "pairs":
            return Step(
                responses=(Column("chosen"), Column("rejected")), pairing=Against("chosen", "rejected"), **common
            )
        return Step(
            responses=(Draw("own", self.samples, {iterate: 1.0}),),
            judged=True,
            pairing=PAIRINGS[self.pairing],
            **common,
        )
