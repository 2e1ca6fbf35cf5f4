"""SLHF (2512.16626): a leader answers, a follower sees the prompt and the leader's answer and answers better.

The paper's game is max over leaders, min over followers of E P(the leader's answer beats the follower's): a follower is
paid 2 P(it beats the leader) - 1, a leader minus the mean of its followers. Followers of one answer are siblings, and
so are leaders of one prompt. With `judge: oracle` the recipe's oracle gives P, in place of the role judge. Ours: one
model in both roles with one learning rate, where the paper's StackelbergGDA has two; the prompts; and
`sum_leader_follower`, where code is the judge. Leaves out: several refinements in a row.

    SumLeaderFollower(digits=2).play(Task("a", ""), seed=0)
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field

from sparring.environments.arithmetic import (
    Sum,
    ask_result,
    draw_examples,
    draw_sum,
    last_number,
    solved_examples,
    without,
)
from sparring.environments.both_orders import NO_VERDICT, chance_of, kinds_of, read_order
from sparring.environments.environment import (
    Ask,
    Compare,
    Environment,
    Line,
    Outcome,
    Play,
    Reply,
    Task,
    after_examples,
)

LEADER, FOLLOWER, JUDGE = "leader", "follower", "judge"
KEPT, MENDED, SPOILT, FAILED = "kept right", "mended", "spoilt", "left wrong"
RIGHT, WRONG = "right", "wrong"


class LeaderFollower(Environment):
    """Fields of the game on prompts, with a model as judge."""

    about = "a leader answers a prompt, a follower who sees the answer gives a better one, a judge compares them"
    roles: ClassVar[tuple[str, ...]] = (LEADER, FOLLOWER, JUDGE)

    followers: int = Field(default=2, ge=1)
    """answers of the follower to each of the leader's"""
    judge: Literal["model", "oracle"] = "model"
    """who compares: the role judge, in both orders, or the recipe's oracle"""

    @property
    def asks_oracle(self) -> bool:
        """Where it judges."""
        return self.judge == "oracle"

    @property
    def unasked(self) -> Sequence[str]:
        """The judge, where an oracle compares."""
        return (JUDGE,) if self.asks_oracle else ()

    def play(self, task: Task, seed: int) -> Play:
        """K leaders, followers of each, and the judge's verdicts in both orders."""
        (leaders,) = yield [Ask(LEADER, _user(task.prompt))]
        followers = yield [Ask(FOLLOWER, _user(_refine(task.prompt, reply)), self.followers) for reply in leaders]
        matches = [(a, b) for a, group in zip(leaders, followers, strict=True) for b in group]
        if self.asks_oracle:
            leads = yield [Compare(_user(task.prompt), a.text.strip(), b.text.strip()) for a, b in matches]
            return _paid(self._by_leader([None if p is None else 1 - p for p in leads]))
        pairs = [pair for match in matches for pair in (match, match[::-1])]
        replies = yield [Ask(JUDGE, _user(_comparison(task.prompt, *pair)), 1) for pair in pairs]
        said = [read_order(group[0].text) for group in replies]
        leads = [chance_of(*said[i : i + 2]) for i in range(0, len(said), 2)]
        judged = [[Outcome(None, kind)] for one in zip(said[::2], said[1::2], strict=True) for kind in kinds_of(*one)]
        return [*_paid(self._by_leader([None if p is None else 1 - p for p in leads])), *judged]

    def measure(self, episodes: Sequence[Sequence[Line]]) -> dict[str, float]:
        """Shares of the comparisons that the follower won and lost; the rest are ties."""
        paid = [reward for episode in episodes for role, _, reward, _ in episode if role == FOLLOWER]
        known = [reward for reward in paid if reward is not None]
        won = {f"{FOLLOWER} preferred": 1, f"{LEADER} preferred": -1}
        return {name: sum(sign * reward > 0 for reward in known) / len(known) for name, sign in won.items() if known}

    def _by_leader(self, chances: Sequence[float | None]) -> list[Sequence[float | None]]:
        return [chances[i : i + self.followers] for i in range(0, len(chances), self.followers)]


