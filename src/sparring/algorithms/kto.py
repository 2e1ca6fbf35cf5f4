"""KTO, Kahneman-Tversky optimization (2402.01306): unpaired answers, each marked desirable or not.

    desirable  : desirable_weight   * (1 - sigmoid( beta (r - z) ))
    undesirable: undesirable_weight * (1 - sigmoid( beta (z - r) )),    r = log pi(y)/ref(y)

z is an estimate of KL(pi || ref), shared by a batch and without gradient: the mean log-ratio of answers to *other*
prompts (of the last row before with another prompt), not below 0. It is taken over all of an optimiser step, by a pass
of its own, so that micro-batches never change the result. Leaves out: paired data, which DPO's family takes.

    KTO(beta=0.1).steps(t=0, data=DataFacts(100))
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from sparring.algorithms.algorithm import REFERENCE, About, Algorithm, Column, DataFacts, PolicyRef, Step, Symbol
from sparring.algorithms.pairing import Unpaired
from sparring.objectives.responses import DESIRABLE, MISMATCHED, UNDESIRABLE, LabelledResponses


class KTO(Algorithm):
    """KTO's fields; the defaults are those of TRL."""

    about = About(
        "KTO",
        "2402.01306",
        "reference 1",
        samples="none",
        pairing="none: each answer has a label",
        loss="sigmoid of each answer's log-ratio",
        needs="answers with a label",
    )
    symbols: ClassVar = {
        "lambda_D": Symbol("desirable_weight"),
        "lambda_U": Symbol("undesirable_weight"),
    }
    solves = "unknown"

    beta: float = Field(default=0.1, gt=0)
    """scale of the log-ratios"""
    desirable_weight: float = Field(default=1.0, gt=0)
    """lambda_D: raise it where desirable answers are fewer, so that both sides count alike"""
    undesirable_weight: float = Field(default=1.0, gt=0)
    """lambda_U"""
    reference_point: Literal["kl", "zero"] = "kl"
    """z: the KL of KTO, or 0 (the unpaired APO-zero loss)"""
    reference: Literal["start", "iterate"] = "start"
    """the anchor: the run's starting policy in every round, or the policy at the round's start"""

    def steps(self, t: int, data: DataFacts) -> tuple[Step, ...]:
        """One step; an example has one labelled answer, and mostly one to another prompt."""
        iterate, anchor = PolicyRef(t), "reference" if self.reference == "start" else "iterate"
        roles = (DESIRABLE, UNDESIRABLE, *((MISMATCHED,) if self.reference_point == "kl" else ()))
        kl = None if self.reference_point == "kl" else 0.0
        objective = LabelledResponses(self.beta, self.desirable_weight, self.undesirable_weight, anchor, kl)
        anchors = {anchor: REFERENCE if self.reference == "start" else iterate}
        return (Step(iterate, tuple(Column(role) for role in roles), Unpaired(), objective, anchors),)
