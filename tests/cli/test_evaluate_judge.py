"""The judging commands against a fake endpoint: judgments that the scores read, and input that is refused first."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import pytest

from command import sparring
from conftest import write_jsonl


class Said(NamedTuple):
    text: str
    cut: bool = False


class FirstIsBetter:
    """An endpoint that always prefers the answer shown first."""

    def __init__(self, settings: Any, replies: Any) -> None:
        self.settings, self.replies = settings, replies

    def ask(self, requests: Any) -> list[Said]:
        return [Said("[[A>B]]") for _ in requests]


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sparring.oracles.endpoint.Endpoint", FirstIsBetter)


def answers(tmp_path: Any, model: str, questions: str = "ab") -> Any:
    rows = [{"uid": q, "model": model, "messages": [{"content": {"answer": f"{model} {q}"}}]} for q in questions]
    return write_jsonl(tmp_path / f"{model}.jsonl", rows)


def words(tmp_path: Any, ours: Any) -> list[Any]:
    questions = write_jsonl(tmp_path / "q.jsonl", [{"uid": q, "prompt": "Why?"} for q in "ab"])
    (tmp_path / "judge.txt").write_text("Judge.")
    given = {"answers": ours, "baseline-answers": answers(tmp_path, "old"), "questions": questions}
    given |= {"instruction": tmp_path / "judge.txt", "model": "gpt", "out": tmp_path / "j.jsonl"}
    return ["evaluate", "judge-arena-hard", *(x for k, v in given.items() for x in (f"--{k}", v))]


def test_judgments_are_scored(endpoint: None, tmp_path: Any) -> None:
    judged = sparring(*words(tmp_path, answers(tmp_path, "new")))
    assert judged.code == 0, judged.err
    found = json.loads(sparring("evaluate", "arena-hard", tmp_path / "j.jsonl", "--json").out)
    assert found["judge"].startswith("gpt (prompt ")
    assert (found["models"][0]["score"]["value"], found["models"][0]["first_preferred"]) == (50.0, 1.0)


def test_a_missing_answer_is_refused_before_anything_is_asked(endpoint: None, tmp_path: Any) -> None:
    outcome = sparring(*words(tmp_path, answers(tmp_path, "new", "a")))
    assert (outcome.code, "new has no answer to question b" in outcome.err) == (2, True)
    assert not (tmp_path / "j.jsonl").exists()
