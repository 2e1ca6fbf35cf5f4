"""Small sums that code checks: how they are written, read and solved. Leaves out: what is played with them."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

OPERATIONS: Mapping[str, Callable[[int, int], int]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
}
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
CHAIN = re.compile(rf"{NUMBER.pattern}(?:\s*[-+*]\s*{NUMBER.pattern})+")
"""numbers with operations between them"""
STEP = re.compile(rf"({CHAIN.pattern})\s*=\s*({NUMBER.pattern})")
SUM = re.compile(r"(-?\d{1,9})\s*([-+*])\s*(-?\d{1,9})")


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


def spoil(rng: random.Random, result: int) -> int:
    """A wrong result: another digit in one place; none of several digits begins with 0."""
    digits = str(abs(result))
    place = rng.randrange(len(digits))
    others = [d for d in "0123456789" if d != digits[place] and (d != "0" or place or len(digits) == 1)]
    wrong = int(f"{digits[:place]}{rng.choice(others)}{digits[place + 1 :]}")
    return -wrong if result < 0 else wrong


def read_sum(text: str) -> Sum | None:
    """The only sum of a text; None where there is none, several, or a longer calculation."""
    found = CHAIN.findall(text)
    one = SUM.fullmatch(found[0]) if len(found) == 1 else None
    return None if one is None else Sum(int(one[1]), one[2], int(one[3]))


def read_step(text: str) -> tuple[Sum, int] | None:
    """The sum and the claimed result of a text's only step `a + b = c`; None where there is none, or several."""
    found = STEP.findall(text)
    one = read_sum(found[0][0]) if len(found) == 1 else None
    return None if one is None or "." in found[0][1] else (one, int(found[0][1]))


def last_number(text: str) -> float | None:
    """The last number of a text."""
    found = NUMBER.findall(text.replace(",", ""))
    return float(found[-1]) if found else None


def ask_result(problem: str) -> str:
    """The question for a sum's result."""
    return f"What is {problem}? Reply with the number alone."


SOLVED = ask_result("23 + 6"), "29"
"""an example of the question with its answer"""


def solved_examples(drawn: Sequence[Sum] | None) -> list[tuple[str, str]]:
    """The questions of these sums with their answers; `SOLVED` alone where none were drawn on purpose."""
    return [SOLVED] if drawn is None else [(ask_result(str(one)), str(one.result)) for one in drawn]


def draw_examples(seed: int, count: int | None, largest: int, operations: str) -> list[Sum] | None:
    """Sums to be shown with their answers, from random numbers of their own; None where `count` is None."""
    rng = random.Random(f"examples {seed}")
    return None if count is None else [draw_sum(rng, largest, operations) for _ in range(count)]


def without(problem: str, shown: Sequence[Sum] | None) -> list[Sum] | None:
    """The sums that do not give a problem's answer away."""
    return None if shown is None else [one for one in shown if str(one) != problem]
