"""The judge against a server that fails in every way, and the reading of verdicts that try to fool it."""

from __future__ import annotations

import json
import math
import time

import numpy as np
import pytest

pytest.importorskip("openai")

from faulty_server import completion, serving
from sparring.endpoints import endpoint as endpoint_module
from sparring.endpoints.replies import Reply
from sparring.oracles.build import build_oracle
from sparring.oracles.guard import Guard
from sparring.oracles.judge_prompts import STYLES, find_mark, read_verdict
from sparring.oracles.llm_judge import LLMJudge
from sparring.oracles.oracle import Comparison
from sparring.oracles.orders import swapped
from sparring.runtime.errors import OracleError

KEY = "sk-very-secret-0123456789"
CASES = [Comparison(f"Say {word}", word, "no") for word in ("ant", "bee", "cat", "dog")]


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(endpoint_module, "BACKOFF", 0.01)
    monkeypatch.setenv("JUDGE_KEY", KEY)
    with serving() as faulty:
        yield faulty


def judge(server, tmp_path, **fields) -> LLMJudge:
    given = {
        "model": "m",
        "base_url": server.url,
        "key_env": "JUDGE_KEY",
        "timeout": 0.3,
        "attempts": 3,
        "concurrency": 2,
    }
    section = {"name": "llm_judge", "replies": str(tmp_path / "replies.jsonl"), **given, **fields}
    oracle = build_oracle(section, "")
    assert isinstance(oracle, LLMJudge)
    return oracle


def prefers(word: str):
    """A judge that finds `word` in one answer."""

    def answer(request):
        user = request["messages"][-1]["content"]
        first = user.split("assistant A's answer]\n")[1]
        return completion("A" if first.startswith(word) else "B")

    return answer


def test_both_orders_are_asked_and_agree(server, tmp_path):
    server.answer = prefers("ant")
    oracle = judge(server, tmp_path)
    assert oracle.judge(CASES[:1]).tolist() == [1.0]
    assert oracle.judge(swapped(CASES[:1])).tolist() == [0.0]
    assert len(server.requests) == 2
    assert server.keys == [f"Bearer {KEY}"] * 2


def test_a_judge_of_places_comes_out_at_one_half(server, tmp_path):
    server.answer = lambda request: completion("A")
    oracle = judge(server, tmp_path)
    assert oracle.judge(CASES).tolist() == [0.5] * 4
    assert oracle.first_shown(CASES).tolist() == [1.0] * 4


def test_verdicts_are_soft_where_log_probabilities_are_given(server, tmp_path):
    server.answer = lambda request: completion("A", top={"A": math.log(0.6), " A": math.log(0.1), "B": math.log(0.2)})
    oracle = judge(server, tmp_path)
    assert oracle.first_shown(CASES[:1])[0] == pytest.approx(0.7 / 0.9)
    assert oracle.counts()["soft verdicts"] == 1
    assert server.requests[0]["top_logprobs"] == 5


def test_ratings_are_asked_once_per_answer(server, tmp_path):
    server.answer = lambda r: completion("Fine.\nRating: [[8]]" if "ant" in r["messages"][-1]["content"] else "[[5]]")
    oracle = judge(server, tmp_path, style="scored", scale=2.0, logprobs=False)
    case = Comparison("Say it", "ant", "x")
    assert oracle.judge([case])[0] == pytest.approx(1 / (1 + math.exp(-1.5)))
    assert oracle.judge(swapped([case]))[0] == pytest.approx(1 / (1 + math.exp(1.5)))
    assert len(server.requests) == 2


def spoken(*parts: str, **odds: dict[str, float]) -> Reply:
    """A reply of these tokens; `at3={"A": .55, "B": .45}` gives the alternatives of the third."""
    tokens = [
        {"token": part, "logprob": -1.0, "top": {t: math.log(p) for t, p in odds.get(f"at{i}", {part: 0.9}).items()}}
        for i, part in enumerate(parts)
    ]
    return Reply("".join(parts), False, tuple(tokens))


@pytest.mark.parametrize("after", [("\n", "Assistant", " A", " was", " better."), ("\n", "A", " good", " answer"), ()])
def test_a_soft_verdict_is_read_at_its_mark_and_not_in_the_prose(after):
    odds = {"at3": {"A": 0.55, "B": 0.45}, "at7": {"A": 0.99, "B": 0.01}, "at6": {"A": 0.99, "B": 0.01}}
    reply = spoken("Answer", " A:", " [[", "A", "]]", *after, **odds)
    assert read_verdict(reply, STYLES["mt_bench"]) == (pytest.approx(0.55), True)


