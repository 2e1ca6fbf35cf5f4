"""The pair stage counts what it leaves out: whole examples apart from single pairs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sparring.cli.status import _short
from sparring.pairing import AllPairs, BestWorst
from sparring.rounds.judge import make_pairs
from sparring.rounds.store import read_table

Rows = list[dict[str, Any]]


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
    facts = make_pairs(AllPairs(), [example(name) for name in names], given, judged, 0, target)
    assert facts == {
        "examples": 1,
        "pairs": 2,
        "dropped_examples": {"identical responses in every pair": 1, "no verdict": 1},
        "dropped_pairs": {"identical responses": 4},
    }
    assert facts["examples"] + sum(facts["dropped_examples"].values()) == len(names)
    (row,) = read_table(target)
    assert sum(pair["weight"] for pair in row["pairs"]) == pytest.approx(1.0)
    assert _short(facts) == (
        "examples 1, pairs 2, dropped examples 1: identical responses in every pair, "
        "dropped examples 1: no verdict, dropped pairs 4: identical responses"
    )


def test_what_is_dropped_from_the_data_names_the_data_set() -> None:
    dropped = {"train": {"duplicate": 2}, "held_out": {}}
    assert _short({"train": 6, "dropped": dropped}) == "train 6, dropped train 2: duplicate"


def test_nothing_left_says_why(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no training pair is left: 1 x tie"):
        make_pairs(BestWorst(), [example("a")], [responses("x", "y")], verdicts("a", 0.5), 0, tmp_path / "p.parquet")
