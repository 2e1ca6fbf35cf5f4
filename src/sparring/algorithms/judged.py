"""The fields and the step that methods share which have K responses judged and fit the pair square.

Leaves out: which policies sample and anchor, which is all that INPO, COMAL, MPO, MNPO, ONPO, EGPO and Nash-MD
differ in.

    JudgedPlay(samples=4, pairing="best_worst")
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Self

from pydantic import Field, model_validator

from sparring.algorithms.algorithm import Algorithm, Draw, PolicyRef, Reuse, Step
from sparring.algorithms.pairing import AllPairs, BestWorst, IndependentPairs, Knockout, Pairing
from sparring.objectives.pairs import PairSquare, Target

PairingName = Literal["iid", "best_worst", "knockout", "all"]
PAIRINGS: dict[str, Pairing] = {
    "iid": IndependentPairs(),
    "best_worst": BestWorst(),
    "knockout": Knockout(),
    "all": AllPairs(),
}
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
        """One fit of the pair square from `start`; responses are drawn from `start` unless given."""
        drawn = self.own_draw(start) if responses is None else responses
        return Step(
            start=start,
            responses=drawn if isinstance(drawn, Reuse) else (drawn,),
            judged=not isinstance(drawn, Reuse),
            pairing=PAIRINGS[self.pairing],
            anchors={name: ref for name, (ref, _) in anchors.items()},
            objective=PairSquare(
                {name: weight for name, (_, weight) in anchors.items()}, step_size, self.target, self.unit_loss
            ),
            trains=trains,
        )


def reference_weight(step_size: float, kl_to_reference: float) -> float:
    """step_size * kl_to_reference (tau/eta in INPO's symbols), the reference's weight in the mixture.

    Raises:
        ValueError: it exceeds 1, which would give the iterate a negative weight.
    """
    weight = step_size * kl_to_reference
    if weight > 1 + 1e-12:
        raise ValueError(
            f"kl_to_reference = {kl_to_reference} (tau) exceeds 1 / step_size = {1 / step_size:.6g} (eta): the "
            "iterate's weight 1 - tau/eta would be negative. Lower kl_to_reference or step_size."
        )
    return weight
