"""Fields and steps of the methods that have K responses judged, most of which fit the pair square.

Leaves out: which policies sample and anchor, which is all that INPO, COMAL, MPO, MNPO, ONPO, EGPO and Nash-MD
differ in.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from sparring.algorithms.algorithm import REFERENCE, Algorithm, Draw, PolicyRef, Reuse, Step
from sparring.algorithms.pairing import AllPairs, BestWorst, IndependentPairs, Knockout, Pairing
from sparring.objectives.pairs import Objective, PairSquare, Target

PairingName = Literal["iid", "best_worst", "knockout", "all"]
PAIRINGS: dict[str, Pairing] = {
    "iid": IndependentPairs(),
    "best_worst": BestWorst(),
    "knockout": Knockout(),
    "all": AllPairs(),
}
IID: Mapping[str, Any] = {"pairing": "iid", "samples": 2}
"""the pairs of the theory, for exact games"""
Anchors = Mapping[str, tuple[PolicyRef, float]]
"""By name, a frozen policy and its weight in the geometric mixture"""


def check_pairing(pairing: str, samples: int) -> None:
    """Raise a ValueError that names both fields when the count does not suit the pairing."""
    if samples < 2:
        raise ValueError(f"samples = {samples} with pairing = {pairing!r}: a pair needs samples >= 2.")
    if pairing == "iid" and samples % 2:
        raise ValueError(f"samples = {samples} with pairing = 'iid': give an even number of samples.")
    if pairing == "knockout" and samples & (samples - 1):
        raise ValueError(
            f"samples = {samples} with pairing = 'knockout': give a power of two (4, 8, 16), or pairing: best_worst."
        )


class JudgedSamples(Algorithm):
    """Fields of every method that has its own samples judged."""

    samples: int = Field(default=8, ge=1)
    """K, responses per prompt and round"""
    pairing: PairingName = "best_worst"
    """how K judged responses become pairs; iid is what the theory assumes"""

    @model_validator(mode="after")
    def _samples_suit_pairing(self) -> Self:
        check_pairing(self.pairing, self.samples)
        return self

    def own_draw(self, policy: PolicyRef) -> Draw:
        """K responses from one policy."""
        return Draw("own", self.samples, {policy: 1.0})

    def judged_step(self, t: int, pairing: Pairing, objective: Objective, anchors: Mapping[str, PolicyRef]) -> Step:
        """One fit on K judged samples of the iterate."""
        iterate = PolicyRef(t)
        return Step(iterate, (self.own_draw(iterate),), pairing, objective, anchors, judged=True)


class JudgedPlay(JudgedSamples):
    """Fields of the methods that fit the pair square on judged samples."""

    target: Target = "hard"
    """hard: the verdict; soft: the oracle's probability; win_rate: difference of empirical win rates"""
    unit_loss: bool = True
    """divide the loss by step_size^2 (same minimiser); false is the papers' scale"""

    @model_validator(mode="after")
    def _target_suits_pairing(self) -> Self:
        if self.target == "win_rate" and self.pairing == "knockout":
            raise ValueError(
                "target = 'win_rate' with pairing = 'knockout': a knockout compares too few pairs for win "
                "rates; use pairing: best_worst, all or iid."
            )
        return self

    def square_step(
        self,
        start: PolicyRef,
        anchors: Anchors,
        step_size: float,
        responses: Draw | Reuse | None = None,
        trains: str = "play",
    ) -> Step:
        """One fit of the pair square from `start`, on `responses` or else on K samples of `start`."""
        source = responses or self.own_draw(start)
        judged = isinstance(source, Draw)
        weights = {name: weight for name, (_, weight) in anchors.items()}
        return Step(
            start=start,
            responses=(source,) if judged else source,
            judged=judged,
            pairing=PAIRINGS[self.pairing],
            anchors={name: ref for name, (ref, _) in anchors.items()},
            objective=PairSquare(weights, step_size, self.target, self.unit_loss),
            trains=trains,
        )


class MirrorPlay(JudgedPlay):
    """Methods whose anchor is the geometric mixture of a reference, with weight w, and iterates, with 1 - w."""

    step_size: float = Field(gt=0)
    kl_to_reference: float = Field(ge=0)

    @model_validator(mode="after")
    def _weights_are_positive(self) -> Self:
        self.reference_weight(0)
        return self

    def step_size_at(self, t: int) -> float:
        """The step of round t."""
        return self.step_size

    def reference_weight(self, t: int) -> float:
        """w = step * kl_to_reference (tau/eta in INPO's symbols), the reference's weight in round t.

        Raises:
            ValueError: it exceeds 1, which would give the iterate a negative weight.
        """
        step_size, tau = self.step_size_at(t), self.kl_to_reference
        if step_size * tau > 1 + 1e-12:
            raise ValueError(
                f"kl_to_reference = {tau} (tau) exceeds 1 / step_size = {1 / step_size:.6g} (eta): the "
                "iterate's weight 1 - tau/eta would be negative. Lower kl_to_reference or step_size."
            )
        return step_size * tau

    def mirror_anchors(self, t: int) -> Anchors:
        """The run's reference with w, the iterate with 1 - w."""
        w = self.reference_weight(t)
        return {"reference": (REFERENCE, w), "iterate": (PolicyRef(t), 1.0 - w)}


class ScheduledPlay(MirrorPlay):
    """Methods whose step may fall from round to round, as their theorem asks."""

    schedule: Literal["fixed", "theorem"] = "fixed"
    """theorem: the step of round t is 2 / (tau (t + 2)), which needs kl_to_reference > 0; step_size is not used"""

    def step_size_at(self, t: int) -> float:
        """The step of round t: fixed, or 2 / (tau (t + 2))."""
        if self.schedule == "fixed":
            return self.step_size
        if self.kl_to_reference == 0:
            raise ValueError(
                "kl_to_reference = 0 with schedule = 'theorem': the step 2 / (tau (t + 2)) would be infinite; give "
                "tau > 0."
            )
        return 2.0 / (self.kl_to_reference * (t + 2))
