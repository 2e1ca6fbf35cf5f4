"""What is asked of people, and what they answered: items, showings and votes.

An item is two answers to a prompt, whichever was sampled by whom. A voter sees it with one of them on the left, by a
hash of item and voter; a vote is stored as it was shown. Every fifth item goes to a second voter, every tenth of a
voter's own returns to him swapped: both measure agreement (`evaluation/agreement.py`) and decide nothing. A vote is on
disk before anybody is told that it counts, is stored once however often it is sent, and belongs to a showing: nobody
votes on what they were not shown. Leaves out: what votes mean as a preference (`oracles/people.py`).

    ballot = Ballot(database); ballot.ask([item], wanted=1)
    showing = ballot.next_showing(voter); ballot.vote(voter, showing.id, "left", seconds=4.2)
"""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import sqlalchemy as sa

from sparring.votes.order import places
from sparring.votes.tables import COUNTS, ITEMS, SHOWINGS, VOTES, Database, IntegrityError

Verdict = Literal["left", "right", "tie", "both_bad", "skip"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
Messages = Sequence[Mapping[str, str]]
DOUBLE_EVERY, REPEAT_EVERY = 5, 10
"""of the items, one in so many goes to a second voter; of a voter's items, one in so many returns to him"""
REPEAT_AFTER = 5
"""votes on other items before one returns"""
LEASE_SECONDS = 120.0
"""that an item on somebody's screen is shown to nobody else"""
UNDO_LAST = 20
"""votes that may be taken back"""
CHUNK = 500
"""ids in one question to the database"""


class Item(NamedTuple):
    """A question about two different answers, in the order of their texts."""

    question: str
    """such as: Which answer is better?"""
    messages: Messages
    """the turns of the prompt"""
    answers: tuple[str, str]

    @property
    def id(self) -> str:
        """A hash of all of it."""
        content = json.dumps([self.question, [dict(one) for one in self.messages], self.answers])
        return hashlib.sha256(content.encode()).hexdigest()


def make_item(question: str, messages: Messages, a: str, b: str) -> tuple[Item, int]:
    """The item, and the place of `a` among its answers."""
    return Item(question, messages, (min(a, b), max(a, b))), int(a > b)


@dataclass(frozen=True, slots=True)
class Showing:
    """An item on a voter's screen."""

    id: str
    question: str
    messages: Messages
    left: str
    right: str


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


class NotShown(ValueError):
    """A vote on something that was not shown to this voter."""


class Late(ValueError):
    """A vote or an undoing that comes too late to count."""


def share_of(name: str, *parts: object) -> int:
    """A number that depends on nothing but these."""
    return int.from_bytes(hashlib.sha256(repr((name, *parts)).encode()).digest()[:8], "big")


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
            for ids in _chunks(new):
                rows = connection.execute(sa.select(ITEMS).where(ITEMS.c.id.in_(ids))).all()
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

    def tallies(self, ids: Sequence[str]) -> dict[str, Tally]:
        """The votes that count on each of these items."""
        with self.database.read() as connection:
            return _tallies(connection, ids)

    def close(self, ids: Sequence[str], grace: float = 0.0) -> dict[str, Tally] | None:
        """The tallies, from now on final, where no item lacks a vote; else None.

        `grace`: seconds since the last vote, within which its voter may still take it back.
        """
        with self.database.write() as connection:
            # PostgreSQL: whoever votes or takes back waits for these rows.
            for part in _chunks(ids):
                connection.execute(sa.select(ITEMS.c.id).where(ITEMS.c.id.in_(part)).with_for_update())
            if _missing(connection, ids):
                return None
            still = ITEMS.c.closed_at.is_(None)
            for part in _chunks(ids):
                last = connection.scalar(
                    sa.select(sa.func.max(VOTES.c.voted_at))
                    .join(ITEMS, ITEMS.c.id == VOTES.c.item)
                    .where(VOTES.c.item.in_(part), VOTES.c.undone_at.is_(None), still)
                )
                if last is not None and 0 <= time.time() - last < grace:  # a clock that is ahead delays nothing
                    return None
            now = time.time()
            for part in _chunks(ids):
                connection.execute(ITEMS.update().where(ITEMS.c.id.in_(part), still).values(closed_at=now))
            return _tallies(connection, ids)

    def missing(self, ids: Sequence[str]) -> int:
        """How many of these items lack a vote."""
        with self.database.read() as connection:
            return _missing(connection, ids)

    # ---- for voters ----------------------------------------------------------------------------

    def next_showing(self, voter: int) -> Showing | None:
        """What this voter is to see now; None where nothing waits for him. The same again until he has voted on it."""
        with self.database.write(durable=False) as connection:
            if (pending := _pending(connection, voter)) is not None:
                return _shown(connection, pending.id)
            if (again := _due_repeat(connection, voter)) is not None:
                item, left = again
                return _show(connection, voter, item, 1 - left, repeat=True)
            item = _next_item(connection, voter)
            return None if item is None else _show(connection, voter, item, share_of("left", item, voter) % 2)

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
                _hold(connection, shown.item)
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
        except IntegrityError as error:
            raise Late("you voted on this pair in another tab. That vote counts, and this one does not.") from error
        return True

    def undo(self, voter: int) -> Showing:
        """Take back the voter's last vote, and show the pair as it was.

        Raises:
            Late: there is none, it is not among the last ones, or it is used already.
        """
        with self.database.write() as connection:
            mine = sa.select(VOTES).where(VOTES.c.voter == voter)
            last = connection.execute(mine.order_by(VOTES.c.id.desc()).limit(UNDO_LAST)).all()
            vote = next((row for row in last if row.undone_at is None), None)
            if vote is None:
                raise Late("there is no vote of yours to take back.")
            _hold(connection, vote.item)
            closed = connection.scalar(sa.select(ITEMS.c.closed_at).where(ITEMS.c.id == vote.item))
            if closed is not None and not vote.repeat:
                raise Late("your last vote is used already, and cannot be taken back any more.")
            connection.execute(VOTES.update().where(VOTES.c.id == vote.id).values(undone_at=time.time()))
            # What is on the voter's screen now must not come first.
            unanswered = SHOWINGS.c.id.not_in(sa.select(VOTES.c.showing))
            connection.execute(SHOWINGS.delete().where(SHOWINGS.c.voter == voter, unanswered))
            return _show(connection, voter, vote.item, vote.left, vote.repeat)

    def standing(self) -> Standing:
        """How far the voting is."""
        with self.database.read() as connection:
            return Standing(
                wanted=_count(connection, ITEMS, ITEMS.c.wanted > 0),
                open=_count(connection, ITEMS, _lacking()),
                votes=_count(connection, VOTES, COUNTS),
            )

    def votes_of(self, voter: int) -> int:
        """How many votes of this voter count."""
        with self.database.read() as connection:
            return _count(connection, VOTES, sa.and_(COUNTS, VOTES.c.voter == voter))


def _item_row(item: Item, wanted: int, skips: int, urgent: bool) -> dict[str, Any]:
    return {
        "id": item.id,
        "question": json.dumps(item.question),
        "messages": json.dumps([dict(one) for one in item.messages]),
        "answers": json.dumps(item.answers),
        "wanted": wanted,
        "skips": skips,
        "double": share_of("double", item.id) % DOUBLE_EVERY == 0,
        "urgent": urgent,
    }


def _chunks(ids: Iterable[str]) -> Iterator[list[str]]:
    listed = sorted(ids)
    return (listed[begin : begin + CHUNK] for begin in range(0, len(listed), CHUNK))


def _tallies(connection: sa.Connection, ids: Sequence[str]) -> dict[str, Tally]:
    votes: dict[str, list[int | str]] = {id_: [] for id_ in ids}
    skips = dict.fromkeys(ids, 0)
    live = sa.and_(VOTES.c.undone_at.is_(None), VOTES.c.repeat.is_(False))
    for part in _chunks(ids):
        rows = sa.select(VOTES.c.item, VOTES.c.left, VOTES.c.verdict).where(live, VOTES.c.item.in_(part))
        for item, left, verdict in connection.execute(rows.order_by(VOTES.c.id)):
            if verdict == "skip":
                skips[item] += 1
            else:
                votes[item].append(answer_meant(left, verdict))
    return {id_: Tally(tuple(votes[id_]), skips[id_]) for id_ in ids}


def answer_meant(left: int, verdict: str) -> int | str:
    """Which of an item's answers a verdict is for, by which of them was on the left; other verdicts unchanged."""
    return {"left": left, "right": 1 - left}.get(verdict, verdict)


def _count(connection: sa.Connection, table: sa.Table, which: sa.ColumnElement[bool]) -> int:
    return connection.scalar(sa.select(sa.func.count()).select_from(table).where(which)) or 0


def _missing(connection: sa.Connection, ids: Sequence[str]) -> int:
    return sum(_count(connection, ITEMS, sa.and_(ITEMS.c.id.in_(part), _lacking())) for part in _chunks(ids))


def _lacking() -> sa.ColumnElement[bool]:
    """Whether the item of the enclosing query lacks a vote."""
    skips = _votes_on(sa.and_(VOTES.c.undone_at.is_(None), VOTES.c.verdict == "skip"))
    return sa.and_(ITEMS.c.closed_at.is_(None), _votes_on() < ITEMS.c.wanted, skips < ITEMS.c.skips)


def _votes_on(which: sa.ColumnElement[bool] = COUNTS) -> sa.ScalarSelect[int]:
    """Number of votes, repeats apart, on the item of the enclosing query."""
    return (
        sa.select(sa.func.count())
        .select_from(VOTES)
        .where(VOTES.c.item == ITEMS.c.id, VOTES.c.repeat.is_(False), which)
        .correlate(ITEMS)
        .scalar_subquery()
    )


def _hold(connection: sa.Connection, item: str) -> None:
    """Wait for whoever closes or judges the item now (PostgreSQL; writers of SQLite wait anyway)."""
    connection.execute(sa.select(ITEMS.c.id).where(ITEMS.c.id == item).with_for_update())


def _pending(connection: sa.Connection, voter: int) -> sa.Row | None:
    """The showing on which this voter has yet to vote, where his vote is still wanted."""
    last = connection.execute(
        sa.select(SHOWINGS, ITEMS.c.closed_at)
        .join(ITEMS, ITEMS.c.id == SHOWINGS.c.item)
        .outerjoin(VOTES, VOTES.c.showing == SHOWINGS.c.id)
        .where(SHOWINGS.c.voter == voter, VOTES.c.id.is_(None))
        .order_by(SHOWINGS.c.shown_at.desc())
        .limit(1)
    ).one_or_none()
    return None if last is None or (last.closed_at is not None and not last.repeat) else last


def _due_repeat(connection: sa.Connection, voter: int) -> tuple[str, int] | None:
    """An item that returns to its voter now, and its answer that was on the left; None where none does."""
    mine = sa.select(VOTES.c.item, VOTES.c.left, VOTES.c.repeat).where(VOTES.c.voter == voter, COUNTS)
    votes = connection.execute(mine.order_by(VOTES.c.id)).all()
    returned = {vote.item for vote in votes if vote.repeat}
    first = [vote for vote in votes if not vote.repeat]
    for vote in first[: max(0, len(first) - REPEAT_AFTER)]:
        if share_of("repeat", vote.item, voter) % REPEAT_EVERY == 0 and vote.item not in returned:
            return vote.item, vote.left
    return None


def _next_item(connection: sa.Connection, voter: int) -> str | None:
    """The item that lacks a vote most urgently, of those that this voter has not judged; skipped ones come last."""
    mine = sa.and_(VOTES.c.item == ITEMS.c.id, VOTES.c.voter == voter, VOTES.c.repeat.is_(False))
    judged, live = sa.exists().where(mine, COUNTS), VOTES.c.undone_at.is_(None)
    skipped = sa.exists().where(mine, live, VOTES.c.verdict == "skip")
    lacking = _lacking()
    second = sa.and_(ITEMS.c.double, ITEMS.c.wanted > 0)
    for which, needed in (
        (sa.and_(lacking, ~skipped), ITEMS.c.wanted),
        (sa.and_(second, ~skipped), ITEMS.c.wanted + 1),
        (sa.and_(lacking, skipped), ITEMS.c.wanted),
    ):
        free = sa.select(ITEMS.c.id).where(which, ~judged, _votes_on() + _leases(voter) < needed)
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


def _show(connection: sa.Connection, voter: int, item: str, left: int, repeat: bool = False) -> Showing:
    id_ = secrets.token_urlsafe(18)
    row = {"id": id_, "item": item, "voter": voter, "repeat": repeat, "left": left, "shown_at": time.time()}
    connection.execute(SHOWINGS.insert().values(row))
    return _shown(connection, id_)


def _shown(connection: sa.Connection, showing: str) -> Showing:
    both = sa.select(SHOWINGS.c.left, ITEMS).join(ITEMS, ITEMS.c.id == SHOWINGS.c.item).where(SHOWINGS.c.id == showing)
    row = connection.execute(both).one()
    answers = json.loads(row.answers)
    question, messages = json.loads(row.question), json.loads(row.messages)
    return Showing(showing, question, messages, answers[row.left], answers[1 - row.left])
