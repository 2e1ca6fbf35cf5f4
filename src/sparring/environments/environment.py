"""The interface of an environment: who is asked what, turn after turn, and what each response was worth.

An environment is a frozen pydantic model, like an algorithm: its fields are the keys of a recipe's `environment:`
section. `play` is a generator for one task: it yields waves of questions (`Ask`), receives the replies, and returns an
`Outcome` for each reply. It is a pure function of the task, the seed and the replies, so a killed run plays it again on
the stored replies. Rewards of replies to one prompt are preferences between them, so every loss can train every role.
Leaves out: who plays a role (`rounds/play.py`), and boards and cards (`sequential.py`).

    build_environment({"name": "kuhn_poker"}).roles  ->  ("first", "second")
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, cast

from pydantic import BaseModel, ConfigDict, ValidationError

from sparring.runtime.explain import explain
from sparring.runtime.imports import find_class

ROLE = re.compile(r"[A-Za-z0-9_-]+")
Message = Mapping[str, str]
"""{"role": "system", "user" or "assistant", "content": text}"""


class Task(NamedTuple):
    """A row of the data, for which one episode is played."""

    name: str
    """differs from every other task's"""
    prompt: str
    """the row's prompt as text"""
    checks: Sequence[Mapping[str, Any]] = ()
    """the rules of the row's check, as `sparring.data.checks` reads them"""
    notes: Sequence[str] = ()
    """what the environment noted in the same task's episodes of earlier rounds, oldest first; none when a policy is
    evaluated"""


def after_examples(question: str, *examples: tuple[str, str]) -> list[Message]:
    """A question to a role, after examples of questions with their answers, which show small models the form."""
    turns = [*(text for pair in examples for text in pair), question]
    return [{"role": ("user", "assistant")[place % 2], "content": text} for place, text in enumerate(turns)]


class Ask(NamedTuple):
    """A question to a role, which gets `count` independent replies."""

    role: str
    messages: Sequence[Message]
    count: int | None = None  # type: ignore[assignment]  # hides tuple.count, which nobody needs here
    """None: as many as the algorithm draws (`algorithm.samples`)"""
    taught: Sequence[Message] | None = None
    """the prompt under which its replies are trained; None: the question itself. Another one where replies were drawn
    with a hint that the policy is to do without"""


class Compare(NamedTuple):
    """Which of two texts is the better answer: a question to the recipe's oracle, which gets P(a beats b) back.

    A wave is of `Ask` alone or of `Compare` alone. Environments that yield it say so (`asks_oracle`).
    """

    messages: Sequence[Message]
    """the prompt that both answer"""
    a: str
    b: str


class Reply(NamedTuple):
    """A response of a policy in a role."""

    text: str
    finished: bool
    """whether it ended by itself; False: it was cut off at `sampling.max_new_tokens`"""


class Outcome(NamedTuple):
    """What a reply was worth to the role that gave it."""

    reward: float | None
    """None: it is not trained on"""
    kind: str = ""
    """what happened where that is not the usual ("illegal", "unreadable"): counted and shown"""


Line = tuple[str, str, float | None, str]
"""a reply of a finished episode: role, text, reward, kind"""
Wave = Sequence[Ask] | Sequence[Compare]
Replies = Sequence[Sequence[Reply]]
"""by question of the wave, then by reply"""
Verdicts = Sequence[float | None]
"""P(a beats b) by comparison of the wave; None: the oracle failed, or people declined"""
Play = Generator[Wave, Any, Sequence[Sequence[Outcome]]]
"""receives `Replies` after a wave of `Ask`, `Verdicts` after one of `Compare`; returns outcomes by `Ask`, in the order
in which all were asked, then by reply"""


def with_exam(play: Play, exam: Sequence[Ask], grade: Callable[[Replies], Sequence[Sequence[Outcome]]]) -> Play:
    """The episode with more questions beside its first ones; `grade` gives their outcomes, after those of the first."""
    first = cast(Sequence[Ask], next(play))
    replies = yield [*first, *exam]
    graded, replies = grade(replies[len(first) :]), replies[: len(first)]
    try:
        while True:
            replies = yield play.send(replies)
    except StopIteration as ended:
        outcomes = ended.value
    return [*outcomes[: len(first)], *graded, *outcomes[len(first) :]]