class SumLeaderFollower(Environment):
    """The same on sums that code checks: a right answer beats a wrong one, and two of a kind tie."""

    about = "a leader solves a sum, a follower who sees the answer solves it again, and code compares"
    roles: ClassVar[tuple[str, ...]] = (LEADER, FOLLOWER)
    zero_sum: ClassVar[bool] = True

    digits: int = Field(default=2, ge=1, le=6)
    """of the numbers, at most"""
    operations: str = Field(default="+-", pattern=r"^[-+*]+$")
    """of the sums"""
    followers: int = Field(default=2, ge=1)
    """answers of the follower to each of the leader's"""
    examples: int | None = Field(default=None, ge=1, le=8)
    """sums shown before every question, drawn like those that are asked; to a follower half of them with a wrong answer
    that it mends; null: one to a leader and two to a follower, always the same, of two digits"""

    def play(self, task: Task, seed: int) -> Play:
        """K leaders and followers of each."""
        largest = 10**self.digits - 1
        asked = draw_sum(random.Random(seed), largest, self.operations)
        shown = without(str(asked), draw_examples(seed, self.examples, largest, self.operations))
        (leaders,) = yield [Ask(LEADER, after_examples(ask_result(str(asked)), *solved_examples(shown)))]
        examples = _checked_examples(seed, shown)
        asks = (after_examples(_check(str(asked), reply.text.strip()), *examples) for reply in leaders)
        followers = yield [Ask(FOLLOWER, messages, self.followers) for messages in asks]
        led = [last_number(reply.text) == asked.result for reply in leaders]
        followed = [[last_number(reply.text) == asked.result for reply in group] for group in followers]
        chances = [[(1.0 + b - a) / 2 for b in group] for a, group in zip(led, followed, strict=True)]
        leading, *following = _paid(chances)
        leading = [o._replace(kind=RIGHT if a else WRONG) for o, a in zip(leading, led, strict=True)]
        kinds = {(True, True): KEPT, (False, True): MENDED, (True, False): SPOILT, (False, False): FAILED}
        return [
            leading,
            *(
                [o._replace(kind=kinds[a, b]) for o, b in zip(outcomes, group, strict=True)]
                for a, outcomes, group in zip(led, following, followed, strict=True)
            ),
        ]

    def measure(self, episodes: Sequence[Sequence[Line]]) -> dict[str, float]:
        """Accuracy of both roles, and how many wrong answers are mended, and right ones spoilt."""
        counts = Counter(kind for episode in episodes for _, _, _, kind in episode)
        shares = {
            "leader's accuracy": (counts[RIGHT], counts[WRONG]),
            "follower's accuracy": (counts[KEPT] + counts[MENDED], counts[SPOILT] + counts[FAILED]),
            "wrong answers mended": (counts[MENDED], counts[FAILED]),
            "right answers spoilt": (counts[SPOILT], counts[KEPT]),
        }
        return {name: yes / (yes + no) for name, (yes, no) in shares.items() if yes + no}


def _paid(chances: Sequence[Sequence[float | None]]) -> list[list[Outcome]]:
    """The leaders' outcomes, then those of each one's followers."""
    followers = [[Outcome(None, NO_VERDICT) if p is None else Outcome(2 * p - 1) for p in group] for group in chances]
    leaders = []
    for group in followers:
        known = [outcome.reward for outcome in group if outcome.reward is not None]
        leaders.append(Outcome(-sum(known) / len(known)) if known else Outcome(None, NO_VERDICT))
    return [leaders, *followers]


def _refine(prompt: str, reply: Reply) -> str:
    return f"{prompt}\n\nSomebody answered:\n{reply.text.strip()}\n\nGive a better answer. Reply with the answer alone."


def _comparison(prompt: str, first: Reply, second: Reply) -> str:
    return (
        f"Prompt: {prompt}\n\nFirst answer: {first.text.strip()}\n\nSecond answer: {second.text.strip()}\n\nWhich "
        "answer is better? Reply with one word, first or second."
    )


def _check(problem: str, answer: str) -> str:
    said = answer or "nothing"
    return f"What is {problem}? Somebody says {said}, which may be wrong. Reply with the right number alone."


def _checked_examples(seed: int, shown: Sequence[Sum] | None) -> list[tuple[str, str]]:
    """Sums that somebody answers with their right answers, every other one after a wrong one, in any order."""
    if shown is None:
        return [(_check("23 + 6", "28"), "29"), (_check("31 - 4", "27"), "27")]
    rng = random.Random(f"answers beside {seed}")
    said = [one.result + rng.choice((-2, -1, 1, 2)) * (i % 2) for i, one in enumerate(shown)]
    examples = [(_check(str(one), str(answer)), str(one.result)) for one, answer in zip(shown, said, strict=True)]
    rng.shuffle(examples)
    return examples


def _user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]
