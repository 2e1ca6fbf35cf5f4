"""SPC, self-play critic (2504.19162): a sneaky writer of wrong steps against a critic who finds them.

A task is a chain of sums up to one correct step. The sneaky writer sees it and writes a wrong one in its place; the
critic sees the chain and one step, the correct or a wrong one, and says which it is. Right verdicts give the critic +1,
wrong ones -1, and a sneaky step gets minus the mean of its critics. A "wrong" step that is right, or is no step in its
place, gets -1 and goes to no critic. The paper's truth is the success rate of continuations, and its problems are
mathematics; ours is code that checks sums, so that no right step is taken for a wrong one. With `mistakes: chance` code
spoils the step and the critic plays alone. Every policy is also examined on a right step and one that code spoilt:
verdicts on its own writer's steps depend on the writer. Leaves out: critiques before the verdict, the SFT start, the
list of error types.

    StepCritic(steps=2).play(Task("a", ""), seed=0)
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from sparring.environments.arithmetic import Sum, draw_sum, read_step, spoil
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

SNEAKY, CRITIC = "sneaky", "critic"
NOT_WRONG, NO_STEP, UNREADABLE = "not wrong", "no step in its place", "unreadable"
ACCEPTED, REJECTED, CAUGHT, MISSED = (
    "right step accepted",
    "right step rejected",
    "wrong step caught",
    "wrong step missed",
)
DRAWN = ", drawn"
"""at the end of the kinds of verdicts on steps that no writer wrote"""
VERDICT = re.compile(r"\b(incorrect|correct)\b", re.IGNORECASE)


class StepCritic(Environment):
    """Fields of the game."""

    about = "a sneaky writer puts a wrong step into a calculation, a critic says whether a step is correct"
    roles = (SNEAKY, CRITIC)
    edition = 2

    steps: int = Field(default=2, ge=1, le=8)
    """sums of a chain; the last is judged"""
    largest: int = Field(default=50, ge=2)
    """numbers in them are at most this, results may be larger"""
    operations: str = Field(default="+-", pattern=r"^[-+*]+$")
    """of the sums"""
    mistakes: Literal["sneaky", "chance"] = "sneaky"
    """who writes wrong steps; chance: code puts another digit into a result, and only the critic plays: what a run of
    both roles is compared with"""
    critics: int | None = Field(default=None, ge=1)
    """replies of the critic to a step; null: algorithm.samples"""

    @property
    def unasked(self) -> Sequence[str]:
        """The writer, where chance writes."""
        return (SNEAKY,) if self.mistakes == "chance" else ()

    def play(self, task: Task, seed: int) -> Play:
        """K sneaky steps; then critics for every one that is wrong, and as often for the correct step.

        Where the correct one was asked in every task, and few wrong ones came, the critic learnt to accept all.
        """
        if self.mistakes == "chance":
            return _drawn((yield self._ask_drawn(random.Random(seed))))
        chain = self._chain(random.Random(seed))
        last = chain[-1]
        (written,) = yield [Ask(SNEAKY, after_examples(sneaky_question(chain), SNEAKY_EXAMPLE))]
        kinds = [_kind(reply.text, last) for reply in written]
        wrong = [_step_of(reply.text) for reply, kind in zip(written, kinds, strict=True) if not kind]
        shown = [*[f"{last} = {last.result}"] * len(wrong), *wrong]
        if not wrong:
            return [[Outcome(-1.0, kind) for kind in kinds]]
        verdicts = yield [self._ask_critic(chain[:-1], step) for step in shown]
        judged = [[_judged(reply, i < len(wrong)) for reply in replies] for i, replies in enumerate(verdicts)]
        paid = iter([-sum(o.reward or 0.0 for o in outcomes) / len(outcomes) for outcomes in judged[len(wrong) :]])
        sneaky = [Outcome(-1.0, kind) if kind else Outcome(next(paid)) for kind in kinds]
        return [sneaky, *judged]

    def examine(self, task: Task, seed: int) -> Play:
        """The same, and a drawn right step and a spoilt one, the same for all; by chance those alone."""
        exam = self._ask_drawn(random.Random(f"exam {seed}"))
        if self.mistakes == "chance":
            return _drawn((yield exam))
        return (yield from with_exam(self.play(task, seed), exam, _drawn))

    def measure(self, episodes: Sequence[Sequence[Line]]) -> dict[str, float]:
        """The critic's accuracy on right and on wrong steps, and their harmonic mean; unreadable verdicts are wrong."""
        counts = Counter(kind for episode in episodes for role, _, _, kind in episode if role == CRITIC)
        shares: dict[str, float] = {}
        for drawn, which in (("", "steps"), (DRAWN, "drawn steps")):
            found = {}
            for truth, (hit, miss) in (("right", (ACCEPTED, REJECTED)), ("wrong", (CAUGHT, MISSED))):
                hits = counts[hit + drawn]
                if asked := hits + counts[miss + drawn] + counts[f"{UNREADABLE}, of a {truth} step{drawn}"]:
                    found[f"accuracy on {truth} {which}"] = hits / asked
            if len(found) == 2:
                a, b = found.values()
                found[f"harmonic mean{drawn}"] = 2 * a * b / (a + b) if a + b else 0.0
            shares |= found
        return shares

    def _chain(self, rng: random.Random) -> list[Sum]:
        chain = [draw_sum(rng, self.largest, self.operations)]
        while len(chain) < self.steps:
            chain.append(draw_sum(rng, self.largest, self.operations, chain[-1].result))
        return chain

    def _ask_drawn(self, rng: random.Random) -> list[Ask]:
        """A chain with its right last step, and with a spoilt one."""
        chain = self._chain(rng)
        last = chain[-1]
        return [self._ask_critic(chain[:-1], f"{last} = {r}") for r in (last.result, spoil(rng, last.result))]

    def _ask_critic(self, before: Sequence[Sum], step: str) -> Ask:
        return Ask(CRITIC, after_examples(critic_question(before, step), *CRITIC_EXAMPLES), self.critics)


