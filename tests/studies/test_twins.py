"""What a study's runs make alike is made once: the same bytes as alone, and nothing where they differ."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sparring.recipe.reading import parse_recipe
from sparring.recipe.recipe import Recipe
from sparring.rounds.run import run
from sparring.rounds.store import Store
from sparring.runtime.progress import Progress
from sparring.studies.reading import Study
from sparring.studies.study import run_study
from sparring.studies.twins import twins_of

START, SAMPLE, JUDGE = "evaluation/sample-0", "rounds/000/sample", "rounds/000/judge"
QUIET = Progress(quiet=True)


@pytest.fixture
def recipe(tiny_recipe: dict[str, Any]):
    def make(algorithm: dict[str, Any], **sections: Any) -> Recipe:
        return parse_recipe({**tiny_recipe, "rounds": 1, "algorithm": algorithm, **sections})

    return make


def own(name: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "samples": 2, "pairing": "iid", **({"source": "own"} if name == "dpo" else {}), **fields}


def outputs(manifest: dict[str, Any]) -> dict[str, str]:
    """Hashes of all tables and policies; logs and the summary have times in them."""
    named = [item for entry in manifest.values() for item in entry["outputs"].items()]
    return {name: value for name, value in named if not name.endswith((".json", ".jsonl"))}


def test_copied_stages_are_those_of_a_run_alone(recipe: Any, tmp_path: Path):
    recipes = {("inpo", 0): recipe(own("inpo")), ("dpo", 0): recipe(own("dpo"))}
    run_study(Study(recipes), tmp_path / "study", QUIET)
    run(recipes["dpo", 0], tmp_path / "alone", QUIET)
    made, alone = (Store(folder).manifest for folder in (tmp_path / "study/dpo/seed-0", tmp_path / "alone"))
    copied = {key for key, entry in made.items() if "copied_from" in entry}
    assert copied == {START, SAMPLE, JUDGE}
    assert outputs(made) == outputs(alone)
    first = Store(tmp_path / "study/inpo/seed-0").manifest
    assert all(made[key]["seconds"] == first[key]["seconds"] for key in copied)


def test_what_differs_is_not_shared(recipe: Any, tmp_path: Path):
    base, folders = recipe(own("inpo")), {("inpo", 0): tmp_path}

    def shared(other: Recipe) -> set[str]:
        return set(twins_of(other, {("inpo", 0): base}, folders))

    assert shared(recipe(own("comal"))) == {START, SAMPLE, JUDGE}
    assert shared(recipe(own("inpo", pairing="best_worst"))) == {START, SAMPLE}
    assert shared(recipe(own("inpo", samples=4))) == {START}
    assert shared(recipe(own("inpo"), data={**base.data.model_dump(), "max_prompt_tokens": 100})) == {START}
    assert shared(recipe(own("inpo"), seed=1)) == set()
    assert shared(recipe(own("inpo"), fit={**base.fit.model_dump(), "precision": "bfloat16"})) == set()


def test_a_twin_that_was_altered_is_made_anew(recipe: Any, tmp_path: Path):
    made = run(recipe(own("inpo")), tmp_path / "one", QUIET)
    file = tmp_path / "one/rounds/000/samples.parquet"
    file.write_bytes(file.read_bytes()[:-1])
    others = [tmp_path / "gone", tmp_path / "one"]
    run(recipe(own("inpo")), tmp_path / "two", QUIET, {START: others, SAMPLE: others})
    manifest = Store(tmp_path / "two").manifest
    assert "copied_from" not in manifest[SAMPLE]
    assert "copied_from" in manifest[START]
    assert made["samples"]
