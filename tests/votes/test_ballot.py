"""The rules of voting: what is shown to whom, what is stored, and that a vote counts once."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import tempfile
import threading
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from sparring.votes import choosing as rules
from sparring.votes.counting import lacks
from sparring.votes.database import Unavailable, open_database
from sparring.votes.items import Late, NotShown, make_item
from sparring.votes.people import add_voter, all_voters, by_token, checked_name, revoke, signing_key
from sparring.votes.records import read_records
from sparring.votes.tables import ITEMS
from vote_fakes import ballot_in, item, vote_all, voter


def test_every_item_gets_its_vote_and_the_verdict_is_of_the_answer_not_the_side(tmp_path: Path):
    ballot = ballot_in(tmp_path, items=40)
    vote_all(ballot, voter(ballot.database))
    assert (ballot.standing().wanted, ballot.standing().open) == (40, 0)
    good = [one.answers.index(f"good answer {i}") for i, one in enumerate(map(item, range(40)))]
    tallies = ballot.tallies([item(i).id for i in range(40)])
    assert [tallies[item(i).id].votes for i in range(40)] == [(place,) for place in good]
    assert {record.left for record in read_records(ballot.database)} == {0, 1}


def test_the_side_depends_on_item_and_voter_alone(tmp_path: Path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    sides = []
    for folder in ("a", "b"):
        ballot = ballot_in(tmp_path / folder, items=30)
        vote_all(ballot, voter(ballot.database), lambda showing: "left")
        sides.append({r.item: r.left for r in read_records(ballot.database) if not r.repeat})
    assert sides[0] == sides[1]


def test_a_vote_that_is_sent_again_is_stored_once(tmp_path: Path):
    ballot = ballot_in(tmp_path, items=3)
    ada = voter(ballot.database)
    showing = ballot.next_showing(ada)
    assert showing is not None
    assert ballot.vote(ada, showing.id, "left")
    assert not ballot.vote(ada, showing.id, "left")
    assert len(read_records(ballot.database)) == 1


def test_two_tabs_show_the_same_pair_and_only_the_first_verdict_counts(tmp_path: Path):
    ballot = ballot_in(tmp_path, items=3)
    ada = voter(ballot.database)
    one, two = ballot.next_showing(ada), ballot.next_showing(ada)
    assert one is not None
    assert one == two
    ballot.vote(ada, one.id, "left")
    with pytest.raises(Late, match="another tab"):
        ballot.vote(ada, one.id, "right")
    assert [record.verdict for record in read_records(ballot.database)] == ["left"]


def test_nobody_votes_on_what_they_were_not_shown(tmp_path: Path):
    ballot = ballot_in(tmp_path, items=3)
    ada, bob = voter(ballot.database), voter(ballot.database, "Bob")
    showing = ballot.next_showing(ada)
    assert showing is not None
    for who, name in ((bob, showing.id), (ada, "made-up")):
        with pytest.raises(NotShown):
            ballot.vote(who, name, "left")
    with pytest.raises(ValueError, match=r"verdict 'best'.*left, right"):
        ballot.vote(ada, showing.id, "best")
    assert read_records(ballot.database) == []


def test_a_skip_is_no_verdict_and_three_of_them_end_the_asking(tmp_path: Path):
    ballot = ballot_in(tmp_path, items=1)
    for name in ("Ada", "Bob"):
        who = voter(ballot.database, name)
        showing = ballot.next_showing(who)
        assert showing is not None
        ballot.vote(who, showing.id, "skip")
        assert (ballot.tallies([item(0).id])[item(0).id].votes, ballot.standing().open) == ((), 1)
    again = ballot.next_showing(voter(ballot.database))  # skipped pairs return when nothing else is left
    assert again is not None
    ballot.vote(voter(ballot.database), again.id, "skip")
    assert ballot.standing().open == 0
    assert ballot.close([item(0).id])[item(0).id].skips == 3  # type: ignore[index]


def test_the_pair_after_the_one_on_the_screen_is_fetched_ahead_and_stays_the_next(tmp_path: Path):
    ballot = ballot_in(tmp_path, items=5)
    ada, bob = voter(ballot.database), voter(ballot.database, "Bob")
    first = ballot.next_showing(ada)
    assert first is not None
    ahead = ballot.next_showing(ada, after=first.id)
    assert ahead is not None
    assert ahead.messages != first.messages
    assert ballot.next_showing(ada, after=first.id) == ahead  # another tab
    assert ballot.next_showing(ada) == first  # the page is loaded again
    other = ballot.next_showing(bob)
    assert other is not None
    assert other.messages not in (first.messages, ahead.messages)
    ballot.vote(ada, first.id, "left")
    assert ballot.next_showing(ada) == ahead
    back = ballot.undo(ada)
    assert ballot.next_showing(ada) == back
    assert vote_all(ballot, ada) + vote_all(ballot, bob) >= 5
    assert ballot.standing().open == 0


def test_undo_shows_the_pair_as_it_was_until_the_vote_is_used(tmp_path: Path):
    ballot = ballot_in(tmp_path, items=2)
    ada = voter(ballot.database)
    with pytest.raises(Late, match="no vote of yours"):
        ballot.undo(ada)
    first = ballot.next_showing(ada)
    assert first is not None
    ballot.vote(ada, first.id, "left")
    ballot.next_showing(ada)
    back = ballot.undo(ada)
    assert (back.left, back.right, back.messages) == (first.left, first.right, first.messages)
    assert ballot.next_showing(ada) == back
    ballot.vote(ada, back.id, "right")
    assert [(r.verdict, r.undone) for r in read_records(ballot.database)] == [("left", True), ("right", False)]
    vote_all(ballot, ada)
    assert ballot.close([item(0).id, item(1).id]) is not None
    with pytest.raises(Late, match="used already"):
        ballot.undo(ada)


def test_a_wave_is_final_only_some_seconds_after_its_last_vote(tmp_path: Path):
    ballot = ballot_in(tmp_path, items=1)
    vote_all(ballot, voter(ballot.database))
    assert ballot.close([item(0).id], grace=60) is None
    assert ballot.close([item(0).id], grace=0) is not None
    assert ballot.close([item(0).id], grace=60) is not None  # it was final before


def test_every_fifth_item_goes_to_a_second_voter_and_every_tenth_returns_swapped(tmp_path: Path):
    ballot = ballot_in(tmp_path, items=200)
    ada, bob = voter(ballot.database), voter(ballot.database, "Bob")
    vote_all(ballot, ada)
    doubled = vote_all(ballot, bob)
    records = read_records(ballot.database)
    first = {r.item: r for r in records if r.voter == "Ada" and not r.repeat}
    again = [r for r in records if r.voter == "Ada" and r.repeat]
    assert len(first) == 200
    assert 10 <= len(again) <= 32
    assert all(r.left == 1 - first[r.item].left and r.meant == first[r.item].meant for r in again)
    assert 25 <= len({r.item for r in records if r.voter == "Bob"}) <= 58
    assert doubled == sum(r.voter == "Bob" for r in records)
    # Neither decides anything: an item has the votes that it had.
    assert all(len(t.votes) <= 2 for t in ballot.tallies(list(first)).values())


def test_several_voters_at_once_lose_and_double_nothing(tmp_path: Path):
    ballot = ballot_in(tmp_path, items=60, wanted=2)
    names = [f"voter {i}" for i in range(6)]
    ids = [voter(ballot.database, name) for name in names]
    counts: list[int] = []
    threads = [threading.Thread(target=lambda who=who: counts.append(vote_all(ballot, who))) for who in ids]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    records = read_records(ballot.database)
    assert len(records) == sum(counts)
    assert ballot.standing().open == 0
    seen = [(r.item, r.voter, r.repeat) for r in records]
    assert len(seen) == len(set(seen))


def test_what_is_on_somebodys_screen_is_not_shown_to_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    ballot = ballot_in(tmp_path, items=1)
    ballot.next_showing(voter(ballot.database))
    bob = voter(ballot.database, "Bob")
    assert ballot.next_showing(bob) is None
    monkeypatch.setattr(rules, "LEASE_SECONDS", 0.0)
    assert ballot.next_showing(bob) is not None


def test_urgent_items_come_first_and_asking_again_changes_nothing(tmp_path: Path):
    ballot = ballot_in(tmp_path, items=9)
    ballot.ask([item(7)], wanted=1, skips=3, urgent=True)
    showing = ballot.next_showing(voter(ballot.database))
    assert showing is not None
    assert showing.messages[0]["content"] == "question 7"
    assert ballot.standing().wanted == 9


def test_texts_that_a_database_would_refuse_are_kept_as_they_are(tmp_path: Path):
    odd = "NUL \x00, half a pair \ud83d, right to left \u202e"
    ballot = ballot_in(tmp_path)
    ballot.ask([make_item("?", [{"role": "user", "content": odd}], odd, "plain")[0]], 1, 3)
    showing = ballot.next_showing(voter(ballot.database))
    assert showing is not None
    assert {showing.left, showing.right} == {odd, "plain"}
    assert showing.messages[0]["content"] == odd


def test_tokens_are_hashed_shown_once_and_revocable(tmp_path: Path):
    database = open_database(tmp_path / "votes.sqlite")
    token = add_voter(database, " Ada ", "voter")
    ada = by_token(database, token)
    assert ada is not None
    assert (ada.name, ada.role, by_token(database, token + "x")) == ("Ada", "voter", None)
    assert token.encode() not in b"".join(path.read_bytes() for path in tmp_path.iterdir())
    with pytest.raises(ValueError, match="has a link already"):
        add_voter(database, "Ada", "voter")
    revoke(database, "Ada")
    assert by_token(database, token) is None
    assert by_token(database, add_voter(database, "Ada", "owner")) is not None
    assert by_token(database, token) is None
    with pytest.raises(ValueError, match=r"nobody is called 'Eve'.*Ada"):
        revoke(database, "Eve")
    assert [one.role for one in all_voters(database)] == ["owner"]
    assert signing_key(database) == signing_key(database)


@pytest.mark.parametrize("name", ["", "   ", "x" * 61, "two\nlines", "right\u202eto left"])
def test_names_that_could_deceive_are_refused(name: str):
    with pytest.raises(ValueError, match="1 to 60 characters"):
        checked_name(name)


def test_a_database_that_is_deleted_takes_no_votes(tmp_path: Path):
    ballot = ballot_in(tmp_path, items=2)
    ada = voter(ballot.database)
    showing = ballot.next_showing(ada)
    assert showing is not None
    shutil.move(tmp_path / "votes.sqlite", tmp_path / "away.sqlite")
    with pytest.raises(Unavailable, match="is gone: it was moved or deleted"):
        ballot.vote(ada, showing.id, "left")
    (tmp_path / "votes.sqlite").touch()
    with pytest.raises(Unavailable, match="is gone"):
        ballot.standing()
    shutil.move(tmp_path / "away.sqlite", tmp_path / "votes.sqlite")
    assert ballot.vote(ada, showing.id, "left")


def test_a_database_of_another_version_or_none_is_refused_in_a_sentence(tmp_path: Path):
    path = tmp_path / "votes.sqlite"
    open_database(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE settings SET value = '9' WHERE name = 'version'")
    connection.close()
    with pytest.raises(ValueError, match="version 9, and this one knows version 2"):
        open_database(path)
    (tmp_path / "text").write_text("no database, but a text that is longer than the header of one would be" * 20)
    with pytest.raises(ValueError, match="is no database of votes"):
        open_database(tmp_path / "text")
    with sqlite3.connect(tmp_path / "other") as connection:
        connection.execute("CREATE TABLE accounts (id INTEGER)")
    connection.close()
    with pytest.raises(ValueError, match="other tables"):
        open_database(tmp_path / "other")
    with pytest.raises(ValueError, match="there is no database"):
        open_database(tmp_path / "missing", make=False)
    with pytest.raises(ValueError, match="is a folder"):
        open_database(tmp_path)
    with pytest.raises(ValueError, match="'mysql' is no database"):
        open_database("mysql://me:secret@host/votes")


@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.sampled_from(["left", "tie", "skip", "undo", "wanted", "close"])), max_size=25
    )
)
@settings(max_examples=25, deadline=None)
def test_what_an_item_lacks_is_what_its_votes_say(steps: list[tuple[int, str]]):
    with tempfile.TemporaryDirectory() as folder:
        ballot = ballot_in(Path(folder), items=6)
        people = [voter(ballot.database, name) for name in ("ada", "bob", "eve")]
        for who, what in steps:
            with contextlib.suppress(Late):
                if what == "undo":
                    ballot.undo(people[who])
                elif what == "wanted":
                    ballot.ask([item(who)], wanted=2, skips=2)
                elif what == "close":
                    ballot.close([item(who).id])
                elif (showing := ballot.next_showing(people[who])) is not None:
                    ballot.vote(people[who], showing.id, what)
        with ballot.database.read() as connection:
            rows = connection.execute(sa.select(ITEMS.c.lacks, lacks())).all()
        assert [kept for kept, _ in rows] == [counted for _, counted in rows]
        ballot.database.close()
