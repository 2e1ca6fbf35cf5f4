"""Which items lack votes, and what the votes on an item are: questions to the tables, inside a transaction.

Leaves out: who is asked next (`choosing.py`).

    tallies(connection, ids)[id].votes  ->  (0, 0, "tie")
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from sparring.votes.items import answer_meant
from sparring.votes.tables import COUNTS, ITEMS, TRIES, VOTES

CHUNK = 500
"""ids in one question to the database"""
LIVE = VOTES.c.undone_at.is_(None)
NOTHING, SECOND, VOTE = 0, 1, 2
"""what an item lacks: a vote that an oracle waits for, or only that of a second voter, for the agreement"""
ASKED_FOR = VOTES.c.showing.not_in(sa.select(TRIES.c.showing))
"""votes on what the Vote room showed, and imported ones: not those of conversations"""


@dataclass(frozen=True, slots=True)
class Tally:
    """The votes on an item that count, oldest first: which answer (0 or 1), "tie" or "both_bad"; and its skips."""

    votes: tuple[int | str, ...]
    skips: int


@dataclass(frozen=True, slots=True)
class Standing:
    """How far the voting is."""

    wanted: int
    """items that an oracle asked for"""
    open: int
    """of those, items that still lack a vote"""
    votes: int
    """that count, of everybody"""


def chunks(ids: Iterable[str]) -> Iterator[list[str]]:
    """The ids in order, in parts that one question may hold."""
    listed = sorted(ids)
    return (listed[begin : begin + CHUNK] for begin in range(0, len(listed), CHUNK))


def tallies(connection: sa.Connection, ids: Sequence[str]) -> dict[str, Tally]:
    """The votes that count on each of these items."""
    votes: dict[str, list[int | str]] = {id_: [] for id_ in ids}
    skips = dict.fromkeys(ids, 0)
    first = sa.and_(LIVE, VOTES.c.repeat.is_(False))
    for part in chunks(ids):
        rows = sa.select(VOTES.c.item, VOTES.c.left, VOTES.c.verdict).where(first, VOTES.c.item.in_(part))
        for item, left, verdict in connection.execute(rows.order_by(VOTES.c.id)):
            if verdict == "skip":
                skips[item] += 1
            else:
                votes[item].append(answer_meant(left, verdict))
    return {id_: Tally(tuple(votes[id_]), skips[id_]) for id_ in ids}


def count(connection: sa.Connection, table: sa.Table, which: sa.ColumnElement[bool]) -> int:
    """How many rows there are of this kind."""
    return connection.scalar(sa.select(sa.func.count()).select_from(table).where(which)) or 0


def missing(connection: sa.Connection, ids: Sequence[str]) -> int:
    """How many of these items lack a vote, counted: an oracle must not wait for what a server of before stored."""
    return sum(count(connection, ITEMS, sa.and_(ITEMS.c.id.in_(part), lacks() == VOTE)) for part in chunks(ids))


def hold(connection: sa.Connection, ids: Sequence[str]) -> Sequence[sa.Row]:
    """The items with these ids, once nobody else closes or judges them (PostgreSQL; writers of SQLite wait anyway).

    In order, so that two who hold several never wait for each other.
    """
    which = sa.select(ITEMS.c.id, ITEMS.c.wanted).where(ITEMS.c.id.in_(ids))
    return connection.execute(which.order_by(ITEMS.c.id).with_for_update()).all()


def settle(connection: sa.Connection, ids: Iterable[str]) -> None:
    """Store what these items lack; whatever changed their votes, and holds them, calls it in the same transaction."""
    for part in chunks(ids):
        connection.execute(ITEMS.update().where(ITEMS.c.id.in_(part)).values(lacks=lacks()))


def lacks() -> sa.ColumnElement[int]:
    """What the item of the enclosing query lacks, counted."""
    skips = votes_on(sa.and_(LIVE, VOTES.c.verdict == "skip"))
    vote = sa.and_(ITEMS.c.closed_at.is_(None), votes_on() < ITEMS.c.wanted, skips < ITEMS.c.skips)
    second = sa.and_(ITEMS.c.double, ITEMS.c.wanted > 0, votes_on() < ITEMS.c.wanted + 1)
    return sa.case((vote, VOTE), (second, SECOND), else_=NOTHING)


def votes_on(which: sa.ColumnElement[bool] = COUNTS) -> sa.ScalarSelect[int]:
    """Number of votes, repeats apart, on the item of the enclosing query."""
    return (
        sa.select(sa.func.count())
        .select_from(VOTES)
        .where(VOTES.c.item == ITEMS.c.id, VOTES.c.repeat.is_(False), which)
        .correlate(ITEMS)
        .scalar_subquery()
    )
