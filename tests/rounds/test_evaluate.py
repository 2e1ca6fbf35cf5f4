"""What the evaluation says of a run: which oracle training saw, and what could not be measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sparring.recipe.reading import parse_recipe
from sparring.report.html import lead
from sparring.rounds.run import run
from sparring.runtime.progress import Progress

Plain = dict[str, Any]


def go(plain: Plain, out: Path) -> dict[str, Any]:
    return run(parse_recipe({**plain, "rounds": 1}), out, Progress(quiet=True))


@pytest.mark.parametrize(
    ("algorithm", "collect", "asked"),
    [
        ({"name": "spin"}, None, False),
        ({"name": "dpo"}, None, False),
        ({"name": "dpo"}, {"samples": 2}, True),
        ({"name": "dpo", "source": "own"}, None, True),
    ],
)
def test_an_oracle_is_seen_in_training_only_where_training_asked_it(algorithm, collect, asked, tiny_recipe, tmp_path):
    plain = {**tiny_recipe, "algorithm": algorithm, "data": {**tiny_recipe["data"], "collect": collect}}
    assert parse_recipe(plain).asks_oracle() is asked
    if collect is None:
        summary = go(plain, tmp_path / "run")
        assert [j["seen_in_training"] for j in summary["judgments"]] == [asked]
        assert summary["headline"]["oracle"] == "function"
        assert summary["matrix"] is not None
        assert ("it was trained on" if asked else "which training never saw") in lead(summary)


def test_without_an_oracle_of_the_recipe_there_is_no_headline(tiny_recipe, tmp_path):
    evaluation = {**tiny_recipe["evaluation"], "oracles": [tiny_recipe["oracle"]]}
    plain = {**tiny_recipe, "algorithm": {"name": "spin"}, "oracle": None, "evaluation": evaluation}
    summary = go(plain, tmp_path / "run")
    assert summary["headline"] is None
    assert "which training never saw" in lead(summary)


def test_what_could_not_be_measured_is_null(tiny_recipe, tmp_path):
    """One held-out prompt has no standard error; the summary stays JSON that any reader takes."""
    evaluation = {**tiny_recipe["evaluation"], "prompts": 1}
    summary = go({**tiny_recipe, "evaluation": evaluation}, tmp_path / "run")
    assert summary["policies"][1]["kl_standard_error"] is None

    def refuse(constant: str) -> float:
        raise AssertionError(constant)

    json.loads((tmp_path / "run/evaluation/summary.json").read_text(), parse_constant=refuse)
