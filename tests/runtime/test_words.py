"""Stages, folders and policies have one name for people each."""

from __future__ import annotations

import pytest

from sparring.algorithms.algorithm import REFERENCE, PolicyRef
from sparring.runtime.layout import round_folder, title_of
from sparring.runtime.words import counted, duration


@pytest.mark.parametrize(
    ("key", "rounds", "words"),
    [
        (round_folder(0), None, "round 1"),
        (round_folder(1), 3, "round 2/3"),
        (round_folder(1, "half"), 3, "round 2/3 half"),
        (round_folder(2).stage("fit"), None, "round 3  fit"),
        (round_folder(2, "base").stage("anchor"), 12, "round 3/12 base  anchor"),
        ("evaluation/sample-0", None, "evaluation  sample start"),
        ("evaluation/measure-2", 3, "evaluation  measure policy 2"),
        ("evaluation/ask-gpt", None, "evaluation  ask gpt"),
        ("evaluation/summary", None, "evaluation  summary"),
        ("collect/judge", None, "collect  judge"),
        ("data", None, "data"),
    ],
)
def test_stages(key: str, rounds: int | None, words: str) -> None:
    assert title_of(key, rounds) == words


def test_policies() -> None:
    assert REFERENCE.title == "start"
    assert PolicyRef(2).title == "policy 2"
    assert PolicyRef(2, "half").title == "policy 2, half"


def test_numbers() -> None:
    assert (counted(1, "step"), counted(0, "step"), counted(1200, "step")) == ("1 step", "0 steps", "1,200 steps")
    assert (counted(1, "policy", "policies"), counted(2, "policy", "policies")) == ("1 policy", "2 policies")
    assert (duration(12.34), duration(192), duration(7500)) == ("12.3 s", "3 min 12 s", "2 h 05 min")
    assert duration(None) == "?"
