"""Chat completions from any OpenAI-compatible endpoint: concurrent, retried, within a budget, every reply stored.

Replies are written to a file as they come (`replies.py`), so that a stopped or killed run never pays for the same
question twice; so are the tokens of empty replies, which cost too. Rate limits and outages are waited out with jitter,
for as long as `Retry-After` asks; an endpoint that stays down, a refused key, an unknown model or a spent budget stops
the work with an `OracleError`. The key is read from the environment into the client and is stored nowhere else, even
when a reply repeats it. Leaves out: what the replies mean.

    config = EndpointConfig(model="m", base_url="http://localhost:8000/v1", key_env=None)
    endpoint = Endpoint(config, "oracle", Path("replies.jsonl"))
    endpoint.ask([{"messages": [{"role": "user", "content": "A or B?"}], "max_tokens": 1}])
"""

from __future__ import annotations

import json
import os
import random
import re
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sparring.endpoints.replies import TOKENS_KEPT, Asker, Request, is_logprob, most_out, token_count
from sparring.recipe.sections import EndpointConfig
from sparring.runtime.errors import OracleError

BACKOFF, LONGEST_WAIT = 1.0, 300.0
"""seconds: the first wait, doubled each time; and the longest that a `Retry-After` is obeyed"""
DOWN_AFTER = 8
"""requests that fail in a row, each after all its attempts, before the endpoint counts as down"""
CHARACTERS_PER_TOKEN = 3.5
"""of ASCII, for estimates before the endpoint has counted; low for English, so that estimates err upwards"""
BYTES_PER_TOKEN = 1.0
"""of other scripts' UTF-8: what a small vocabulary comes to (SmolLM2: 1.0 in Korean, 1.5 in Chinese, 2.1 in Russian)"""
SHORTEST_SECRET = 8
"""a shorter "key" is a placeholder for a server without keys; removing it from replies would spoil them"""
PER_WAVE = 4
"""requests in a wave for each request under way: how often progress shows"""
REFUSED = (401, 402, 403, 404)
"""statuses that no retry and no other question can change"""
PASSING = (408, 409, 425, 429)
EMPTY = "an empty reply"