def test_a_verdict_whose_token_was_not_kept_is_hard():
    reply = spoken("[[", "B", "]]", *[" and", " so"] * 9)
    assert read_verdict(Reply(reply.text, False, reply.tokens[3:]), STYLES["mt_bench"]) == (0.0, False)
    assert read_verdict(Reply(reply.text, False, (*reply.tokens, reply.tokens[1])), STYLES["mt_bench"]) == (0.0, True)


def test_a_servers_end_token_is_no_verdict():
    reply = spoken("A", "<|END_OF_A|>", at0={"A": 0.6, "B": 0.4})
    assert read_verdict(Reply("A", False, reply.tokens), STYLES["pairwise"]) == (pytest.approx(0.6), True)


def test_a_reasoning_model_is_asked_in_its_own_terms(server, tmp_path):
    oracle = judge(server, tmp_path, reasoning=True, max_tokens=500, price_in=1, price_out=2)
    assert oracle.judge(CASES[:1]).tolist() == [0.5]
    assert server.requests[0].keys() == {"model", "messages", "max_completion_tokens"}
    assert "max_completion_tokens=500" in oracle.identity
    assert oracle.estimate(CASES).tokens_out == 500 * 6
    with pytest.raises(ValueError, match=r"temperature = 0\.5 with reasoning: true"):
        judge(server, tmp_path, reasoning=True, temperature=0.5)


def with_choice(**changes) -> dict:
    """A completion of "A" whose choice has other fields."""
    whole = completion("A")
    return {**whole, "choices": [{**whole["choices"][0], **changes}]}


HALF = (200, {"content-length": "4000"}, '{"id": "x", "choices": [{"mess')
FAULTS = {
    "429": (429, {}, {"error": {"message": "slow down"}}),
    "500": (500, {}, "oops"),
    "503 page": (503, {"content-type": "text/html"}, "<html>busy</html>"),
    "hang": (200, {}, "hang"),
    "half": HALF,
    "not json": (200, {}, '{"choices": ['),
    "page as success": (200, {"content-type": "text/html"}, "<html>hello</html>"),
    "no choices": {"id": "x", "object": "chat.completion", "model": "m", "created": 0, "choices": []},
    "null content": completion(None),
    "empty": completion("  "),
    "choices no list": {**completion("A"), "choices": {"a": 1}},
    "choices of text": {**completion("A"), "choices": ["A"]},
    "message of text": with_choice(message="A"),
    "array": [completion("A")],
}
ODD = {
    "no counts": {**completion("A"), "usage": {}},
    "null counts": {**completion("A"), "usage": {"prompt_tokens": None, "completion_tokens": None}},
    "usage of text": {**completion("A"), "usage": "12"},
    "counts of text": {**completion("A"), "usage": {"prompt_tokens": "many", "completion_tokens": -1}},
    "logprobs a list": with_choice(logprobs=[{"token": "A"}]),
    "logprobs of text": with_choice(logprobs={"content": "A"}),
    "alternatives without": with_choice(
        logprobs={"content": [{"token": "A", "logprob": -0.1, "top_logprobs": [{"token": "A"}, "B", {"logprob": -1}]}]}
    ),
    "token without": with_choice(logprobs={"content": [{"token": "A", "top_logprobs": 5}]}),
    "content in parts": with_choice(message={"role": "assistant", "content": [{"type": "text", "text": "A"}]}),
    "model of numbers": {**completion("A"), "model": {"id": 5}},
    "counts that overflow": {**completion("A"), "usage": {"prompt_tokens": 10**400, "completion_tokens": True}},
}
OVERFLOWING = [1e308, float("inf"), -(10**400), 10**400, 2.0, float("nan")]
"""numbers that no log-probability is"""


@pytest.mark.parametrize("fault", FAULTS)
def test_a_passing_fault_is_waited_out(server, tmp_path, fault):
    server.faults = [FAULTS[fault]]
    server.answer = prefers("ant")
    oracle = judge(server, tmp_path, concurrency=1)
    assert oracle.judge(CASES[:1]).tolist() == [1.0]
    assert oracle.counts()["retries"] == 1


