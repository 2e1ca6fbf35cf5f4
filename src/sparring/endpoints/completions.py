"""What servers send in place of the standard's chat completion, made one; and what is read from a completion.

A stream that nobody asked for becomes one completion, an error inside a success becomes that error, and another
encoding or a byte-order mark is read. Content may be a list of chunks: the text chunks are the reply, thoughts are left
out. Leaves out: HTTP itself (`http.py`), and what the replies mean.

    status, body = standard_reply(200, "application/json", b'{"error": {"code": 429, "message": "slow down"}}')  # 429
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from sparring.endpoints import replies
from sparring.endpoints.replies import TOKENS_KEPT

CUT = ("length", "max_tokens", "max_output_tokens", "model_length")
"""finish reasons of a reply that was too long, in lower case"""
FILTERED = ("content_filter", "content-filter", "safety", "recitation", "prohibited_content", "blocklist", "sensitive")
"""finish reasons of a reply that the server's filter ended"""
QUOTED = 20_000
"""characters of a server's words in an error, of which few are shown: a key must not be cut before it is looked for"""
LONGEST_TOKEN = 256
"""characters of one token"""
_ERROR_CODES = {"insufficient_quota": 429, "rate_limit_exceeded": 429, "content_filter": 400}
_TAGS = re.compile(r"<(?:style|script)\b.*?</(?:style|script)>|<[^<>]*>", re.S | re.I)


class Malformed(Exception):
    """An HTTP success without a reply in it."""


class Filtered(Exception):
    """A reply that the server's filter ended: the same question would end the same way."""


class OnlyCalls(Filtered):
    """A reply that calls tools and says nothing: to be given up in the same way."""


def standard_reply(status: int, kind: str, body: bytes) -> tuple[int, bytes]:
    """(status, body) as the standard says them; `kind` is the content type.

    Raises:
        Malformed: a success that holds an error without a status.
    """
    text = _decoded(kind, body)
    if status >= 400:
        return status, _error_body(text)
    value = (
        _stream(text) if "event-stream" in kind.lower() or text.startswith(("data:", "event:", ":")) else _json(text)
    )
    error = _error(value)
    if error is None:
        return status, json.dumps(value).encode()
    code = _status(error)
    if code is None:
        raise Malformed(f"an error instead of a reply: {json.dumps(error, ensure_ascii=False)[:QUOTED]}")
    return code, json.dumps({"error": error}).encode()


def _decoded(kind: str, body: bytes) -> str:
    """The text, in UTF-8 or what its first bytes or the header say."""
    named = re.search(r"charset=[\"']?([\w.:-]+)", kind, re.I)
    marked = "utf-16" if body.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    for name in (marked, *(named.groups() if named else ())):
        try:
            return body.decode(name)
        except (LookupError, ValueError):
            continue
    return body.decode(errors="replace")


