"""Votes without people: databases with items, simulated voters, and rows as they would be stored."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sparring.votes.ballot import Ballot
from sparring.votes.database import Database, open_database
from sparring.votes.items import Item, Showing, make_item
from sparring.votes.people import named_voter
from sparring.votes.records import Record

TO_VERSION_1 = (
    *("DROP TABLE tries", "DROP INDEX items_waiting", "DROP INDEX items_wanted"),
    "ALTER TABLE items DROP COLUMN lacks",
    "CREATE INDEX items_in_order ON items (urgent DESC, place)",
    "UPDATE settings SET value = '1' WHERE name = 'version'",
)
"""what makes a database of votes one of before"""
QUESTION = "Which answer is better?"


def item(number: int) -> Item:
    prompt = [{"role": "user", "content": f"question {number}"}]
    return make_item(QUESTION, prompt, f"good answer {number}", f"bad answer {number}")[0]


def ballot_in(folder: Path, items: int = 0, wanted: int = 1) -> Ballot:
    ballot = Ballot(open_database(folder / "votes.sqlite"))
    ballot.ask([item(i) for i in range(items)], wanted, skips=3)
    return ballot


def voter(database: Database, name: str = "Ada") -> int:
    return named_voter(database, name).id


def honest(showing: Showing) -> str:
    return "left" if showing.left.startswith("good") else "right"


def vote_all(ballot: Ballot, who: int, verdict: Callable[[Showing], str] = honest, most: int = 1000) -> int:
    """Vote until nothing is shown any more; returns how often."""
    for count in range(most):
        if (showing := ballot.next_showing(who)) is None:
            return count
        ballot.vote(who, showing.id, verdict(showing), seconds=2.0)
    return most


def record(
    name: str, voter: str, verdict: str, left: int = 0, repeat: bool = False, seconds: float | None = 2.0
) -> Record:
    return Record(
        item=name,
        showing=f"{name} {voter} {repeat}",
        question=QUESTION,
        messages=[{"role": "user", "content": name}],
        answers=("a", "b"),
        left=left,
        verdict=verdict,  # type: ignore[arg-type]
        voter=voter,
        repeat=repeat,
        seconds=seconds,
        voted_at=0.0,
        undone=False,
    )