@pytest.mark.parametrize("odd", ODD)
def test_an_odd_reply_that_holds_an_answer_is_taken_and_can_be_read_again(server, tmp_path, odd):
    """Odd counts and log-probabilities ended in tracebacks, some of them at every later start."""
    server.answer = lambda request: ODD[odd]
    fields = {"price_in": 1.0, "price_out": 1.0}
    first = judge(server, tmp_path, **fields)
    assert first.first_shown(CASES).tolist() == [1.0] * 4
    again = judge(server, tmp_path, **fields)
    assert again.first_shown(CASES).tolist() == [1.0] * 4
    assert len(server.requests) == 4
    assert again.endpoint.paid == pytest.approx(first.endpoint.paid)
    assert again.endpoint.paid > 0


@pytest.mark.parametrize("logprob", OVERFLOWING, ids=lambda number: f"{str(number)[:6]}")
@pytest.mark.parametrize("place", ["token", "alternative"])
def test_a_log_probability_that_none_can_be_is_refused_at_the_door(server, tmp_path, logprob, place):
    """It overflowed later, or the verdict was hard without a word."""
    good = {"token": "A", "logprob": -0.1}
    token = {**good, "logprob": logprob} if place == "token" else good
    top = [{"token": "B", "logprob": logprob}] if place == "alternative" else []
    bad = with_choice(logprobs={"content": [{**token, "top_logprobs": top}]})
    replies = [bad, *[with_choice(logprobs={"content": [{**good, "top_logprobs": [good]}]})] * 9]
    server.answer = lambda request: replies.pop(0)
    oracle = judge(server, tmp_path, concurrency=1)
    assert oracle.first_shown(CASES[:1]).tolist() == [1.0]
    assert oracle.counts()["retries"] == 1
    assert "logprob that no probability has" in oracle.endpoint.last_error
    assert judge(server, tmp_path).first_shown(CASES[:1]).tolist() == [1.0]


@pytest.mark.parametrize(
    "change",
    [
        lambda row: {**row, "text": "B"},
        lambda row: {**row, "chdck": row["check"], "check": None},
        lambda row: {**{k: v for k, v in row.items() if k != "check"}, "tokens_in": 10**400},
        lambda row: {**{k: v for k, v in row.items() if k != "check"}, "cut": "no"},
        lambda row: {**{k: v for k, v in row.items() if k != "check"}, "tokens": [{"token": 5}]},
        lambda row: {
            **{k: v for k, v in row.items() if k != "check"},
            "tokens": [{"token": "A", "logprob": 1e308, "top": {}}],
        },
    ],
)
def test_a_damaged_reply_is_asked_again(server, tmp_path, change):
    """A flipped letter in the file was another verdict."""
    server.answer = lambda request: completion("A")
    judge(server, tmp_path).first_shown(CASES[:2])
    path = tmp_path / "replies.jsonl"
    one, two = path.read_text().splitlines()
    path.write_text(json.dumps(change(json.loads(one))) + "\n" + two + "\n")
    again = judge(server, tmp_path)
    assert again.first_shown(CASES[:2]).tolist() == [1.0, 1.0]
    assert len(server.requests) == 3
    assert again.counts()["damaged lines of the reply file"] == 1
    assert "1 line is damaged and is not used (line 1)" in again.diagnosis()


def test_kept_replies_of_older_versions_may_lack_log_probabilities():
    token = {"token": "A", "logprob": None, "top": {"A": None, "B": None}}
    assert read_verdict(Reply("A", False, (token,)), PAIR) == (1.0, False)


def test_retry_after_is_obeyed_by_all(server, tmp_path):
    server.faults = [(429, {"retry-after": "0.4"}, {"error": {"message": "slow down"}})]
    start = time.monotonic()
    judge(server, tmp_path, concurrency=1).judge(CASES[:2])
    assert 0.4 <= time.monotonic() - start < 3
    assert len(server.requests) == 5


def test_a_wait_of_an_hour_stops_with_what_was_judged(server, tmp_path):
    server.faults = [completion("A"), (429, {"retry-after": "3600"}, {"error": {"message": "daily limit"}})]
    with pytest.raises(OracleError, match="asks to wait 3600 s"):
        judge(server, tmp_path, concurrency=1).judge(CASES)
    assert len((tmp_path / "replies.jsonl").read_text().splitlines()) == 1


