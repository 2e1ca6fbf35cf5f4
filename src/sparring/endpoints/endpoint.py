"""Chat completions from any OpenAI-compatible endpoint: concurrent, retried, within a budget, every reply stored.

Replies are written to a file as they come (`replies.py`), so that a stopped or killed run never pays for the same
question twice; so are the tokens of empty replies, which cost too. Rate limits and outages are waited out with jitter,
for as long as the server asks; an endpoint that stays down, a refused key, an unknown model or a spent budget stops
the work with an `OracleError`, and a question that the server's moderation refuses fails alone. The key is read from
the environment into the client and is stored nowhere else, even when a reply repeats it in another spelling. Leaves
out: HTTP (`http.py`), the forms of replies (`completions.py`), and what the replies mean.

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
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sparring.endpoints import usage
from sparring.endpoints.completions import (
    QUOTED,
    Filtered,
    Malformed,
    OnlyCalls,
    content,
    message_of,
    said_by,
    token_count,
    tokens,
)
from sparring.endpoints.http import NO_KEY, ChatClient
from sparring.endpoints.replies import Asker, Request, most_out
from sparring.endpoints.waiting import asked_wait, reset_wait
from sparring.recipe.sections import EndpointConfig
from sparring.runtime.errors import OracleError
from sparring.runtime.files import make_folder
from sparring.runtime.secrets import SHORTEST_SECRET, hide

BACKOFF, LONGEST_WAIT = 1.0, 300.0
"""seconds: the first wait, doubled each time; and the longest that a `Retry-After` is obeyed"""
DOWN_AFTER = 8
"""requests that fail in a row, each after all its attempts, before the endpoint counts as down"""
CHARACTERS_PER_TOKEN = 3.5
"""of ASCII, for estimates before the endpoint has counted; low for English, so that estimates err upwards"""
BYTES_PER_TOKEN = 1.0
"""of other scripts' UTF-8: what a small vocabulary comes to (SmolLM2: 1.0 in Korean, 1.5 in Chinese, 2.1 in Russian)"""
PER_WAVE = 4
"""requests in a wave for each request under way: how often progress shows"""
REFUSED = (401, 402, 403, 404)
"""statuses that no retry and no other question can change; 403 of a single question is its moderation's"""
PASSING = (408, 409, 425, 429)
SECRET_NAME = re.compile(
    r"(?:.*[_-])?(?:api[_-]?key|authorization|password|passwd|secret|(?:access|auth|bearer)[_-]?token)", re.I
)
MODERATION = re.compile(
    r"moderat|flagged|content.?(?:policy|filter|management)|safety|guardrail|blocked.{0,40}prompt|prompt.{0,40}blocked"
    r"|inappropriate|usage.polic|violates (?:our|the)|responsible.?ai|data.?inspection",
    re.I,
)
"""what refusals of a single question say"""
CHARACTERS_ALLOWED = 100_000
"""of a reply, beside 256 for each token that the request allows: servers may ignore `max_tokens`"""
EMPTY = "an empty reply"


