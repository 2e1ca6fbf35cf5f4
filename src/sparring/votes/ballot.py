"""The ballot: items that oracles ask for, what voters are shown, and their votes.

An item is two answers to a prompt, whichever was sampled by whom. A voter sees it with one of them on the left, by a
hash of item and voter; a vote is stored as it was shown. A vote is on disk before anybody is told that it counts, is
stored once however often it is sent, and belongs to a showing: nobody votes on what they were not shown. Leaves out:
who sees what next (`choosing.py`), preferences of conversations (`tries.py`), and what votes mean as a preference
(`oracles/people.py`).

    ballot = Ballot(database); ballot.ask([item], wanted=1, skips=3)
    showing = ballot.next_showing(voter); ballot.vote(voter, showing.id, "left", seconds=4.2)
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from sparring.votes.choosing import due_repeat, is_double, next_item, pending, show, shown
from sparring.votes.counting import (
    ASKED_FOR,
    LIVE,
    VOTE,
    Standing,
    Tally,
    chunks,
    count,
    hold,
    missing,
    settle,
    tallies,
)
from sparring.votes.database import Database
from sparring.votes.items import VERDICTS, Item, Late, NotShown, Showing, left_place
from sparring.votes.order import places
from sparring.votes.tables import COUNTS, ITEMS, SHOWINGS, VOTES

UNDO_LAST = 20
"""votes that may be taken back"""


class Ballot:
    """Items, showings and votes of a database."""

    def __init__(self, database: Database) -> None:
        self.database = database

    # ---- for oracles ---------------------------------------------------------------------------

    def ask(self, items: Iterable[Item], wanted: int, skips: int, urgent: bool = False) -> None:
        """Put items before the voters, `wanted` votes each, or `skips` skips; `urgent` ones come first."""
        new = {item.id: item for item in items}
        order = places(new)
        with self.database.write() as connection:
            first = (connection.scalar(sa.select(sa.func.max(ITEMS.c.place))) or 0) + 1
            for ids in chunks(new):
                rows = hold(connection, ids)
                known = {row.id for row in rows}
                more = [row.id for row in rows if row.wanted < wanted]
                raised = {"wanted": wanted, "skips": skips, "closed_at": None}
                connection.execute(ITEMS.update().where(ITEMS.c.id.in_(more)).values(**raised))
                if urgent:
                    connection.execute(ITEMS.update().where(ITEMS.c.id.in_(ids)).values(urgent=True))
                fresh = [_item_row(new[id_], wanted, skips, urgent) for id_ in ids if id_ not in known]
                if fresh:
                    rows = [{**row, "place": first + order[row["id"]]} for row in fresh]
                    connection.execute(ITEMS.insert(), rows)
                settle(connection, ids)

    def tallies(self, ids: Sequence[str]) -> dict[str, Tally]:
        """The votes that count on each of these items."""
        with self.database.read() as connection:
            return tallies(connection, ids)

    def close(self, ids: Sequence[str], grace: float = 0.0) -> dict[str, Tally] | None:
        """The tallies, from now on final, where no item lacks a vote; else None.

        `grace`: seconds since the last vote, within which its voter may still take it back.
        """
        with self.database.write() as connection:
            for part in chunks(ids):
                hold(connection, part)
            if missing(connection, ids):
                return None
            still = ITEMS.c.closed_at.is_(None)
            for part in chunks(ids):
                last = connection.scalar(
                    sa.select(sa.func.max(VOTES.c.voted_at))
                    .join(ITEMS, ITEMS.c.id == VOTES.c.item)
                    .where(VOTES.c.item.in_(part), LIVE, still)
                )
                if last is not None and 0 <= time.time() - last < grace:  # a clock that is ahead delays nothing
                    return None
            now = time.time()
            for part in chunks(ids):
                connection.execute(ITEMS.update().where(ITEMS.c.id.in_(part), still).values(closed_at=now))
            settle(connection, ids)
            return tallies(connection, ids)

    def missing(self, ids: Sequence[str]) -> int:
        """How many of these items lack a vote."""
        with self.database.read() as connection:
            return missing(connection, ids)

    # ---- for voters ----------------------------------------------------------------------------

    def next_showing(self, voter: int, after: str | None = None) -> Showing | None:
        """What this voter is to see now; None where nothing waits for him. The same again until he has voted on it.

        `after`: the showing on his screen; then it is what comes after it, and already his.
        """
        with self.database.read() as connection:  # most often it waits already, and readers wait for nobody
            if (first := _first(pending(connection, voter), after)) is not None:
                return shown(connection, first)
        with self.database.write(durable=False) as connection:
            waiting = pending(connection, voter)
            if (first := _first(waiting, after)) is not None:
                return shown(connection, first)
            held = [row.item for row in waiting]
            if (again := due_repeat(connection, voter)) is not None and again[0] not in held:
                item, left = again
                return show(connection, voter, item, 1 - left, repeat=True)
            item = next_item(connection, voter, held)
            return None if item is None else show(connection, voter, item, left_place(item, voter))

    def vote(self, voter: int, showing: str, verdict: str, seconds: float | None = None) -> bool:
        """Store a vote; False where this very showing has one already, such as after a lost connection.

        Raises:
            NotShown: it was not shown to this voter.
            Late: the voter judged the item elsewhere meanwhile; the first vote stays.
            ValueError: no such verdict.
        """
        if verdict not in VERDICTS:
            raise ValueError(f"verdict {verdict!r}: there is none of this name. Give one of {', '.join(VERDICTS)}.")
        try:
            with self.database.write() as connection:
                where = sa.and_(SHOWINGS.c.id == showing, SHOWINGS.c.voter == voter)
                shown = connection.execute(sa.select(SHOWINGS).where(where)).one_or_none()
                if shown is None:
                    raise NotShown("this pair was not shown to you by this server. Nothing was stored; take the next.")
                hold(connection, [shown.item])
                known = connection.scalar(sa.select(VOTES.c.verdict).where(VOTES.c.showing == showing))
                if known is not None:
                    if known != verdict:
                        raise Late("you voted on this pair in another tab. That vote counts, and this one does not.")
                    return False
                connection.execute(
                    VOTES.insert().values(
                        showing=showing,
                        item=shown.item,
                        voter=voter,
                        repeat=shown.repeat,
                        left=shown.left,
                        verdict=verdict,
                        seconds=seconds,
                        voted_at=time.time(),
                    )
                )
                settle(connection, [shown.item])
        except IntegrityError as error:
            raise Late("you voted on this pair in another tab. That vote counts, and this one does not.") from error
        return True

    def undo(self, voter: int) -> Showing:
        """Take back the voter's last vote, and show the pair as it was.

        Raises:
            Late: there is none, it is not among the last ones, or it is used already.
        """
        with self.database.write() as connection:
            mine = sa.select(VOTES).where(VOTES.c.voter == voter, ASKED_FOR)
            last = connection.execute(mine.order_by(VOTES.c.id.desc()).limit(UNDO_LAST)).all()
            vote = next((row for row in last if row.undone_at is None), None)
            if vote is None:
                raise Late("there is no vote of yours to take back.")
            hold(connection, [vote.item])
            closed = connection.scalar(sa.select(ITEMS.c.closed_at).where(ITEMS.c.id == vote.item))
            if closed is not None and not vote.repeat:
                raise Late("your last vote is used already, and cannot be taken back any more.")
            connection.execute(VOTES.update().where(VOTES.c.id == vote.id).values(undone_at=time.time()))
            settle(connection, [vote.item])
            # What is on the voter's screen now must not come first.
            unanswered = SHOWINGS.c.id.not_in(sa.select(VOTES.c.showing))
            connection.execute(SHOWINGS.delete().where(SHOWINGS.c.voter == voter, unanswered))
            return show(connection, voter, vote.item, vote.left, vote.repeat)

    def standing(self) -> Standing:
        """How far the voting is."""
        with self.database.read() as connection:
            return Standing(
                wanted=count(connection, ITEMS, ITEMS.c.wanted > 0),
                # `wanted` only for the index: what lacks a vote is wanted.
                open=count(connection, ITEMS, sa.and_(ITEMS.c.wanted > 0, ITEMS.c.lacks == VOTE)),
                votes=count(connection, VOTES, sa.and_(COUNTS, ASKED_FOR)),
            )

    def votes_of(self, voter: int) -> int:
        """How many votes of this voter count."""
        with self.database.read() as connection:
            return count(connection, VOTES, sa.and_(COUNTS, ASKED_FOR, VOTES.c.voter == voter))


def _first(waiting: Sequence[sa.Row], after: str | None) -> str | None:
    """The first of these showings, but for the one on the voter's screen."""
    return next((row.id for row in waiting if row.id != after), None)


def _item_row(item: Item, wanted: int, skips: int, urgent: bool) -> dict[str, Any]:
    return {
        "id": item.id,
        "question": json.dumps(item.question),
        "messages": json.dumps([dict(one) for one in item.messages]),
        "answers": json.dumps(item.answers),
        "wanted": wanted,
        "skips": skips,
        "double": is_double(item.id),
        "urgent": urgent,
    }
