"""A judge that is a role: which of two answers is better, asked in both orders, so that its liking for a place cancels.

chance_of(read_order("The first one."), read_order("second"))  ->  1.0
"""

from __future__ import annotations

import re

ORDER = re.compile(r"\b(first|second)\b", re.IGNORECASE)
UNREADABLE, DISAGREE, NO_VERDICT = "unreadable", "orders disagree", "no verdict"


def read_order(text: str) -> str | None:
    """The one of `first` and `second` that a verdict names; None where it names none, or both."""
    found = {word.lower() for word in ORDER.findall(text)}
    return found.pop() if len(found) == 1 else None


def chance_of(there: str | None, back: str | None) -> float | None:
    """P(a is better) from the verdicts on (a, b) and on (b, a); orders that disagree are a tie, None is no verdict."""
    if there is None or back is None:
        return None
    return 0.5 if there == back else float(there == "first")


def kinds_of(there: str | None, back: str | None) -> list[str]:
    """What is counted of both verdicts."""
    disagree = there is not None and there == back
    return [UNREADABLE if one is None else DISAGREE if disagree else "" for one in (there, back)]