class Environment(BaseModel):
    """Base of every environment: a frozen configuration that can play a task.

    A subclass in any importable module can be named in a recipe as `package.module:Class`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    about: ClassVar[str]
    """one sentence: what is played"""
    roles: ClassVar[tuple[str, ...]]
    rewards: ClassVar[tuple[float, float]] = (-1.0, 1.0)
    """the lowest and the highest reward; the highest against the lowest counts as a sure win"""
    zero_sum: ClassVar[bool] = False
    """whether one role's reward is the other's loss: checked for every task"""
    edition: ClassVar[int] = 1
    """of a shipped environment; one more with every change of what is played or examined"""
    most_waves: ClassVar[int] = 64
    """an episode that asks more often is an error"""

    def play(self, task: Task, seed: int) -> Play:
        """The episode of one task; all chance comes from `seed`."""
        raise NotImplementedError

    @property
    def reads(self) -> Sequence[str]:
        """Files that its fields name: what stands in them is part of what it is."""
        return ()

    @property
    def inner(self) -> Sequence[Environment]:
        """Environments that it plays within: part of what it is."""
        return ()

    @property
    def packages(self) -> Sequence[str]:
        """Installed packages that hold its rules: their versions are part of what it is."""
        return ()

    @property
    def asks_oracle(self) -> bool:
        """Whether it yields `Compare`: the recipe then has an oracle, whose verdicts are part of its outcomes."""
        return False

    @property
    def unasked(self) -> Sequence[str]:
        """Roles that never get a question as its fields are set."""
        return ()

    def examine(self, task: Task, seed: int) -> Play:
        """The episode by which a policy is evaluated; that of the training unless a subclass says otherwise."""
        return self.play(task, seed)

    @property
    def remembers(self) -> int:
        """How many notes of a task go on to the next round; 0: none are made."""
        return 0

    def note(self, episode: Sequence[Line]) -> Sequence[str]:
        """What the task's next episode is told as `task.notes`, of one that was played."""
        return ()

    def measure(self, episodes: Sequence[Sequence[Line]]) -> dict[str, float]:
        """Further measures of held-out episodes, by name; each lists its replies in order."""
        return {}


SHIPPED = {
    "kuhn_poker": "sparring.environments.kuhn_poker:KuhnPoker",
    "tic_tac_toe": "sparring.environments.tic_tac_toe:TicTacToe",
    "matrix_game": "sparring.environments.matrix_game:MatrixGame",
    "arithmetic_duel": "sparring.environments.arithmetic_duel:ArithmeticDuel",
    "step_critic": "sparring.environments.step_critic:StepCritic",
    "negotiation": "sparring.environments.negotiation:Negotiation",
    "leader_follower": "sparring.environments.leader_follower:LeaderFollower",
    "sum_leader_follower": "sparring.environments.leader_follower:SumLeaderFollower",
    "text_arena": "sparring.environments.text_arena:TextArena",
    "searched_position": "sparring.environments.searched_game:SearchedPosition",
    "search_opponent": "sparring.environments.searched_game:SearchOpponent",
    "persona_chat": "sparring.environments.persona_chat:PersonaChat",
    "document_questions": "sparring.environments.document_questions:DocumentQuestions",
}
"""Name in a recipe -> where the class is. Yours needs no entry: write `package.module:Class`."""


def build_environment(section: Mapping[str, Any]) -> Environment:
    """An environment from a recipe's `environment:` section (its name and fields).

    Raises:
        ValueError: missing or unknown name, or fields that are unknown or hold a wrong value.
    """
    fields = dict(section)
    name = fields.pop("name", None)
    if not isinstance(name, str):
        raise ValueError(f"environment.name: missing. Give one of {', '.join(SHIPPED)}.")
    kind = find_class(name, SHIPPED, "environment", Environment)
    try:
        environment = kind.model_validate(fields)
    except ValidationError as error:
        raise ValueError("\n".join(explain(error, kind, fields, "environment."))) from error
    check_declared(kind)
    return environment


def check_declared(kind: type[Environment]) -> None:
    """Raise a ValueError where a class does not say, or says wrongly, who plays and what may be won."""
    roles, rewards, name = getattr(kind, "roles", None), kind.rewards, kind.__qualname__
    if not isinstance(roles, tuple) or not roles or not all(isinstance(r, str) and ROLE.fullmatch(r) for r in roles):
        raise ValueError(f"environment {name}: roles = {roles!r}. Give a tuple of names of letters, digits, _ and -.")
    if len(set(roles)) < len(roles):
        raise ValueError(f"environment {name}: roles = {roles!r} are not all different.")
    try:
        low, high = map(float, rewards)
    except (TypeError, ValueError):
        low, high = 0.0, 0.0
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"environment {name}: rewards = {rewards!r}. Give the lowest and the highest reward.")
