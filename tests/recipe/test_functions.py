"""From Python a recipe may hold functions; recipe.yaml names them."""

from __future__ import annotations

import pytest

from oracle_fakes import more_vowels
from sparring.recipe.reading import as_recipe, load_recipe, parse_recipe

PLAIN = load_recipe("demo").resolved()
NAMED = {"name": "function", "path": "oracle_fakes:more_vowels"}


def test_a_function_in_place_of_an_oracle_or_of_its_path_is_named() -> None:
    evaluation = {**PLAIN["evaluation"], "oracles": [more_vowels, {"name": "jury", "oracles": [more_vowels]}]}
    recipe = as_recipe({**PLAIN, "oracle": {"name": "function", "path": more_vowels}, "evaluation": evaluation})
    assert recipe.oracle == NAMED
    assert recipe.evaluation.oracles == [NAMED, {"name": "jury", "oracles": [NAMED]}]
    assert as_recipe({**PLAIN, "oracle": more_vowels}).oracle == NAMED


def test_a_recipe_a_path_and_a_name_are_recipes() -> None:
    recipe = parse_recipe(PLAIN)
    assert as_recipe(recipe) is recipe
    assert as_recipe("demo").resolved() == as_recipe(PLAIN).resolved() == PLAIN


def test_a_function_without_a_name_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot be named in a recipe"):
        as_recipe({**PLAIN, "oracle": lambda prompt, a, b: 0.5})


@pytest.mark.parametrize(
    ("examples", "batch", "epochs", "words"),
    [
        (
            24,
            128,
            1,
            "only 1 optimiser step (24 examples in batches of 128), which may teach nothing; try fit.batch_size = 2",
        ),
        (9, 1, 1, "only 9 optimiser steps (9 examples in batches of 1), which may teach nothing; raise fit.epochs"),
    ],
)
def test_too_few_steps_are_said(examples: int, batch: int, epochs: int, words: str) -> None:
    fit = {**PLAIN["fit"], "batch_size": batch, "epochs": epochs}
    assert words in parse_recipe({**PLAIN, "fit": fit}).few_steps(examples)


def test_ten_steps_are_enough() -> None:
    fit = {**PLAIN["fit"], "batch_size": 2, "epochs": 1}
    assert parse_recipe({**PLAIN, "fit": fit}).few_steps(20) == ""
    assert parse_recipe({**PLAIN, "fit": fit, "data": {**PLAIN["data"], "prompts_per_round": 18}}).few_steps(400)
