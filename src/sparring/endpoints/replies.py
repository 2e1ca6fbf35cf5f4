"""What a judging language model said, and the file that keeps it, so that nothing is asked or paid twice.

Every reply is a line under a hash of who was asked and what; lines of replies that held nothing count for their tokens
only. A line that a killed process left half-written is passed over and counted. All judges of a process that name one
file share it, and what each asker costs there. Leaves out: who is asked (`endpoint.py`: a server; `local.py`: a
model in this process); other processes, whose lines are seen when the file is opened again.

    kept = open_replies(Path("replies.jsonl")); kept.get(key); kept.keep({"key": key, "text": "A", "cut": False, ...})
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from weakref import WeakValueDictionary

from sparring.runtime.files import cache_folder
from sparring.runtime.lines import read_lines

TOKENS_KEPT = 24
"""log-probabilities are kept for so many tokens at the end of a reply, where verdicts stand"""
TOP_LOGPROBS = 5
"""alternatives kept at each of them"""

Request = Mapping[str, Any]
"""messages, max_tokens (or max_completion_tokens), and what else the one who is asked takes"""


@dataclass(frozen=True, slots=True)
class Reply:
    """What was said."""

    text: str
    cut: bool
    """it ended because of max_tokens"""
    tokens: tuple[Mapping[str, Any], ...] = ()
    """the last tokens: {token, logprob, top: {token: logprob}}; empty where there are none"""
    model: str = ""
    """who answered, in its own words: often a version of the name that was asked for"""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What asking would take at most; replies that are kept cost nothing."""

    requests: int
    kept: int
    tokens_in: float
    tokens_out: float
    cost: float | None
    """None without prices"""

    def times(self, factor: float) -> Estimate:
        """The same for more questions of this kind, none of them kept."""
        whole = (self.requests + self.kept) / max(self.requests, 1) * factor
        cost = None if self.cost is None else self.cost * whole
        requests = round((self.requests + self.kept) * factor)
        return Estimate(requests, 0, self.tokens_in * whole, self.tokens_out * whole, cost)

    def __add__(self, other: Estimate) -> Estimate:
        """Both, asked of the same judge."""
        cost = None if self.cost is None or other.cost is None else self.cost + other.cost
        tokens = self.tokens_in + other.tokens_in, self.tokens_out + other.tokens_out
        return Estimate(self.requests + other.requests, self.kept + other.kept, *tokens, cost)

    def __str__(self) -> str:
        cost = (
            ""
            if self.cost is None
            else f", at most {self.cost:,.2f}"
            if self.cost >= 1
            else f", at most {self.cost:.2g}"
        )
        kept = f" ({self.kept:,} more are kept from before)" if self.kept else ""
        return (
            f"{self.requests:,} requests{kept}, about {self.tokens_in:,.0f} tokens in and at most "
            f"{self.tokens_out:,.0f} out{cost}"
        )


class Asker(Protocol):
    """Somebody who answers chat requests, and keeps count."""

    counts: Counter[str]
    last_error: str

    @property
    def where(self) -> str:
        """An address, or that it is here."""
        ...

    @property
    def wave(self) -> int:
        """Requests to give at a time, so that progress shows."""
        ...

    @property
    def models(self) -> set[str]:
        """Who answered, in their own words."""
        ...

    @property
    def paid(self) -> float | None:
        """What all its kept replies cost; None without prices."""
        ...

    def key(self, request: Request) -> str:
        """Under which the reply is kept."""
        ...

    def estimate(self, requests: Sequence[Request]) -> Estimate:
        """What asking these would take, before it starts; equal requests count once."""
        ...

    def ask(self, requests: Sequence[Request]) -> list[Reply | None]:
        """One reply each, in order; None where there was none to get."""
        ...


def most_out(request: Request) -> int:
    """The longest reply that a request allows, in tokens."""
    return int(request["max_completion_tokens"] if "max_completion_tokens" in request else request["max_tokens"])


def replies_file(given: str | None, who: str) -> Path:
    """The given file, or one in the cache for whoever is asked."""
    if given is not None:
        return Path(given).expanduser()
    return cache_folder() / "replies" / f"{hashlib.sha256(who.encode()).hexdigest()[:12]}.jsonl"


@dataclass(slots=True)
class Account:
    """What one asker had from a file."""

    tokens_in: int = 0
    tokens_out: int = 0
    models: set[str] = field(default_factory=set)


class ReplyFile:
    """Replies by key, in memory and on disk; `open_replies` gives all who name a path the same."""

    def __init__(self, path: Path) -> None:
        """Read what is kept.

        Raises:
            ValueError: the file is a folder or holds something else; nothing is appended to that.
        """
        self.path = path
        self.lock = threading.RLock()
        """held while a row is kept, and by those who weigh what is spent against what they set aside"""
        self.reserved: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
        """by asker: tokens in and out at most of requests under way"""
        self.damaged = 0
        self._kept: dict[str, Reply] = {}
        self._accounts: defaultdict[str | None, Account] = defaultdict(Account)
        self._size = -1
        """of the file, as far as it is known here"""
        self.refresh()

    def __contains__(self, key: str) -> bool:
        return key in self._kept

    def get(self, key: str) -> Reply | None:
        """The reply that is kept, if any."""
        return self._kept.get(key)

    def account(self, asker: str) -> Account:
        """What the asker had; rows of older versions name nobody and count for everybody."""
        own, nobodys = self._accounts[asker], self._accounts[None]
        return Account(
            own.tokens_in + nobodys.tokens_in, own.tokens_out + nobodys.tokens_out, own.models | nobodys.models
        )

    def keep(self, row: Mapping[str, Any]) -> None:
        """Add {key, text, cut, tokens, model, asker, tokens_in, tokens_out}; with key null, the token counts only."""
        assert next(iter(row)) == "key", "torn lines are known by it"
        line = json.dumps(row) + "\n"
        with self.lock:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as stream:
                stream.write(line)
            self._size += len(line)
            self._remember(row)

    def refresh(self) -> None:
        """Read the file, unless it is as long as what is known of it."""
        with self.lock:
            if self._size == (self.path.stat().st_size if self.path.exists() else 0):
                return
            self._kept.clear()
            self._accounts.clear()
            self.damaged = len(read_lines(self.path, self._remember))
            self._size = self.path.stat().st_size if self.path.exists() else 0

    def _remember(self, row: Mapping[str, Any]) -> None:
        key, tokens_in, tokens_out = row["key"], int(row["tokens_in"]), int(row["tokens_out"])
        account = self._accounts[row.get("asker")]
        if key is not None:
            self._kept[key] = Reply(row["text"], row["cut"], tuple(row["tokens"]), row["model"] or "")
            account.models.add(row["model"] or "")
        account.tokens_in += tokens_in
        account.tokens_out += tokens_out


_opened: WeakValueDictionary[Path, ReplyFile] = WeakValueDictionary()
_opening = threading.Lock()


def open_replies(path: Path) -> ReplyFile:
    """The file at a path: one for all in this process, as it is now on disk.

    Raises:
        ValueError: the file is a folder or holds something else; nothing is appended to that.
    """
    where = path.resolve()
    with _opening:
        if (file := _opened.get(where)) is None:
            file = _opened[where] = ReplyFile(path)
        else:
            file.refresh()
        return file
