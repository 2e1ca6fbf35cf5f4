"""SPAC, Self-Play with Adversarial Critic (2406.04274): offline preferences, a pessimistic leader.

The policy plays against the worst reward that still explains a fixed preference set. Each round draws one
fresh own response per prompt and solves a single-network problem: a DPO term against the iterate on the data's
pair, plus a term that lowers own responses relative to the data's. No oracle is asked. The paper's body was not
available to us: docs/algorithms/spac.md separates what is read from what is reconstructed.

`data_weight: sqrt_n` and beta 1 are what makes both forms work on the sparse-coverage bandit; beta 0.1 with both
weights 1 does worse than the data policy there (docs/certificates.md). Leaves out: the explicit-critic
version of the theory, which lives in `games/`.

    SPAC().steps(t=0, data=DataFacts(num_examples=400))
"""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from sparring.algorithms.algorithm import About, Algorithm, Column, DataFacts, Draw, PolicyRef, Step, Symbol
from sparring.algorithms.pairing import ChosenRejectedOwn
from sparring.objectives.pairs import AdversarialCritic


class SPAC(Algorithm):
    """SPAC's fields; the paper's settings are not known to us, the defaults are ours."""

    about = About(
        "SPAC",
        "2406.04274",
        "iterate 1",
        samples="iterate, one per prompt",
        pairing="the data's pair, and each of its answers against an own one",
        loss="pair logistic + adversarial critic",
        needs="pairs",
    )
    symbols: ClassVar = {"eta": Symbol("beta", inverse=True), "lambda": Symbol("data_weight")}
    solves = "unknown"

    form: Literal["smoothed", "linear"] = "smoothed"
    """smoothed: the pessimism term inside a log-sigmoid; linear: bounded ratios"""
    beta: float = Field(default=1.0, gt=0)
    """1/eta of the mirror-descent step; the critic is beta times the log-ratio to the iterate"""
    data_weight: Annotated[float, Field(gt=0)] | Literal["sqrt_n"] = "sqrt_n"
    """lambda: weight of the preference likelihood; sqrt_n is the theory's growth with the n examples"""
    pessimism_weight: float = Field(default=1.0, ge=0)
    """weight of the adversarial term; 0 leaves a DPO whose reference is the iterate"""
    bound: float = Field(default=4.0, gt=0)
    """linear form: |critic| <= bound"""
    samples: int = Field(default=1, ge=1)
    """own responses per prompt and round"""

    def steps(self, t: int, data: DataFacts) -> tuple[Step, ...]:
        """One step; only the iterate anchors it."""
        iterate = PolicyRef(t)
        weight = math.sqrt(data.num_examples) if self.data_weight == "sqrt_n" else self.data_weight
        responses = Column("chosen"), Column("rejected"), Draw("own", self.samples, {iterate: 1.0})
        objective = AdversarialCritic(self.beta, weight, self.pessimism_weight, self.form, self.bound)
        return (Step(iterate, responses, ChosenRejectedOwn(), objective, anchors={"iterate": iterate}),)
