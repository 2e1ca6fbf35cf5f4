"""The shipped recipes are valid, resolved without touching models, and named in the docs."""

from __future__ import annotations

import pytest

from sparring.recipe import load_recipe, parse_recipe, shipped_recipes


@pytest.mark.parametrize("name", shipped_recipes())
def test_shipped_recipes_resolve(name):
    recipe = load_recipe(name)
    assert parse_recipe(recipe.resolved()).resolved() == recipe.resolved()
    first = shipped_recipes()[name].read_text().splitlines()[0]
    assert first.startswith("# ")


def test_the_core_algorithms_have_recipes():
    names = {load_recipe(name).algorithm["name"] for name in shipped_recipes()}
    assert {"inpo", "spac", "spin", "dpo"} <= names