def _error_body(text: str) -> bytes:
    """The JSON of an error; a page's words are its message."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = {"error": {"message": _plain(text) if text.lstrip().startswith("<") else text[:QUOTED]}}
    return json.dumps(value).encode()


def _plain(page: str) -> str:
    """The words of an HTML page."""
    return " ".join(_TAGS.sub(" ", page[:QUOTED]).split())


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        start = _plain(text)
        raise Malformed(f"a reply that is no JSON ({start!r})" if start else "a reply without a body") from None


def _stream(text: str) -> Any:
    """One completion of a stream's chunks.

    Raises:
        Malformed: the stream holds none.
    """
    whole: dict[str, Any] = {}
    choice: dict[str, Any] = {"index": 0, "finish_reason": None, "logprobs": None}
    parts: list[Any] = []
    refusals: list[str] = []
    logprobs: list[Any] = []
    for chunk in _events(text):
        if _error(chunk) is not None:
            return chunk
        whole |= {name: value for name, value in chunk.items() if name != "choices" and value is not None}
        for piece in _first(chunk.get("choices")):
            said = piece.get("delta") or piece.get("message") or {}
            parts += _chunks(said.get("content")) if isinstance(said, dict) else []
            refusals += [said["refusal"]] if isinstance(said, dict) and isinstance(said.get("refusal"), str) else []
            choice["finish_reason"] = piece.get("finish_reason") or choice["finish_reason"]
            logprobs += _list(_dict(piece.get("logprobs")).get("content"))
    if not whole and not parts:
        raise Malformed("a stream without a reply in it")
    message = {"role": "assistant", "content": "".join(map(_chunk_text, parts)), "refusal": "".join(refusals) or None}
    choice |= {"message": message, "logprobs": {"content": logprobs} if logprobs else None}
    return {"id": "", "created": 0, **whole, "object": "chat.completion", "choices": [choice]}


def _events(text: str) -> Iterator[dict[str, Any]]:
    """The objects of a stream of server-sent events; a half one at the end is passed over."""
    for line in text.splitlines():
        name, _, data = line.partition(":")
        if name == "data" and data.strip() != "[DONE]":
            try:
                event = json.loads(data)
            except (ValueError, RecursionError):
                continue
            if isinstance(event, dict):
                yield event


def _error(value: Any) -> Any:
    """The error that stands where a reply should; None where there is none."""
    if not isinstance(value, dict):
        return None
    if value.get("object") == "error":
        return value
    for place in (value, *_first(value.get("choices"))):
        if place.get("error"):
            return place["error"]
    return None


def _status(error: Any) -> int | None:
    """The HTTP status that an error object names."""
    for name in ("status", "status_code", "code", "type", "http_code"):
        value = error.get(name) if isinstance(error, dict) else None
        if isinstance(value, str):
            value = int(value) if value.isdecimal() and len(value) == 3 else _ERROR_CODES.get(value)
        if isinstance(value, int) and 400 <= value < 600:
            return value
    return None


def _first(choices: Any) -> list[dict[str, Any]]:
    return [choice for choice in _list(choices)[:1] if isinstance(choice, dict)]


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def content(completion: Any) -> tuple[bool, str | None, bool]:
    """(whether it has the shape of a reply, its text unless that is empty, whether it was cut off).

    A refusal in a field of its own is the text of a reply that has no other.

    Raises:
        Filtered: the server's filter ended it, or it only calls tools.
    """
    # The client does not check what it reads: a proxy's error page or half a body arrive as a success of any shape.
    try:
        choice = completion.choices[0]
        said, reason = choice.message.content, choice.finish_reason
    except (AttributeError, IndexError, KeyError, TypeError):
        return False, None, False
    if not isinstance(said, str | list | dict | None):
        return False, None, False
    text = "".join(map(_chunk_text, _chunks(said)))
    refusal = getattr(choice.message, "refusal", None)
    if not text.strip() and isinstance(refusal, str):
        text = refusal
    reason = reason.lower() if isinstance(reason, str) else ""
    if not text.strip() and getattr(choice.message, "tool_calls", None):
        raise OnlyCalls("the reply calls a tool and has no text")
    if reason in FILTERED:
        raise Filtered(f"the server's filter ended the reply ({reason})")
    cut = reason in CUT
    # A model that thought until max_tokens has answered: the same question would end the same way.
    return True, text if cut or text.strip() else None, cut


def _chunks(said: Any) -> list[Any]:
    return said if isinstance(said, list) else [] if said is None else [said]


def _chunk_text(chunk: Any) -> str:
    """The text of a chunk of the reply; none of a thought, a picture, a reference or a call."""
    if isinstance(chunk, str):
        return chunk
    if not isinstance(chunk, dict) or chunk.get("type", "text") not in ("text", "output_text", "refusal"):
        return ""
    text = chunk.get("refusal") if chunk.get("type") == "refusal" else chunk.get("text")
    text = text.get("value") if isinstance(text, dict) else text
    return text if isinstance(text, str) else ""


def tokens(completion: Any) -> list[dict[str, Any]]:
    """The last tokens that have log-probabilities; none where they have another shape.

    Raises:
        Malformed: a number that no log-probability is.
    """
    try:
        return [
            {
                "token": _field(token, "token"),
                "logprob": _field(token, "logprob"),
                "top": {
                    _field(other, "token"): _field(other, "logprob")
                    for other in _field(token, "top_logprobs") or ()
                    if _likely(other)
                },
            }
            for token in (_field(completion.choices[0].logprobs, "content") or ())[-TOKENS_KEPT:]
            if _likely(token)
        ]
    except (AttributeError, KeyError, TypeError):
        return []


def _field(item: Any, name: str) -> Any:
    """A field of what the client made of JSON: an object, or the JSON itself where a value did not fit."""
    return item.get(name) if isinstance(item, Mapping) else getattr(item, name, None)


def _likely(token: Any) -> bool:
    """Whether it is a token with a log-probability."""
    text, logprob = _field(token, "token"), _field(token, "logprob")
    if not isinstance(text, str) or len(text) > LONGEST_TOKEN:
        return False
    if isinstance(logprob, bool) or not isinstance(logprob, int | float):
        return False
    if not replies.is_logprob(logprob):
        raise Malformed("a logprob that no probability has (above 0, or no number)")
    return True


def token_count(completion: Any, name: str) -> int | None:
    """A count of the server's `usage`; None where it has none."""
    return replies.token_count(getattr(getattr(completion, "usage", None), name, None))


def said_by(completion: Any) -> str:
    """The model's name in the server's words."""
    model = getattr(completion, "model", None)
    return model if isinstance(model, str) else ""


def message_of(error: Mapping[str, Any] | Any) -> str:
    """An API error's body as text, in which words such as `moderation` are looked for."""
    return f"{error} {getattr(error, 'body', '')}"
