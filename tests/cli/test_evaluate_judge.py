"""The judging commands against a server that misbehaves: what is stored, what is paid twice (nothing), what is said."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from command import sparring
from conftest import write_jsonl
from faulty_server import Faulty, completion, serving

pytest.importorskip("openai")
QUESTIONS = "abcdef"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Faulty]:
    """Prefers the answer shown first."""
    monkeypatch.setattr("sparring.endpoints.endpoint.BACKOFF", 0.01)
    with serving() as faulty:
        faulty.answer = lambda request: completion("Better: [[A>B]]")
        yield faulty


def answers(tmp_path: Any, model: str, questions: str = QUESTIONS) -> Any:
    rows = [{"uid": q, "model": model, "messages": [{"content": {"answer": f"{model} {q}"}}]} for q in questions]
    return write_jsonl(tmp_path / f"{model}.jsonl", rows)


def arena_words(server: Faulty, tmp_path: Any, ours: Any, **options: Any) -> list[Any]:
    questions = write_jsonl(tmp_path / "q.jsonl", [{"uid": q, "prompt": f"Why {q}?"} for q in QUESTIONS])
    (tmp_path / "judge.txt").write_text("Judge.")
    given = {"answers": ours, "baseline-answers": answers(tmp_path, "old"), "questions": questions}
    given |= {"instruction": tmp_path / "judge.txt", "model": "gpt", "out": tmp_path / "j.jsonl"}
    given |= {"base-url": server.url, "key-env": "", "timeout": 0.3, "concurrency": 1, **options}
    return ["evaluate", "judge-arena-hard", *(x for k, v in given.items() for x in (f"--{k}", v))]


def test_judgments_are_scored_under_the_version_that_served(server: Faulty, tmp_path: Any) -> None:
    judged = sparring(*arena_words(server, tmp_path, answers(tmp_path, "new"), **{"price-in": 1, "price-out": 1}))
    assert judged.code == 0, judged.err
    assert "12 requests, about" in judged.out
    assert "at most 0.05" in judged.out
    found = json.loads(sparring("evaluate", "arena-hard", tmp_path / "j.jsonl", "--json").out)
    assert found["judge"] == "gpt (served as served-1, prompt 581f76da, at most 4096 tokens)"
    assert (found["models"][0]["score"]["value"], found["models"][0]["first_preferred"]) == (50.0, 1.0)


def test_a_reasoning_judge_gets_no_temperature(server: Faulty, tmp_path: Any) -> None:
    judged = sparring(*arena_words(server, tmp_path, answers(tmp_path, "new")), "--reasoning")
    assert judged.code == 0, judged.err
    assert server.requests[0].keys() == {"model", "messages", "max_completion_tokens"}


def test_faults_are_waited_out(server: Faulty, tmp_path: Any) -> None:
    half = json.dumps(completion("[[B>>A]]"))[:40]
    server.faults = [(500, {}, "oops"), (429, {"retry-after": "0.01"}, {}), half, {"choices": []}, completion(" ")]
    server.faults += [(200, {}, "hang")]
    judged = sparring(*arena_words(server, tmp_path, answers(tmp_path, "new"), attempts=7))
    assert judged.code == 0, judged.err
    games = [g["score"] for line in (tmp_path / "j.jsonl").read_text().splitlines() for g in json.loads(line)["games"]]
    assert games == ["A>B"] * 12
    assert len(server.requests) == 12 + 6


def test_an_outage_stops_and_nothing_is_paid_twice(server: Faulty, tmp_path: Any) -> None:
    words = arena_words(server, tmp_path, answers(tmp_path, "new"), attempts=1)
    server.faults = [completion("[[B>A]]")] * 4 + [(503, {}, "down")] * 8
    stopped = sparring(*words)
    assert (stopped.code, "give the same command to go on" in stopped.err) == (3, True)
    assert not (tmp_path / "j.jsonl").exists()
    before = len(server.requests)
    assert sparring(*words).code == 0
    assert len(server.requests) == before + 8
    answered = [json.dumps(r) for r in (server.requests[:4] + server.requests[before:])]
    assert max(Counter(answered).values()) == 1


def test_prose_is_stored_counted_and_no_score(server: Faulty, tmp_path: Any) -> None:
    server.answer = lambda request: completion("Both have merits.")
    words = arena_words(server, tmp_path, answers(tmp_path, "new"))
    stopped = sparring(*words)
    assert (stopped.code, "12 of 12 replies gave no verdict (0 unanswered" in stopped.err) == (3, True)
    assert "[A=B]" not in (tmp_path / "j.jsonl").read_text()
    assert sparring(*words).code == 3
    assert len(server.requests) == 12
    scored = sparring("evaluate", "arena-hard", tmp_path / "j.jsonl")
    assert (scored.code, "no judgment has a verdict" in scored.err) == (2, True)


def test_a_refused_key_stops_at_once_and_is_not_shown(server: Faulty, tmp_path: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("MY_KEY", "sk-secret-1234")
    server.faults = [(401, {}, {"error": {"message": "bad key sk-secret-1234"}})] * 9
    outcome = sparring(*arena_words(server, tmp_path, answers(tmp_path, "new"), **{"key-env": "MY_KEY"}))
    assert (outcome.code, len(server.requests)) == (3, 1)
    assert "Check judge.model" in outcome.err
    assert "sk-secret" not in outcome.out + outcome.err


def test_what_is_missing_is_refused_before_anything_is_asked(server: Faulty, tmp_path: Any) -> None:
    outcome = sparring(*arena_words(server, tmp_path, answers(tmp_path, "new", "abcde")))
    assert (outcome.code, "new has no answer to question f" in outcome.err) == (2, True)
    write_jsonl(tmp_path / "twice.jsonl", [{"uid": "a", "prompt": "Why?"}] * 2)
    words = arena_words(server, tmp_path, answers(tmp_path, "new"), questions=tmp_path / "twice.jsonl")
    assert "question a is there twice" in sparring(*words).err
    assert not server.requests


def test_judgments_of_another_model_or_judge_are_not_overwritten(server: Faulty, tmp_path: Any) -> None:
    words = arena_words(server, tmp_path, answers(tmp_path, "new"))
    assert sparring(*words).code == 0
    kept, paid = (tmp_path / "j.jsonl").read_bytes(), len(server.requests)
    refused = sparring(*arena_words(server, tmp_path, answers(tmp_path, "newer")))
    assert (refused.code, "model: new there, newer here). Give another --out." in refused.err) == (2, True)
    refused = sparring(*arena_words(server, tmp_path, answers(tmp_path, "new"), model="other"))
    assert (refused.code, "judge: gpt (prompt 581f76da" in refused.err) == (2, True)
    assert sparring(*words).code == 0
    assert ((tmp_path / "j.jsonl").read_bytes(), len(server.requests)) == (kept, paid)


def test_a_model_is_not_judged_against_itself(server: Faulty, tmp_path: Any) -> None:
    refused = sparring(*arena_words(server, tmp_path, answers(tmp_path, "old")))
    assert (refused.code, "both of 'old'" in refused.err) == (2, True)
    words = bench_words(server, tmp_path)
    refused = sparring(*words, "--against", words[words.index("--answers") + 1])
    assert (refused.code, "both of 'm'" in refused.err, server.requests) == (2, True, [])


def test_empty_answers_are_not_paid_for(server: Faulty, tmp_path: Any) -> None:
    ours = answers(tmp_path, "new")
    write_jsonl(ours, [{**row, "messages": [{"content": ""}]} if row["uid"] == "a" else row for row in rows_of(ours)])
    judged = sparring(*arena_words(server, tmp_path, ours))
    assert judged.code == 0, judged.err
    assert "2 games have an empty answer, which loses" in judged.out
    assert len(server.requests) == 2 * len(QUESTIONS) - 2


def rows_of(path: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def bench_words(server: Faulty, tmp_path: Any) -> list[Any]:
    fields = {"single-v1": "{question} {answer}", "single-v1-multi-turn": "{question_2} {answer_2}"}
    fields |= {"pair-v2": "{answer_a} {answer_b}", "pair-v2-multi-turn": "{answer_a_2} {answer_b_2}"}
    prompts = [{"name": n, "system_prompt": "Fair.", "prompt_template": t} for n, t in fields.items()]
    turns = [{"question_id": q, "category": "writing", "turns": ["Write.", "Again."]} for q in (81, 82)]
    written = [{"question_id": q, "model_id": "m", "choices": [{"turns": [f"one {q}", f"two {q}"]}]} for q in (81, 82)]
    files = {"answers": written, "questions": turns, "references": written, "judge-prompts": prompts}
    given = {name: write_jsonl(tmp_path / f"{name}.jsonl", rows) for name, rows in files.items()}
    given |= {"model": "gpt", "base-url": server.url, "key-env": "", "out": tmp_path / "r.jsonl"}
    return ["evaluate", "judge-mt-bench", *(x for k, v in given.items() for x in (f"--{k}", v))]


def test_mt_bench_is_rated_and_scored(server: Faulty, tmp_path: Any) -> None:
    server.answer = lambda request: completion(f"Rating: [[{7 if 'Write' in str(request) else 9}]]")
    words = bench_words(server, tmp_path)
    judged = sparring(*words)
    assert judged.code == 0, judged.err
    questions = words[words.index("--questions") + 1]
    found = json.loads(sparring("evaluate", "mt-bench", tmp_path / "r.jsonl", "--questions", questions, "--json").out)
    assert found["models"][0]["turns"] == {"1": 7.0, "2": 9.0}
    assert sparring(*words).code == 0
    refused = sparring(*words, "--max-tokens", 9)
    assert (refused.code, "at most 9 tokens) here). Give another --out." in refused.err) == (2, True)
    refused = sparring(*words, "--timeout", 0)
    assert (refused.code, "judge.timeout = 0.0: input should be greater than 0." in refused.err) == (2, True)
    other = {"question_id": 81, "model_id": "n", "choices": [{"turns": ["", "x"]}]}
    refused = sparring(*words, "--against", write_jsonl(tmp_path / "n.jsonl", [other]))
    assert (refused.code, "model_1: None there, m here" in refused.err) == (2, True)


def test_two_models_play_mt_bench(server: Faulty, tmp_path: Any) -> None:
    rows = [{"question_id": q, "model_id": "n", "choices": [{"turns": ["good", "good"]}]} for q in (81, 82)]
    server.answer = lambda request: completion("[[A]]" if request["messages"][1]["content"][:4] == "good" else "[[B]]")
    words = [*bench_words(server, tmp_path), "--against", write_jsonl(tmp_path / "n.jsonl", rows)]
    judged = sparring(*words)
    assert judged.code == 0, judged.err
    found = json.loads(sparring("evaluate", "mt-bench", tmp_path / "r.jsonl", "--json").out)
    assert {m["model"]: m["win_rate"]["value"] for m in found["models"]} == {"n": 1.0, "m": 0.0}
