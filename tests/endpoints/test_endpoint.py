"""One endpoint against servers as they are: odd forms of replies and errors, no ends, and keys sent back."""

from __future__ import annotations

import gzip
import importlib.util
import json
import time
from datetime import date
from email.utils import formatdate
from functools import partial

import pytest

pytest.importorskip("openai")

from faulty_server import completion, dripping, endless, serving
from sparring.endpoints import endpoint as endpoint_module
from sparring.endpoints import http
from sparring.endpoints.endpoint import Endpoint
from sparring.recipe.sections import EndpointConfig, ServedConfig
from sparring.runtime.errors import OracleError

KEY = 'sk-"quo\\te"d-1234567890'


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(endpoint_module, "BACKOFF", 0.01)
    monkeypatch.setenv("A_KEY", KEY)
    for name in ("ALL_PROXY", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    with serving() as faulty:
        yield faulty


def endpoint(server, tmp_path, guarded=False, **fields) -> Endpoint:
    given = {"model": "m", "base_url": server.url, "key_env": "A_KEY", "timeout": 5.0, "attempts": 2, "concurrency": 1}
    return Endpoint(EndpointConfig(**{**given, **fields}), "oracle", tmp_path / "replies.jsonl", guarded)


def requests(*texts: str) -> list[dict]:
    return [{"messages": [{"role": "user", "content": text}], "max_tokens": 4} for text in texts]


def with_message(finish: str = "stop", **message) -> dict:
    whole = completion("", finish=finish)
    whole["choices"][0]["message"] = {"role": "assistant", **message}
    return whole


def stream(*contents, finish: str = "stop") -> bytes:
    pieces = [{"delta": {"content": said}, "finish_reason": None} for said in contents]
    pieces.append({"delta": {}, "finish_reason": finish})
    chunks = [{"id": "x", "model": "served-1", "choices": [{"index": 0, **piece}]} for piece in pieces]
    chunks.append({"id": "x", "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}})
    lines = [": hello", *(f"data: {json.dumps(chunk)}\n" for chunk in chunks), "data: [DONE]"]
    return "\n".join(lines).encode()


TEXT = {"type": "text", "text": "A"}
THOUGHT = {"type": "thinking", "thinking": [{"type": "text", "text": "Both are short."}]}
FORMS = {
    "chunks": with_message(content=[THOUGHT, TEXT]),
    "chunks of a gateway": with_message(content=[{"type": "output_text", "text": "A", "annotations": []}]),
    "chunks with a value": with_message(content=[{"type": "text", "text": {"value": "A", "annotations": []}}]),
    "chunks of text": with_message(content=["", "A"]),
    "a chunk alone": with_message(content=TEXT),
    "chunks of other kinds": with_message(content=[{"type": "reference", "reference_ids": [1]}, TEXT, 5, None]),
    "a refusal": with_message(content=None, refusal="A"),
    "a refusal in a chunk": with_message(content=[{"type": "refusal", "refusal": "A"}]),
    "a stream": (200, {"content-type": "text/event-stream"}, stream("", "A")),
    "a stream by another name": (200, {}, stream("A")),
    "a stream of chunks": (200, {"content-type": "text/event-stream"}, stream([THOUGHT], [TEXT])),
    "text/plain": (200, {"content-type": "text/plain; charset=latin-1"}, completion("A")),
    "no content type": (200, {"content-type": ""}, completion("A")),
    "a byte-order mark": (200, {}, b"\xef\xbb\xbf" + json.dumps(completion("A")).encode()),
    "UTF-16": (200, {}, json.dumps(completion("A")).encode("utf-16")),
    "compressed": (200, {"content-encoding": "gzip"}, gzip.compress(json.dumps(completion("A")).encode())),
    "null usage": {**completion("A"), "usage": None},
    "not a number": (200, {}, json.dumps({**completion("A"), "usage": {"prompt_tokens": float("nan")}})),
    "huge counts": (200, {}, json.dumps({**completion("A"), "usage": {"prompt_tokens": 10**400}})),
    "null error": {**completion("A"), "error": None},
    "another end": completion("A", finish="end_turn"),
    "no end": completion("A", finish=None),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("form", FORMS)
def test_a_reply_is_read_in_every_form(server, tmp_path, form):
    """Lists of chunks were no reply, asked and paid `attempts` times over."""
    server.answer = lambda request: FORMS[form]
    asked = endpoint(server, tmp_path)
    assert [reply and reply.text for reply in asked.ask(requests("q"))] == ["A"]
    assert len(server.requests) == 1
    assert [reply and reply.text for reply in endpoint(server, tmp_path).ask(requests("q"))] == ["A"]


def test_a_stream_keeps_its_counts_and_where_it_was_cut(server, tmp_path):
    server.answer = lambda request: (200, {"content-type": "text/event-stream"}, stream("A", "B", finish="length"))
    asked = endpoint(server, tmp_path)
    (reply,) = asked.ask(requests("q"))
    assert reply is not None
    assert (reply.text, reply.cut, reply.model) == ("AB", True, "served-1")
    assert (asked.counts["tokens in"], asked.counts["tokens out"]) == (3, 2)


@pytest.mark.parametrize("finish", ["max_tokens", "MAX_TOKENS", "model_length"])
def test_every_word_for_too_long_is_known(server, tmp_path, finish):
    server.answer = lambda request: completion("A", finish=finish)
    (reply,) = endpoint(server, tmp_path).ask(requests("q"))
    assert reply is not None
    assert reply.cut


PASSING = {
    "429 inside a success": {"error": {"code": 429, "message": "slow down"}},
    "429 in words": {"error": {"code": "rate_limit_exceeded", "message": "slow down"}},
    "429 as text": {"error": {"code": "429", "message": "slow down"}},
    "an error of a choice": {
        **completion(""),
        "choices": [{"error": {"code": 502, "message": "slow down"}, "message": {}}],
    },
    "an error of vLLM": {"object": "error", "message": "slow down", "type": "x", "code": 503},
    "an error of words": {"error": "slow down"},
    "an error in a stream": (
        200,
        {"content-type": "text/event-stream"},
        b'data: {"error": {"message": "slow down"}}\n',
    ),
    "520": (520, {"content-type": "text/html"}, "<html><style>x {}</style><h1>slow</h1> down</html>"),
    "524": (524, {}, "slow down"),
    "529": (529, {}, {"type": "error", "error": {"type": "overloaded_error", "message": "slow down"}}),
}


@pytest.mark.parametrize("form", PASSING)
def test_a_passing_error_is_known_in_every_form(server, tmp_path, form):
    server.faults = [PASSING[form]]
    asked = endpoint(server, tmp_path)
    assert [reply and reply.text for reply in asked.ask(requests("q"))] == ["A"]
    assert asked.counts["retries"] == 1
    assert "slow down" in asked.last_error


@pytest.mark.parametrize("error", [{"code": 401, "message": "no"}, {"code": "insufficient_quota", "message": "no"}])
def test_a_refusal_inside_a_success_stops_at_once(server, tmp_path, error):
    server.answer = lambda request: {"error": error}
    with pytest.raises(OracleError, match="refused"):
        endpoint(server, tmp_path).ask(requests("q", "r"))
    assert len(server.requests) == 1


FLAGGED = {
    "OpenRouter": (403, {}, {"error": {"code": 403, "message": "requires moderation and your input was flagged"}}),
    "Azure": (400, {}, {"error": {"code": "content_filter", "message": "filtered by content management policy"}}),
    "inside a success": {"error": {"code": 403, "message": "Your prompt was flagged"}},
    "no words": (403, {}, {"error": {"message": "Forbidden"}}),
    "filtered": completion(None, finish="content_filter"),
    "half filtered": completion("A", finish="content_filter"),
    "another word": completion("", finish="SAFETY"),
}


@pytest.mark.parametrize("form", FLAGGED)
def test_a_flagged_prompt_fails_alone_at_every_start(server, tmp_path, form):
    """It stopped the work, and every later start stopped at it again; so did eight in a row."""
    server.answer = lambda r: FLAGGED[form] if "knife" in r["messages"][0]["content"] else completion("A")
    asked = requests("hello", *(f"knife {i}" for i in range(12)), "bye")
    for start in range(2):
        served = endpoint(server, tmp_path, guarded=True)
        replies = served.ask(asked)
        assert [reply is not None for reply in replies] == [True, *[False] * 12, True]
        assert served.counts["failed requests"] == 12
        assert len(server.requests) == 14 + 12 * start  # none is tried twice


def calling(text: str | None) -> dict[str, Any]:
    """A completion that calls a tool."""
    reply = completion(text, finish="tool_calls")
    function = {"name": "rain", "arguments": "{}"}
    reply["choices"][0]["message"]["tool_calls"] = [{"id": "a", "type": "function", "function": function}]
    return reply


def test_a_reply_that_only_calls_a_tool_is_given_up_at_once(server, tmp_path):
    server.answer = lambda r: completion("A") if "hello" in r["messages"][0]["content"] else calling(None)
    served = endpoint(server, tmp_path, guarded=True)
    assert [reply and reply.text for reply in served.ask(requests("hello", "rain"))] == ["A", None]
    assert served.last_error.startswith("OnlyCalls: the reply calls a tool and has no text")
    assert len(server.requests) == 2
    server.answer = lambda _: calling("Let me look.")
    assert [reply.text for reply in served.ask(requests("snow"))] == ["Let me look."]


def test_a_key_that_is_refused_later_stops_a_caller_that_bounds_no_failures(server, tmp_path):
    """A teacher would go on with a few answers."""
    server.faults = [completion("A"), *[FLAGGED["no words"]] * 100]
    with pytest.raises(OracleError, match=r"failed 8 requests in a row.*Forbidden"):
        endpoint(server, tmp_path).ask(requests(*map(str, range(30))))
    assert len(server.requests) == 9


def test_a_key_that_is_refused_before_anything_was_answered_stops(server, tmp_path):
    server.answer = lambda request: (403, {}, {"error": {"message": "no access to this model"}})
    with pytest.raises(OracleError, match=r"refused.*no access"):
        endpoint(server, tmp_path).ask(requests("q", "r"))
    assert len(server.requests) == 1


@pytest.mark.parametrize("drip", [partial(dripping, headers=False), partial(dripping, headers=True)])
def test_the_timeout_bounds_the_whole_answer(server, tmp_path, drip):
    """It bounded the wait for the next byte, so a server could hold a request as long as it liked."""
    server.answer = lambda request: drip
    asked = endpoint(server, tmp_path, timeout=0.2, attempts=1)
    start = time.monotonic()
    assert asked.ask(requests("q")) == [None]
    assert time.monotonic() - start < 2
    assert "no whole answer within 0.2 s" in asked.last_error


BOMB = (200, {"content-encoding": "gzip"}, gzip.compress(b" " * 3_000_000))


@pytest.mark.parametrize("form", [endless, BOMB, (200, {"content-encoding": "br"}, b"x"), completion("A" * 110_000)])
def test_a_reply_without_an_end_is_left(server, tmp_path, monkeypatch, form):
    monkeypatch.setattr(http, "LARGEST_BODY", 1_000_000)
    server.answer = lambda request: form
    asked = endpoint(server, tmp_path, attempts=1)
    assert asked.ask(requests("q")) == [None]
    assert asked.last_error.startswith("Malformed: a reply ")


def long_header(handler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nx: " + b"a" * 1_000_000)


def test_headers_without_an_end_are_left(server, tmp_path):
    server.answer = lambda request: long_header
    assert endpoint(server, tmp_path, attempts=1).ask(requests("q")) == [None]


def test_redirects_without_an_end_are_left(server, tmp_path):
    server.answer = lambda request: (307, {"location": "/v1/chat/completions"}, "")
    asked = endpoint(server, tmp_path, attempts=1)
    assert asked.ask(requests("q")) == [None]
    assert len(server.requests) <= http.MOST_REDIRECTS + 1
    assert "redirect" in asked.last_error


def test_a_date_to_come_back_at_is_waited_for(server, tmp_path):
    """A date was passed over, and all attempts were gone before it."""
    when = {"retry-after": formatdate(time.time() + 2, usegmt=True)}
    server.faults = [(429, when, {"error": {"message": "slow down"}})]
    start = time.monotonic()
    assert endpoint(server, tmp_path).ask(requests("q")) != [None]
    assert time.monotonic() - start >= 1


def test_a_key_sent_back_is_in_no_file_and_no_error(server, tmp_path):
    """A key with a quote or a backslash stood in the replies file, in JSON's spelling."""
    spelt = json.dumps(KEY)
    said = {**completion(f"your key is {KEY} or {spelt}", top={"A": -0.1, spelt: -2.0}), "model": f"m {KEY}"}
    server.answer = lambda request: said
    asked = endpoint(server, tmp_path)
    (reply,) = asked.ask(requests("q"))
    assert reply is not None
    assert reply.text == 'your key is *** or "***"'
    pages = (f"{'x' * shift}{KEY}" for shift in (0, 95, 270, 290, 1995))  # where texts could be cut
    faults = [(500, {}, {"error": {"message": f"key {spelt}"}}), {"error": f"key {spelt}"}]
    for fault in [*faults, *((status, {}, page) for page in pages for status in (200, 500))]:
        server.answer = lambda request, fault=fault: fault
        asked = endpoint(server, tmp_path, attempts=1)
        asked.ask(requests(str(fault)))
        assert '"quo' not in asked.last_error
        for shown in (asked.last_error, repr(vars(asked)), (tmp_path / "replies.jsonl").read_text()):
            assert "1234567890" not in shown


def test_a_key_in_the_recipe_is_refused(server, tmp_path, monkeypatch):
    monkeypatch.setenv("A_KEY", "sk-plain-1234567890")
    with pytest.raises(ValueError, match="oracle holds the key itself"):
        endpoint(server, tmp_path, base_url=f"{server.url}/sk-plain-1234567890")


@pytest.mark.parametrize(
    ("extra", "says"),
    [
        ({"api_key": "sk-0123456789"}, "holds 'api_key'"),
        ({"headers": [{"Authorization": "Bearer x"}]}, "holds 'Authorization'"),
        ({"day": date(2026, 1, 1)}, "cannot be sent: .*date"),
        ({"bias": float("nan")}, "cannot be sent"),
    ],
)
def test_extra_fields_that_cannot_be_kept_are_refused(server, tmp_path, extra, says):
    config = ServedConfig(model="m", base_url=server.url, key_env=None, extra=extra)
    with pytest.raises(ValueError, match=rf"data\.teacher\.extra {says}"):
        Endpoint(config, "data.teacher", tmp_path / "replies.jsonl")
    plain = {"max_tokens": 1, "structured_outputs": {"choice": ["A"]}, "key": "prompt", "token_ids": True}
    Endpoint(config.model_copy(update={"extra": plain}), "data.teacher", tmp_path / "replies.jsonl")


def test_a_file_that_cannot_be_written_is_found_before_it_is_paid(server, tmp_path):
    (tmp_path / "file").write_text("")
    asked = Endpoint(
        EndpointConfig(model="m", base_url=server.url, key_env=None), "oracle", tmp_path / "file" / "r.jsonl"
    )
    with pytest.raises(ValueError, match="cannot be made"):
        asked.ask(requests("q"))
    assert server.requests == []


def test_a_proxy_that_cannot_be_used_is_one_line_and_only_where_it_is_needed(server, tmp_path, monkeypatch):
    """ALL_PROXY=socks5://... ended in an ImportError, for a server on this machine too."""
    monkeypatch.setenv("ALL_PROXY", "socks5://me:pass-word-12@127.0.0.1:1")
    if importlib.util.find_spec("socksio"):
        pytest.skip("SOCKS proxies work here")
    with pytest.raises(
        ValueError, match=r"oracle: the proxy .*pip install 'httpx2?\[socks\]'.*127\.0\.0\.1 to NO_PROXY"
    ) as raised:
        endpoint(server, tmp_path)
    assert "pass-word" not in str(raised.value)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    assert endpoint(server, tmp_path).ask(requests("q")) != [None]
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("ALL_PROXY", "nonsense://127.0.0.1:1")
    with pytest.raises(ValueError, match="Unset ALL_PROXY"):
        endpoint(server, tmp_path)
