"""Agreement of people: alpha against its published example, consistency, and voters who press one side."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sparring.evaluation.agreement import agreement, krippendorff_alpha
from vote_fakes import record


def test_alpha_of_krippendorffs_published_example():
    # Krippendorff, Computing Krippendorff's Alpha-Reliability (2011), section C: nominal data, four observers, 0.743.
    observers = [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3],
        [None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None],
    ]
    units = [[value for value in unit if value is not None] for unit in zip(*observers, strict=True)]
    alpha = krippendorff_alpha(units)
    assert alpha is not None
    assert alpha.value == pytest.approx(0.743, abs=5e-4)
    assert alpha.low < 0.743 < alpha.high


def test_alpha_of_chance_is_near_zero_and_that_of_one_mind_is_one():
    draw = np.random.default_rng(0)
    chance = krippendorff_alpha([draw.integers(0, 2, size=2).tolist() for _ in range(400)])
    assert chance is not None
    assert chance.low < 0 < chance.high
    assert krippendorff_alpha([[0, 0], [1, 1], [0, 0]]).value == 1.0  # type: ignore[union-attr]
    assert krippendorff_alpha([[0, 0], [0, 0]]) is None
    assert krippendorff_alpha([[0], [1]]) is None
    assert krippendorff_alpha([]) is None


def test_a_voter_who_always_presses_left_is_found_and_an_honest_one_is_not():
    honest = [record(f"q{i}", "Ada", "left" if i % 2 else "right", left=i % 2) for i in range(40)]
    lazy = [record(f"q{i}", "Bob", "left", left=i % 2) for i in range(40)]
    result = agreement([*honest, *lazy])
    assert (result["voters"]["Ada"]["favours"], result["voters"]["Bob"]["favours"]) == ("", "left")
    assert result["voters"]["Bob"]["left"].value == 1.0
    assert any("Bob presses left in 100%" in line for line in result["warnings"])
    assert any("hardly agree" in line for line in result["warnings"])
    assert agreement(lazy[:19])["voters"]["Bob"]["favours"] == ""  # too few to say


def test_self_consistency_compares_answers_and_not_sides():
    first = [record(f"q{i}", "Ada", "left", left=0) for i in range(4)]
    same = [record(f"q{i}", "Ada", "right", left=1, repeat=True) for i in range(3)]
    other = [record("q3", "Ada", "left", left=1, repeat=True)]
    rates = agreement([*first, *same, *other])
    assert (rates["self_consistency"].value, rates["returned"]) == (0.75, 4)
    assert rates["alpha"] is None


def test_skips_count_as_skips_only_and_taken_back_votes_as_nothing():
    rows = [record("q0", "Ada", "skip"), record("q1", "Ada", "tie"), record("q2", "Ada", "both_bad", seconds=4.0)]
    result = agreement([*rows, replace(record("q3", "Ada", "left"), undone=True)])
    assert (result["votes"], result["skips"], result["left"]) == (2, 1, None)
    assert (result["tie_share"], result["both_bad_share"], result["median_seconds"]) == (0.5, 0.5, 3.0)
    assert agreement([])["votes"] == 0
