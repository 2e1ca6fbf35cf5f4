"""GRPO and its kin: the clipped policy gradient, on rewards of an environment or on an oracle's win rates.

    baseline  group: the siblings' mean (GRPO, 2402.03300; on win rates SPO's advantage, 2401.04056)
              role:  the role's running mean (RAE of SPIRAL, 2506.24119), so that one reply to a prompt is enough
              none:  the reward itself (SPC, 2504.19162, with per_token)

Ratios are of whole responses; one epoch in one batch is exactly on-policy. Leaves out: a ratio per token, entropy
bonuses, and asynchronous sampling.

    GRPO(baseline="role").steps(t=0, data=DataFacts(100))
"""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from sparring.algorithms.algorithm import REFERENCE, About, Algorithm, DataFacts, Draw, PolicyRef, Step
from sparring.algorithms.pairing import AgainstBaseline, Listwise
from sparring.objectives.surrogate import ClippedSurrogate


class GRPO(Algorithm):
    """GRPO's fields."""

    about = About(
        "GRPO",
        "2402.03300",
        "iterate, in the ratio",
        needs="prompts and an oracle, or an environment",
        pairing="none, or a group",
        loss="clipped ratio, on advantages",
    )
    solves = "unknown"
    on_games: ClassVar = {"samples": 8}

    samples: int = Field(default=8, ge=1)
    """K, responses per prompt and round"""
    baseline: Literal["group", "role", "none"] = "group"
    """what a reward is compared with; role and none need an environment"""
    decay: float = Field(default=0.95, ge=0, lt=1)
    """of the role's running mean, per task"""
    clip_low: float = Field(default=0.2, gt=0, lt=1)
    """the ratio is clipped below 1 - clip_low"""
    clip_high: float = Field(default=0.2, gt=0)
    """and above 1 + clip_high"""
    per_token: bool = False
    """the ratio of length-normalised log-probabilities (GSPO, SPC)"""
    normalise: bool = True
    """divide advantages by the group's standard deviation; only with baseline: group"""
    kl_to_reference: float = Field(default=0.0, ge=0)
    """weight of the KL to the run's start"""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.baseline == "group" and self.samples < 2:
            raise ValueError("samples = 1 with baseline = 'group': a group needs samples >= 2, or baseline: role.")
        return self

    def steps(self, t: int, data: DataFacts) -> tuple[Step, ...]:
        """One step on the iterate's own samples."""
        normalise = self.normalise and self.baseline == "group"
        objective = ClippedSurrogate(self.clip_low, self.clip_high, self.per_token, normalise, self.kl_to_reference)
        pairing = Listwise() if self.baseline == "group" else AgainstBaseline(self._decay)
        anchors = {"iterate": PolicyRef(t), "reference": REFERENCE}
        draw = Draw("own", self.samples, {PolicyRef(t): 1.0})
        return (Step(PolicyRef(t), (draw,), pairing, objective, anchors, judged=True),)

    @property
    def _decay(self) -> float | None:
        return self.decay if self.baseline == "role" else None
