"""The interface of every preference oracle: comparisons in, probabilities out.

preference = oracle.judge([Comparison("Why is the sky blue?", answer_a, answer_b)])
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
from jaxtyping import Float


class Comparison(NamedTuple):
    """Two answers to one prompt, as plain text."""

    prompt: str
    """of several turns: their text with roles; `sparring.models.chat.turns(prompt)` gives the turns themselves"""
    a: str
    b: str


class Oracle(Protocol):
    """Anything that answers P(a beats b | prompt), with P(a, b) + P(b, a) = 1; `abilities.py` has what is optional."""

    @property
    def identity(self) -> str:
        """Names everything that the verdicts depend on: equal identities give equal verdicts."""
        ...

    def judge(self, comparisons: Sequence[Comparison]) -> Float[np.ndarray, " N"]:
        """P(a beats b) of each comparison, float64 in [0, 1]."""
        ...
