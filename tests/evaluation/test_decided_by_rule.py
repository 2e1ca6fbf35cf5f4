"""Pairs of answers that no judge is needed for."""

from __future__ import annotations

import pytest

from sparring.evaluation.decided_by_rule import by_rule, decide
from sparring.oracles.build import build_oracle
from sparring.oracles.guard import Guard
from sparring.oracles.oracle import Comparison
from sparring.studies.study import _judged

PAIRS = [("x", "x"), ("", " "), ("", "x"), ("x", "\n"), ("a", "bbb"), ("bbb", "a")]


def test_the_judge_is_asked_about_different_answers_alone():
    guard = Guard(build_oracle({"name": "function", "path": "oracle_fakes:more_vowels"}, "start"))
    found, names = decide([Comparison("Why?", *pair) for pair in PAIRS], guard)
    assert found[:4].tolist() == [0.5, 0.5, 0.0, 1.0]
    assert found[4] + found[5] == pytest.approx(1)
    assert names == ["equal answers"] * 2 + ["empty answer"] * 2 + ["judge"] * 2
    assert guard.asked == 1
    assert [by_rule(*pair) is None for pair in PAIRS] == [False] * 4 + [True] * 2


def test_methods_of_a_study_meet_under_the_same_rules():
    guard = Guard(build_oracle({"name": "function", "path": "oracle_fakes:raises"}, "start"))
    assert _judged([Comparison("Why?", "", "x"), Comparison("Who?", "x", "x")], guard) == {"Why?": 0.0, "Who?": 0.5}
