"""Replies of language models, and the file that stores them, so that nothing is asked or paid twice.

Every reply is a line under a hash of who was asked and what; lines of replies that held nothing count for their tokens
only. A line that is damaged, or that a killed process left half-written, is skipped and counted: it is asked again. All
judges of a process that name one file share it, and what each asker costs there. Leaves out: how a model is asked
(`endpoint.py`: a server; `local.py`: a model in this process); other processes, whose lines are seen when the file is
opened again.

    file = open_replies(Path("replies.jsonl")); file.get(key); file.keep({"key": key, "text": "A", "cut": False, ...})
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from sparring.runtime.files import cache_folder
from sparring.runtime.lines import append_lines, as_line, damage, read_lines

TOKENS_KEPT = 24
"""tokens at the end of a reply, where verdicts stand, whose log-probabilities are stored"""
TOP_LOGPROBS = 5
"""alternatives stored at each of them"""

Request = Mapping[str, Any]
"""messages, max_tokens (or max_completion_tokens), and further fields that the endpoint knows"""


@dataclass(frozen=True, slots=True)
class Reply:
    """A model's reply to one request."""

    text: str
    cut: bool
    """whether it ended because of max_tokens"""
    tokens: tuple[Mapping[str, Any], ...] = ()
    """the last tokens: {token, logprob, top: {token: logprob}}; empty where there are none"""
    model: str = ""
    """who answered, in its own words: often a version of the name that was asked for"""


@dataclass(frozen=True, slots=True)
class Estimate:
    """Upper bounds of what asking takes; stored replies cost nothing."""

    requests: int
    kept: int
    tokens_in: float
    tokens_out: float
    cost: float | None
    """None without prices"""

    def times(self, factor: float) -> Estimate:
        """The estimate for `factor` times as many requests of this kind, none of them stored."""
        whole = (self.requests + self.kept) / max(self.requests, 1) * factor
        cost = None if self.cost is None else self.cost * whole
        requests = round((self.requests + self.kept) * factor)
        return Estimate(requests, 0, self.tokens_in * whole, self.tokens_out * whole, cost)

    def __add__(self, other: Estimate) -> Estimate:
        """The sum of two estimates for one judge."""
        cost = None if self.cost is None or other.cost is None else self.cost + other.cost
        tokens = self.tokens_in + other.tokens_in, self.tokens_out + other.tokens_out
        return Estimate(self.requests + other.requests, self.kept + other.kept, *tokens, cost)

    def __str__(self) -> str:
        cost = "" if self.cost is None else f", at most {self.cost:{',.2f' if self.cost >= 1 else '.2g'}}"
        kept = f" ({self.kept:,} more are kept from before)" if self.kept else ""
        return (
            f"{self.requests:,} requests{kept}, about {self.tokens_in:,.0f} tokens in and at most "
            f"{self.tokens_out:,.0f} out{cost}"
        )


def most_out(request: Request) -> int:
    """The longest reply that a request allows, in tokens."""
    return int(request["max_completion_tokens"] if "max_completion_tokens" in request else request["max_tokens"])


def replies_file(path: str | None, who: str) -> Path:
    """The file at `path`; without one, a file in the cache named after a hash of `who`."""
    if path is not None:
        return Path(path).expanduser()
    return cache_folder() / "replies" / f"{hashlib.sha256(who.encode()).hexdigest()[:12]}.jsonl"


@dataclass(slots=True)
class Account:
    """Token counts of one asker's replies in a file, and the models that wrote them."""

    tokens_in: int = 0
    tokens_out: int = 0
    models: set[str] = field(default_factory=set)


