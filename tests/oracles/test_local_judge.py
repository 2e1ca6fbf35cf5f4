"""A model in this process as the judge: it says what `generate` says, keeps it, and fails as an endpoint does."""

from __future__ import annotations

import json
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from command import sparring
from conftest import TEMPLATE, byte_tokenizer, tiny_llama, write_jsonl
from sparring.endpoints.local import LocalChat
from sparring.endpoints.replies import Reply
from sparring.models.weights import load_model
from sparring.oracles.build import build_oracle
from sparring.oracles.guard import Guard
from sparring.oracles.judge_prompts import STYLES
from sparring.oracles.local_judge import LocalJudge, LocalJudgeConfig
from sparring.oracles.oracle import Comparison
from sparring.runtime.errors import OracleError

CASES = [Comparison("Say ant", "ant", "no"), Comparison("Say a longer word", "elephant", "no")]
PROSE = "of many words that take all the room there is in the context of a tiny model, and more "


def asked(text: str, **options) -> dict:
    return {"messages": [{"role": "user", "content": text}], "temperature": 0.0, "max_tokens": 12, **options}


def chat_with(folder: Path, tmp_path: Path, **options) -> LocalChat:
    return LocalChat(str(folder), str(tmp_path / "replies.jsonl"), precision="float32", **options)


def test_replies_and_log_probabilities_are_those_of_the_model(tiny_model, tmp_path):
    chat = chat_with(tiny_model, tmp_path)
    requests = [asked(text, logprobs=True, top_logprobs=5) for text in ("Hi", "A much longer question", "Hello")]
    replies = chat.ask(requests)
    model = load_model(tiny_model)
    for request, reply in zip(requests, replies, strict=True):
        ids = chat.chat.prompt_ids(request["messages"])
        whole = model.generate(torch.tensor([ids]), max_new_tokens=12, do_sample=False, eos_token_id=256)[0]
        said = [token for token in whole[len(ids) :].tolist() if token != 256]
        assert reply is not None
        assert reply.text == chat.chat.decode(said)
        logps = model(whole[None]).logits[0].log_softmax(-1)
        expected = [logps[len(ids) + i - 1, token].item() for i, token in enumerate(said)]
        assert [token["logprob"] for token in reply.tokens] == pytest.approx(expected, abs=1e-4)
        assert all(max(t["top"].values()) == pytest.approx(t["logprob"]) for t in reply.tokens)


def test_what_was_said_is_not_said_again(tiny_model, tmp_path):
    first = chat_with(tiny_model, tmp_path)
    replies = first.ask([asked("Hi"), asked("Hi"), asked("Ho")])
    assert first.counts["requests"] == 2
    again = chat_with(tiny_model, tmp_path)
    assert again.ask([asked("Hi"), asked("Hi"), asked("Ho")]) == replies
    assert again.counts["requests"] == 0
    assert again.estimate([asked("Hi"), asked("He")]).kept == 1


def test_an_estimate_keeps_no_question(tiny_model, tmp_path):
    """Every announced question's tokens stayed in memory: 1.1 GB for 44,000 of 700, also where none was asked."""
    chat = chat_with(tiny_model, tmp_path)
    requests = [asked("Hi"), asked("Ho"), asked("Hi"), asked(PROSE * 5)]
    chat.estimate(requests)
    tracemalloc.start()
    try:
        estimate = chat.estimate([asked(f"{PROSE} {i}") for i in range(200)])
        assert estimate.tokens_in > 10_000
        assert tracemalloc.get_traced_memory()[0] < 4 * estimate.tokens_in
    finally:
        tracemalloc.stop()
    assert (chat.estimate(requests).requests, chat.estimate(requests).tokens_out) == (3, 24)


def test_noise_belongs_to_the_request_and_not_to_its_neighbours(tiny_model, tmp_path):
    requests = [asked(text, temperature=1.0) for text in ("Hi", "Ho", "He")]
    together = chat_with(tiny_model, tmp_path / "a").ask(requests)
    alone = chat_with(tiny_model, tmp_path / "b", batch_size=1)
    assert [alone.ask([request])[0] for request in requests] == together
    assert len({reply.text for reply in together if reply}) == 3


def test_a_question_that_does_not_fit_has_no_reply_and_says_why(tiny_model, tmp_path):
    chat = chat_with(tiny_model, tmp_path)
    assert chat.ask([asked(PROSE * 5), asked("Hi")])[0] is None
    assert chat.counts["failed requests"] == 1
    assert "do not fit into the model's context of 256" in chat.last_error


def test_a_template_without_a_place_for_system_messages_gets_them_in_the_users_turn(tmp_path):
    tiny_llama().save_pretrained(tmp_path / "m")
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = TEMPLATE.replace(
        "{% for m", "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}{% for m", 1
    )
    tokenizer.save_pretrained(tmp_path / "m")
    chat = chat_with(tmp_path / "m", tmp_path)
    talk = [{"role": "system", "content": "Be fair."}, {"role": "user", "content": "Hi"}]
    assert chat.ask([{"messages": talk, "max_tokens": 2}])[0] is not None
    assert "Be fair.\n\nHi" in chat.chat.tokenizer.decode(chat._ids({"messages": talk, "max_tokens": 2}))


