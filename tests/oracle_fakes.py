"""Oracles for tests: one that works, and ones that fail in every way an oracle can."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from sparring.oracles.oracle import Comparison


def more_vowels(prompt: str, a: str, b: str) -> float:
    score = sum(c in "aeiou" for c in a.lower()) - sum(c in "aeiou" for c in b.lower())
    spread = (len(a) - len(b)) / 10
    return 1 / (1 + math.exp(-score - spread))


class Placed:
    """A judge that sees places: it wants vowels, and likes what is shown first."""

    identity = "placed"

    def first_shown(self, comparisons: Sequence[Comparison]) -> np.ndarray:
        return np.array([min(1.0, 0.3 + more_vowels(*c)) for c in comparisons])

    def judge(self, comparisons: Sequence[Comparison]) -> np.ndarray:
        raise AssertionError("both orders are asked through first_shown")


def raises(prompt: str, a: str, b: str) -> float:
    raise RuntimeError("the judge is down")


def nan(prompt: str, a: str, b: str) -> float:
    return math.nan


def outside(prompt: str, a: str, b: str) -> float:
    return 1.5


def lopsided(prompt: str, a: str, b: str) -> float:
    return 0.8


answer: Callable[[str, str, str], float] = more_vowels
"""what `moody` does; tests set it"""


def moody(prompt: str, a: str, b: str) -> float:
    # By a name that no identity follows: it is one judge in all moods.
    return globals()["answer"](prompt, a, b)


class Fixed:
    """Gives every comparison the same answer."""

    def __init__(self, answer: float) -> None:
        self.identity, self.answer = f"fixed({answer})", answer

    def judge(self, comparisons):
        return np.full(len(comparisons), self.answer)


class Scripted:
    """Answers from a list, in order; exceptions are raised."""

    identity = "scripted"

    def __init__(self, answers: list[complex | BaseException]) -> None:
        self.answers = answers

    def judge(self, comparisons):
        found = [self.answers.pop(0) for _ in comparisons]
        for answer in found:
            if isinstance(answer, BaseException):
                raise answer
        return np.array(found)
