"""Stored votes as rows, with all that was shown: for agreement, exports and imports.

read_records(database)[0].verdict  ->  "left"
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from sparring.votes.database import Database
from sparring.votes.items import Messages, Verdict, answer_meant
from sparring.votes.tables import ITEMS, TRIES, VOTERS, VOTES
from sparring.votes.tries import Tried


@dataclass(frozen=True, slots=True)
class Record:
    """One vote, as it was shown and given."""

    item: str
    """hash of question, prompt and answers"""
    showing: str
    """names this vote and no other"""
    question: str
    messages: Messages
    answers: tuple[str, str]
    """in the order of their texts"""
    left: int
    """which of them was on the left"""
    verdict: Verdict
    voter: str
    repeat: bool
    """for the second time before the same voter, swapped"""
    seconds: float | None
    """from showing to vote"""
    voted_at: float
    """seconds since 1970"""
    undone: bool
    tried: Tried | None = None
    """whose answers these are, where the vote was given in a conversation"""

    @property
    def counts(self) -> bool:
        """Whether it is a verdict that was not taken back."""
        return not self.undone and self.verdict != "skip"

    @property
    def meant(self) -> int | str:
        """Which of the answers it is for, 0 or 1; tie, both_bad and skip as they are."""
        return answer_meant(self.left, self.verdict)

    @property
    def shown(self) -> tuple[str, str]:
        """The answers from left to right."""
        return self.answers[self.left], self.answers[1 - self.left]


def read_records(database: Database) -> list[Record]:
    """All votes in the order in which they were stored, taken back ones and skips too."""
    joined = sa.select(VOTES, ITEMS.c.question, ITEMS.c.messages, ITEMS.c.answers, VOTERS.c.name.label("name"))
    joined = joined.add_columns(TRIES.c.left_policy, TRIES.c.right_policy, TRIES.c.blind)
    joined = joined.join(ITEMS, ITEMS.c.id == VOTES.c.item).join(VOTERS, VOTERS.c.id == VOTES.c.voter)
    joined = joined.outerjoin(TRIES, TRIES.c.showing == VOTES.c.showing)
    with database.read() as connection:
        return [_record(row) for row in connection.execute(joined.order_by(VOTES.c.id))]


def _record(row: sa.Row) -> Record:
    first, second = json.loads(row.answers)
    return Record(
        item=row.item,
        showing=row.showing,
        question=json.loads(row.question),
        messages=json.loads(row.messages),
        answers=(first, second),
        left=row.left,
        verdict=row.verdict,
        voter=row.name,
        repeat=bool(row.repeat),
        seconds=row.seconds,
        voted_at=row.voted_at,
        undone=row.undone_at is not None,
        tried=None if row.left_policy is None else Tried(row.left_policy, row.right_policy, bool(row.blind)),
    )


def asked_for(records: Sequence[Record]) -> list[Record]:
    """Those of the Vote room and of files: all but preferences that were given in a conversation."""
    return [record for record in records if record.tried is None]