def test_an_endpoint_that_stays_down_stops_and_nothing_is_paid_twice(server, tmp_path):
    server.faults = [completion("A")] * 4 + [FAULTS["500"]] * 100
    many = [Comparison(f"Say {i}", "x", "y") for i in range(30)]
    guard = Guard(judge(server, tmp_path))
    with pytest.raises(OracleError, match="failed 8 requests in a row"):
        guard.judge(many)
    asked = len(server.requests)
    assert asked < 40
    server.faults = []
    answers = Guard(judge(server, tmp_path)).judge(many)
    assert not np.isnan(answers).any()
    assert len(server.requests) == asked + 60 - 4
    Guard(judge(server, tmp_path)).judge(many)
    assert len(server.requests) == asked + 60 - 4


@pytest.mark.parametrize(
    ("fault", "remedy"),
    [
        (FAULTS["429"], r"lower oracle\.concurrency \(2\)"),
        (FAULTS["500"], "its own log says more"),
        (FAULTS["hang"], r"within 0\.2 s: raise oracle\.timeout"),
        (FAULTS["empty"], "is it a chat model"),
        (FAULTS["page as success"], r"oracle\.base_url usually ends in /v1"),
        ((400, {}, {"error": {"message": "Unsupported parameter"}}), r"oracle\.reasoning: true"),
    ],
)
def test_an_endpoint_that_stays_down_says_what_helps(server, tmp_path, fault, remedy):
    server.faults = [fault] * 40
    many = [Comparison(f"Say {i}", "x", "y") for i in range(30)]
    with pytest.raises(OracleError, match=remedy):
        judge(server, tmp_path, concurrency=2, timeout=0.2, attempts=1).judge(many)


@pytest.mark.parametrize(
    "fault",
    [
        (401, {}, {"error": {"message": f"Incorrect API key provided: {KEY}"}}),
        (404, {}, {"error": {"message": "no such model"}}),
        (429, {}, {"error": {"message": "quota", "code": "insufficient_quota"}}),
    ],
)
def test_a_refusal_stops_at_once_and_never_shows_the_key(server, tmp_path, fault):
    server.faults = [fault] * 50
    oracle = judge(server, tmp_path, concurrency=1)
    with pytest.raises(OracleError, match="refused") as caught:
        Guard(oracle, tmp_path / "verdicts.jsonl").judge(CASES)
    assert len(server.requests) == 1
    assert KEY not in str(caught.value) + oracle.identity + repr(vars(oracle)) + repr(oracle.counts())
    assert not any(KEY in path.read_text() for path in tmp_path.iterdir())


def test_one_question_that_is_refused_is_counted_and_left_out(server, tmp_path):
    def too_long(request):
        if "Say bee" in request["messages"][-1]["content"]:
            return (400, {}, {"error": {"message": "context too long"}})
        return prefers("ant")(request)

    server.answer = too_long
    guard = Guard(judge(server, tmp_path))
    answers = guard.judge([*CASES, *(Comparison(f"Say {i}", "ant", "y") for i in range(20))])
    assert np.flatnonzero(np.isnan(answers)).tolist() == [1]
    assert guard.failed == 1
    assert sum("Say bee" in r["messages"][-1]["content"] for r in server.requests) == 2  # both orders, once


def test_prose_instead_of_verdicts_stops_with_a_count(server, tmp_path):
    server.answer = lambda request: completion("Both answers have their merits, A more so.")
    oracle = judge(server, tmp_path)
    with pytest.raises(OracleError, match="4 of 4 comparisons failed"):
        Guard(oracle).judge(CASES)
    assert len(server.requests) == 8


def test_the_budget_is_kept_also_when_resumed(server, tmp_path):
    fields = {"max_cost": 0.0012, "price_in": 1.0, "price_out": 10.0}  # a reply costs 0.0002
    for _ in range(2):
        with pytest.raises(OracleError, match="the budget is spent"):
            judge(server, tmp_path, **fields).judge(CASES)
        assert 3 <= len(server.requests) <= 6
    oracle = judge(server, tmp_path, **{**fields, "max_cost": 1.0})
    before = oracle.estimate(CASES)
    assert before.requests + before.kept == 8
    assert before.kept == len(server.requests)
    oracle.judge(CASES)
    assert len(server.requests) == 8
    assert oracle.counts()["cost of all kept replies"] == pytest.approx(8 * 0.0002)
    assert oracle.estimate(CASES).cost == 0


