"""Votes from files: ours, Chatbot Arena's columns, Label Studio, Argilla, and labelled pairs.

The format shows by the columns. A vote that is there already is not stored again, so that a file may be imported twice.
Rows that hold no vote are counted by reason. Leaves out: files of other columns; rename them.

    added, dropped = import_votes(database, rows, question="Which answer is better?")
"""

from __future__ import annotations

import math
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from sparring.models.messages import conversation, prompt_turns
from sparring.votes.ballot import Ballot
from sparring.votes.counting import hold, settle
from sparring.votes.database import Database
from sparring.votes.exports import ARENA, ARGILLA
from sparring.votes.items import VERDICTS, Item, Late, answer_meant, make_item
from sparring.votes.people import checked_name, named_voter
from sparring.votes.tables import SHOWINGS, VOTES
from sparring.votes.tries import ROOM, Tried, store_try, tried_item

Row = Mapping[str, Any]
CANCELLED = "cancelled"
UNNAMED = "imported"
"""the voter of a file that names none"""
OTHER_WINNERS = {"tie (bothbad)": "both_bad", "bothbad": "both_bad", "both_bad": "both_bad", "tie": "tie"}


class Given(NamedTuple):
    """A vote in a file."""

    question: str | None
    messages: list[dict[str, str]]
    left: str
    right: str
    verdict: str
    voter: str
    repeat: bool = False
    seconds: float | None = None
    voted_at: float | None = None
    id: str | None = None
    tried: Tried | None = None
    """whose answers these are, where the vote was given in a conversation"""


class Imported(NamedTuple):
    """How many votes were stored, how many were there already, and rows without a vote by reason."""

    added: int
    known: int
    dropped: Counter[str]


def import_votes(database: Database, rows: Sequence[Row], question: str) -> Imported:
    """Store the votes of a file's rows.

    Raises:
        ValueError: the columns are of no format, or no row holds a vote.
    """
    read, dropped, given = _reader(rows), Counter[str](), list[tuple[Given, Item, int]]()
    for row in rows:
        try:
            for vote in read(row):
                try:
                    given.append((_checked(vote), *_item(vote, question)))
                except ValueError as error:
                    dropped[str(error)] += 1
        except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            reason = str(error) if isinstance(error, ValueError) else f"a row of another form ({error})"
            dropped[reason] += 1
    if not given:
        reasons = "; ".join(f"{count} x {reason}" for reason, count in dropped.items()) or "it has no rows"
        raise ValueError(f"the file holds no vote: {reasons}.")
    Ballot(database).ask((item for vote, item, _ in given if vote.tried is None), wanted=0, skips=1)
    voters = {name: named_voter(database, name, "voter").id for name in {vote.voter for vote, _, _ in given}}
    added = known = 0
    for vote, item, left in given:
        try:
            new = _stored(database, vote, item, left, voters[vote.voter])
        except Late as error:
            dropped[str(error)] += 1
        else:
            added, known = added + new, known + (not new)
    return Imported(added, known, dropped)


def _checked(vote: Given) -> Given:
    """The vote with a name, numbers and an id that can be stored. Raises ValueError where it has none."""
    if not isinstance(vote.id, str | None):
        raise ValueError("the id is no text")
    numbers = {name: _number(getattr(vote, name), name) for name in ("seconds", "voted_at")}
    return vote._replace(voter=checked_name(vote.voter), **numbers)


def _number(value: Any, name: str) -> float | None:
    if value is None or value == "":
        return None
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{name} is no number of seconds")
    return number


def _flag(value: Any, name: str) -> bool:
    """Whether it is set; tables of text say it in words."""
    said = str(value).strip().casefold()
    if value is None or said in ("", "false", "0", "0.0"):
        return False
    if said in ("true", "1", "1.0"):
        return True
    raise ValueError(f"{name} is neither true nor false")


def _item(vote: Given, question: str) -> tuple[Item, int]:
    left, right = vote.left.strip(), vote.right.strip()
    if vote.verdict == CANCELLED:
        raise ValueError("a cancelled annotation")
    if vote.verdict not in VERDICTS:
        raise ValueError(f"the verdict is none of {', '.join(VERDICTS)}")
    if left == right or not (left and right):
        raise ValueError("the answers are equal, or one is empty")
    if vote.tried is not None:
        return tried_item(vote.messages, vote.left, vote.right)
    return make_item(vote.question or question, vote.messages, left, right)