def _lines(before: Sequence[Sum], step: str) -> str:
    return "\n".join([*(f"{one} = {one.result}" for one in before), step])


def sneaky_question(chain: Sequence[Sum]) -> str:
    """What the writer is asked, who sees the correct step."""
    last = chain[-1]
    return (
        f"Here is a calculation:\n{_lines(chain[:-1], f'{last} = {last.result}')}\n\nWrite its last line again with a "
        "wrong result that looks right."
    )


def critic_question(before: Sequence[Sum], step: str) -> str:
    """What the critic is asked of a step."""
    return (
        f"Here is a calculation:\n{_lines(before, step)}\n\nIs its last line correct? Reply with one word, Correct or "
        "Incorrect."
    )


_SHOWN = [Sum(14, "+", 9), Sum(23, "-", 6)]
SNEAKY_EXAMPLE = sneaky_question(_SHOWN), "23 - 6 = 16"
CRITIC_EXAMPLES = (
    (critic_question(_SHOWN[:1], "23 - 6 = 16"), "Incorrect"),
    (critic_question(_SHOWN[:1], "23 - 6 = 17"), "Correct"),
)


def _kind(text: str, asked: Sum) -> str:
    """Why a sneaky step is none; empty where it is one."""
    step = read_step(text)
    if step is None or step[0] != asked:
        return NO_STEP
    return NOT_WRONG if step[1] == asked.result else ""


def _step_of(text: str) -> str:
    """The step alone, so that nothing around it tells the critic who wrote it."""
    step = read_step(text)
    assert step is not None
    return f"{step[0]} = {step[1]}"


def _drawn(verdicts: Replies) -> list[list[Outcome]]:
    """What verdicts on a drawn right step and on a spoilt one are worth."""
    right, wrong = verdicts
    judged = [_judged(reply, True) for reply in right], [_judged(reply, False) for reply in wrong]
    return [[outcome._replace(kind=outcome.kind + DRAWN) for outcome in outcomes] for outcomes in judged]


def _judged(reply: Reply, right: bool) -> Outcome:
    """What a verdict is worth; the first of both words counts."""
    found = VERDICT.search(reply.text)
    if found is None:
        return Outcome(-1.0, f"{UNREADABLE}, of a {'right' if right else 'wrong'} step")
    accepts = found[1].casefold() == "correct"
    kind = (ACCEPTED if accepts else REJECTED) if right else (MISSED if accepts else CAUGHT)
    return Outcome(1.0 if accepts == right else -1.0, kind)
