"""Votes to files and back: what each format keeps, and that nothing is counted twice."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sparring.oracles.labelled import read_labelled
from sparring.votes.ballot import Ballot
from sparring.votes.database import open_database
from sparring.votes.exports import FORMS, exported
from sparring.votes.imports import import_votes
from sparring.votes.items import Item, make_item
from sparring.votes.records import Record, read_records
from vote_fakes import QUESTION, ballot_in, honest, item, vote_all, voter

TURNS = [
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello."},
    {"role": "user", "content": "And now?"},
]


@pytest.fixture
def voted(tmp_path: Path) -> Ballot:
    """Thirty pairs, one of several turns, a tie, a both bad, a skip and a vote that was taken back."""
    ballot = ballot_in(tmp_path, items=30)
    ballot.ask([make_item(QUESTION, TURNS, "good talk", "bad talk")[0]], 1, 3, urgent=True)
    ada = voter(ballot.database)
    for verdict in ("left", "tie", "both_bad", "skip"):
        showing = ballot.next_showing(ada)
        assert showing is not None
        ballot.vote(ada, showing.id, verdict, 1.5)
    showing = ballot.next_showing(ada)
    assert showing is not None
    ballot.vote(ada, showing.id, "right")
    ballot.undo(ada)
    vote_all(ballot, ada, honest, most=40)
    vote_all(ballot, voter(ballot.database, "Bob"), honest)
    return ballot


def meant(records: list[Record]) -> set[tuple[str, str, object, bool]]:
    return {(r.item, r.voter, r.meant, r.repeat) for r in records if r.counts}


@pytest.mark.parametrize("form", [form for form in FORMS if form not in ("trl", "labelled")])
def test_votes_come_back_as_they_went(voted: Ballot, tmp_path: Path, form: str):
    records = read_records(voted.database)
    rows, dropped = exported(records, form)
    rows = json.loads(json.dumps(rows))
    there = open_database(tmp_path / "there.sqlite")
    added, known, _ = import_votes(there, rows, QUESTION)
    kept = [r for r in records if not r.repeat] if form != "jsonl" else records
    assert meant(read_records(there)) == meant(kept)
    assert known == 0
    assert import_votes(there, rows, QUESTION)[:2] == (0, added)
    if form != "jsonl":
        assert dropped["taken back"] == 1
        assert dropped["skipped"] == 1


def test_our_own_format_keeps_sides_times_and_order(voted: Ballot, tmp_path: Path):
    there = open_database(tmp_path / "there.sqlite")
    import_votes(there, exported(read_records(voted.database), "jsonl").rows, "another question")
    before = [r for r in read_records(voted.database) if not r.undone]
    assert read_records(there) == before


def test_pairs_for_trl_have_a_winner_and_count_what_has_none(voted: Ballot):
    rows, dropped = exported(read_records(voted.database), "trl")
    assert (dropped["tie"], dropped["both_bad"]) == (1, 1)
    talks = [row for row in rows if isinstance(row["prompt"], list)]
    assert talks[0]["prompt"] == TURNS
    assert talks[0]["chosen"][0]["role"] == "assistant"
    plain = [row for row in rows if isinstance(row["prompt"], str)]
    assert all(row["chosen"].startswith("good") and row["rejected"].startswith("bad") for row in plain)
    assert len(plain) >= 28


def test_labelled_pairs_are_read_by_the_audit(voted: Ballot, tmp_path: Path):
    rows, _ = exported(read_records(voted.database), "labelled")
    path = tmp_path / "labels.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    pairs, dropped = read_labelled(str(path))
    assert len(pairs) == len(rows)
    assert not dropped
    good = [pair for pair in pairs if pair.comparison.a.startswith("good") and pair.preference != 0.5]
    assert all(pair.preference == 1.0 for pair in good)


def test_published_rows_of_the_arena_and_label_studio_are_read(tmp_path: Path):
    database = open_database(tmp_path / "votes.sqlite")
    turns = [[{"role": "user", "content": "Why?"}, {"role": "assistant", "content": text}] for text in ("one", "two")]
    arena = {"question_id": "q", "model_a": "x", "model_b": "y", "conversation_a": turns[0], "conversation_b": turns[1]}
    rows = [
        {**arena, "winner": "model_b", "judge": "arena_user_1", "turn": 1, "tstamp": 1.6e9},
        {**arena, "winner": "tie (bothbad)", "judge": "arena_user_2"},
        {**arena, "winner": "nobody", "judge": "arena_user_3"},
    ]
    added, _, dropped = import_votes(database, rows, QUESTION)
    assert added == 2
    assert dropped == {"the winner is none of model_a, model_b, tie, tie (bothbad)": 1}
    value = {"type": "pairwise", "from_name": "pw", "to_name": "t1,t2", "value": {"selected": "left"}}
    task = {
        "data": {"prompt": "Why?", "t1": "one", "t2": "two"},
        "annotations": [{"completed_by": 7, "result": [value]}],
    }
    assert import_votes(database, [task], QUESTION).added == 1
    wanted, place = make_item(QUESTION, [{"role": "user", "content": "Why?"}], "one", "two")
    votes = Ballot(database).tallies([wanted.id])[wanted.id].votes
    assert votes == (1 - place, "both_bad", place)


def test_rows_without_a_vote_are_counted_and_files_of_other_columns_refused(tmp_path: Path):
    database = open_database(tmp_path / "votes.sqlite")
    pair = {"prompt": "p", "chosen": "good", "rejected": "bad"}
    added, _, dropped = import_votes(database, [pair, {**pair, "rejected": "good "}, {"prompt": "p"}], QUESTION)
    assert added == 1
    assert dropped["the answers are equal, or one is empty"] == 1
    assert dropped.total() == 2
    with pytest.raises(ValueError, match="the file has the columns score"):
        import_votes(database, [{"score": 1}], QUESTION)
    with pytest.raises(ValueError, match="holds no vote: 1 x the answers are equal"):
        import_votes(database, [{**pair, "rejected": "good"}], QUESTION)
    with pytest.raises(ValueError, match=r"--format 'csv'.*jsonl, arena"):
        exported([], "csv")


def test_imported_votes_are_used_when_an_oracle_asks_for_their_pairs(tmp_path: Path):
    ballot = ballot_in(tmp_path)
    wanted: Item = item(0)
    import_votes(
        ballot.database, [{"prompt": "question 0", "chosen": "good answer 0", "rejected": "bad answer 0"}], QUESTION
    )
    assert ballot.standing().wanted == 0
    ballot.ask([wanted], wanted=1, skips=3)
    assert ballot.missing([wanted.id]) == 0


OWN = {"prompt": "p", "left": "x", "right": "y", "verdict": "left", "voter": "Ada"}


@pytest.mark.parametrize("said", ["False", "false", "0", "", None, False])
def test_a_table_of_text_says_false_in_words(tmp_path: Path, said: object):
    database = open_database(tmp_path / "votes.sqlite")
    assert import_votes(database, [{**OWN, "repeat": said, "undone": said}], QUESTION)[:2] == (1, 0)
    (record,) = read_records(database)
    assert (record.repeat, record.undone) == (False, False)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"repeat": "perhaps"}, "repeat is neither true nor false"),
        ({"undone": "True"}, "taken back"),
        ({"seconds": "fast"}, "seconds is no number of seconds"),
        ({"seconds": [1]}, "seconds is no number of seconds"),
        ({"voted_at": "2026-01-01T00:00:00"}, "voted_at is no number of seconds"),
        ({"voted_at": float("nan")}, "voted_at is no number of seconds"),
        ({"id": ["x"]}, "the id is no text"),
        ({"voter": "a" * 100}, "a name has 1 to 60 characters"),
        ({"voter": "a\nb"}, "a name has 1 to 60 characters"),
        ({"left": "y", "right": "x"}, "the same person said otherwise of the pair"),
        ({"prompt": "other", "id": "1"}, "its id is that of another vote"),
    ],
)
def test_a_row_that_cannot_be_stored_is_left_out_with_its_reason(tmp_path: Path, row: dict, reason: str):
    database = open_database(tmp_path / "votes.sqlite")
    rows = [{**OWN, "id": "1"}, {**OWN, **row}, {**OWN, "prompt": "q", "seconds": "1.5"}]
    added, known, dropped = import_votes(database, rows, QUESTION)
    assert (added, known, dropped.total()) == (2, 0, 1)
    assert next(iter(dropped)).startswith(reason)
    assert len(read_records(database)) == 2


def test_cancelled_annotations_are_counted_and_no_votes(tmp_path: Path):
    said = {"type": "pairwise", "to_name": "left,right", "value": {"selected": "left"}}
    annotations = [{"result": [said], "was_cancelled": True}, {"result": [said]}]
    row = {"data": {"prompt": "p", "left": "x", "right": "y"}, "annotations": annotations}
    imported = import_votes(open_database(tmp_path / "votes.sqlite"), [row], QUESTION)
    assert imported == (1, 0, {"a cancelled annotation": 1})