def _stored(database: Database, vote: Given, item: Item, left: int, voter: int) -> bool:
    """Whether the vote was new; false where it is there already, also taken back.

    Raises:
        Late: the place that it would take is another vote's.
    """
    meant = answer_meant(left, vote.verdict)
    own = sa.and_(VOTES.c.item == item.id, VOTES.c.voter == voter, VOTES.c.repeat == vote.repeat)
    at = vote.voted_at if vote.voted_at is not None else time.time()
    showing = vote.id or f"import-{secrets.token_urlsafe(18)}"
    with database.write() as connection:
        hold(connection, [item.id])
        known = connection.execute(sa.select(VOTES).where(sa.or_(own, VOTES.c.showing == showing))).all()
        if any((one.item, one.voter, answer_meant(one.left, one.verdict)) == (item.id, voter, meant) for one in known):
            return False
        if connection.scalar(sa.select(SHOWINGS.c.id).where(SHOWINGS.c.id == showing)) is not None:
            raise Late("its id is that of another vote")
        if vote.verdict != "skip" and any(one.undone_at is None and one.verdict != "skip" for one in known):
            raise Late("the same person said otherwise of the pair")
        if vote.tried is None:
            where = {"item": item.id, "voter": voter, "repeat": vote.repeat, "left": left}
            connection.execute(SHOWINGS.insert().values(id=showing, shown_at=at, **where))
            said = {"verdict": vote.verdict, "seconds": vote.seconds, "voted_at": at}
            connection.execute(VOTES.insert().values(showing=showing, **where, **said))
            settle(connection, [item.id])
            return True
    sides = (vote.left, vote.right)
    return store_try(database, voter, showing, vote.messages, sides, vote.tried, vote.verdict, vote.seconds, at)


# ---- formats -----------------------------------------------------------------------------------


def _reader(rows: Sequence[Row]) -> Callable[[Row], Iterable[Given]]:
    columns = set(rows[0]) if rows else set()
    for needed, read in READERS:
        if needed <= columns:
            return read
    forms = "; ".join(", ".join(sorted(needed)) for needed, _ in READERS)
    raise ValueError(f"the file has the columns {', '.join(sorted(columns)) or 'of no row'}. Votes have: {forms}.")


def _own(row: Row) -> Iterator[Given]:
    if _flag(row.get("undone"), "undone"):
        raise ValueError("taken back")
    yield Given(
        row.get("question"),
        prompt_turns(row["prompt"]),
        row["left"],
        row["right"],
        row["verdict"],
        str(row.get("voter") or UNNAMED),
        _flag(row.get("repeat"), "repeat"),
        row.get("seconds"),
        row.get("voted_at"),
        row.get("id"),
        _tried(row),
    )


def _tried(row: Row) -> Tried | None:
    if row.get("room") != ROOM:
        return None
    left, right = row["policies"]
    return Tried(str(left), str(right), _flag(row.get("blind"), "blind"))


def _arena(row: Row) -> Iterator[Given]:
    conversations = [conversation(row[name]) for name in ("conversation_a", "conversation_b")]
    if conversations[0][:-1] != conversations[1][:-1] or any(one[-1]["role"] != "assistant" for one in conversations):
        raise ValueError("the conversations differ before their last answers")
    sides = {winner: verdict for verdict, winner in ARENA.items()}
    verdict = sides.get(row["winner"]) or OTHER_WINNERS.get(str(row["winner"]))
    if verdict is None:
        raise ValueError("the winner is none of model_a, model_b, tie, tie (bothbad)")
    a, b = (one[-1]["content"] for one in conversations)
    yield Given(
        None, conversations[0][:-1], a, b, verdict, str(row.get("judge") or UNNAMED), False, None, row.get("tstamp")
    )


def _label_studio(row: Row) -> Iterator[Given]:
    data, asked = row["data"], row["data"].get("prompt") or row["data"].get("question")
    for annotation in row["annotations"]:
        for result in annotation["result"]:
            value = result["value"]
            left, right = _sides(data, result.get("to_name", ""))
            verdict = value["selected"] if result["type"] == "pairwise" else value["choices"][0]
            by = annotation.get("completed_by")
            name = by.get("email") if isinstance(by, Mapping) else by
            seconds = annotation.get("lead_time")
            verdict = CANCELLED if annotation.get("was_cancelled") else verdict
            yield Given(None, prompt_turns(asked), left, right, verdict, str(name or UNNAMED), seconds=seconds)


def _sides(data: Row, to_name: str) -> tuple[str, str]:
    """The texts that a `<Pairwise>` compares: under its own names, or the usual ones."""
    names = to_name.split(",")
    for one, two in (("left", "right"), tuple(names) if len(names) == 2 else ("", ""), ("text1", "text2")):
        if one in data and two in data:
            return data[one], data[two]
    raise ValueError("the two texts are not found: name them left and right")


def _argilla(row: Row) -> Iterator[Given]:
    fields, verdicts = row["fields"], {value: verdict for verdict, value in ARGILLA.items()}
    for answer in row["responses"]["preference"]:
        verdict = verdicts.get(answer["value"]) or str(answer["value"])
        voter = str(answer.get("user_id") or UNNAMED)
        sides = fields["response_left"], fields["response_right"]
        yield Given(None, prompt_turns(fields["prompt"]), *sides, verdict, voter)


def _chosen(row: Row) -> Iterator[Given]:
    chosen, rejected = (_text(row[name]) for name in ("chosen", "rejected"))
    voter = str(row.get("voter") or UNNAMED)
    yield Given(None, prompt_turns(row["prompt"]), chosen, rejected, "left", voter)


def _text(answer: Any) -> str:
    return answer if isinstance(answer, str) else conversation(answer)[-1]["content"]


READERS: Sequence[tuple[set[str], Callable[[Row], Iterable[Given]]]] = (
    ({"prompt", "left", "right", "verdict"}, _own),
    ({"conversation_a", "conversation_b", "winner"}, _arena),
    ({"data", "annotations"}, _label_studio),
    ({"fields", "responses"}, _argilla),
    ({"prompt", "chosen", "rejected"}, _chosen),
)
