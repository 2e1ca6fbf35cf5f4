"""What the evaluation says of a run: which oracle training saw, and what could not be measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import oracle_fakes
from command import sparring
from conftest import write_jsonl
from sparring.algorithms.algorithm import PolicyRef
from sparring.recipe.reading import parse_recipe
from sparring.recipe.recipe import Recipe
from sparring.report.html import lead
from sparring.rounds.evaluate import sample_held_out
from sparring.rounds.measure import policy_warnings
from sparring.rounds.policies import Policies
from sparring.rounds.run import run
from sparring.rounds.tables import SAMPLES
from sparring.runtime.files import read_table, write_table
from sparring.runtime.layout import HELD_OUT
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
        assert summary["headline"]["oracle"] == "function (oracle_fakes:more_vowels)"
        assert summary["matrix"] is not None
        assert ("it was trained on" if asked else "which training never saw") in lead(summary)


def test_without_an_oracle_of_the_recipe_there_is_no_headline(tiny_recipe, tmp_path):
    evaluation = {**tiny_recipe["evaluation"], "oracles": [tiny_recipe["oracle"]]}
    plain = {**tiny_recipe, "algorithm": {"name": "spin"}, "oracle": None, "evaluation": evaluation}
    summary = go(plain, tmp_path / "run")
    assert summary["headline"] is None
    assert "which training never saw" in lead(summary)


def test_a_member_of_the_training_jury_is_no_unseen_judge(tiny_recipe, tmp_path):
    member, other = tiny_recipe["oracle"], {"name": "function", "path": "oracle_fakes:moody"}
    unseen = {"name": "length_penalty", "oracle": other}
    evaluation = {**tiny_recipe["evaluation"], "oracles": [member, unseen]}
    jury = {"name": "jury", "members": [member, other]}
    summary = go({**tiny_recipe, "oracle": jury, "evaluation": evaluation}, tmp_path / "run")
    assert [j["seen_in_training"] for j in summary["judgments"]] == [True, True, False]


def test_what_could_not_be_measured_is_null(tiny_recipe, tmp_path):
    """One held-out prompt has no standard error; the summary stays JSON that any reader takes."""
    evaluation = {**tiny_recipe["evaluation"], "prompts": 1}
    summary = go({**tiny_recipe, "evaluation": evaluation}, tmp_path / "run")
    assert summary["policies"][1]["kl_standard_error"] is None

    def refuse(constant: str) -> float:
        raise AssertionError(constant)

    json.loads((tmp_path / "run/evaluation/summary.json").read_text(), parse_constant=refuse)


def shorter(prompt: str, a: str, b: str) -> float:
    """An oracle that prefers the empty answer to any other."""
    return 0.5 + 0.4 * ((len(a) < len(b)) - (len(a) > len(b)))


def test_all_evaluations_of_the_same_answers_give_the_same_win_rate(tiny_recipe, tmp_path, monkeypatch):
    """The run's report, its matrix, head to head and exploitability overrule an oracle that prefers silence."""
    silent: dict[int, dict[int, str]] = {0: {0: "", 1: ""}, 1: {1: "\n\n"}}

    def partly_silent(policies: Policies, recipe: Recipe, ref: PolicyRef, *rest: Any) -> dict[str, Any]:
        counts = sample_held_out(policies, recipe, ref, *rest)
        path = policies.store.path(f"evaluation/samples-{ref.round}.parquet")
        rows = [{**row, "text": silent[ref.round].get(at, row["text"])} for at, row in enumerate(read_table(path))]
        write_table(path, rows, SAMPLES)
        return counts

    monkeypatch.setattr("sparring.rounds.run.sample_held_out", partly_silent)
    monkeypatch.setattr(oracle_fakes, "answer", shorter)
    judge = {"name": "function", "path": "oracle_fakes:moody"}
    evaluation = {**tiny_recipe["evaluation"], "samples": 1}
    summary = go({**tiny_recipe, "oracle": judge, "evaluation": evaluation}, out := tmp_path / "run")

    prompts = {row["example"]: row["prompt"] for row in read_table(out / HELD_OUT)}
    files = []
    for which in (1, 0):
        samples = read_table(out / f"evaluation/samples-{which}.parquet")
        rows = [{"instruction": prompts[row["example"]], "output": row["text"]} for row in samples]
        files.append(write_jsonl(tmp_path / f"{which}.jsonl", rows))
    (tmp_path / "judge.yaml").write_text(json.dumps(judge))
    words = ("--oracle", tmp_path / "judge.yaml", "--json", "--out")
    versus = json.loads(sparring("evaluate", "head-to-head", *files, *words, tmp_path / "versus").out)
    gap = json.loads(sparring("evaluate", "exploitability", out, *words, tmp_path / "gap").out)

    assert versus["decided_by_rule"] == {"empty answer": 1, "equal answers": 1}
    assert summary["headline"]["win_rate"].value == versus["win_rate"]["value"] > 0.4
    assert summary["headline"]["mean_preference"].value == pytest.approx(versus["mean_preference"]["value"])
    assert summary["matrix"]["win_rate"][1][0] == pytest.approx(versus["win_rate"]["value"])
    assert 1 - gap["attackers"][0]["preference"]["value"] == pytest.approx(versus["mean_preference"]["value"])


def test_answers_without_room_are_warned_of(tiny_recipe, tmp_path, capsys):
    """Every answer was cut off, and the report had no warnings."""
    plain = {**tiny_recipe, "rounds": 1, "sampling": {**tiny_recipe["sampling"], "max_new_tokens": 3}}
    warnings = run(parse_recipe(plain), tmp_path / "run", Progress()).get("warnings")
    assert any("answers were cut off" in line and "Raise sampling.max_new_tokens" in line for line in warnings)
    said = " ".join(capsys.readouterr().out.split())
    assert "responses were cut off at sampling.max_new_tokens = 3: raise it" in said
    measured = {"tokens_mean": 5, "repeating_share": 0.0, "empty_share": 0.0, "same_opening": 0.0}
    assert policy_warnings([{**measured, "finished_share": share} for share in (0.1, 0.6)]) == []
