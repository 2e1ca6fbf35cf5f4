"""The best evaluated policy: the highest figure, the earliest of equal ones, and the start where none is better."""

from __future__ import annotations

from typing import get_args

import pytest

from sparring.evaluation.best_policy import (
    START,
    EvaluatedPolicy,
    Measure,
    figures_in_words,
    find_best,
    in_words,
    stop_in_words,
)
from sparring.evaluation.intervals import Interval
from sparring.recipe.sections import EvaluationConfig


def policies(*rates: float | None, checks: float | None = None) -> list[EvaluatedPolicy]:
    return [
        {
            "round": t,
            "oracle": "jury",
            "win_rate": None if rate is None else Interval(rate, rate - 0.1, rate + 0.1),
            "mean_preference": Interval(0.4, 0.3, 0.5),
            "checks": None if checks is None else Interval(checks * t, checks * t - 0.1, checks * t + 0.1),
            "gap": None,
            "tokens_mean": 31.25,
            "kl_to_start": None,
        }
        for t, rate in enumerate(rates, start=1)
    ]


@pytest.mark.parametrize(
    ("rates", "best", "since"),
    [
        ((0.6,), 1, 0),
        ((0.6, 0.7, 0.65), 2, 1),
        ((0.6, 0.6, 0.6), 1, 2),  # of equal ones the earliest
        ((0.5, 0.49), 0, 2),  # the start wins half against itself
        ((None, 0.6, None), 2, 1),
    ],
)
def test_the_highest_figure_is_the_best(rates: tuple[float | None, ...], best: int, since: int) -> None:
    found = find_best(policies(*rates), "win_rate")
    assert found is not None
    assert (found["round"], found["since"], found["of"]) == (best, since, len(rates))
    assert (found["figure"] is None) == (best == 0)


def test_each_measure_has_its_own_best_and_its_own_start() -> None:
    found = {by: find_best(policies(0.7, 0.6, checks=0.05), by) for by in get_args(Measure)}
    assert {by: best and best["round"] for by, best in found.items()} == {
        "win_rate": 1,
        "mean_preference": 0,
        "checks": 2,
    }
    assert find_best(policies(None, None), "win_rate") is None
    assert find_best([], "win_rate") is None


def test_the_recipe_knows_the_same_measures() -> None:
    assert set(get_args(EvaluationConfig.model_fields["best_by"].annotation)) == START.keys()


def test_words_say_that_the_choice_makes_the_figure_too_high() -> None:
    best = find_best(policies(0.6, 0.7), "win_rate")
    assert best is not None
    assert in_words(best) == (
        "Best by win rate against the start under “jury”: policy 2, 70.0% (60.0% to 80.0%), the highest of 2 evaluated "
        "policies. It was chosen on the prompts that it is scored on, so this is likely too high."
    )
    alone = find_best(policies(0.6), "win_rate")
    assert alone is not None
    assert "too high" not in in_words(alone)  # nothing was chosen
    checked = find_best(policies(None, checks=0.25), "checks")
    assert checked is not None
    assert in_words(checked).startswith("Best by rule checks passed more than the start: policy 1, +25.0% (+15.0% to")
    none = find_best(policies(0.4, 0.3), "win_rate")
    assert none is not None
    assert in_words(none).endswith("the start; of 2 evaluated policies none is better.")


def test_lines_leave_out_what_was_not_measured() -> None:
    (policy,) = policies(0.6)
    assert figures_in_words(policy) == (
        "policy 1: wins 60.0% (50.0% to 70.0%) against the start under “jury”, 31.25 tokens an answer"
    )
    words = stop_in_words({"after": 3, "of": 8, "patience": 1, "by": "win_rate", "best": 0})
    assert words.startswith("Stopped after 3 of 8 rounds: no win_rate above that of the start in 1 evaluated policy (")
