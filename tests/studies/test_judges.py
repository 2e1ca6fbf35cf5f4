"""A judge's former and new identity are one judge."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sparring.oracles import build
from sparring.oracles.function import FunctionOracle
from sparring.recipe.reading import parse_recipe
from sparring.studies.judges import alike, alike_in

PATH = "oracle_fakes:more_vowels"


def summary(identity: str) -> Any:
    return {"judgments": [{"name": "function", "identity": identity}]}


def test_runs_before_and_after_an_identity_changed_share_the_judge(tiny_recipe: dict[str, Any]) -> None:
    judge = FunctionOracle(PATH)
    assert judge.former_identity not in (None, judge.identity)
    recipe = parse_recipe({**tiny_recipe, "oracle": {"name": "function", "path": PATH}})
    old = summary(str(judge.former_identity))
    found = alike({"old": recipe, "new": recipe}, {"old": old, "new": summary(judge.identity)})
    assert {one["identity"] for s in found.values() for one in s["judgments"]} == {judge.identity}


def test_a_run_whose_recipe_cannot_be_read_keeps_its_judges(tmp_path: Path) -> None:
    summaries = {"a": summary("panel(1)"), "b": summary("panel(2)")}
    (tmp_path / "recipe.yaml").write_text("rounds: 1\nold_field: 2\n")
    assert alike_in(dict.fromkeys(summaries, tmp_path), summaries) == summaries


def test_judges_that_had_one_identity_only_are_not_built(
    tiny_recipe: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "find_oracle", lambda name: pytest.fail(f"{name} was built"))
    recipe = parse_recipe({**tiny_recipe, "oracle": {"name": "panel"}})
    summaries = {"a": summary("panel(1)"), "b": summary("panel(2)")}
    assert alike(dict.fromkeys(summaries, recipe), summaries) == summaries