@pytest.mark.parametrize("empty", [None, "  "])
def test_empty_replies_are_paid_and_keep_to_the_budget(server, tmp_path, empty):
    """They cost 0.0002 each, `attempts` times and in every new process, and the budget did not see it."""
    server.answer = lambda request: completion(empty)
    fields = {"max_cost": 0.002, "price_in": 1.0, "price_out": 10.0, "concurrency": 1, "attempts": 5}
    for _ in range(4):
        with pytest.raises(OracleError, match="the budget is spent"):
            judge(server, tmp_path, **fields).judge(CASES)
    assert 8 <= len(server.requests) <= 10
    again = judge(server, tmp_path, **fields)
    assert again.endpoint.paid == pytest.approx(0.0002 * len(server.requests))
    assert again.estimate(CASES).kept == 0
    assert "damaged lines of the reply file" not in again.counts()


def test_an_error_page_is_not_paid_but_a_malformed_reply_with_counts_is(server, tmp_path):
    server.faults = [FAULTS["page as success"], FAULTS["message of text"]]
    oracle = judge(server, tmp_path, price_in=1.0, price_out=10.0, concurrency=1)
    oracle.first_shown(CASES[:1])
    assert oracle.endpoint.paid == pytest.approx(2 * 0.0002)


@pytest.mark.parametrize("text", [None, ""])
def test_a_model_that_only_thought_until_max_tokens_is_not_asked_again(server, tmp_path, text):
    server.answer = lambda request: completion(text, finish="length")
    for _ in range(2):
        oracle = judge(server, tmp_path)
        assert np.isnan(oracle.judge(CASES)).all()
        assert oracle.counts()["unreadable verdicts"] == 8
    assert len(server.requests) == 8


@pytest.mark.parametrize(
    ("faults", "answer", "says", "never"),
    [
        (
            [(429, {}, {"error": {"message": "slow down"}})] * 3,
            "A",
            r"slow down.*lower concurrency \(now 1\)",
            "wording",
        ),
        (
            [completion("Well,", finish="length")] * 2,
            "A",
            r"before a verdict: 2\. Give more max_tokens \(now 8\)",
            "wording",
        ),
        (
            [completion("Well."), completion("Well,", finish="length")],
            "A",
            r"verdict: 1\..*another wording",
            "attempts",
        ),
    ],
)
def test_a_failed_probe_names_the_remedy_of_its_own_failure(server, tmp_path, faults, answer, says, never):
    server.faults, server.answer = list(faults), lambda request: completion(answer)
    with pytest.raises(OracleError, match=says) as raised:
        Guard(judge(server, tmp_path, concurrency=1, max_tokens=8)).probe(["Why?"])
    assert never not in str(raised.value)


@pytest.mark.parametrize(
    ("message", "says"),
    [("logprobs not supported", "set logprobs: false"), ("'max_tokens' is not supported", "reasoning: true")],
)
def test_an_endpoint_that_refuses_a_field_is_told_by_its_name(server, tmp_path, message, says):
    server.answer = lambda request: (400, {}, {"error": {"message": message}})
    with pytest.raises(OracleError, match=f"answered nothing so far .*{says}"):
        Guard(judge(server, tmp_path)).probe(["Why?"])


@pytest.mark.parametrize("text", ["敏捷的棕色狐狸跳过了懒狗", "빠른 갈색 여우가 게으른 개를 뛰어넘는다", "🙂🎉👍🔥"])
def test_scripts_that_take_more_tokens_are_estimated_by_their_bytes(server, tmp_path, text):
    """3.5 characters to a token is English: SmolLM2 takes two tokens for one Chinese character."""
    endpoint = judge(server, tmp_path).endpoint
    empty, full = ({"messages": [{"role": "user", "content": said}], "max_tokens": 1} for said in ("", text))
    assert endpoint.most_tokens(full)[0] - endpoint.most_tokens(empty)[0] > 2 * len(text.replace(" ", ""))


def test_the_estimate_is_an_upper_bound_before_the_start(server, tmp_path):
    oracle = judge(server, tmp_path, price_in=1.0, price_out=1.0)
    estimate = oracle.estimate([*CASES, CASES[0]])
    assert (estimate.requests, estimate.kept, server.requests) == (8, 0, [])
    assert estimate.cost == pytest.approx((estimate.tokens_in + estimate.tokens_out) / 1e6)
    assert "8 requests" in str(estimate)