class Endpoint(Asker):
    """A model behind an endpoint. To be used from one thread; it starts `concurrency` threads of its own."""

    def __init__(self, config: EndpointConfig, field: str, replies: Path) -> None:
        """`field`: the section of the recipe that messages name.

        Raises:
            ValueError: a malformed address, a limit without prices, or no key; the message never shows a possible key.
        """
        if config.base_url is not None:
            _check_address(f"{field}.base_url", config.base_url)
        if config.max_cost is not None and (config.price_in is None or config.price_out is None):
            raise ValueError(f"{field}.max_cost needs {field}.price_in and price_out, per million tokens.")
        self.config, self.field = config, field
        self._client = _client(config, field)
        self.where = str(self._client.base_url)
        if config.base_url is None:  # the client library reads it
            _check_address("OPENAI_BASE_URL", self.where)
        super().__init__(f"{config.model}@{self.where}", replies)
        self.who, self.wave = (self.where, config.model), PER_WAVE * config.concurrency
        self._remedy = ""
        self._lock = self.file.lock  # one for all who share the file: they may share a budget
        self._stop = threading.Event()
        self._not_before = 0.0
        self._failures_in_a_row = 0

    def cost(self, tokens_in: float, tokens_out: float) -> float | None:
        """In the currency of the prices; None without prices."""
        if self.config.price_in is None:
            return None
        return (tokens_in * self.config.price_in + tokens_out * (self.config.price_out or 0)) / 1e6

    def most_tokens(self, request: Request) -> tuple[float, float]:
        """(tokens in, tokens out) of a request at most, by its length and what it allows."""
        return sum(_most_tokens(message["content"]) + 8 for message in request["messages"]), most_out(request)

    # ---- asking -------------------------------------------------------------------------------

    def _answer(self, new: Mapping[str, Request]) -> None:
        if not new:
            return
        self._stop.clear()
        with ThreadPoolExecutor(self.config.concurrency) as pool:
            futures = [pool.submit(self._answer_one, key, request) for key, request in new.items()]
            try:
                for future in futures:
                    future.result()
            except BaseException:  # Ctrl-C too: nothing more is asked, requests under way may finish
                self._stop.set()
                pool.shutdown(wait=True, cancel_futures=True)
                raise

    def _reserve(self, request: Request) -> tuple[float, float] | None:
        """Set the most tokens aside, so that concurrent requests cannot overdraw together; None when work stopped."""
        tokens, limit = self.most_tokens(request), self.config.max_cost
        with self._lock:
            if self._stop.is_set():
                return None
            if limit is not None:  # and so there are prices
                paid, cost = self.paid or 0.0, self.cost(*tokens) or 0.0
                if paid + (self.cost(*self.file.reserved[self.name]) or 0.0) + cost > limit:
                    self._stop.set()
                    raise OracleError(
                        f"the budget is spent: its replies in {self.file.path} cost {paid:.4f}, the next request may "
                        f"cost {cost:.4f}, and {self.field}.max_cost = {limit:g}. What was answered is kept; "
                        "raise it to go on."
                    )
            self._set_aside(*tokens)
        return tokens

    def _set_aside(self, tokens_in: float, tokens_out: float) -> None:
        with self._lock:
            reserved = self.file.reserved[self.name]
            reserved[0] += tokens_in
            reserved[1] += tokens_out

    def _answer_one(self, key: str, request: Request) -> None:
        """Store a reply, or give the request up. Every attempt reserves its own tokens: empty replies cost too."""
        for attempt in range(self.config.attempts):
            if not self._wait() or (reserved := self._reserve(request)) is None:
                return
            try:
                row = self._create(request)
            except Exception as error:
                wait = self._failure(error, attempt)
                if wait is None:
                    break
                with self._lock:
                    self.counts["retries"] += attempt + 1 < self.config.attempts
                    self._not_before = max(self._not_before, time.monotonic() + wait)
            else:
                self._store_redacted({"key": key, **row})
                self._failures_in_a_row = 0
                return
            finally:
                self._set_aside(-reserved[0], -reserved[1])
        with self._lock:
            self.counts["failed requests"] += 1
            self._failures_in_a_row += 1
            down = self._failures_in_a_row >= DOWN_AFTER and not self._stop.is_set()
            if down:
                self._stop.set()
        if down:
            raise OracleError(
                f"the endpoint {self.where} failed {DOWN_AFTER} requests in a row (last: {self.last_error}). "
                f"{self._remedy} What was answered is kept in {self.file.path}; give the same command to go on."
            )
        if not self._stop.is_set():
            self._given_up.add(key)

    def _create(self, request: Request) -> dict[str, Any]:
        """One reply as a row of the file. An empty reply raises; its tokens are stored where they are known."""
        with self._lock:
            self.counts["requests"] += 1
        completion = self._client.chat.completions.create(model=self.config.model, **request)
        whole, text, cut = _content(completion)
        spent = self._tokens_spent(completion, request, whole)
        wrong = EMPTY if whole else "a reply without choices[0].message.content"
        tokens = _tokens(completion.choices[0]) if text is not None else []
        if any(not is_logprob(logprob) for token in tokens for logprob in (token["logprob"], *token["top"].values())):
            text, wrong = None, "a logprob that no probability has (above 0, or no number)"
        if text is None:
            if spent is not None:
                self._store_redacted({"key": None, "text": "", **spent})
            raise _Malformed(wrong)
        assert spent is not None, "whole replies have a cost"
        model = getattr(completion, "model", None)
        return {
            "text": text,
            "cut": cut,
            "tokens": tokens,
            **spent,
            "model": model if isinstance(model, str) else "",
        }

    def _tokens_spent(self, completion: Any, request: Request, whole: bool) -> dict[str, int] | None:
        """The endpoint's counts, or upper bounds where it does not count a whole reply; None for a broken one."""
        usage = getattr(completion, "usage", None)
        tokens_in, tokens_out = _count(usage, "prompt_tokens"), _count(usage, "completion_tokens")
        if not whole and (tokens_in is None or tokens_out is None):
            return None
        most_in, most = self.most_tokens(request)
        return {
            "tokens_in": round(most_in) if tokens_in is None else tokens_in,
            "tokens_out": round(most) if tokens_out is None else tokens_out,
        }

    def _wait(self) -> bool:
        """Sleep until nobody has to wait; False when work stopped meanwhile."""
        while not self._stop.is_set() and (left := self._not_before - time.monotonic()) > 0:
            self._stop.wait(left)
        return not self._stop.is_set()

    def _failure(self, error: Exception, attempt: int) -> float | None:
        """Seconds to wait before the next attempt; None to give this request up.

        Raises:
            OracleError: no request can succeed.
        """
        import openai

        self.last_error, self._remedy = self._redacted(error), _remedy(error, self.config, self.field)
        status = getattr(error, "status_code", None)
        if status in REFUSED or getattr(error, "code", None) == "insufficient_quota":
            if self._stop.is_set():
                return None
            self._stop.set()
            raise OracleError(
                f"the endpoint {self.where} refused: {self.last_error}. Check {self.field}.model, base_url "
                f"and the key (key_env: {self.config.key_env or 'null'}). What was answered is kept."
            ) from None
        passing = status in PASSING or (status or 0) >= 500
        broken = isinstance(
            error, openai.APIConnectionError | openai.APIResponseValidationError | _Malformed | ValueError
        )
        if not passing and not broken:
            if status is None:
                raise error
            return None  # this question is refused (too long, filtered); others may pass
        asked = _retry_after(error)
        if asked is not None and asked > LONGEST_WAIT:
            self._stop.set()
            raise OracleError(
                f"the endpoint {self.where} asks to wait {asked:.0f} s ({self.last_error}). What was answered is kept; "
                "give the same command later."
            ) from None
        # Jitter: callers that were turned away together must not come back together.
        return (asked or BACKOFF * 2**attempt) * random.uniform(1.0, 1.5)

    def _redacted(self, error: Exception) -> str:
        """The error as one line without the key, which some servers repeat."""
        text = " ".join(f"{type(error).__name__}: {error}".split())
        return (text if self.config.key_env is None else text.replace(self._client.api_key, "***"))[:300]

    def _store_redacted(self, row: dict[str, Any]) -> None:
        secret = self._client.api_key
        hidden = self.config.key_env is not None and len(secret) >= SHORTEST_SECRET
        if hidden and secret in json.dumps([row, "".join(t["token"] for t in row.get("tokens", ()))]):
            row |= {"text": row["text"].replace(secret, "***"), "model": row["model"].replace(secret, "***")}
            row["tokens"] = []
        self._store({**row, "asker": self.name})