class ReplyFile:
    """Replies by key, in memory and on disk; `open_replies` gives one object per path."""

    def __init__(self, path: Path) -> None:
        """Read the stored replies.

        Raises:
            ValueError: the file is a folder or holds something else; nothing is appended to it.
        """
        self.path = path
        self.lock = threading.RLock()
        """held while a row is stored, and while an endpoint compares its costs with its budget"""
        self.reserved: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
        """by asker: upper bounds of tokens in and out of its requests under way"""
        self.damaged, self.damage = 0, ""
        self._replies: dict[str, Reply] = {}
        self._accounts: defaultdict[str | None, Account] = defaultdict(Account)
        self._size = -1
        """bytes of the file that were read or written here"""
        self.refresh()

    def __contains__(self, key: str) -> bool:
        return key in self._replies

    def get(self, key: str) -> Reply | None:
        """The stored reply, if any."""
        return self._replies.get(key)

    def account(self, asker: str) -> Account:
        """The asker's account; rows of older versions name no asker and count for every one."""
        own, old = self._accounts[asker], self._accounts[None]
        return Account(own.tokens_in + old.tokens_in, own.tokens_out + old.tokens_out, own.models | old.models)

    def keep(self, row: Mapping[str, Any]) -> None:
        """Add {key, text, cut, tokens, model, asker, tokens_in, tokens_out}; with key null, the token counts only."""
        assert next(iter(row)) == "key", "torn lines are recognised by it"
        line = as_line(row)
        with self.lock:
            append_lines(self.path, line)
            self._size += len(line)
            self._remember(row)

    def refresh(self) -> None:
        """Read the file again if its length changed."""
        with self.lock:
            if self._size == self._length():
                return
            self._replies.clear()
            self._accounts.clear()
            unused = [line for line, _ in read_lines(self.path, self._remember)]
            self.damaged, self.damage = len(unused), damage(self.path, unused, "Their requests are asked again.")
            self._size = self._length()

    def _length(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def _remember(self, row: Mapping[str, Any]) -> None:
        key, tokens_in, tokens_out = row["key"], token_count(row["tokens_in"]), token_count(row["tokens_out"])
        if None in (tokens_in, tokens_out) or row.keys() - FIELDS:
            raise ValueError("no row of a reply")
        reply = None if key is None else _stored_reply(row)
        account = self._accounts[row.get("asker")]
        if reply is not None:
            self._replies[str(key)] = reply
            account.models.add(reply.model)
        account.tokens_in += tokens_in or 0
        account.tokens_out += tokens_out or 0


FIELDS = {"key", "text", "cut", "tokens", "model", "asker", "tokens_in", "tokens_out"}
MOST_TOKENS = 10**9
"""that a reply can have: a larger count is no count, and could not be priced"""


def token_count(value: Any) -> int | None:
    """The value as a count of tokens; None where it cannot be one."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST_TOKENS else None


def is_logprob(value: Any) -> bool:
    """Whether a number can be a log-probability: at most 0 (servers round 0 upwards), and no number too large."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return value < 0.01 and (isinstance(value, float) or value > -MOST_TOKENS)


def _stored_reply(row: Mapping[str, Any]) -> Reply:
    """The reply of a row. Raises ValueError where a value is none that was written."""
    text, cut, tokens, model = row["text"], row["cut"], row["tokens"], row["model"] or ""
    if not (isinstance(text, str) and isinstance(cut, bool) and isinstance(tokens, list) and isinstance(model, str)):
        raise ValueError("no row of a reply")
    for token in tokens:
        logprobs = [token["logprob"], *token["top"].values()]
        if not isinstance(token["token"], str) or not all(p is None or is_logprob(p) for p in logprobs):
            raise ValueError("no token of a reply")
    return Reply(text, cut, tuple(tokens), model)


_opened: WeakValueDictionary[Path, ReplyFile] = WeakValueDictionary()
_opening = threading.Lock()


def open_replies(path: Path) -> ReplyFile:
    """The file at a path, as it is now on disk: one object for all callers in this process.

    Raises:
        ValueError: the file is a folder or holds something else; nothing is appended to it.
    """
    where = path.resolve()
    with _opening:
        if (file := _opened.get(where)) is None:
            file = _opened[where] = ReplyFile(path)
        else:
            file.refresh()
        return file


class Asker:
    """Answers chat requests from a file of replies, and asks a model for those that the file lacks.

    A subclass adds `most_tokens` and `_answer`, and sets these fields:
    """

    who: tuple[str, ...]
    """what a reply depends on besides its request: part of its key"""
    where: str
    """an address, or that the model is in this process"""
    wave: int
    """requests to ask at a time, so that progress shows"""

    def __init__(self, name: str, path: Path) -> None:
        """`name`: under which the file at `path` counts what this asker had.

        Raises:
            ValueError: the file is a folder or holds something else.
        """
        self.name = name
        self.counts: Counter[str] = Counter()
        self.last_error = ""
        self.file = open_replies(path)
        if self.file.damaged:
            self.counts["damaged lines of the reply file"] = self.file.damaged
        self._given_up: set[str] = set()

    @property
    def models(self) -> set[str]:
        """Who answered, in their own words."""
        return self.file.account(self.name).models

    @property
    def paid(self) -> float | None:
        """What all stored replies of this asker cost; None without prices."""
        account = self.file.account(self.name)
        return self.cost(account.tokens_in, account.tokens_out)

    def cost(self, tokens_in: float, tokens_out: float) -> float | None:
        """In the currency of the prices; None without prices."""
        return None

    def key(self, request: Request) -> str:
        """A hash of who is asked and the request, under which its reply is stored."""
        return hashlib.sha256(json.dumps([*self.who, request], sort_keys=True).encode()).hexdigest()

    def most_tokens(self, request: Request) -> tuple[float, float]:
        """(tokens in, tokens out) of a request at most."""
        raise NotImplementedError

    def estimate(self, requests: Sequence[Request]) -> Estimate:
        """Upper bounds of what asking these takes; equal requests count once."""
        asked = {self.key(request): request for request in requests}
        new = [request for key, request in asked.items() if key not in self.file]
        sizes = [self.most_tokens(request) for request in new]
        tokens_in, tokens_out = sum(size for size, _ in sizes), sum(most for _, most in sizes)
        return Estimate(len(new), len(asked) - len(new), tokens_in, tokens_out, self.cost(tokens_in, tokens_out))

    def ask(self, requests: Sequence[Request]) -> list[Reply | None]:
        """One reply each, in order; None for a request that failed, then and later. Equal requests are asked once.

        Raises:
            OracleError: no further request can succeed: refused, down, or the budget is spent.
        """
        asked = {self.key(request): request for request in requests}
        self._take_stored([key for key in asked if key in self.file])
        self._answer({k: r for k, r in asked.items() if k not in self.file and k not in self._given_up})
        return [self.file.get(self.key(request)) for request in requests]

    def _take_stored(self, keys: Sequence[str]) -> None:
        """Told which replies are taken from the file, by key."""

    def _answer(self, new: Mapping[str, Request]) -> None:
        """Ask these, by key; store each reply, and put the key of each that fails among `_given_up`."""
        raise NotImplementedError

    def _store(self, row: Mapping[str, Any]) -> None:
        with self.file.lock:
            self.file.keep(row)
            self.counts["tokens in"] += row["tokens_in"]
            self.counts["tokens out"] += row["tokens_out"]
