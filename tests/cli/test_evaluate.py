"""`sparring evaluate arena-hard`, `mt-bench` and `ratings` as commands: tables, stored results, published scores."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from command import sparring
from conftest import write_jsonl
from sparring.cli.inputs import oracle_section
from sparring.evaluation.result import finite

DATA = os.environ.get("SPARRING_EVALUATION_DATA")
published = pytest.mark.skipif(DATA is None, reason="SPARRING_EVALUATION_DATA names no folder with published judgments")


def arena_row(uid, first, second, model="new", **more):
    games = [{"score": first}, {"score": second}]
    row = {"uid": uid, "model": model, "judge": "gpt", "baseline": "old", "category": "hard_prompt", "games": games}
    return {**row, **more}


def test_arena_hard_stores_what_it_prints(tmp_path):
    file = write_jsonl(tmp_path / "j.jsonl", [arena_row("a", "B>A", "A>B"), arena_row("b", "A>B", "B>A")])
    questions = write_jsonl(tmp_path / "q.jsonl", [{"uid": "a", "category": "hard_prompt"}, {"uid": "b"}])
    shown = sparring("evaluate", "arena-hard", file, "--out", tmp_path / "out", "--questions", questions)
    assert shown.code == 0, shown.err
    assert "against old, judge gpt" in shown.out
    stored = json.loads((tmp_path / "out" / "result.json").read_text())
    assert (stored["judge"], stored["models"][0]["score"]["value"]) == ("gpt", 50.0)
    assert set(stored["files"]) == {str(file), str(questions)}
    printed = json.loads(sparring("evaluate", "arena-hard", file, "--json").out)
    assert printed["models"] == stored["models"]


def test_arena_hard_on_common_questions_and_one_category(tmp_path):
    rows = [
        arena_row("a", "B>A", "A>B"),
        arena_row("b", "A>B", "B>A"),
        arena_row("a", "B>A", "A>B", "other"),
        arena_row("c", "B>A", "A>B", category="math"),
    ]
    file = write_jsonl(tmp_path / "j.jsonl", rows)
    assert "there are hard_prompt, math" in sparring("evaluate", "arena-hard", file, "--category", "poems").err
    words = ("evaluate", "arena-hard", file, "--category", "hard_prompt")
    assert "other is not judged on 1 of 2 questions" in sparring(*words).err
    models = json.loads(sparring(*words, "--common", "--json").out)["models"]
    assert [model["score"]["value"] for model in models] == [100.0, 100.0]
    assert "belong to style control" in sparring(*words, "--centred").err


def test_arena_hard_with_style_control(tmp_path):
    verdicts = [("B>A", "A>B"), ("A>B", "B>A"), ("A=B", "A=B"), ("B>A", "B>A"), ("A>B", "A>B"), ("B>A", "A=B")]
    rows = [arena_row(str(i), *pair) for i, pair in enumerate(verdicts)]
    answers = [
        {"uid": str(i), "model": model, "messages": [{"content": {"answer": "word " * (n + i * i)}}]}
        for i in range(len(rows))
        for model, n in (("new", 9), ("old", 7 + 3 * (i % 2)))
    ]
    files = [write_jsonl(tmp_path / name, content) for name, content in (("j.jsonl", rows), ("a.jsonl", answers))]
    found = sparring("evaluate", "arena-hard", files[0], "--style", "densities", "--answers", files[1])
    assert found.code == 0, found.err
    assert "style control by densities" in found.out
    assert "token_len:" in found.out


def test_mt_bench_mixed_kinds_and_unknown_models_are_refused(tmp_path):
    rating = {"question_id": 1, "model": "m", "judge": ["gpt", "single-v1"], "score": 5, "turn": 1}
    game = {"question_id": 1, "model_1": "m", "model_2": "n", "g1_winner": "tie", "g2_winner": "tie", "turn": 1}
    file = write_jsonl(tmp_path / "j.jsonl", [rating, {**game, "judge": ["gpt", "pair-v2"]}])
    assert "mix single ratings and pairwise games" in sparring("evaluate", "mt-bench", file).err
    assert "--model x: no judgment is of it" in sparring("evaluate", "mt-bench", file, "--model", "x").err
    pairs = write_jsonl(tmp_path / "p.jsonl", [{**game, "judge": ["gpt", "pair-v2"]}])
    shown = sparring("evaluate", "mt-bench", pairs)
    assert shown.code == 0, shown.err
    assert "pairwise, judge gpt" in shown.out


def test_mt_bench_without_a_turn_says_so(tmp_path):
    rows = [{"question_id": q, "model": "m", "judge": ["gpt", "single-v1"], "score": 5 + q, "turn": 1} for q in (1, 2)]
    file = write_jsonl(tmp_path / "j.jsonl", rows)
    shown = sparring("evaluate", "mt-bench", file)
    assert (shown.code, "nan" in shown.out) == (0, False)
    assert "warning: turn 2 of 2 questions is not judged" in shown.out
    found = json.loads(sparring("evaluate", "mt-bench", file, "--json").out, parse_constant=pytest.fail)
    assert found["models"][0]["turns"] == {"1": 6.5, "2": None}
    assert found["not_judged"] == {"2": 2}
    write_jsonl(file, [*rows, {**rows[0], "turn": 2}])
    assert "turn 2 of 1 question is" in sparring("evaluate", "mt-bench", file).out
    write_jsonl(file, [{**row, "turn": turn} for row in rows for turn in (1, 2)])
    assert "warning" not in sparring("evaluate", "mt-bench", file).out


def test_numbers_that_are_not_finite_are_null():
    assert finite({"a": (1.0, float("nan")), "b": [{"c": float("inf")}]}) == {"a": [1.0, None], "b": [{"c": None}]}


def test_ratings_say_over_what_they_resample(tmp_path):
    rows = [
        {"prompt": str(i), "left": "a", "right": "b", "winner": ["left", "right", "left", "tie"][i % 4], "judge": "j"}
        for i in range(40)
    ]
    found = sparring("evaluate", "ratings", write_jsonl(tmp_path / "m.jsonl", rows), "--resamples", 50)
    assert found.code == 0, found.err
    assert "judge j" in found.out
    assert "intervals over 40 prompts" in found.out
    unnamed = [{key: value for key, value in row.items() if key != "judge"} for row in rows]
    found = sparring("evaluate", "ratings", write_jsonl(tmp_path / "u.jsonl", unnamed), "--resamples", 50)
    assert "judge not named" in found.out


def test_a_missing_file_is_named(tmp_path):
    for verb in ("arena-hard", "mt-bench", "ratings"):
        found = sparring("evaluate", verb, tmp_path / "none.jsonl")
        assert (found.code, "none.jsonl is not a file" in found.err) == (2, True)


@published
def test_published_mt_bench_judgments_give_their_scores():
    folder = Path(str(DATA)) / "mt_bench"
    file = folder / "gpt4_single_judgments_mistral-orpo-capybara.jsonl.gz"
    words = ("evaluate", "mt-bench", file, "--questions", folder / "mt_bench__question.jsonl", "--json")
    model = json.loads(sparring(*words).out)["models"][0]
    assert model["average"]["value"] == pytest.approx(6.81875, abs=1e-12)
    assert model["turns"] == {"1": 7.125, "2": 6.5125}


@pytest.mark.parametrize("inline", [False, True])
def test_a_wrapper_is_not_taken_for_a_recipe(tmp_path, inline):
    """Its field `oracle` was taken for a recipe's, so that the wrapper did nothing."""
    section = {"name": "length_penalty", "strength": 2.0, "oracle": {"name": "panel"}}
    (tmp_path / "judge.yaml").write_text(json.dumps(section))
    (tmp_path / "recipe.yaml").write_text(json.dumps({"oracle": section}))
    if inline:
        assert oracle_section(json.dumps(section)) == section
    else:
        assert oracle_section(str(tmp_path / "judge.yaml")) == section
        assert oracle_section(str(tmp_path / "recipe.yaml")) == section


def test_a_folder_of_a_trained_oracle_is_a_judge(tmp_path):
    with pytest.raises(ValueError, match=r"has no oracle\.json"):
        oracle_section(str(tmp_path))
    (tmp_path / "oracle.json").write_text("{}")
    assert oracle_section(str(tmp_path)) == {"name": "trained", "folder": str(tmp_path)}
    with pytest.raises(ValueError, match="is not readable YAML"):
        oracle_section("{name: [")
