"""People as an oracle: it waits for votes, asks nobody about what a rule decides, and takes no skip for a verdict."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from sparring.oracles import people
from sparring.oracles.build import build_oracle
from sparring.oracles.guard import Guard
from sparring.oracles.oracle import Comparison
from sparring.oracles.people import People
from sparring.runtime.errors import OracleError
from sparring.votes.database import Unavailable
from sparring.votes.items import Showing
from vote_fakes import honest, vote_all, voter

GOOD = [Comparison(f"question {i}", f"good answer {i}", f"bad answer {i}") for i in range(6)]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(people, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(people, "GRACE_SECONDS", 0.0)


@pytest.fixture
def asked(tmp_path: Path) -> Iterator[Callable[..., tuple[Guard, People]]]:
    made: list[People] = []

    def build(**fields: object) -> tuple[Guard, People]:
        oracle = build_oracle({"name": "people", **fields}, None)
        assert isinstance(oracle, People)
        made.append(oracle)
        return Guard(oracle, tmp_path / "cache" / "verdicts.jsonl"), oracle

    yield build
    for oracle in made:
        oracle.ballot.database.close()


def judge(guard: Guard, oracle: People, comparisons: list[Comparison], vote: Callable[[Showing], str]) -> np.ndarray:
    """What the guard says once a voter has come and answered everything."""
    guard.expect(comparisons)
    vote_all(oracle.ballot, voter(oracle.ballot.database), vote, most=50)
    return guard.judge(comparisons)


def test_it_waits_for_votes_and_says_the_same_whichever_comes_first(asked: Callable[..., tuple[Guard, People]]):
    guard, oracle = asked()
    answers: list[np.ndarray] = []
    waiting = threading.Thread(target=lambda: answers.append(guard.judge(GOOD)))
    waiting.start()
    while oracle.ballot.standing().wanted < len(GOOD):
        pass
    assert waiting.is_alive()
    vote_all(oracle.ballot, voter(oracle.ballot.database))
    waiting.join(timeout=30)
    assert answers[0].tolist() == [1.0] * len(GOOD)
    swapped = [Comparison(c.prompt, c.b, c.a) for c in GOOD]
    assert guard.judge(swapped).tolist() == [0.0] * len(GOOD)
    assert guard.failed == 0


def test_nobody_is_asked_about_equal_and_empty_answers_nor_a_first_question(
    asked: Callable[..., tuple[Guard, People]],
):
    guard, oracle = asked()
    guard.probe()
    ruled = [Comparison("p", "same", " same\n"), Comparison("p", "text", " "), Comparison("p", "", "text")]
    assert guard.judge(ruled).tolist() == [0.5, 1.0, 0.0]
    assert oracle.ballot.standing().wanted == 0


@pytest.mark.parametrize(("rule", "expected"), [("drop", math.nan), ("tie", 0.5)])
def test_both_bad_is_no_preference_or_a_tie_and_never_a_failure(
    asked: Callable[..., tuple[Guard, People]], rule: str, expected: float
):
    guard, oracle = asked(both_bad=rule)
    answers = judge(guard, oracle, GOOD, lambda showing: "both_bad")
    np.testing.assert_equal(answers, np.full(len(GOOD), expected))
    assert guard.failed == 0
    assert {guard.declined(one) for one in GOOD} == ({"both bad"} if rule == "drop" else {""})


def test_skips_end_in_no_preference(asked: Callable[..., tuple[Guard, People]]):
    guard, oracle = asked(skips=2)
    answers = judge(guard, oracle, GOOD, lambda showing: "skip")
    assert np.isnan(answers).all()
    assert (guard.failed, guard.declined(GOOD[0])) == (0, "skipped")
    assert oracle.counts() == {"skipped": len(GOOD)}


def test_the_first_votes_decide_and_later_ones_only_measure_agreement(asked: Callable[..., tuple[Guard, People]]):
    guard, oracle = asked(votes_each=2)
    guard.expect(GOOD)
    ballot = oracle.ballot
    verdicts = {"Ada": honest, "Bob": lambda showing: "tie", "Eve": lambda showing: "both_bad"}
    for name in ("Ada", "Bob", "Eve"):
        vote_all(ballot, voter(ballot.database, name), verdicts[name])
    assert guard.judge(GOOD).tolist() == [0.75] * len(GOOD)


def test_a_vote_that_is_used_stays_and_a_resumed_run_asks_nobody_again(
    asked: Callable[..., tuple[Guard, People]],
):
    guard, oracle = asked()
    before = judge(guard, oracle, GOOD, honest)
    votes = oracle.ballot.standing().votes
    resumed, again = asked()
    assert resumed.judge(GOOD).tolist() == before.tolist()
    assert again.ballot.standing().votes == votes


def test_the_identity_holds_the_rules_and_not_the_place(tmp_path: Path):
    here, there = (People(database=str(tmp_path / name)) for name in ("a.sqlite", "b.sqlite"))
    assert here.identity == there.identity
    others = [
        People(votes_each=2),
        People(both_bad="tie"),
        People(skips=1),
        People(question="Shorter?"),
        People(team="x"),
    ]
    assert len({here.identity, *(one.identity for one in others)}) == 6


def test_without_a_place_for_votes_it_says_what_is_missing():
    with pytest.raises(ValueError, match=r"oracle\.database: missing"):
        People().judge(GOOD)
    with pytest.raises(ValueError, match=r"oracle\.votes_each = 0"):
        build_oracle({"name": "people", "votes_each": 0}, None)


def test_a_database_that_stays_away_stops_the_run_and_is_no_verdict(
    asked: Callable[..., tuple[Guard, People]], monkeypatch: pytest.MonkeyPatch
):
    guard, oracle = asked()
    monkeypatch.setattr(people, "DOWN_SECONDS", 0.05)

    def down(ids: object) -> int:
        raise Unavailable("the database of votes at x does not answer")

    monkeypatch.setattr(oracle.ballot, "missing", down)
    with pytest.raises(OracleError, match=r"does not answer\. All votes are kept"):
        guard.judge(GOOD)
    assert guard.failed == 0


def test_a_database_that_cannot_be_used_is_refused_before_any_work(tmp_path: Path):
    (tmp_path / "text").write_text("this is a text and no database " * 50)
    guard = Guard(People(database=str(tmp_path / "text")))
    with pytest.raises(ValueError, match="no database of votes"):
        guard.probe()