class _Malformed(Exception):
    """An HTTP success without a reply in it."""


def _client(config: EndpointConfig, field: str) -> Any:
    try:
        import openai
    except ImportError as error:
        raise ValueError(
            f"{field}: an endpoint needs the package openai. Install it with: pip install 'sparring[judge]'"
        ) from error
    key = _key(config.key_env, field)
    return openai.OpenAI(api_key=key, base_url=config.base_url, timeout=config.timeout, max_retries=0)


def _key(key_env: str | None, field: str) -> str:
    """The key from the environment; a placeholder where the endpoint takes none."""
    if key_env is None:
        return "none"
    if not re.fullmatch(r"[A-Z][A-Z0-9_]*", key_env):
        raise ValueError(
            f"{field}.key_env is not the name of an environment variable (capitals, digits, underscores); it is not "
            "shown because it may be the key itself. Keys belong in the environment only."
        )
    if not (key := os.environ.get(key_env, "").strip()):
        raise ValueError(
            f"{field}.key_env: the environment variable {key_env} is not set. Set it to the key, or give key_env: null "
            "for an endpoint without keys."
        )
    if not (key.isascii() and key.isprintable()):
        raise ValueError(
            f"{field}.key_env: the environment variable {key_env} holds a character that a key cannot have (a line "
            "break, a typographic quote or another that is not ASCII); it is not shown. Copy it anew."
        )
    return key


