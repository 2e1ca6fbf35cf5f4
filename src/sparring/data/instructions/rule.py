"""What an instruction is made of: a rule's function, the arguments that it requires, and the packages that it needs.

Leaves out: the rules themselves (`plain.py`, `ifeval.py`).

    Rule(lambda text, count: len(text) <= count, {"count": COUNT})
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

Detail = object
"""an argument's value, as JSON gives it"""


@dataclass(frozen=True, slots=True)
class Argument:
    """What a rule's argument may be, in words for the error and as a test."""

    allowed: str
    accepts: Callable[[Detail], bool]


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule's function and the arguments that it requires beside the text."""

    holds: Callable[..., bool]
    arguments: Mapping[str, Argument] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    """modules that must be installed"""
    consistent: Callable[..., str | None] = lambda **_: None
    """of the arguments: None, or why no text obeys them together"""


def is_count(value: Detail) -> bool:
    """Whether it is a whole number of at least 1."""
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


COUNT = Argument("a whole number of at least 1", is_count)