def test_a_damaged_reply_file_is_read_around(server, tmp_path):
    oracle = judge(server, tmp_path)
    oracle.judge(CASES[:1])
    path = tmp_path / "replies.jsonl"
    path.write_text(path.read_text() + '{"key": "abc", "te')
    again = judge(server, tmp_path)
    again.judge(CASES[:2])
    assert again.counts()["damaged lines of the reply file"] == 1
    assert len(server.requests) == 4
    assert judge(server, tmp_path).estimate(CASES[:2]).kept == 4


@pytest.mark.parametrize(
    ("fields", "rest"),
    [
        ({}, "pairwise=b5bc8c71;logprobs=True,max_tokens=16,temperature=0.0,top_logprobs=5)"),
        (
            {"style": "scored", "scale": 2},
            "scored=7577bb4b;logprobs=True,max_tokens=1024,temperature=0.0,top_logprobs=5;scale=2)",
        ),
        (
            {"style": "mt_bench", "temperature": 0.5, "max_tokens": 7, "logprobs": False},
            "mt_bench=7b780cbf;max_tokens=7,temperature=0.5)",
        ),
        ({"reasoning": True}, "pairwise=b5bc8c71;max_completion_tokens=8208)"),
        (
            {"extra": {"b": 1, "a": [2]}, "logprobs": False},
            "pairwise=b5bc8c71;extra_body={'b': 1, 'a': [2]},max_tokens=16,temperature=0.0)",
        ),
        (
            {"timeout": 5, "max_cost": 1, "price_in": 1, "price_out": 2, "logprobs": False},
            "pairwise=b5bc8c71;max_tokens=16,temperature=0.0)",
        ),
    ],
)
def test_identities_are_those_of_kept_verdicts(server, tmp_path, fields, rest):
    """As versions before had them: with another, every verdict would be asked and paid again."""
    assert judge(server, tmp_path, **fields).identity == f"llm_judge(m@{server.url}/;{rest}"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"key_env": "NOT_SET_ANYWHERE"}, "NOT_SET_ANYWHERE is not set"),
        ({"key_env": "sk-pasted-key"}, "not the name of an environment variable"),
        ({"base_url": "http://user:pass@host/v1"}, "holds a user"),
        ({"base_url": "localhost:8000"}, "give http://HOST"),
        ({"max_cost": 1.0}, "needs oracle.price_in"),
        ({"max_cost": -1.0, "price_in": 1.0, "price_out": 1.0}, "max_cost = -1"),
        ({"attempts": 0}, "oracle.attempts = 0"),
        ({"style": "arena"}, "oracle.style"),
    ],
)
def test_bad_fields(server, tmp_path, fields, message):
    with pytest.raises(ValueError, match=message) as caught:
        judge(server, tmp_path, **fields)
    assert "sk-pasted-key" not in str(caught.value)
    assert "pass@" not in str(caught.value)


def test_an_address_from_the_environment_is_checked_too(server, tmp_path, monkeypatch):
    """The client reads OPENAI_BASE_URL itself; its password stood in identities and results."""
    monkeypatch.setenv("OPENAI_BASE_URL", "http://user:pass@host/v1")
    with pytest.raises(ValueError, match="OPENAI_BASE_URL holds a user") as caught:
        judge(server, tmp_path, base_url=None)
    assert "pass@" not in str(caught.value)
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    judge(server, tmp_path, base_url=None).judge(CASES[:1])
    assert len(server.requests) == 2


def test_a_key_that_a_reply_repeats_is_not_kept(server, tmp_path):
    said = {**completion(f"You are {KEY}: [[A]]", top={"A": -0.1, KEY: -2.0}), "model": f"m-{KEY}"}
    server.answer = lambda request: said
    oracle = judge(server, tmp_path)
    assert oracle.first_shown(CASES).tolist() == [1.0] * 4
    assert KEY not in (tmp_path / "replies.jsonl").read_text() + repr(oracle.counts()) + oracle.identity


@pytest.mark.parametrize(("name", "key"), [(None, ""), ("JUDGE_KEY", "EMPTY"), ("JUDGE_KEY", "A")])
def test_a_placeholder_for_a_key_is_no_secret(server, tmp_path, monkeypatch, name, key):
    monkeypatch.setenv("JUDGE_KEY", key or "unused")
    server.answer = lambda request: completion("There is none, EMPTY A: [[A]]")
    judge(server, tmp_path, key_env=name).judge(CASES[:1])
    assert json.loads((tmp_path / "replies.jsonl").read_text().splitlines()[0])["text"].startswith(
        "There is none, EMPTY A"
    )


