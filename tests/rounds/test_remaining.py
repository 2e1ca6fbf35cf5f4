"""The rest of a run, from what its finished stages took."""

from __future__ import annotations

from typing import Any

import pytest

from sparring.recipe.reading import parse_recipe
from sparring.recipe.recipe import Recipe
from sparring.rounds.price import evaluation_comparisons
from sparring.rounds.remaining import seconds_left
from sparring.rounds.resume import stage_names


@pytest.fixture
def recipe(tiny_recipe: dict[str, Any]) -> Recipe:
    evaluation = {**tiny_recipe.get("evaluation", {}), "samples": 2, "every_iterate": False, "prompts": None}
    return parse_recipe({**tiny_recipe, "rounds": 3, "evaluation": evaluation})


def entry(seconds: float, **facts: Any) -> dict[str, Any]:
    return {"seconds": seconds, "facts": facts}


def first_round() -> dict[str, Any]:
    return {
        "data": entry(1, train=6, held_out=5),
        "rounds/000/sample": entry(20, responses=40),
        "rounds/000/judge": entry(8, comparisons=16),
        "rounds/000/pair": entry(0),
        "rounds/000/anchor": entry(6, responses=20, policies=3),
        "rounds/000/fit": entry(30),
    }


def test_nothing_is_said_before_a_round_is_measured(recipe: Recipe) -> None:
    manifest = first_round()
    del manifest["rounds/000/fit"]
    assert seconds_left(recipe, stage_names(recipe), manifest) is None


def test_the_rest_takes_what_the_first_round_took(recipe: Recipe) -> None:
    """Two rounds of 64 s; two policies' 10 responses at 1/2 s; two log-probabilities of 10 at 1/10 s; and the judge."""
    comparisons = evaluation_comparisons(recipe, 5, recipe.asks_oracle())
    expected = 2 * 64 + 2 * 5 + 2 * 2 + comparisons * 8 / 16
    assert seconds_left(recipe, stage_names(recipe), first_round()) == pytest.approx(expected)


def test_what_was_judged_while_sampling_counts_for_the_evaluation(recipe: Recipe) -> None:
    """A comparison takes 3/2 s and not 1/2: 16 s of judging stood in the sample stage's 20."""
    manifest = first_round()
    before = seconds_left(recipe, stage_names(recipe), manifest)
    manifest["rounds/000/sample"] = entry(20, responses=40, seconds_judging=16)
    comparisons = evaluation_comparisons(recipe, 5, recipe.asks_oracle())
    assert before is not None
    assert seconds_left(recipe, stage_names(recipe), manifest) == pytest.approx(before + comparisons)


def test_a_later_measurement_of_the_same_kind_counts(recipe: Recipe) -> None:
    manifest = first_round()
    names = list(stage_names(recipe))
    before = seconds_left(recipe, names, manifest)
    manifest |= {"rounds/001/sample": entry(50, responses=40)}
    after = seconds_left(recipe, names, manifest)
    assert before is not None
    # 30 s more for round 3's samples, 20 less for round 2's, and 7.5 more for each evaluated policy
    assert after == pytest.approx(before - 20 + 30 + 2 * 7.5)


def test_evaluations_in_between_are_counted(recipe: Recipe) -> None:
    """Three more policies' 10 responses at 1/2 s, their KL at 1/10 s, and a third of all comparisons for each."""
    often = recipe.model_copy(update={"evaluation": recipe.evaluation.model_copy(update={"every": 1})})
    comparisons = evaluation_comparisons(often, 5, often.asks_oracle())
    assert comparisons == 5 * (1 + 3 * (4 + 1))
    left = seconds_left(often, stage_names(often), first_round())
    assert left == pytest.approx(2 * 64 + 4 * 5 + 4 * 2 + 3 * -(-comparisons // 3) * 8 / 16)


def test_nothing_is_left_of_a_finished_run(recipe: Recipe) -> None:
    manifest = {name: entry(1) for name in stage_names(recipe)}
    assert seconds_left(recipe, stage_names(recipe), manifest) == 0
