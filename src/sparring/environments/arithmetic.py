"""Small sums that code checks: how they are written, read and solved. Leaves out: what is played with them."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

OPERATIONS: Mapping[str, Callable[[int, int], int]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
}
SUM = re.compile(r"(-?\d{1,9})\s*([-+*])\s*(-?\d{1,9})")
STEP = re.compile(SUM.pattern + r"\s*=\s*(-?\d{1,12})(?![\d.])")
NUMBER = re.compile(r"-?\d+")


class Sum(NamedTuple):
    """Two numbers and what is done with them."""

    left: int
    operation: str
    right: int

    @property
    def result(self) -> int:
        """Its value."""
        return OPERATIONS[self.operation](self.left, self.right)

    def __str__(self) -> str:
        return f"{self.left} {self.operation} {self.right}"


def draw_sum(rng: random.Random, largest: int, operations: str, left: int | None = None) -> Sum:
    """Numbers from 1 to `largest`; `left` is given in a chain."""
    first = rng.randint(1, largest) if left is None else left
    return Sum(first, rng.choice(operations), rng.randint(1, largest))


def read_sum(text: str) -> Sum | None:
    """The only sum of a text; None where there is none, or several."""
    found = SUM.findall(text)
    return Sum(int(found[0][0]), found[0][1], int(found[0][2])) if len(found) == 1 else None


def read_step(text: str) -> tuple[Sum, int] | None:
    """The sum and the claimed result of a text's only step `a + b = c`; None where there is none, or several."""
    found = STEP.findall(text)
    if len(found) != 1:
        return None
    left, operation, right, result = found[0]
    return Sum(int(left), operation, int(right)), int(result)


def last_number(text: str) -> int | None:
    """The last whole number of a text."""
    found = NUMBER.findall(text.replace(",", ""))
    return int(found[-1]) if found else None