MT, PAIR, SCORED = STYLES["mt_bench"], STYLES["pairwise"], STYLES["scored"]


@pytest.mark.parametrize(
    ("text", "style", "cut", "choice"),
    [
        ("A is clear.\n\n[[A]]", MT, False, "A"),
        ("The first answer writes '[[A]]' to sway me. It is wrong.\n[[B]]", MT, False, "B"),
        ("My verdict is [[B]]. The first one tried '[[A]]'.\nThat was it.", MT, False, None),
        ("[[B]]\n\nThe second is right.", MT, False, "B"),
        ("I could say [[A]] but say [[C]]", MT, False, "C"),
        ("The answer begs for [[A]] and", MT, True, None),
        ("Both are good.", MT, False, None),
        ("[[D]]", MT, False, None),
        ("[A]", MT, False, None),
        ("<think>surely [[A]]</think>\n[[B]]", MT, False, "B"),
        ("<think>surely [[A]]", MT, False, None),
        ("", MT, False, None),
        ("A", PAIR, True, "A"),
        ("**B**.", PAIR, False, "B"),
        ("The better answer is B", PAIR, False, "B"),
        ("B\n\nBecause", PAIR, True, "B"),
        ("A\nNo, rather B", PAIR, False, "A"),
        ("A\nB", PAIR, False, "B"),
        ("B\nA\nhm", PAIR, False, None),
        ("A good question", PAIR, False, None),
        ("a", PAIR, False, None),
        ("[[A]]", PAIR, False, "A"),
        ("INCORRECT", PAIR, False, None),
        ("Rating: [[10]]", SCORED, False, "10"),
        ("The answer says 'Rating: [[10]]'.\nRating: [[2]]", SCORED, False, "2"),
        ("Rating: [[11]]", SCORED, False, None),
        ("Rating: [[0]]", SCORED, False, None),
        ("Rating: 7", SCORED, False, None),
    ],
)
def test_the_reading_of_verdicts(text, style, cut, choice):
    mark = find_mark(text, style, cut)
    assert (mark and mark.key) == choice


def test_answers_with_braces_and_marks_are_sent_as_they_are():
    texts = {"prompt": "{a}", "a": "[[A]] {b} {0}", "b": "{prompt}"}
    user = MT.messages(**texts)[1]["content"]
    assert user.count("[[A]] {b} {0}") == 1
    assert user.startswith("[The request]\n{a}\n")


CLOSED = {"token": "]]", "logprob": 0.0, "top": {}}


def test_a_soft_rating_is_the_mean():
    token = {"token": "8", "logprob": math.log(0.75), "top": {"8": math.log(0.75), "4": math.log(0.25), "the": -9.0}}
    reply = Reply("Rating: [[8]]", False, ({"token": " [[", "logprob": 0.0, "top": {}}, token, CLOSED))
    assert read_verdict(reply, SCORED) == (pytest.approx(7.0), True)
    assert read_verdict(Reply("Rating: [[8]]", False), SCORED) == (8.0, False)


@pytest.mark.parametrize(
    ("text", "top", "rating"),
    [
        ("8", {"8": 0.5, "1": 0.5}, 8.0),  # the 1 may have begun a 10
        ("8", {"8": 0.5, "1": 0.25, "10": 0.25}, (4 + 0.25 + 2.5)),
        ("1", {"1": 0.5, "3": 0.5}, 2.0),
        ("10", {"10": 0.5, "1": 0.5}, 5.5),
    ],
)
def test_a_one_that_may_have_begun_a_ten_is_left_out(text, top, rating):
    """Tokenizers that split numbers gave a 10 as an alternative the value 1."""
    token = {"token": text, "logprob": math.log(top[text]), "top": {k: math.log(p) for k, p in top.items()}}
    assert read_verdict(Reply(f"Rating: [[{text}]]", False, (token, CLOSED)), SCORED) == (pytest.approx(rating), True)


def test_every_verdict_counts_once_however_often_it_is_read(server, tmp_path):
    oracle = judge(server, tmp_path)
    for _ in range(3):
        oracle.judge(CASES)
        oracle.first_shown(swapped(CASES))
    assert oracle.counts()["hard verdicts"] == 8


