"""Conversations with one stored policy, or with two side by side, in the server's memory.

Both sides answer the same turns: after each, the conversation goes on with the answer that was preferred, else with the
left one. Where it is blind, sides are drawn anew for every turn (by a hash of answers and person, as in the Vote room),
and the names of a turn show once its preference is on disk. Leaves out: storing preferences (`votes/tries.py`).

    talk = Talks().begin(voter=1, iterates=(start, last), blind=True); talk.turns
"""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

from sparring.runtime.randomness import noise_seed
from sparring.serve.generating import Answer, Generator, Job, Question
from sparring.serve.iterates import Iterate
from sparring.votes.items import left_place, share_of
from sparring.votes.tries import Tried, tried_item

MOST_TALKS, MOST_OF_ONE = 500, 10
"""kept of all and of one person; the oldest is forgotten first"""
MOST_TURNS = 50
LONGEST_MESSAGE = 8_000
"""characters"""


@dataclass(slots=True)
class Turn:
    """A message and what was answered."""

    id: str
    """names the showing, where a preference is given"""
    message: str
    job: Job
    order: tuple[int, ...] = ()
    """which policy's answer stands where, from left to right; empty until all are there"""
    verdict: str = ""
    """the preference, with which the conversation goes on"""
    stored: bool = True
    """false where the database had another one of the same person on the same answers"""

    @property
    def waiting(self) -> bool:
        """Whether the answer is still to come."""
        return not self.job.done.is_set()

    @property
    def shown(self) -> list[Answer]:
        """The answers from left to right."""
        return [self.job.answers[place] for place in self.order]

    @property
    def no_choice(self) -> str:
        """Why there is nothing to prefer; empty where there is."""
        texts = [answer.text.strip() for answer in self.shown]
        if not all(texts):
            return "An answer is empty, so there is nothing to compare."
        return "Both answers are the same, so there is nothing to prefer." if len(set(texts)) < len(texts) else ""

    @property
    def goes_on_with(self) -> int:
        """The place of the answer that the conversation goes on with."""
        return 1 if self.verdict == "right" else 0


@dataclass(slots=True)
class Talk:
    """A conversation of one person."""

    id: str
    voter: int
    iterates: tuple[Iterate, ...]
    """one, or two to be compared"""
    blind: bool
    turns: list[Turn] = field(default_factory=list)

    @property
    def waiting(self) -> bool:
        """Whether an answer is still to come."""
        return bool(self.turns) and self.turns[-1].waiting

    def history(self, turn: Turn | None = None) -> list[dict[str, str]]:
        """The messages before `turn`'s answer, or before a new message; turns without an answer are left out."""
        messages: list[dict[str, str]] = []
        for one in self.turns:
            if one is turn:
                return [*messages, {"role": "user", "content": one.message}]
            if one.order:
                texts = one.message, one.shown[one.goes_on_with].text
                messages += [{"role": r, "content": t} for r, t in zip(("user", "assistant"), texts, strict=True)]
        return messages

    def ask(self, message: str, generator: Generator) -> Turn:
        """Add a message, which all policies of the conversation are to answer. Raises `Busy`."""
        id_ = secrets.token_urlsafe(18)
        messages = [*self.history(), {"role": "user", "content": message}]
        seeds = (noise_seed("try", id_, place) for place in range(len(self.iterates)))
        questions = [Question(one, messages, seed) for one, seed in zip(self.iterates, seeds, strict=True)]
        self.turns.append(Turn(id_, message, generator.ask(questions)))
        return self.turns[-1]

    def settle(self) -> None:
        """Give the newest answers their sides, as soon as all are there."""
        for turn in self.turns[-1:]:
            if not turn.waiting and not turn.job.error and not turn.order:
                turn.order = self._order(turn)

    def _order(self, turn: Turn) -> tuple[int, ...]:
        if len(self.iterates) == 1:
            return (0,)
        if not self.blind:
            return (0, 1)
        a, b = (answer.text for answer in turn.job.answers)
        if a == b:
            first = share_of("left", turn.id) % 2
        else:
            item, place = tried_item(self.history(turn), a, b)
            first = int(place != left_place(item.id, self.voter))
        return (first, 1 - first)

    def open_to_choice(self, turn: Turn) -> bool:
        """Whether a preference can be given: on the newest turn, once, where its answers differ."""
        newest = len(self.iterates) == 2 and turn is self.turns[-1]
        return newest and bool(turn.order) and not turn.verdict and not turn.no_choice

    def named(self, turn: Turn) -> bool:
        """Whether the policies' names stand over a turn's answers."""
        return not self.blind or bool(turn.verdict)

    def titles(self, turn: Turn) -> list[str]:
        """Whose answers these are, from left to right; where that is hidden, the sides."""
        if len(self.iterates) > 1 and not self.named(turn):
            return ["Left", "Right"]
        return [label(self.iterates[place]) for place in turn.order or range(len(self.iterates))]

    def tried(self, turn: Turn) -> Tried:
        """Whose answers a preference compares."""
        left, right = (self.iterates[place].name for place in turn.order)
        return Tried(left, right, self.blind)


def label(iterate: Iterate) -> str:
    """A policy's name on a page."""
    return f"{iterate.run.name or iterate.run}, {iterate.title}"


class Talks:
    """The conversations of everybody."""

    def __init__(self) -> None:
        self._talks: OrderedDict[str, Talk] = OrderedDict()
        self._lock = threading.Lock()

    def begin(self, voter: int, iterates: Sequence[Iterate], blind: bool) -> Talk:
        """A new conversation; the oldest of the same person, or of all, may be forgotten."""
        talk = Talk(secrets.token_urlsafe(18), voter, tuple(iterates), blind and len(iterates) > 1)
        with self._lock:
            self._talks[talk.id] = talk
            own = [one.id for one in self._talks.values() if one.voter == voter]
            for id_ in own[:-MOST_OF_ONE]:
                del self._talks[id_]
            while len(self._talks) > MOST_TALKS:
                self._talks.popitem(last=False)
        return talk

    def busy(self, voter: int) -> bool:
        """Whether an answer to this person is on its way, in any conversation."""
        return any(one.waiting for one in list(self._talks.values()) if one.voter == voter)

    def find(self, id_: str, voter: int) -> Talk | None:
        """A person's own conversation."""
        talk = self._talks.get(id_)
        return talk if talk is not None and talk.voter == voter else None
