"""Lowers an oracle's preference for the longer answer: a guard against answers that win by their length.

    logit P' = logit P - strength * tanh( (words(a) - words(b)) / scale )

At `strength` 1 a much longer answer needs odds of 2.7 : 1 to tie. The tanh is bounded, so the penalty of a very long
answer is too, and it is odd, so P'(a, b) + P'(b, a) = 1. Probabilities are first clipped to [0.001, 0.999]: no penalty
could move a certainty. Leaves out: the right strength; `sparring oracle audit` shows the length bias before and after.

    oracle: {name: length_penalty, strength: 0.5, oracle: {name: reward_model, model: org/reward}}
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import numpy as np
from jaxtyping import Float
from pydantic import Field
from scipy.special import expit, logit

from sparring.data.instructions.plain import count_words
from sparring.oracles.oracle import Comparison, Oracle
from sparring.oracles.wrapper import Wrapper

EDGE = 1e-3


class LengthPenalty(Wrapper):
    """Shifts `oracle`'s log-odds against the longer answer."""

    title = "length_penalty"
    about = "Lowers an oracle's preference for the longer answer: a guard against answers that win by their length."

    def __init__(
        self,
        oracle: Annotated[Oracle, Field(description="the oracle that is corrected")],
        strength: Annotated[float, Field(gt=0, description="log-odds that a much longer answer loses")] = 0.5,
        scale: Annotated[
            float, Field(gt=0, description="difference in words at which the price comes near its bound")
        ] = 100.0,
    ) -> None:
        if not 0 < strength < np.inf:
            raise ValueError(f"oracle.strength = {strength}: give a positive number of nats.")
        if not 0 < scale < np.inf:
            raise ValueError(f"oracle.scale = {scale}: give a positive number of words.")
        super().__init__(oracle)
        self.strength, self.scale = strength, scale

    @property
    def identity(self) -> str:
        """The oracle, strength and scale."""
        return f"length_penalty({self.oracle.identity};strength={self.strength:g};scale={self.scale:g})"

    def judge(self, comparisons: Sequence[Comparison]) -> Float[np.ndarray, " N"]:
        """P(a beats b) after the penalty."""
        odds = logit(np.clip(self.oracle.judge(comparisons), EDGE, 1 - EDGE))
        words = np.array([count_words(c.a) - count_words(c.b) for c in comparisons], dtype=np.float64)
        return expit(odds - self.strength * np.tanh(words / self.scale))
