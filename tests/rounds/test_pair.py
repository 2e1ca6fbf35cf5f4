"""The pair stage counts what it leaves out: whole examples apart from single pairs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sparring.algorithms.algorithm import REFERENCE, Draw, Step
from sparring.algorithms.pairing import AllPairs, BestWorst, ChosenRejectedOwn, Pairing
from sparring.objectives.pairs import DATA, PESSIMISM, AdversarialCritic, Objective, PairLogistic
from sparring.objectives.responses import ResponseSquare
from sparring.rounds.pair import make_pairs
from sparring.rounds.status import in_words
from sparring.runtime.files import read_table

Rows = list[dict[str, Any]]


LOGISTIC = PairLogistic({}, 1.0)


def step(pairing: Pairing, objective: Objective = LOGISTIC) -> Step:
    return Step(REFERENCE, (Draw("own", 3, {REFERENCE: 1.0}),), pairing, objective, {}, judged=True)


def example(name: str) -> dict[str, Any]:
    return {"example": name, "prompt_ids": [1]}


def responses(*texts: str) -> Rows:
    return [{"role": "own", "text": text, "token_ids": [ord(c) for c in text]} for text in texts]


def verdicts(name: str, a_beats_b: float | None, count: int = 2) -> Rows:
    return [
        {"example": name, "a": a, "b": b, "preference": a_beats_b} for a in range(count) for b in range(a + 1, count)
    ]


def test_examples_and_pairs_are_counted_apart(tmp_path: Path) -> None:
    names = ["used", "same", "unjudged"]
    given = [responses("x", "x", "y"), responses("z", "z", "z"), responses("u", "v", "w")]
    judged = [*verdicts("used", 0.9, 3), *verdicts("same", 0.5, 3), *verdicts("unjudged", None, 3)]
    target = tmp_path / "pairs.parquet"
    facts = make_pairs(step(AllPairs()), [example(name) for name in names], given, judged, 0, target)
    assert facts == {
        "examples": 1,
        "pairs": 2,
        "dropped_examples": {"identical responses in every pair": 1, "no verdict": 1},
        "dropped_pairs": {"identical responses": 4},
    }
    assert facts["examples"] + sum(facts["dropped_examples"].values()) == len(names)
    (row,) = read_table(target)
    assert [pair["weight"] for pair in row["pairs"]] == pytest.approx([1 / 3] * 2)
    assert in_words(facts) == (
        "examples 1, pairs 2, dropped examples 1: identical responses in every pair, "
        "dropped examples 1: no verdict, dropped pairs 4: identical responses"
    )


def test_identical_answers_do_not_lend_their_weight_to_others(tmp_path: Path) -> None:
    """SPAC: an own answer that is the chosen one doubled the rejected one's weight."""
    given = responses("good", "bad", "good")
    given[0]["role"], given[1]["role"] = "chosen", "rejected"
    spac = step(ChosenRejectedOwn(), AdversarialCritic(1.0, 3.0, 1.0))
    facts = make_pairs(spac, [example("a")], [given], [], 0, tmp_path / "p.parquet")
    (row,) = read_table(tmp_path / "p.parquet")
    assert [(pair["term"], pair["weight"]) for pair in row["pairs"]] == [(DATA, 1.0), (PESSIMISM, 0.5)]
    assert facts["dropped_pairs"] == {"identical responses": 1}


def test_identical_answers_stay_where_the_loss_sees_each_of_them(tmp_path: Path) -> None:
    """SPPO regresses an answer's own log-ratio, to 0 where it met itself."""
    sppo = step(AllPairs(), ResponseSquare(1.0))
    facts = make_pairs(sppo, [example("a")], [responses("x", "x")], verdicts("a", 0.5), 0, tmp_path / "p.parquet")
    assert (facts["pairs"], facts["dropped_pairs"]) == (1, {})


def test_what_is_dropped_from_the_data_names_the_data_set() -> None:
    dropped = {"train": {"duplicate": 2}, "held_out": {}}
    assert in_words({"train": 6, "dropped": dropped}) == "train 6, dropped train 2: duplicate"


def test_nothing_left_says_why(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no training pair is left: 1 x tie"):
        make_pairs(
            step(BestWorst()), [example("a")], [responses("x", "y")], verdicts("a", 0.5), 0, tmp_path / "p.parquet"
        )
