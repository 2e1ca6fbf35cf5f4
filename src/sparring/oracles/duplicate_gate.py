"""Ties answers that are nearly the same text without asking: a verdict on them is noise, and a paid judge costs.

Two answers are near duplicates when their word trigrams overlap by `threshold` (Jaccard, case and punctuation aside).
Texts of fewer than eight words, or whose numbers or negations differ, always go to the oracle: there one word decides.
Leaves out: paraphrases, and code, where punctuation decides too.

    oracle: {name: duplicate_gate, oracle: {name: llm_judge, model: ...}}
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated

import numpy as np
from jaxtyping import Float
from pydantic import Field

from sparring.data.text import words
from sparring.oracles.oracle import Comparison, Oracle
from sparring.oracles.wrapper import Wrapper

FEWEST_WORDS = 8
DECISIVE = re.compile(r"-?\d[\d.,]*|\b(?:not?|never|none|nor|yes|cannot|true|false)\b|n['’]t\b", re.I)


class DuplicateGate(Wrapper):
    """Answers 1/2 for near duplicates and asks `oracle` about the rest."""

    title = "duplicate_gate"
    about = "Ties answers that are nearly the same text without asking: a verdict on them is noise."

    def __init__(
        self,
        oracle: Annotated[Oracle, Field(description="the oracle asked about answers that differ")],
        threshold: Annotated[
            float,
            Field(gt=0, le=1, description="share of common word triples from which two answers count as the same"),
        ] = 0.9,
    ) -> None:
        if not 0 < threshold <= 1:
            raise ValueError(f"oracle.threshold = {threshold}: give an overlap above 0 and at most 1.")
        super().__init__(oracle)
        self.threshold, self.tied = threshold, 0

    @property
    def identity(self) -> str:
        """The oracle and the threshold."""
        return f"duplicate_gate({self.oracle.identity};threshold={self.threshold:g})"

    def judge(self, comparisons: Sequence[Comparison]) -> Float[np.ndarray, " N"]:
        """P(a beats b); exactly 1/2 for near duplicates."""
        answers = np.full(len(comparisons), 0.5)
        asked = [i for i, c in enumerate(comparisons) if not near_duplicates(c.a, c.b, self.threshold)]
        if asked:
            answers[asked] = self.oracle.judge([comparisons[i] for i in asked])
        self.tied += len(comparisons) - len(asked)
        return answers

    def counts(self) -> dict[str, object]:
        """How many comparisons were tied without asking, and the oracle's counts."""
        return {"near duplicates tied": self.tied, **super().counts()}


def near_duplicates(a: str, b: str, threshold: float) -> bool:
    """Whether two texts share this part of their word trigrams, and every number and negation."""
    if a.lower().split() == b.lower().split():
        return True
    first, second = words(a), words(b)
    if min(len(first), len(second)) < FEWEST_WORDS or DECISIVE.findall(a) != DECISIVE.findall(b):
        return False
    one, two = (set(zip(w, w[1:], w[2:], strict=False)) for w in (first, second))
    return len(one & two) >= threshold * len(one | two)