class Endpoint(Asker):
    """A model behind an endpoint. To be used from one thread; it starts `concurrency` threads of its own."""

    def __init__(self, config: EndpointConfig, field: str, replies: Path, guarded: bool = False) -> None:
        """`field`: the section of the recipe that messages name; `guarded`: the caller bounds the share that fails.

        Raises:
            ValueError: a malformed address, a limit without prices, or no key; the message never shows a possible key.
        """
        if config.base_url is not None:
            _check_address(f"{field}.base_url", config.base_url)
        _check_extra(f"{field}.extra", getattr(config, "extra", None))
        if config.max_cost is not None and (config.price_in is None or config.price_out is None):
            raise ValueError(f"{field}.max_cost needs {field}.price_in and price_out, per million tokens.")
        self.config, self.field, self.guarded = config, field, guarded
        key = _key(config.key_env, field)
        self._client = ChatClient(key, config.base_url, config.timeout, field)
        self.where = self._client.base_url
        if hide(plain := config.model_dump(mode="json"), (key,)) != plain:
            raise ValueError(f"{field} holds the key itself, which the run's folder would keep. Leave it out.")
        if config.base_url is None:  # the client library reads it
            _check_address("OPENAI_BASE_URL", self.where)
        super().__init__(f"{config.model}@{self.where}", replies)
        self.who, self.wave = (self.where, config.model), PER_WAVE * config.concurrency
        self._remedy = ""
        self._refused = set[str]()
        self._lock = self.file.lock  # one for all who share the file: they may share a budget
        self._stop = threading.Event()
        self._stopped = False
        """whether it is never to ask again"""
        self._not_before = 0.0
        self._failures_in_a_row = 0
        self._answered = bool(self.models)
        """whether it has answered anything, now or before"""

    def cost(self, tokens_in: float, tokens_out: float) -> float | None:
        """In the currency of the prices; None without prices."""
        if self.config.price_in is None:
            return None
        return (tokens_in * self.config.price_in + tokens_out * (self.config.price_out or 0)) / 1e6

    def most_tokens(self, request: Request) -> tuple[float, float]:
        """(tokens in, tokens out) of a request at most, by its length and what it allows."""
        beside = [request.get("tools", ()), *(message.get("tool_calls", ()) for message in request["messages"])]
        texts = [*(message["content"] for message in request["messages"]), *(json.dumps(one) for one in beside if one)]
        return sum(_most_tokens(text) + 8 for text in texts), most_out(request)

    # ---- asking -------------------------------------------------------------------------------

    def _take_stored(self, keys: Sequence[str]) -> None:
        if keys and (journal := usage.current()) is not None:
            journal.from_files(self.name, keys)

    def _answer(self, new: Mapping[str, Request]) -> None:
        if not new:
            return
        make_folder(self.file.path.parent)
        self.file.path.open("a").close()  # what cannot be written is found before it is paid
        self._stop.clear()
        if self._stopped:
            raise OracleError(f"the endpoint {self.where} is asked nothing more, since the run stops.")
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
        counts_as_down, refused = True, False
        for attempt in range(self.config.attempts):
            if not self._wait() or (reserved := self._reserve(request)) is None:
                return
            try:
                row = self._create(key, request)
            except Exception as error:
                refused = self._refuses_question(error)
                counts_as_down = not (self._answered and refused and self._may_go_on(error))
                wait = self._failure(error, attempt)
                if wait is None:
                    break
                with self._lock:
                    self.counts["retries"] += attempt + 1 < self.config.attempts
                    self._not_before = max(self._not_before, time.monotonic() + wait)
            else:
                self._store_redacted({"key": key, **row})
                self._failures_in_a_row, self._answered = 0, True
                return
            finally:
                self._set_aside(-reserved[0], -reserved[1])
        with self._lock:
            self.counts["failed requests"] += 1
            self._failures_in_a_row += counts_as_down
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
            if refused:
                self._refused.add(key)

    def stop(self) -> None:
        """Ask nothing more, from any thread: requests under way may finish, and `ask` raises from now on."""
        self._stopped = True  # before the event, which the next wave clears
        self._stop.set()

    def refused(self, request: Request) -> bool:
        """Whether the server would not answer this question, whatever is asked beside it: moderation, or too long."""
        return self.key(request) in self._refused

    def _create(self, key: str, request: Request) -> dict[str, Any]:
        """One reply as a row of the file. An empty reply raises; its tokens are stored where they are known."""
        with self._lock:
            self.counts["requests"] += 1
        try:
            completion = self._client.create(model=self.config.model, **request)
        except Exception as error:
            if _may_have_worked(error):
                self._note_call(key, None, None)
            raise
        self._note_call(key, token_count(completion, "prompt_tokens"), token_count(completion, "completion_tokens"))
        try:
            whole, text, cut = content(completion)
        except Filtered:
            self._store_spent(self._tokens_spent(completion, request, True))
            raise
        spent = self._tokens_spent(completion, request, whole)
        longest = CHARACTERS_ALLOWED + 256 * most_out(request)
        if text is None or len(text) > longest:
            self._store_spent(spent)
            if text is not None:
                raise Malformed(f"a reply of {len(text):,} characters to a request for {most_out(request)} tokens")
            raise Malformed(EMPTY if whole else "a reply without choices[0].message.content")
        assert spent is not None, "whole replies have a cost"
        try:
            kept = tokens(completion)
        except Malformed:
            self._store_spent(spent)
            raise
        return {"text": text, "cut": cut, "tokens": kept, **spent, "model": said_by(completion)}

    def _note_call(self, key: str, tokens_in: int | None, tokens_out: int | None) -> None:
        """Tell the run's journal of a call, before its reply is stored: no stored reply lacks its call."""
        if (journal := usage.current()) is not None:
            cost = None if tokens_in is None or tokens_out is None else self.cost(tokens_in, tokens_out)
            journal.call(key, self.name, tokens_in, tokens_out, cost)

    def _tokens_spent(self, completion: Any, request: Request, whole: bool) -> dict[str, int] | None:
        """The endpoint's counts, or upper bounds where it does not count a whole reply; None for a broken one."""
        tokens_in, tokens_out = token_count(completion, "prompt_tokens"), token_count(completion, "completion_tokens")
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
        if self._refuses_question(error):
            with self._lock:
                self.counts["questions refused by the server"] += 1
            return None
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
            error, openai.APIConnectionError | openai.APIResponseValidationError | Malformed | TimeoutError | ValueError
        )
        if not passing and not broken:
            if status is None:
                raise error
            return None  # this question is refused (too long, filtered); others may pass
        headers = getattr(getattr(error, "response", None), "headers", {})
        asked = asked_wait(headers)
        if asked is not None and asked > LONGEST_WAIT:
            self._stop.set()
            raise OracleError(
                f"the endpoint {self.where} asks to wait {asked:.0f} s ({self.last_error}). What was answered is kept; "
                "give the same command later."
            ) from None
        if asked is None and status == 429:
            asked = min(reset_wait(headers) or 0.0, LONGEST_WAIT)
        # Jitter: callers that were turned away together must not come back together.
        return (asked or min(BACKOFF * 2**attempt, LONGEST_WAIT)) * random.uniform(1.0, 1.5)

    def _may_go_on(self, error: Exception) -> bool:
        """Whether any number of such refusals in a row may be left to the caller: a key that is refused looks alike."""
        return self.guarded or isinstance(error, Filtered) or MODERATION.search(message_of(error)) is not None

    def _refuses_question(self, error: Exception) -> bool:
        """Whether an error is about this question alone, so that others may pass: moderation, or too long."""
        status = getattr(error, "status_code", None)
        if isinstance(error, Filtered):
            return True
        if status in (400, 403, 422, 451) and MODERATION.search(message_of(error)):
            return True
        return self._answered and status in (400, 403, 413, 422, 451)

    def _redacted(self, error: Exception) -> str:
        """The error and its cause as one line without the key, which some servers repeat."""
        text = f"{type(error).__name__}: {error}"
        if getattr(error, "status_code", None) is None and (cause := str(error.__cause__ or "")) not in text:
            text += f" ({cause})"
        text = hide(" ".join(text[: 2 * QUOTED].split()), self._client.secrets)
        for secret in self._client.secrets:  # a short one too
            text = text.replace(secret, "***") if 3 < len(secret) < SHORTEST_SECRET else text
        return text[:300]

    def _store_redacted(self, row: dict[str, Any]) -> None:
        secrets, said = self._client.secrets, row.get("tokens", [])
        hidden = hide(row, secrets)
        # A key may also be spread over the tokens.
        if said != hidden.get("tokens", []) or (whole := "".join(t["token"] for t in said)) != hide(whole, secrets):
            hidden["tokens"] = []
        self._store({**hidden, "asker": self.name})

    def _store_spent(self, spent: dict[str, int] | None) -> None:
        """Keep what a reply cost that held nothing, where it is known."""
        if spent is not None:
            self._store_redacted({"key": None, "text": "", **spent})


