"""What Python users see of their objects: results first, no addresses in memory, no 3,000 letters in one line."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from oracle_fakes import more_vowels
from sparring.certificates.build import build_for_game
from sparring.certificates.certify import certify
from sparring.evaluation.head_to_head import view
from sparring.evaluation.intervals import Interval
from sparring.games.files import resolve_game
from sparring.oracles.function import FunctionOracle
from sparring.oracles.guard import Guard
from sparring.recipe.reading import parse_recipe
from sparring.report.html import picture
from sparring.report.shown import view_of_run
from sparring.rounds.policies import Policies
from sparring.rounds.store import Store

RATE = Interval(0.6, 0.55, 0.65)


@pytest.fixture
def summary() -> Any:
    judgment = {"name": "panel <b>", "seen_in_training": True, "win_rate": RATE}
    return {
        "name": "mine",
        "headline": {"oracle": "panel <b>", "win_rate": RATE},
        "judgments": [judgment, {**judgment, "name": "unseen", "seen_in_training": False}],
        "algorithm": {"title": "INPO"},
        "checks": None,
        "matrix": None,
        "rounds": [{}, {}],
        "warnings": ["Answers grew."],
        "recipe": {"rounds": 2, "model": {"path": "m"}, "evaluation": {}},
        "samples": [],
        "policies": [],
    }


def test_a_run_s_summary_says_the_result_and_where_its_files_are(summary: Any) -> None:
    seen = view_of_run(summary, Path("runs/mine"))
    lines = seen.text.splitlines()
    assert lines[0].startswith("mine: The final policy wins 60 % of held-out comparisons against the start")
    assert [line.split("  ")[0] for line in lines[1:4]] == ["final against start, held out", "panel <b>", "unseen"]
    assert lines[4:] == [
        "warning: Answers grew.",
        "report: runs/mine/report.html",
        "policy: runs/mine/rounds/001/policy",
    ]
    assert "<b>" not in seen.html
    assert "data:image/svg+xml" in seen.html


def test_checks_are_rows_and_the_picture_is_the_report_s(summary: Any) -> None:
    """A notebook had drawn judgments where the report draws rules, and the text had no row of the checks."""
    difference = Interval(0.3, 0.2, 0.4)
    checks = {"start": Interval(0.3, 0.2, 0.4), "final": RATE, "difference": difference, "prompts": 1}
    summary = {**summary, "checks": checks, "samples": [{}]}
    seen = view_of_run(summary, Path("runs/mine"))
    rows = [line.split() for line in seen.text.splitlines()[4:6]]
    assert rows == [
        ["checks", "passed", "by", "the", "start", "30", "%", "20–40", "%"],
        ["checks", "passed", "by", "the", "final", "policy", "60", "%", "55–65", "%"],
    ]
    assert seen.picture == picture(summary)
    assert "instructions obeyed, checked by code" in seen.picture


def test_a_head_to_head_says_its_verdict_first() -> None:
    result = {"a": "x", "b": "y", "judge": "rules", "verdict": "No difference is shown.", "win_rate": RATE}
    counts = {"mean_preference": RATE, "length_controlled": None, "wins": 6, "losses": 4, "ties": 0, "judged": 10}
    lines = view({**result, **counts, "cautions": ["few"]}).text.splitlines()
    assert lines[0] == "No difference is shown."
    assert "win rate         60.0%  55.0% to 65.0%" in lines
    assert lines[-2:] == ["6 wins, 4 losses, 0 ties of 10 judged", "warning: few"]


def test_a_certificate_says_where_it_ended() -> None:
    found = certify(build_for_game("inpo", {"eta": 1.0, "tau": 0.1}), resolve_game("G3"), "exact", 3)
    lines = repr(found).splitlines()
    assert lines[0] == "INPO on G3, exact player, 3 rounds"
    assert lines[1].split() == ["mean", "over", "contexts", "round", "0", "round", "3"]
    assert any(line.startswith("kl to equilibrium") for line in lines)
    assert copy.deepcopy(found) == found


def test_objects_say_what_they_are(tiny_recipe: dict[str, Any], tmp_path: Path) -> None:
    recipe = parse_recipe(tiny_recipe)
    assert repr(recipe).startswith("Recipe\n  model:\n    path: ")
    assert str(recipe) == repr(recipe)
    assert "micro_batch_tokens" not in repr(recipe) or "micro_batch_tokens" in str(tiny_recipe)
    store = Store(tmp_path)
    assert repr(store) == f"Store({str(tmp_path)!r}: 0 finished stages)"
    assert repr(Policies(store, recipe.model)) == f"Policies({str(tmp_path)!r}, start {recipe.model.path})"
    judge = FunctionOracle(f"oracle_fakes:{more_vowels.__name__}")
    assert repr(Guard(judge)) == f"Guard({judge.identity}: 0 asked, 0 failed)"
    assert RATE._repr_html_() == "0.6 (0.55 to 0.65)"