def _check_address(name: str, url: str) -> None:
    parts = urlsplit(url)
    if parts.username or parts.password or parts.query:
        raise ValueError(f"{name} holds a user, a password or a query. Put the key in the environment.")
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise ValueError(f"{name} = {url!r}: give http://HOST/v1 or https://HOST/v1.")


def _most_tokens(text: str) -> float:
    plain = sum(map(str.isascii, text))
    return plain / CHARACTERS_PER_TOKEN + (len(text.encode(errors="replace")) - plain) / BYTES_PER_TOKEN


def _content(completion: Any) -> tuple[bool, str | None, bool]:
    """(whether it has the shape of a reply, its text unless that is empty, whether it was cut off)."""
    # The client does not check what it reads: a proxy's error page or half a body arrive as a success of any shape.
    try:
        choice = completion.choices[0]
        text, cut = choice.message.content, choice.finish_reason == "length"
    except (AttributeError, IndexError, KeyError, TypeError):
        return False, None, False
    if not isinstance(text, str | None):
        return False, None, False
    text = text or ""
    # A model that thought until max_tokens has answered: the same question would end the same way.
    return True, text if cut or text.strip() else None, cut


def _count(usage: Any, name: str) -> int | None:
    return token_count(getattr(usage, name, None))


def _tokens(choice: Any) -> list[dict[str, Any]]:
    """The last tokens that have log-probabilities; none where they have another shape."""
    try:
        return [
            {
                "token": _field(t, "token"),
                "logprob": _field(t, "logprob"),
                "top": {
                    _field(a, "token"): _field(a, "logprob") for a in _field(t, "top_logprobs") or () if _has_logprob(a)
                },
            }
            for t in (_field(choice.logprobs, "content") or ())[-TOKENS_KEPT:]
            if _has_logprob(t)
        ]
    except (AttributeError, KeyError, TypeError):
        return []


def _field(item: Any, name: str) -> Any:
    """A field of what the client made of JSON: an object, or the JSON itself where a value did not fit."""
    return item.get(name) if isinstance(item, Mapping) else getattr(item, name, None)


def _has_logprob(token: Any) -> bool:
    """Whether it is a token with a number for its log-probability."""
    return isinstance(_field(token, "token"), str) and isinstance(_field(token, "logprob"), int | float)


def _remedy(error: Exception, config: EndpointConfig, field: str) -> str:
    """The remedy where every request ends in this error."""
    import openai

    status = getattr(error, "status_code", None)
    if isinstance(error, openai.APITimeoutError):
        return (
            f"No answer came within {config.timeout:g} s: raise {field}.timeout, or lower {field}.concurrency "
            f"({config.concurrency}) if it answers slowly."
        )
    if isinstance(error, openai.APIConnectionError):
        return f"Is it running, and is {field}.base_url right?"
    if status == 429:
        return f"It limits the rate: lower {field}.concurrency ({config.concurrency}), or go on later."
    if status is not None and status < 500:
        return (
            f"It refuses these questions, so repeating will not help: does the model take {field}.max_tokens and a "
            f"temperature ({field}.reasoning: true if not), and do questions fit into its context?"
        )
    if status is not None:
        return "The fault is the server's: its own log says more."
    if str(error) == EMPTY:
        return f"The model says nothing: is it a chat model, and {field}.max_tokens large enough?"
    return f"The address serves no chat API: {field}.base_url usually ends in /v1."


def _retry_after(error: Exception) -> float | None:
    """Seconds that the server asks for; None for a date, which our own backoff stands in for."""
    headers = getattr(getattr(error, "response", None), "headers", {})
    try:
        return max(0.0, float(headers.get("retry-after", "")))
    except ValueError:
        return None
