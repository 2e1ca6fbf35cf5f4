"""Paired tests: McNemar's exact p, sign flips, and agreement with what chance gives."""

from __future__ import annotations

import numpy as np
import pytest

from sparring.evaluation.paired import compare, mcnemar, sign_flip


def test_mcnemar_is_the_binomial_of_the_documents_that_differ():
    assert mcnemar(0, 0) == 1.0
    assert mcnemar(5, 0) == pytest.approx(2 * 0.5**5)
    assert mcnemar(1, 8) == mcnemar(8, 1) == pytest.approx(2 * (1 + 9) / 2**9)


def test_right_or_wrong_scores_take_mcnemar():
    found = compare([0, 0, 0, 0, 0, 1, 1], [1, 1, 1, 1, 1, 1, 1])
    assert (found["test"], found["gained"], found["lost"], found["p"]) == ("McNemar", 5, 0, pytest.approx(1 / 16))
    assert found["difference"].value == pytest.approx(found["after"].value - found["before"].value)


def test_gains_and_losses_are_told_apart():
    found = compare([0, 0, 0, 0, 1, 0, 1], [1, 1, 1, 1, 0, 0, 1])
    assert (found["gained"], found["lost"]) == (4, 1)
    assert found["p"] == mcnemar(4, 1) == pytest.approx(2 * (1 + 5) / 2**5)


def test_other_scores_take_sign_flips():
    found = compare([0.2, 0.4, 0.3] * 5, [0.5, 0.6, 0.7] * 5)
    assert (found["test"], found["gained"]) == ("sign flips", 15)
    assert found["p"] < 0.01


def test_equal_policies_are_never_significant():
    assert compare([0.3, 0.4], [0.3, 0.4])["p"] == compare([0, 1], [0, 1])["p"] == 1.0


def test_p_is_uniform_under_chance():
    rng = np.random.default_rng(0)
    rejected = np.mean([sign_flip(rng.normal(size=30), seed) < 0.1 for seed in range(60)])
    assert 0.02 < rejected < 0.25


def test_different_documents_are_refused():
    with pytest.raises(ValueError, match="2 before, 1 after"):
        compare([0, 1], [1])
