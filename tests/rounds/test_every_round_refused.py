"""Recipes and commands of evaluation while a run goes on that are refused, before work is lost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from command import sparring
from sparring.recipe.reading import parse_recipe
from sparring.rounds.run import run
from sparring.runtime.progress import Progress

Plain = dict[str, Any]


def go(plain: Plain, out: Path, **evaluation: Any) -> dict[str, Any]:
    return run(parse_recipe(changed(plain, **evaluation)), out, Progress(quiet=True))


def changed(plain: Plain, **evaluation: Any) -> Plain:
    return {**plain, "evaluation": {**plain["evaluation"], "samples": 1, **evaluation}}


@pytest.mark.parametrize(
    ("evaluation", "message"),
    [
        ({"patience": 2}, r"evaluation: patience = 2 without every.*evaluation\.every: 1"),
        ({"best_by": "checks"}, r"evaluation: best_by = 'checks' without every"),
        ({"every": 0}, r"evaluation\.every = 0: input should be greater than or equal to 1"),
        ({"every": -1}, r"evaluation\.every = -1"),
        ({"every": 1, "patience": 0}, r"evaluation\.patience = 0"),
        ({"every": 1, "patience": -3}, r"evaluation\.patience = -3"),
        ({"every": 1.5}, r"evaluation\.every = 1\.5"),
        ({"every": 1, "best_by": "elo"}, r"evaluation\.best_by = 'elo'.*'win_rate', 'mean_preference' or 'checks'"),
    ],
)
def test_a_bad_recipe_is_refused(evaluation: Plain, message: str, tiny_recipe: Plain) -> None:
    with pytest.raises(ValueError, match=message):
        parse_recipe(changed(tiny_recipe, **evaluation))


def test_patience_needs_somebody_who_judges(tiny_recipe: Plain) -> None:
    plain = {**tiny_recipe, "algorithm": {"name": "spin"}, "oracle": None}
    with pytest.raises(ValueError, match=r"patience = 1 with best_by = 'win_rate', but nobody judges"):
        parse_recipe(changed(plain, every=1, patience=1))
    assert parse_recipe(changed(plain, every=1, patience=1, best_by="checks"))
    assert parse_recipe(changed(plain, every=1))


def test_checks_that_no_held_out_prompt_has_are_refused_before_any_work(tiny_recipe: Plain, tmp_path: Path) -> None:
    held = Path(tiny_recipe["data"]["held_out"]["path"])
    held.write_text(json.dumps({"prompt": "Say gnu"}) + "\n" + held.read_text())
    with pytest.raises(ValueError, match=r"best_by = 'checks', but no held-out prompt that is evaluated has a check"):
        go(tiny_recipe, tmp_path / "run", every=1, best_by="checks", prompts=1)
    assert not (tmp_path / "run").exists()
    summary = go({**tiny_recipe, "rounds": 1}, tmp_path / "run", every=1, best_by="checks", prompts=2)
    assert summary["best"]["by"] == "checks"


def test_without_a_judge_there_are_figures_and_no_best(tiny_recipe: Plain, tmp_path: Path) -> None:
    plain = {**tiny_recipe, "algorithm": {"name": "spin"}, "oracle": None}
    summary = go(plain, tmp_path / "run", every=1)
    assert summary["best"] is None
    assert [policy["win_rate"] for policy in summary["evaluated"]] == [None, None]
    assert summary["evaluated"][1]["kl_to_start"] == summary["policies"][2]["kl_to_start"]
    refused = sparring("export", tmp_path / "run", "--best")
    assert (refused.code, "evaluated no policy with a win_rate yet" in refused.err) == (2, True)
    assert "95 % interval" in sparring("status", tmp_path / "run").out  # of the checks