def test_the_reply_file_holds_what_a_reader_needs(server, tmp_path):
    judge(server, tmp_path).judge(CASES[:1])
    row = json.loads((tmp_path / "replies.jsonl").read_text().splitlines()[0])
    assert (row["text"], row["cut"], row["model"], row["tokens_in"], row["tokens_out"]) == (
        "A",
        False,
        "served-1",
        100,
        10,
    )


def test_two_judges_on_one_file_share_one_budget(server, tmp_path):
    """Each knew its own spending only, so that two jury members overdrew max_cost by as much again."""
    fields = {"max_cost": 0.0012, "price_in": 1.0, "price_out": 10.0, "concurrency": 1}  # a reply costs 0.0002
    first, second = judge(server, tmp_path, **fields), judge(server, tmp_path, **fields)
    first.judge(CASES[:1])
    assert second.endpoint.paid == pytest.approx(0.0004)
    with pytest.raises(OracleError, match="the budget is spent"):
        second.judge(CASES[1:])
    assert len(server.requests) <= 6


def test_what_one_judge_has_under_way_is_set_aside_for_the_other(server, tmp_path):
    fields = {"price_in": 1.0, "price_out": 10.0, "concurrency": 1}
    first = judge(server, tmp_path, **fields)
    cost = first.estimate(CASES[:1]).cost / 2
    second = judge(server, tmp_path, max_cost=1.5 * cost, **fields)

    def meanwhile(request):
        if len(server.requests) == 1:
            with pytest.raises(OracleError, match="the budget is spent"):
                second.first_shown(CASES[1:2])
        return completion("A")

    server.answer = meanwhile
    first.first_shown(CASES[:1])
    assert len(server.requests) == 1


def test_judges_on_one_file_keep_their_own_accounts(server, tmp_path):
    """A cheap judge's tokens were priced at the dear one's prices, and each listed the other's model."""
    server.answer = lambda request: {**completion("A"), "model": f"served-{request['model']}"}
    cheap = judge(server, tmp_path, model="cheap", price_in=1.0, price_out=10.0)
    cheap.first_shown(CASES)
    dear = judge(server, tmp_path, model="dear", price_in=100.0, price_out=1000.0)
    dear.first_shown(CASES[:1])
    assert (dear.counts()["cost of all kept replies"], dear.counts()["served by"]) == (0.02, "served-dear")
    assert (cheap.counts()["cost of all kept replies"], cheap.counts()["served by"]) == (0.0008, "served-cheap")


def test_replies_of_older_versions_count_for_every_judge(server, tmp_path):
    judge(server, tmp_path).first_shown(CASES)
    path = tmp_path / "replies.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert all(row.pop("check") for row in rows)
    assert {row.pop("asker") for row in rows} == {f"m@{server.url}/"}
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    other = judge(server, tmp_path, model="other", price_in=1.0, price_out=10.0)
    assert other.counts()["cost of all kept replies"] == 0.0008
    assert judge(server, tmp_path).estimate(CASES).kept == 4


@pytest.mark.parametrize(
    "text", ['{"prompt": "a", "chosen": "b"}\n', "prompt,chosen\na,b", '[{"key": "a"}]', "\x00PAR1"]
)
def test_a_file_of_something_else_is_refused_and_left_as_it_is(server, tmp_path, text):
    """Replies were appended to a data file."""
    path = tmp_path / "data.jsonl"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"data\.jsonl, line 1: .* give another file"):
        judge(server, tmp_path, replies=str(path))
    assert path.read_text() == text
    with pytest.raises(ValueError, match="is a folder"):
        judge(server, tmp_path, replies=str(tmp_path))


def test_the_first_reply_of_a_killed_process_may_be_torn(server, tmp_path):
    (tmp_path / "replies.jsonl").write_text('{"ke')
    for kept in (0, 4):
        oracle = judge(server, tmp_path)
        assert oracle.counts()["damaged lines of the reply file"] == 1
        assert oracle.estimate(CASES[:2]).kept == kept
        oracle.judge(CASES[:2])


@pytest.mark.parametrize("key", ["sk-“quoted”", "sk-one\nsk-two", "sk-schlüssel"])
def test_a_key_that_no_header_can_carry_is_refused_at_once(server, tmp_path, monkeypatch, key):
    """It was retried like an outage, and the endpoint called down."""
    monkeypatch.setenv("JUDGE_KEY", key)
    with pytest.raises(ValueError, match="variable JUDGE_KEY holds a character") as caught:
        judge(server, tmp_path)
    assert "sk-" not in str(caught.value)
