"""What a run had of served models: a line for every call, in a file of the run, and the sums for people.

Tokens are the server's own counts; where it gives none they stay unknown and are not guessed. Money is the tokens at
the price that the recipe named when the call was made. Answers that a file held already cost nothing and are counted
apart, each once, and not where this run had paid for them itself. A line is written when its answer arrives, before
the answer is stored, so a kill loses only calls under way; a call that is made again after a kill is a second call.
Leaves out: calls that ended in an HTTP error or reached nobody; budgets (`endpoint.py`), which count all runs.

    with recording(Path("runs/demo/usage.jsonl")): ...          # in a run; every endpoint inside writes to it
    print(*map(in_words, UsageFile(Path("runs/demo/usage.jsonl")).read()))
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparring.runtime.lines import append_lines, as_line, checked, damage, read_lines
from sparring.runtime.words import counted

KEY_LENGTH = 16
"""of a question's hash, by which it counts once"""


@dataclass(slots=True)
class Used:
    """What a run had of one model behind one address."""

    model: str
    """name and address"""
    calls: int = 0
    """that were answered, by empty replies too, or whose answer did not come in time"""
    uncounted: int = 0
    """calls of which the server did not say both counts; what it said is in the sums"""
    tokens_in: int = 0
    tokens_out: int = 0
    priced: int = 0
    """calls whose cost is known: counts and prices were"""
    cost: float = 0.0
    """of those, in the currency of the prices"""
    from_files: int = 0
    """answers that a file held from before"""

    def add(self, row: Any) -> None:
        """Count a line of the file."""
        if "from_files" in row:
            self.from_files += row["from_files"]
            return
        tokens_in, tokens_out, cost = row["tokens_in"], row["tokens_out"], row["cost"]
        self.tokens_in += tokens_in or 0
        self.tokens_out += tokens_out or 0
        self.cost += cost or 0.0
        self.calls += 1
        self.uncounted += None in (tokens_in, tokens_out)
        self.priced += cost is not None


def in_words(used: Used) -> str:
    """One line: "m@http://host/v1: 12 calls, 90 tokens in, 12 out, cost 0.0013; 4 answers from files, at no cost"."""
    parts = [f"{counted(used.calls, 'call')}, {used.tokens_in:,} tokens in, {used.tokens_out:,} out"]
    if used.priced:
        of = "" if used.priced == used.calls else f" for {used.priced:,} of them"
        parts[0] += f", cost {used.cost:{',.2f' if used.cost >= 1 else '.2g'}}{of}"
    if used.uncounted:
        parts.append(f"tokens of {counted(used.uncounted, 'call')} unknown, as the server did not say")
    if used.from_files:
        parts.append(f"{counted(used.from_files, 'answer')} from files, at no cost")
    return f"{used.model}: {'; '.join(parts)}"


class UsageFile:
    """Reads the file of a run that may go on, each time only what is new; writes nothing."""

    def __init__(self, path: Path) -> None:
        self.path, self._read, self._used = path, 0, dict[str, Used]()
        self.damaged = 0
        """lines that cannot be read, and count for nothing"""

    def read(self) -> list[Used]:
        """The sums now, by model in the order of their first call; a line that is not whole yet counts next time."""
        size = self.path.stat().st_size if self.path.exists() else 0
        if size < self._read:  # another file by this name
            self._read, self._used, self.damaged = 0, {}, 0
        if size > self._read:
            with self.path.open("rb") as stream:
                stream.seek(self._read)
                whole = stream.read().rpartition(b"\n")
            self._read += len(whole[0]) + len(whole[1])
            for line in whole[0].splitlines():
                try:
                    row = checked(json.loads(line))
                    self._used.setdefault(row["asker"], Used(row["asker"])).add(row)
                except (ValueError, KeyError, TypeError, AttributeError):
                    self.damaged += 1
        return list(self._used.values())

    def lines(self) -> list[str]:
        """The sums in words, a line for each model; none where no model was asked."""
        lines = [in_words(used) for used in self.read()]
        if self.damaged:
            lines.append(f"not counted: {counted(self.damaged, 'line')} of {self.path.name} that cannot be read")
        return lines


class UsageJournal:
    """Writes the file; any number of threads may."""

    def __init__(self, path: Path) -> None:
        """Read which questions are counted already.

        Raises:
            ValueError: the file holds something else.
        """
        self.path, self._lock, self._counted = path, threading.Lock(), set[tuple[str, str]]()
        unused = [line for line, _ in read_lines(path, self._take)]
        self.damage = damage(path, unused, "What was asked then is missing in the sums.")
        """a note on damaged lines; empty where there are none"""

    def call(
        self, key: str, asker: str, tokens_in: int | None, tokens_out: int | None, cost: float | None = None
    ) -> None:
        """A call; None for what is unknown."""
        row = {"asker": asker, "tokens_in": tokens_in, "tokens_out": tokens_out, "cost": cost}
        with self._lock:
            self._counted.add((asker, key[:KEY_LENGTH]))
            append_lines(self.path, as_line({"key": key[:KEY_LENGTH], **row}))

    def from_files(self, asker: str, keys: Iterable[str], own: bool = False) -> None:
        """Answers that a file held: those that this run has not had yet count. `own`: it paid for them, none counts."""
        with self._lock:
            new = [key for key in dict.fromkeys(k[:KEY_LENGTH] for k in keys) if (asker, key) not in self._counted]
            self._counted.update((asker, key) for key in new)
            if new:
                append_lines(self.path, as_line({"key": new, "asker": asker, "from_files": 0 if own else len(new)}))

    def _take(self, row: Any) -> None:
        keys = row["key"] if isinstance(row["key"], list) else [row["key"]]
        self._counted.update((row["asker"], key) for key in keys)


_current: list[UsageJournal] = []


def current() -> UsageJournal | None:
    """The journal of the innermost `recording`; None outside of one."""
    return _current[-1] if _current else None


@contextlib.contextmanager
def recording(path: Path) -> Iterator[UsageJournal]:
    """Have the endpoints that are asked inside this block write to a file, which is made at the first call.

    Raises:
        ValueError: the file holds something else.
    """
    _current.append(journal := UsageJournal(path))
    try:
        yield journal
    finally:
        _current.remove(journal)