def test_a_judge_with_too_little_context_stops_the_work(tiny_model, tmp_path):
    section = {"name": "local_judge", "model": str(tiny_model), "max_tokens": 4, "style": "pairwise"}
    oracle = build_oracle({**section, "replies": str(tmp_path / "r.jsonl")}, "")
    with pytest.raises(OracleError, match=r"answered nothing so far .* do not fit"):
        Guard(oracle).probe([""])


def test_verdicts_are_read_from_both_orders(tiny_model, tmp_path, monkeypatch):
    long = {"max_tokens": 8, "replies": str(tmp_path / "r.jsonl"), "batch_size": 2}
    oracle = LocalJudge(LocalJudgeConfig(model=str(tiny_model), style="mt_bench", **long))
    monkeypatch.setattr(oracle.asker, "ask", lambda requests: [Reply("So: [[A]]", False) for _ in requests])
    assert oracle.judge(CASES).tolist() == [0.5, 0.5]
    assert oracle.first_shown(CASES).tolist() == [1.0, 1.0]
    assert oracle.identity.startswith("local_judge(weights ")
    scored = LocalJudge(LocalJudgeConfig(model=str(tiny_model), style="scored", **long))

    def rate(requests):
        return [Reply("[[5]]" if "no" in r["messages"][1]["content"] else "[[8]]", False) for r in requests]

    monkeypatch.setattr(scored.asker, "ask", rate)
    assert scored.judge(CASES) == pytest.approx(1 / (1 + np.exp(-3.0)))


def test_a_model_without_a_chat_template_is_refused_by_name(tmp_path):
    tiny_llama().save_pretrained(tmp_path / "m")
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = None
    tokenizer.save_pretrained(tmp_path / "m")
    with pytest.raises(ValueError, match=r"cannot be asked in words.*no chat template"):
        LocalJudge(LocalJudgeConfig(model=str(tmp_path / "m")))


def test_benchmarks_are_judged_here_too(tiny_model, tmp_path):
    rows = [
        {"uid": q, "model": name, "messages": [{"content": {"answer": f"{name} {q}"}}]} for q in "ab" for name in ["x"]
    ]
    mine = write_jsonl(tmp_path / "x.jsonl", rows)
    theirs = write_jsonl(tmp_path / "y.jsonl", [{**row, "model": "y"} for row in rows])
    questions = write_jsonl(tmp_path / "q.jsonl", [{"uid": q, "prompt": "Why?"} for q in "ab"])
    (tmp_path / "judge.txt").write_text("Judge.")
    given = ["--answers", mine, "--baseline-answers", theirs, "--questions", questions, "--max-tokens", "3"]
    given += ["--instruction", tmp_path / "judge.txt", "--out", tmp_path / "j.jsonl", "--model", tiny_model, "--local"]
    judged = sparring("evaluate", "judge-arena-hard", *given)
    assert judged.code == 3  # the tiny model says nothing sensible
    assert "4 of 4 replies gave no verdict (0 unanswered, the rest unreadable)" in judged.err
    row = json.loads((tmp_path / "j.jsonl").read_text().splitlines()[0])
    assert "served as weights" in row["judge"]
    refused = sparring("evaluate", "judge-arena-hard", *given, "--base-url", "http://localhost:1/v1")
    assert (refused.code, "remove --base-url" in refused.err) == (2, True)


def test_damaged_replies_are_counted(tiny_model, tmp_path):
    chat_with(tiny_model, tmp_path).ask([asked("Hi")])
    with (tmp_path / "replies.jsonl").open("a") as stream:
        stream.write('{"key": "abc", "te')
    again = chat_with(tiny_model, tmp_path)
    assert again.counts["damaged lines of the reply file"] == 1
    assert again.estimate([asked("Hi")]).kept == 1


def test_options_that_only_a_server_takes_are_refused_with_local(tmp_path):
    """--max-cost with --local was ignored without a word."""
    given = [
        x for k in ("answers", "questions", "references", "judge-prompts", "out") for x in (f"--{k}", tmp_path / k)
    ]
    words = ["evaluate", "judge-mt-bench", *given, "--model", "m", "--local"]
    served = {"max-cost": 1, "price-in": 1, "price-out": 1, "key-env": "KEY", "timeout": 300, "attempts": 5}
    refused = sparring(*words, *(x for k, v in served.items() for x in (f"--{k}", v)), "--reasoning")
    assert refused.code == 2
    told = "remove --key-env, --reasoning, --timeout, --attempts, --max-cost, --price-in, --price-out"
    assert told in " ".join(refused.err.split())
    assert "without a server" not in sparring(*words).err


@pytest.mark.parametrize("served", [False, True])
def test_other_wordings_and_scales_are_other_judges(served, tiny_model, tmp_path, monkeypatch):
    """Verdicts are cached by identity: another wording of the same name would be served the old ones."""
    if served:
        pytest.importorskip("openai")

    def identity(style: str, **fields) -> str:
        given = {"model": str(tiny_model), "style": style, "replies": str(tmp_path / "r.jsonl"), **fields}
        where = {"name": "llm_judge", "base_url": "http://localhost:1/v1", "key_env": None}
        return build_oracle({**(where if served else {"name": "local_judge"}), **given}, "").identity

    for style in STYLES:
        before = identity(style)
        assert identity(style) == before
        assert (identity(style, scale=2.0) != before) == (style == "scored")
        monkeypatch.setitem(STYLES, style, replace(STYLES[style], system="Judge as you like."))
        assert identity(style) != before
