"""The shipped recipes are valid, resolved without touching models, and say what is published and what is ours."""

from __future__ import annotations

import pytest

from sparring.recipe.reading import load_recipe, parse_recipe, shipped_recipes

PUBLISHED = {
    "spin-zephyr": ("2401.01335", "58.14", "60.80", "62.12", "62.97", "63.16", "5.94", "6.78"),
    "inpo-llama3": ("2407.00617", "37.6", "34.7", "8.27", "16.0", "10.2", "7.52"),
    "inpo-llama3-pairs": ("2407.00617", "42.6", "37.8", "8.43", "16.0", "10.2", "7.52"),
    "dpo-llama3": ("2407.00617", "28.3", "24.2", "8.22", "16.0", "10.2", "7.52"),
}


@pytest.mark.parametrize("name", shipped_recipes())
def test_shipped_recipes_resolve(name):
    recipe = load_recipe(name)
    assert parse_recipe(recipe.resolved()).resolved() == recipe.resolved()
    first = shipped_recipes()[name].read_text().splitlines()[0]
    assert first.startswith("# ")
    assert first.endswith(".")  # `sparring recipe` lists it


def test_the_core_algorithms_have_recipes():
    names = {load_recipe(name).algorithm["name"] for name in shipped_recipes()}
    assert {"inpo", "spac", "spin", "dpo"} <= names


@pytest.mark.parametrize("name", PUBLISHED)
def test_recipes_of_papers_name_source_and_numbers(name):
    head = shipped_recipes()[name].read_text().split("\nmodel:")[0]
    assert "Expected (" in head
    for fact in PUBLISHED[name]:
        assert fact in head


@pytest.mark.parametrize(
    ("name", "pairing", "oracle"),
    [
        ("inpo-llama3", "best_worst", {"name": "reward_model", "model": "sfairXC/FsfairX-LLaMA3-RM-v0.1"}),
        (
            "inpo-llama3-pairs",
            "knockout",
            {"name": "pair_model", "model": "RLHFlow/pair-preference-model-LLaMA3-8B", "format": "rlhflow"},
        ),
    ],
)
def test_inpo_s_settings_are_the_paper_s(name, pairing, oracle):
    recipe = load_recipe(name)
    assert recipe.oracle == oracle
    assert recipe.model.path == "RLHFlow/LLaMA3-SFT"
    plain = recipe.resolved()["algorithm"]
    assert 1 / plain["step_size"] == pytest.approx(0.005)
    assert plain["kl_to_reference"] * plain["step_size"] == pytest.approx(1 / 3)
    assert (plain["samples"], plain["pairing"]) == (8, pairing)
    assert (recipe.rounds, recipe.data.prompts_per_round) == (3, 20000)
    assert (recipe.fit.learning_rate, recipe.fit.batch_size, recipe.fit.warmup) == (5e-7, 128, 0.03)


def test_what_is_ours_is_marked_as_ours():
    head = shipped_recipes()["spac-zephyr"].read_text().split("\nmodel:")[0]
    assert "our settings" in head
    assert "not known to us" in head
    assert "Expected" not in head
