"""What is asked of people, and what they may say: items, showings and verdicts.

An item is two answers to a prompt, whichever was sampled by whom; a showing is an item on a voter's screen, with one
of the answers on the left. Leaves out: the database (`ballot.py`).

    item, place_of_a = make_item("Which answer is better?", [{"role": "user", "content": "Hi"}], "Hello!", "Go away.")
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

Verdict = Literal["left", "right", "tie", "both_bad", "skip"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
Messages = Sequence[Mapping[str, str]]


class Item(NamedTuple):
    """A question about two different answers, in the order of their texts."""

    question: str
    """such as: Which answer is better?"""
    messages: Messages
    """the turns of the prompt"""
    answers: tuple[str, str]
    room: str = ""
    """"try": made in a conversation (`tries.py`), and another item than one that an oracle asks for"""

    @property
    def id(self) -> str:
        """A hash of all of it."""
        content = [self.question, [dict(one) for one in self.messages], self.answers]
        return hashlib.sha256(json.dumps([*content, *([self.room] if self.room else [])]).encode()).hexdigest()


def make_item(question: str, messages: Messages, a: str, b: str, room: str = "") -> tuple[Item, int]:
    """The item, and the place of `a` among its answers."""
    return Item(question, messages, (min(a, b), max(a, b)), room), int(a > b)


@dataclass(frozen=True, slots=True)
class Showing:
    """An item on a voter's screen."""

    id: str
    question: str
    messages: Messages
    left: str
    right: str


class NotShown(ValueError):
    """A vote on something that was not shown to this voter."""


class Late(ValueError):
    """A vote or an undoing that comes too late to count."""


def share_of(name: str, *parts: object) -> int:
    """A number that depends on nothing but these."""
    return int.from_bytes(hashlib.sha256(repr((name, *parts)).encode()).digest()[:8], "big")


def left_place(item: str, voter: int) -> int:
    """Which of an item's answers this voter sees on the left, by a hash of both."""
    return share_of("left", item, voter) % 2


def answer_meant(left: int, verdict: str) -> int | str:
    """Which of an item's answers a verdict is for, by which of them was on the left; other verdicts unchanged."""
    return {"left": left, "right": 1 - left}.get(verdict, verdict)
