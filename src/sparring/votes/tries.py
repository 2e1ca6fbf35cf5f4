"""Preferences given in a conversation with stored policies: votes like others, that no oracle ever reads.

Their items are marked, so that they are never the items of an oracle's question, whatever the texts: who chats has
chosen the policies, and may have their names in sight. Each is stored with the policies of both sides and whether their
names were hidden. They do not return to their voter, are taken out of agreement, and can be exported (`exports.py`).
Leaves out: the conversation (`serve/talks.py`).

    store_try(database, voter, messages, (a, b), Tried("run:0 (3f...)", "run:2 (a1...)", blind=True), 0, "left", 4.2)
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from sparring.votes.database import Database
from sparring.votes.items import VERDICTS, Item, Late, Messages, Verdict, make_item
from sparring.votes.tables import ITEMS, SHOWINGS, TRIES, VOTES

ROOM = "try"
QUESTION = "Which answer do you prefer?"
LONGEST_NAME = 300
"""characters of a policy's name; longer ones are cut"""


@dataclass(frozen=True, slots=True)
class Tried:
    """Whose answers were compared."""

    left: str
    """RUN:ROUND and the first digits of the weights' hash"""
    right: str
    blind: bool
    """whether the voter saw no names until the preference was stored"""


def tried_item(messages: Messages, a: str, b: str) -> tuple[Item, int]:
    """The item of two answers in a conversation, and the place of `a`."""
    return make_item(QUESTION, messages, a, b, room=ROOM)


def store_try(
    database: Database,
    voter: int,
    showing: str,
    messages: Messages,
    sides: tuple[str, str],
    tried: Tried,
    verdict: str,
    seconds: float | None = None,
    voted_at: float | None = None,
) -> bool:
    """Store a preference between the answers `sides`, left and right; False where this showing has one already.

    Raises:
        Late: this voter judged the same two answers to the same turns before; that vote stays.
        ValueError: no such verdict.
    """
    if verdict not in VERDICTS:
        raise ValueError(f"verdict {verdict!r}: there is none of this name. Give one of {', '.join(VERDICTS)}.")
    (item, left), at = tried_item(messages, *sides), time.time() if voted_at is None else voted_at
    try:
        with database.write() as connection:
            known = connection.scalar(sa.select(VOTES.c.verdict).where(VOTES.c.showing == showing))
            if known is not None:
                if known != verdict:
                    raise Late("you gave a preference here before. That one counts, and this one does not.")
                return False
            _put_item(connection, item)
            where = {"item": item.id, "voter": voter, "repeat": False, "left": left}
            connection.execute(SHOWINGS.insert().values(id=showing, shown_at=at, **where))
            names = {"left_policy": tried.left[:LONGEST_NAME], "right_policy": tried.right[:LONGEST_NAME]}
            connection.execute(TRIES.insert().values(showing=showing, blind=tried.blind, **names))
            said: dict[str, Verdict | float | None] = {"verdict": verdict, "seconds": seconds, "voted_at": at}  # type: ignore[dict-item]
            connection.execute(VOTES.insert().values(showing=showing, **where, **said))
    except IntegrityError as error:
        raise Late(
            "you judged the same two answers to the same turns before. That vote counts, this one does not."
        ) from error
    return True


def _put_item(connection: sa.Connection, item: Item) -> None:
    if connection.scalar(sa.select(ITEMS.c.id).where(ITEMS.c.id == item.id)) is not None:
        return
    texts = {
        "question": json.dumps(item.question),
        "messages": json.dumps([dict(one) for one in item.messages]),
        "answers": json.dumps(item.answers),
    }
    nobody = {"wanted": 0, "skips": 1, "double": False, "urgent": False, "place": 0}
    connection.execute(ITEMS.insert().values(id=item.id, **texts, **nobody))
