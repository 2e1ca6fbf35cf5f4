"""Preferences P(a beats b) as wins, ties and losses, and those that need no judge.

wins(np.array([0.7, 0.5, 0.2]))  ->  [1.0, 0.5, 0.0]
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

TIE = 1e-9
"""means of verdicts this near to 1/2 are ties: what is left is rounding, and would be a whole win or loss"""


def wins(preferences: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """1 where P > 1/2, 1/2 at ties (up to `TIE`), 0 below; NaN stays NaN."""
    lead = preferences - 0.5
    return np.where(np.isnan(lead), np.nan, np.where(np.abs(lead) < TIE, 0.5, lead > 0))


def by_rule(a: str, b: str) -> tuple[float, str] | None:
    """P(a wins) and the rule's name; None where no rule decides."""
    if a == b or not (a.strip() or b.strip()):
        return 0.5, "equal answers"
    if a.strip() and b.strip():
        return None
    return float(bool(a.strip())), "empty answer"
