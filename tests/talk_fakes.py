"""Policies that answer at once, or when they are told to, for conversations without a model."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from sparring.serve.generating import Answer, Question, Tell

Say = Callable[[Question], str]


def by_name(question: Question) -> str:
    """Says which policy it is, to what, after how many messages."""
    who = "start" if question.iterate.round == 0 else "final"
    return f"I am {who}: {question.messages[-1]['content']}, {len(question.messages)}"


class FakeSampler:
    """Answers with `say`; while `held` it waits, and tells how far it is as a sampler does before every token."""

    def __init__(self, say: Say = by_name) -> None:
        self.say, self.asked = say, list[Question]()
        self.free = threading.Event()
        self.free.set()
        self.forgot = 0

    def answer(self, question: Question, tell: Tell) -> Answer:
        self.asked.append(question)
        tell("reading")
        token = 0
        while not self.free.is_set():
            token += 1
            tell(f"token {token} of at most 64")
            time.sleep(0.01)
        return Answer(self.say(question), cut=False)

    def forget(self) -> None:
        self.forgot += 1
