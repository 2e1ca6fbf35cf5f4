"""IFEval on a run: its last policy beside its start, answers kept, and prompts that were trained on named."""

from __future__ import annotations

import json

import pytest

from command import sparring
from conftest import write_jsonl
from sparring.contests import ifeval_folder

WORDS = {"num_words": 40, "relation": "less than"}


def test_a_run_is_scored_beside_its_start_and_goes_on_from_its_folder(finished, tmp_path, monkeypatch):
    kinds = {"instruction_id_list": ["length_constraints:number_words"], "kwargs": [WORDS]}
    data = write_jsonl(tmp_path / "data.jsonl", [{"prompt": prompt, **kinds} for prompt in ("Say ant", "Name a tree")])
    words = ("evaluate", "ifeval", finished.out, "--data", data, "--out", tmp_path / "out", "--json")
    words = (*words, "--sampling", "max_new_tokens=4")
    outcome = sparring(*words)
    assert outcome.code == 0, outcome.err
    first = json.loads(outcome.out)
    assert first["models"]["before"]["name"] == f"{finished.out}:0"
    assert json.loads(first["models"]["after"]["sampling"])["temperature"] == 0
    assert (first["prompts"], first["asked"], first["models"]["after"]["unanswered"]) == (2, 2, 0)
    assert first["training"] == {str(finished.out): {"exact": 1, "overlapping": 1}}
    monkeypatch.setattr(ifeval_folder, "store_answers", lambda *_: pytest.fail("answers were sampled again"))
    assert json.loads(sparring(*words).out) == first
    shown = sparring(*(word for word in words if word != "--json"))
    assert f"{finished.out} was trained on 1 of these prompts" in shown.out.replace("\n", " ")


def test_a_first_evaluation_that_fails_leaves_no_lock(finished, tmp_path, monkeypatch):
    """It had left run.lock, as head to head no longer does."""
    data = write_jsonl(tmp_path / "data.jsonl", [{"prompt": "Say fox", "check": {"rule": "max_words", "count": 90}}])

    def refuse(*_):
        raise ValueError("the model refuses")

    monkeypatch.setattr(ifeval_folder, "store_answers", refuse)
    outcome = sparring("evaluate", "ifeval", f"{finished.out}:1", "--data", data, "--out", tmp_path / "out")
    assert (outcome.code, "the model refuses" in outcome.err) == (2, True)
    assert not list((tmp_path / "out").rglob("*"))


def test_one_policy_alone(finished, tmp_path):
    data = write_jsonl(tmp_path / "data.jsonl", [{"prompt": "Say fox", "check": {"rule": "max_words", "count": 90}}])
    words = ("evaluate", "ifeval", f"{finished.out}:1", "--data", data, "--out", tmp_path / "out", "--json")
    found = json.loads(sparring(*words, "--sampling", "max_new_tokens=4").out)
    assert (list(found["models"]), found["difference"]) == (["after"], None)
