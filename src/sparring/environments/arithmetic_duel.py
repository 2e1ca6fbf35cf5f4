"""Challenger and solver: one role writes sums, the other solves them, code checks both.

The challenger is paid for sums that the solver sometimes solves, with p the share of right answers:

    r_zero        1 - |2 p - 1|                    (R-Zero, 2508.05004)
    absolute_zero 1 - p, and 0 where p is 0        (Absolute Zero, 2505.03335)
    gaussian      exp(-(p - 1/2)^2 / (2 (1/6)^2)), and 0 where p is 0 or 1   (SPELL, 2509.23863)

What is no single sum within the limits gets -1. The solver gets 1 for a right answer and 0 otherwise. Ours: the tasks,
the prompts and the check; the papers write code, mathematics and questions on documents. Leaves out: memory of solved
sums, a reward against repetition.

    ArithmeticDuel(digits=2).play(Task("a", ""), seed=0)
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from sparring.environments.arithmetic import (
    Sum,
    ask_result,
    draw_examples,
    draw_sum,
    last_number,
    read_sum,
    solved_examples,
    without,
)
from sparring.environments.environment import (
    Ask,
    Environment,
    Line,
    Outcome,
    Play,
    Replies,
    Reply,
    Task,
    after_examples,
    with_exam,
)

CHALLENGER, SOLVER = "challenger", "solver"
INVALID, UNREADABLE = "no valid sum", "no number"
DRAWN = "drawn sum"
"""the kind of all answers to the sum that an exam adds"""
WIDTH = 1 / 6
"""standard deviation of the gaussian credit, SPELL's .5 / 3"""


class ArithmeticDuel(Environment):
    """Fields of the duel."""

    about = "a challenger writes a sum, a solver solves it, and code checks both"
    roles = (CHALLENGER, SOLVER)
    edition = 2

    digits: int = Field(default=2, ge=1, le=6)
    """of the numbers that a challenger may use, at most"""
    operations: str = Field(default="+-", pattern=r"^[-+*]+$")
    """that it may use"""
    credit: Literal["r_zero", "absolute_zero", "gaussian"] = "r_zero"
    """how a challenger is paid for the share of right answers"""
    problems: Literal["challenger", "chance"] = "challenger"
    """chance: sums are drawn, and only the solver plays: what a run of both roles is compared with"""

    examples: int | None = Field(default=None, ge=1, le=8)
    """sums shown before every question, drawn like those that are asked; null: one, to a solver always the same of two
    digits"""

    @property
    def largest(self) -> int:
        """The largest number that may be used."""
        return 10**self.digits - 1

    @property
    def request(self) -> str:
        """What a challenger is asked."""
        names = {"+": "add", "-": "subtract", "*": "multiply"}
        kinds = " or ".join(names[operation] for operation in dict.fromkeys(self.operations))
        return (
            f"Write one problem that asks to {kinds} two numbers of at most {self.digits} digits. Make it "
            "hard, but not too hard. Reply with the problem alone."
        )

    @property
    def unasked(self) -> Sequence[str]:
        """The challenger, where sums are drawn."""
        return (CHALLENGER,) if self.problems == "chance" else ()

    def play(self, task: Task, seed: int) -> Play:
        """K sums, K answers to each that is valid."""
        rng = random.Random(seed)
        shown = draw_examples(seed, self.examples, self.largest, self.operations)
        if self.problems == "chance":
            drawn = draw_sum(rng, self.largest, self.operations)
            answers = yield [self._ask_solver(str(drawn), shown)]
            return [[_checked(reply, drawn.result) for reply in answers[0]]]
        written_before = shown or [draw_sum(rng, self.largest, self.operations)]
        request = after_examples(self.request, *((self.request, str(one)) for one in written_before))
        (written,) = yield [Ask(CHALLENGER, request)]
        sums = [read_sum(reply.text) for reply in written]
        valid = [one if one and self._allowed(one.left, one.operation, one.right) else None for one in sums]
        asked = [one for one in valid if one is not None]
        answers = (yield [self._ask_solver(str(one), shown) for one in asked]) if asked else []
        graded = [[_checked(r, one.result) for r in replies] for one, replies in zip(asked, answers, strict=True)]
        paid = iter([self.pay([outcome.reward == 1.0 for outcome in outcomes]) for outcomes in graded])
        first = [Outcome(-1.0, INVALID) if one is None else Outcome(next(paid)) for one in valid]
        return [first, *graded]

    def examine(self, task: Task, seed: int) -> Play:
        """The same, and a drawn sum: what is right of a challenger's own sums says little of who solves them."""
        drawn = draw_sum(random.Random(f"exam {seed}"), self.largest, self.operations)
        shown = draw_examples(seed, self.examples, self.largest, self.operations)

        def grade(exam: Replies) -> list[list[Outcome]]:
            return [[Outcome(float(last_number(reply.text) == drawn.result), DRAWN) for reply in exam[0]]]

        return (yield from with_exam(self.play(task, seed), [self._ask_solver(str(drawn), shown)], grade))

    def measure(self, episodes: Sequence[Sequence[Line]]) -> dict[str, float]:
        """The share of drawn sums that were solved."""
        exam = [reward for episode in episodes for _, _, reward, kind in episode if kind == DRAWN]
        return {"drawn sums solved": sum(filter(None, exam)) / len(exam)} if exam else {}

    def pay(self, right: Sequence[bool]) -> float:
        """The challenger's reward for a sum whose answers were right or not."""
        share = sum(right) / len(right)
        if self.credit == "r_zero":
            return 1.0 - abs(2.0 * share - 1.0)
        if self.credit == "absolute_zero":
            return 1.0 - share if share > 0 else 0.0
        return math.exp(-((share - 0.5) ** 2) / (2 * WIDTH**2)) if 0 < share < 1 else 0.0

    def _allowed(self, left: int, operation: str, right: int) -> bool:
        return operation in self.operations and 0 <= left <= self.largest and 0 <= right <= self.largest

    def _ask_solver(self, problem: str, shown: Sequence[Sum] | None) -> Ask:
        return Ask(SOLVER, after_examples(ask_result(problem), *solved_examples(without(problem, shown))))


def _checked(reply: Reply, result: int) -> Outcome:
    number = last_number(reply.text)
    return Outcome(float(number == result), UNREADABLE if number is None else "")
