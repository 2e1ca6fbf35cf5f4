"""Preference sets built from prompts, a policy and an oracle: their columns, their drops, resuming."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

import oracle_fakes
from command import Outcome, sparring
from conftest import load_examples, write_jsonl
from sparring.recipe.sections import DatasetConfig
from sparring.rounds.collect import write
from sparring.rounds.preflight import Probed
from sparring.rounds.store import Store
from sparring.rounds.tables import EXAMPLES, PAIRS, SAMPLES
from sparring.runtime.files import write_table
from sparring.runtime.layout import TRAIN


@pytest.fixture
def recipe(tiny_recipe: dict[str, Any], tmp_path: Path) -> Path:
    """Only what a collection needs."""
    plain = {key: tiny_recipe[key] for key in ("model", "oracle", "sampling")}
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({**plain, "data": {"train": tiny_recipe["data"]["train"]}}))
    return path


def collected(recipe: Path, out: Path, *words: object) -> tuple[Outcome, list[dict[str, Any]]]:
    outcome = sparring("collect", recipe, "--out", out, *words)
    file = out / "preferences.jsonl"
    return outcome, [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def test_the_columns_and_what_the_oracle_said(recipe: Path, tmp_path: Path) -> None:
    outcome, rows = collected(recipe, tmp_path / "c", "--keep-cut-off")
    assert (outcome.code, outcome.err) == (0, "")
    assert f"{tmp_path}/c/preferences.jsonl: {len(rows)} pairs of 6 prompts" in outcome.out
    columns = ["prompt", "chosen", "rejected", "preference", "chosen_win_rate", "rejected_win_rate", "example"]
    assert {tuple(row) for row in rows} == {tuple(columns)}
    for row in rows:
        assert row["prompt"].startswith("Say ")
        said = oracle_fakes.more_vowels(row["prompt"], row["chosen"], row["rejected"])
        assert row["preference"] == pytest.approx(said, abs=1e-6)
        assert row["preference"] > 0.5


def test_where_labels_are_drawn_the_likelier_answer_is_still_the_chosen_one(recipe: Path, tmp_path: Path) -> None:
    _, rows = collected(recipe, tmp_path / "c", "--keep-cut-off", "--set", "data.collect.pairing=all")
    assert len(rows) > 6
    for row in rows:
        assert row["preference"] >= 0.5
        said = oracle_fakes.more_vowels(row["prompt"], row["chosen"], row["rejected"])
        assert row["preference"] == pytest.approx(said, abs=1e-6)


def test_messages_are_the_same_pairs_and_both_forms_are_training_data(recipe: Path, tmp_path: Path) -> None:
    _, plain = collected(recipe, tmp_path / "c", "--keep-cut-off")
    config = DatasetConfig(path=str(tmp_path / "c/preferences.jsonl"))
    from_text, dropped = load_examples(config, ("chosen", "rejected"))
    assert len(from_text) + sum(dropped.values()) == len(plain)
    _, rows = collected(recipe, tmp_path / "c", "--keep-cut-off", "--form", "messages")
    for row, text in zip(rows, plain, strict=True):
        assert row["prompt"] == [{"role": "user", "content": text["prompt"]}]
        assert row["chosen"] == [{"role": "assistant", "content": text["chosen"]}]
        assert row["rejected"][0]["content"] == text["rejected"]
    from_messages, _ = load_examples(config, ("chosen", "rejected"))
    assert from_messages == from_text


def pair_of(example: str, texts: list[str]) -> dict[str, Any]:
    pair = {"winner": 0, "loser": 1, "preference": 0.9, "weight": 1.0, "term": 0}
    answers = [{"role": "own", "text": t, "token_ids": [len(t)], "win_rate": float("nan")} for t in texts]
    return {"example": example, "prompt_ids": [1], "responses": answers, "pairs": [pair]}


def test_cut_off_answers_are_left_out_and_counted(tmp_path: Path) -> None:
    store = Store(tmp_path)
    messages = [{"role": "user", "content": "Why?"}]
    example = {"messages": messages, "prompt": "Why?", "prompt_ids": [1], "responses": [], "check": None}
    write_table(store.path(TRAIN), [{**example, "example": name} for name in "ab"], EXAMPLES)
    sample = {"role": "own", "index": 0, "policy": "0/play"}
    samples = [
        {**sample, "example": e, "text": t, "token_ids": [len(t)], "finish_reason": "length" if t == "long" else "stop"}
        for e, t in (("a", "yes"), ("a", "so"), ("b", "long"), ("b", "so"))
    ]
    write_table(store.path("collect/samples.parquet"), samples, SAMPLES)
    pairs = [pair_of("a", ["yes", "so"]), pair_of("b", ["long", "so"])]
    write_table(store.path("collect/pairs.parquet"), pairs, PAIRS)
    file = tmp_path / "preferences.jsonl"
    assert write(store, "text", False, file) == {"prompts": 2, "pairs": 1, "dropped": {"a response was cut off": 1}}
    (line,) = file.read_text().splitlines()
    assert json.loads(line) == {
        "prompt": "Why?",
        "chosen": "yes",
        "rejected": "so",
        "preference": 0.9,
        "chosen_win_rate": None,
        "rejected_win_rate": None,
        "example": "a",
    }
    assert write(store, "text", True, file)["pairs"] == 2
    write_table(store.path("collect/pairs.parquet"), pairs[1:], PAIRS)
    with pytest.raises(ValueError, match=r"a response was cut off\. Raise sampling\.max_new_tokens, or give --keep"):
        write(store, "text", False, file)


def test_several_messages_need_the_messages_form(recipe: Path, tmp_path: Path) -> None:
    talk = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Say ant"}]
    data = write_jsonl(tmp_path / "talk.jsonl", [{"prompt": talk}, {"prompt": "Say bee"}])
    words = ("--keep-cut-off", "--set", f"data.train.path={data}")
    outcome, _ = collected(recipe, tmp_path / "c", *words)
    assert outcome.code == 2
    assert "--form text: 1 of 2 prompts have several messages (0 with tools)" in outcome.err
    assert "Give --form messages" in outcome.err
    assert not (tmp_path / "c/collect/samples.parquet").exists()  # refused before anything is sampled
    outcome, rows = collected(recipe, tmp_path / "c", *words, "--form", "messages")
    assert outcome.code == 0
    assert talk in [row["prompt"] for row in rows]


def test_a_stopped_collection_goes_on(recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, undisturbed = collected(recipe, tmp_path / "a", "--keep-cut-off", "--set", "oracle.path=oracle_fakes:moody")
    monkeypatch.setattr(oracle_fakes, "answer", oracle_fakes.raises)
    words = ("--keep-cut-off", "--set", "oracle.path=oracle_fakes:moody")
    monkeypatch.setattr("sparring.rounds.collect.probe", lambda policies, recipe, progress: Probed([], {}, []))
    assert collected(recipe, tmp_path / "b", *words)[0].code == 3
    monkeypatch.setattr(oracle_fakes, "answer", oracle_fakes.more_vowels)
    samples = tmp_path / "b/collect/samples.parquet"
    before = samples.stat().st_mtime_ns
    outcome, rows = collected(recipe, tmp_path / "b", *words)
    assert outcome.code == 0
    assert rows == undisturbed
    assert samples.stat().st_mtime_ns == before
    assert collected(recipe, tmp_path / "b", *words)[1] == rows


def test_a_whole_recipe_will_do(tiny_recipe: dict[str, Any], recipe: Path, tmp_path: Path) -> None:
    path = tmp_path / "whole.yaml"
    path.write_text(yaml.safe_dump(tiny_recipe))
    _, rows = collected(path, tmp_path / "c", "--keep-cut-off")
    assert rows == collected(recipe, tmp_path / "d", "--keep-cut-off")[1]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("oracle=null", "oracle: missing, but data.collect asks for preferences"),
        ("data.collect.samples=1", "data.collect.samples = 1"),
        ("data.train=null", "data.held_out"),
        ("sampling.temperature=0", "sampling.temperature = 0"),
        ("model.pth=x", "model.pth: unknown key. Did you mean 'path'?"),
    ],
)
def test_bad_input(recipe: Path, tmp_path: Path, change: str, reason: str) -> None:
    outcome, rows = collected(recipe, tmp_path / "c", "--set", change)
    assert (outcome.code, outcome.out, rows) == (2, "", [])
    assert reason in outcome.err
