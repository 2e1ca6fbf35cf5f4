"""Preferences of conversations: stored as votes, never an oracle's, out of agreement, and exported with their names."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from sparring.evaluation.ratings import rate, read_matches
from sparring.runtime.files import write_json_lines
from sparring.votes.ballot import Ballot
from sparring.votes.counting import Standing
from sparring.votes.database import Database, open_database
from sparring.votes.exports import exported
from sparring.votes.imports import import_votes
from sparring.votes.items import Late, make_item
from sparring.votes.records import asked_for, read_records
from sparring.votes.tries import QUESTION, Tried, store_try
from vote_fakes import TO_VERSION_1, ballot_in, vote_all, voter

ASKED = [{"role": "user", "content": "hello"}]
BLIND = Tried("run:0 (aa)", "run:2 (bb)", blind=True)
SEEN = Tried("run:0 (aa)", "run:2 (bb)", blind=False)


def give(database: Database, number: int, verdict: str = "right", tried: Tried = BLIND, who: str = "Ada") -> bool:
    sides = (f"start says {number}", f"final says {number}")
    return store_try(database, voter(database, who), f"turn-{number}", ASKED, sides, tried, verdict, seconds=3.0)


def test_a_preference_is_stored_once_as_it_was_shown(tmp_path: Path):
    database = ballot_in(tmp_path).database
    assert give(database, 1)
    assert not give(database, 1)
    with pytest.raises(Late, match="gave a preference here before"):
        give(database, 1, "left")
    with pytest.raises(ValueError, match="verdict 'best'"):
        give(database, 2, "best")
    (record,) = read_records(database)
    assert record.shown == ("start says 1", "final says 1")
    assert (record.verdict, record.tried, record.voter, record.seconds) == ("right", BLIND, "Ada", 3.0)
    assert asked_for([record]) == []


def test_the_same_answers_to_the_same_turns_are_judged_once_by_a_person(tmp_path: Path):
    database = ballot_in(tmp_path).database
    for showing, verdict in (("one", "left"), ("two", "right")):
        arguments = (ASKED, ("a", "b"), BLIND, verdict)
        if showing == "one":
            store_try(database, voter(database), showing, *arguments)
            continue
        with pytest.raises(Late, match="the same two answers"):
            store_try(database, voter(database), showing, *arguments)
    assert [record.verdict for record in read_records(database)] == ["left"]


def test_no_oracle_reads_it_even_where_the_texts_and_the_question_are_its_own(tmp_path: Path):
    ballot = ballot_in(tmp_path)
    give(ballot.database, 1)
    item, _ = make_item(QUESTION, ASKED, "start says 1", "final says 1")
    ballot.ask([item], wanted=1, skips=3)
    assert (ballot.missing([item.id]), ballot.standing().votes) == (1, 0)
    assert ballot.tallies([item.id])[item.id].votes == ()


def test_it_returns_to_nobody_and_is_not_taken_back_in_the_vote_room(tmp_path: Path):
    ballot = ballot_in(tmp_path)
    ada = voter(ballot.database)
    for number in range(80):  # every tenth vote of the Vote room would return
        give(ballot.database, number)
    assert ballot.next_showing(ada) is None
    assert ballot.votes_of(ada) == 0
    with pytest.raises(Late, match="no vote of yours"):
        ballot.undo(ada)


def test_a_database_of_version_1_is_completed_and_keeps_its_votes(tmp_path: Path):
    ballot = ballot_in(tmp_path, items=5)
    ada = voter(ballot.database)
    for _ in range(3):
        showing = ballot.next_showing(ada)
        assert showing is not None
        ballot.vote(ada, showing.id, "left")
    ballot.database.close()
    with sqlite3.connect(tmp_path / "votes.sqlite") as old:
        for change in TO_VERSION_1:
            old.execute(change)
    old.close()
    for _ in range(2):
        database = open_database(tmp_path / "votes.sqlite", make=False)
        assert len(read_records(database)) == 3
        assert Ballot(database).standing() == Standing(wanted=5, open=2, votes=3)
        database.close()
    assert give(open_database(tmp_path / "votes.sqlite"), 1)


def test_exports_name_policies_and_leave_out_what_was_given_with_names_in_sight(tmp_path: Path):
    ballot = ballot_in(tmp_path, items=2)
    vote_all(ballot, voter(ballot.database))
    give(ballot.database, 1)
    give(ballot.database, 2, tried=SEEN)
    records = read_records(ballot.database)
    trl = exported(records, "trl", room="try")
    assert trl.rows == [{"prompt": "hello", "chosen": "final says 1", "rejected": "start says 1"}]
    assert trl.dropped["given with the policies' names in sight"] == 1
    assert trl.dropped["of the other room (--room try)"] == 2
    assert len(exported(records, "labelled").rows) == 3
    assert len(exported(records, "trl", room="vote").rows) == 2
    assert [row["room"] for row in exported(records, "jsonl").rows] == ["vote", "vote", "try", "try"]
    arena = exported(records, "arena", room="try").rows
    assert [(row["model_a"], row["model_b"], row["winner"], row["anony"]) for row in arena] == [
        ("run:0 (aa)", "run:2 (bb)", "model_b", True),
        ("run:0 (aa)", "run:2 (bb)", "model_b", False),
    ]
    with pytest.raises(ValueError, match="--room 'kitchen'"):
        exported(records, "trl", room="kitchen")


def test_exported_preferences_can_be_rated_by_policy(tmp_path: Path):
    database = ballot_in(tmp_path).database
    for number in range(12):
        give(database, number, "right" if number % 4 else "left", who="Ada" if number % 2 else "Bob")
    write_json_lines(tmp_path / "arena.jsonl", exported(read_records(database), "arena").rows)
    rated = rate(read_matches(tmp_path / "arena.jsonl"), "bradley-terry", 50, 0)
    assert [row.name for row in rated.rows] == ["run:2 (bb)", "run:0 (aa)"]


def test_our_own_format_brings_them_back_as_they_were_and_they_stay_no_oracles(tmp_path: Path):
    database = ballot_in(tmp_path).database
    give(database, 1)
    give(database, 2, "both_bad", SEEN)
    rows = exported(read_records(database), "jsonl").rows
    other = Ballot(open_database(tmp_path / "other.sqlite"))
    assert import_votes(other.database, rows, "?")[:2] == (2, 0)
    assert import_votes(other.database, rows, "?")[:2] == (0, 2)
    assert exported(read_records(other.database), "jsonl").rows == rows
    assert other.standing().votes == 0
