"""What a judging language model said, and the file that keeps it, so that nothing is asked or paid twice.

Every reply is a line under a hash of who was asked and what; lines of replies that held nothing count for their tokens
only. A line that a killed process left half-written is passed over and counted. Leaves out: who is asked
(`endpoint.py`: a server; `local_chat.py`: a model in this process).

    kept = ReplyFile(Path("replies.jsonl")); kept.get(key); kept.keep({"key": key, "text": "A", "cut": False, ...})
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from sparring.weights import cache_folder

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
        """What all kept replies cost; None without prices."""
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


class ReplyFile:
    """Replies by key, in memory and on disk; the caller keeps threads apart."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.models: set[str] = set()
        self.tokens_in = self.tokens_out = self.damaged = 0
        self._kept: dict[str, Reply] = {}
        if path.exists():
            self._read()

    def __contains__(self, key: str) -> bool:
        return key in self._kept

    def get(self, key: str) -> Reply | None:
        """The reply that is kept, if any."""
        return self._kept.get(key)

    def keep(self, row: Mapping[str, Any]) -> None:
        """Add {key, text, cut, tokens, model, tokens_in, tokens_out}; with key null, the token counts only."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(row) + "\n")
        self._remember(row)

    def _remember(self, row: Mapping[str, Any]) -> None:
        self.tokens_in += row["tokens_in"]
        self.tokens_out += row["tokens_out"]
        if row["key"] is not None:
            self._kept[row["key"]] = Reply(row["text"], row["cut"], tuple(row["tokens"]), row["model"] or "")
            self.models.add(row["model"] or "")

    def _read(self) -> None:
        text = self.path.read_text(encoding="utf-8")
        if text and not text.endswith("\n"):  # a killed process; the next line must not join it
            with self.path.open("a", encoding="utf-8") as stream:
                stream.write("\n")
        for line in text.splitlines():
            try:
                self._remember(json.loads(line))
            except (json.JSONDecodeError, KeyError, TypeError):
                self.damaged += 1
