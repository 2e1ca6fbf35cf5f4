"""What a voter sees next: what waits for him, a pair that returns to him, or the item that lacks a vote most urgently.

Every fifth item goes to a second voter, every tenth of a voter's own returns to him swapped: both measure agreement and
decide nothing. Leaves out: storing votes (`ballot.py`).

    id_ = next_item(connection, voter, held=[]); showing = show(connection, voter, id_, left_place(id_, voter))
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Collection, Sequence

import sqlalchemy as sa

from sparring.votes.counting import ASKED_FOR, LIVE, VOTE, votes_on
from sparring.votes.items import Showing, share_of
from sparring.votes.tables import COUNTS, ITEMS, SHOWINGS, VOTES

DOUBLE_EVERY, REPEAT_EVERY = 5, 10
"""of the items, one in so many goes to a second voter; of a voter's items, one in so many returns to him"""
REPEAT_AFTER = 5
"""votes on other items before one returns"""
LEASE_SECONDS = 120.0
"""that an item on somebody's screen is shown to nobody else"""


def is_double(item: str) -> bool:
    """Whether an item goes to a second voter."""
    return share_of("double", item) % DOUBLE_EVERY == 0


def pending(connection: sa.Connection, voter: int) -> Sequence[sa.Row]:
    """The showings on which this voter has yet to vote and whose votes are still wanted, oldest first."""
    rows = connection.execute(
        sa.select(SHOWINGS, ITEMS.c.closed_at)
        .join(ITEMS, ITEMS.c.id == SHOWINGS.c.item)
        .outerjoin(VOTES, VOTES.c.showing == SHOWINGS.c.id)
        .where(SHOWINGS.c.voter == voter, VOTES.c.id.is_(None))
        .where(sa.or_(ITEMS.c.closed_at.is_(None), SHOWINGS.c.repeat))
        .order_by(SHOWINGS.c.shown_at, SHOWINGS.c.id)
    )
    return rows.all()


def due_repeat(connection: sa.Connection, voter: int) -> tuple[str, int] | None:
    """An item that returns to its voter now, and its answer that was on the left; None where none does."""
    own = sa.select(VOTES.c.item, VOTES.c.left, VOTES.c.repeat).where(VOTES.c.voter == voter, COUNTS, ASKED_FOR)
    votes = connection.execute(own.order_by(VOTES.c.id)).all()
    returned = {vote.item for vote in votes if vote.repeat}
    first = [vote for vote in votes if not vote.repeat]
    for vote in first[: max(0, len(first) - REPEAT_AFTER)]:
        if share_of("repeat", vote.item, voter) % REPEAT_EVERY == 0 and vote.item not in returned:
            return vote.item, vote.left
    return None


def next_item(connection: sa.Connection, voter: int, held: Collection[str]) -> str | None:
    """The item that lacks a vote most urgently, of those that this voter has not judged; skipped ones come last.

    `held`: items that are on the voter's screen already.
    """
    own = sa.and_(VOTES.c.item == ITEMS.c.id, VOTES.c.voter == voter, VOTES.c.repeat.is_(False))
    judged = sa.exists().where(own, COUNTS)
    skipped = sa.exists().where(own, LIVE, VOTES.c.verdict == "skip")
    lacks_vote = ITEMS.c.lacks == VOTE
    for which, needed in (
        (sa.and_(lacks_vote, ~skipped), ITEMS.c.wanted),
        (sa.and_(ITEMS.c.double, ~skipped), ITEMS.c.wanted + 1),
        (sa.and_(lacks_vote, skipped), ITEMS.c.wanted),
    ):
        # As the index has it: a number that is bound is no reason to take it.
        waiting = ITEMS.c.lacks > sa.literal_column("0")
        free = sa.select(ITEMS.c.id).where(waiting, which, ~judged, votes_on() + _leases(voter) < needed)
        if held:
            free = free.where(ITEMS.c.id.not_in(held))
        found = connection.scalar(free.order_by(ITEMS.c.urgent.desc(), ITEMS.c.place).limit(1))
        if found is not None:
            return found
    return None


def _leases(voter: int) -> sa.ScalarSelect[int]:
    """Number of other voters who have the enclosing query's item on their screens."""
    return (
        sa.select(sa.func.count())
        .select_from(SHOWINGS.outerjoin(VOTES, VOTES.c.showing == SHOWINGS.c.id))
        .where(SHOWINGS.c.item == ITEMS.c.id, SHOWINGS.c.voter != voter, VOTES.c.id.is_(None))
        .where(SHOWINGS.c.shown_at > time.time() - LEASE_SECONDS)
        .correlate(ITEMS)
        .scalar_subquery()
    )


def show(connection: sa.Connection, voter: int, item: str, left: int, repeat: bool = False) -> Showing:
    """Store that a voter sees an item with this answer on the left."""
    id_ = secrets.token_urlsafe(18)
    row = {"id": id_, "item": item, "voter": voter, "repeat": repeat, "left": left, "shown_at": time.time()}
    connection.execute(SHOWINGS.insert().values(row))
    return shown(connection, id_)


def shown(connection: sa.Connection, showing: str) -> Showing:
    """A stored showing."""
    both = sa.select(SHOWINGS.c.left, ITEMS).join(ITEMS, ITEMS.c.id == SHOWINGS.c.item).where(SHOWINGS.c.id == showing)
    row = connection.execute(both).one()
    answers = json.loads(row.answers)
    question, messages = json.loads(row.question), json.loads(row.messages)
    return Showing(showing, question, messages, answers[row.left], answers[1 - row.left])
