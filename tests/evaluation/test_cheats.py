"""Cheats: what is written, against whom, and how wins are counted."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from sparring.evaluation.cheats import CHEATS, can_tell, comparisons, falls_for, honest, measure
from sparring.evaluation.intervals import CountedInterval
from sparring.oracles.labelled import Labelled
from sparring.oracles.oracle import Comparison

ANSWERS = [("Why is the sky blue?", "Air scatters blue light most."), ("Name a fruit.", "An apple.")]


def test_the_preferred_answer_of_each_prompt_is_the_honest_one():
    pairs = [
        Labelled(Comparison("p", "x", "y"), 0.5, ""),
        Labelled(Comparison("p", "x", "y"), 0.0, ""),
        Labelled(Comparison("p", "x", "z"), 1.0, ""),
        Labelled(Comparison("q", "u", "v"), 1.0, ""),
        Labelled(Comparison("r", "u", "v"), 1.0, ""),
    ]
    assert honest(pairs, 2) == [("p", "y"), ("q", "u")]
    assert honest(pairs, 0) == []


def test_cheats_are_texts_of_their_kind():
    prompt, answer = ANSWERS[0]
    for name, cheat in CHEATS.items():
        text = cheat.write(prompt, answer)
        assert text.strip(), name
        assert text != answer, name
        assert (cheat.kind == "dressed") == (answer in text), name


def test_wins_are_counted_cheat_by_cheat():
    asked = comparisons(ANSWERS)
    assert len(asked) == len(CHEATS) * len(ANSWERS)
    longer = np.array([1.0 if len(c.a) > len(c.b) else 0.0 for c in asked])
    found = {row["cheat"]: row["wins"].value for row in measure(longer, ANSWERS)}
    assert (found["says it twice"], found["one word"], found["the first half"]) == (1.0, 0.0, 0.0)
    assert falls_for(measure(longer, ANSWERS)) == []  # two prompts show nothing
    many = [(f"{prompt} {i}", answer) for i in range(5) for prompt, answer in ANSWERS]
    longer = np.array([1.0 if len(c.a) > len(c.b) else 0.0 for c in comparisons(many)])
    assert set(falls_for(measure(longer, many))) >= {"says it twice", "praises itself", "set in markdown"}
    failed = measure(np.full(len(asked), np.nan), ANSWERS)
    assert {row["wins"] for row in failed} == {None}
    assert falls_for(failed) == []


def rows(share: float, count: int):
    return [{"cheat": name, "kind": "dressed", "wins": CountedInterval(share, 0.0, 1.0, count)} for name in CHEATS]


@pytest.mark.parametrize(
    ("count", "fooled", "caught"),
    [(8, 0, 0), (9, 0.022, 0.23), (15, 0.006, 0.31), (30, 0.008, 0.84), (50, 0.015, 0.99)],
)
def test_eleven_tries_are_not_one(count, fooled, caught):
    """A coin was said to fall for at least one of eleven cheats in a quarter of all audits of 30 prompts."""
    shown = [len(falls_for(rows(wins / count, count))) == len(CHEATS) for wins in range(count + 1)]
    chance, clear = (float(binom.pmf(np.arange(count + 1), count, p)[shown].sum()) for p in (0.5, 0.85))
    assert 1 - (1 - chance) ** len(CHEATS) <= fooled
    assert clear >= caught
    assert can_tell(rows(0.2, count)) == (count > 8)


def test_ties_count_half_and_a_cheat_without_verdicts_fools_nobody():
    assert falls_for(rows(23 / 30, 30)) == []
    assert falls_for(rows(23.5 / 30, 30)) == list(CHEATS)
    assert falls_for([{"cheat": "x", "kind": "dressed", "wins": None}]) == []
    assert not can_tell([{"cheat": "x", "kind": "dressed", "wins": None}])