def _key(key_env: str | None, field: str) -> str:
    """The key from the environment; a placeholder where the endpoint takes none."""
    if key_env is None:
        return NO_KEY
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


def _check_extra(name: str, extra: Any) -> None:
    """Raise ValueError where the fields are no JSON, or one is named like a secret: the run's folder keeps them."""
    try:
        text = json.dumps(extra, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} cannot be sent: {error}. Put dates in quotes.") from error
    secret = next((key for key in re.findall(r'"([^"\\]*)": ', text) if SECRET_NAME.fullmatch(key)), None)
    if secret is not None:
        raise ValueError(
            f"{name} holds {secret!r}, which the run's folder would keep. Put the key in the environment (key_env)."
        )


def _most_tokens(text: str) -> float:
    plain = sum(map(str.isascii, text))
    return plain / CHARACTERS_PER_TOKEN + (len(text.encode(errors="replace")) - plain) / BYTES_PER_TOKEN


def _may_have_worked(error: Exception) -> bool:
    """Whether the server may have made an answer, and charge for it, that did not arrive whole."""
    import openai

    # By name: it is of httpx or of httpx2, as the client library has it.
    reached = type(error.__cause__).__name__ != "ConnectError"
    return (reached and isinstance(error, openai.APIConnectionError)) or isinstance(error, Malformed | TimeoutError)


def _remedy(error: Exception, config: EndpointConfig, field: str) -> str:
    """The remedy where every request ends in this error."""
    import openai

    status = getattr(error, "status_code", None)
    if isinstance(error, TimeoutError):
        return (
            f"No answer came within {config.timeout:g} s: raise {field}.timeout, or lower {field}.concurrency "
            f"({config.concurrency}) if it answers slowly."
        )
    if isinstance(error, openai.APIConnectionError):
        return f"Is it running, is {field}.base_url right, and can a proxy of the environment be reached?"
    if isinstance(error, OnlyCalls):
        return "The model calls the prompts' tools and says nothing: leave out their column `tools`."
    if isinstance(error, Filtered) or (status is not None and status < 500 and MODERATION.search(message_of(error))):
        return "Its moderation refuses these questions."
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
