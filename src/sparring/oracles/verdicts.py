"""Verdicts in memory and in a file, by key: one line each, so that a killed process loses none.

A damaged line, and one whose verdict lies outside [0, 1], is not used: its comparison is asked again.

file = VerdictFile(Path("verdicts.jsonl")); file.keep({key: 0.7}); file.get(key)
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from sparring.models.messages import turns
from sparring.oracles.oracle import Comparison
from sparring.runtime.lines import append_lines, as_line, damage, read_lines


def verdict_key(identity: str, comparison: Comparison) -> str:
    """A hash of the oracle's identity, the prompt and both texts."""
    prompt, a, b = comparison
    messages = turns(prompt)
    # The turns where there are several: one turn may hold text that looks like several.
    asked = prompt if messages == [{"role": "user", "content": prompt}] else messages
    return hashlib.sha256(json.dumps([identity, asked, a, b]).encode()).hexdigest()


class VerdictFile:
    """P(a beats b) by key; without a path, in memory only. Failed verdicts (NaN) are not stored."""

    def __init__(self, path: Path | None) -> None:
        """Read the stored verdicts.

        Raises:
            ValueError: the file has another form.
        """
        self.path = path
        self._verdicts: dict[str, float] = {}
        unused = [] if path is None else read_lines(path, self._take)
        self.damage = damage(path, [line for line, _ in unused], "Their comparisons are asked again.")
        """a note on damaged lines; empty where there are none"""
        if foreign := [line for line, ours in unused if not ours]:
            raise ValueError(
                f"{path}, line {foreign[0]}: not a verdict, {{key: text, preference: number}}. Give another file of "
                "verdicts, or take the line out."
            )

    def _take(self, row: Any) -> None:
        preference = probability(row["preference"])
        only_fields(row, "key", "preference")
        self._verdicts[str(row["key"])] = preference

    def __len__(self) -> int:
        return len(self._verdicts)

    def items(self) -> Iterable[tuple[str, float]]:
        """All keys and verdicts."""
        return self._verdicts.items()

    def get(self, key: str) -> float:
        """The verdict; NaN where there is none."""
        return self._verdicts.get(key, math.nan)

    def keep(self, verdicts: Mapping[str, float]) -> None:
        """Store the verdicts that did not fail, of those in [0, 1]."""
        new = {key: p for key, p in verdicts.items() if 0 <= p <= 1}
        self._verdicts |= new
        if self.path is not None and new:
            append_lines(self.path, "".join(as_line({"key": k, "preference": p}) for k, p in new.items()))


def probability(value: Any) -> float:
    """A stored probability.

    Raises:
        TypeError: no number.
        ValueError: outside [0, 1].
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{value!r} is no number")
    if not 0 <= value <= 1:
        raise ValueError(f"{value!r} is outside [0, 1]")
    return float(value)


def only_fields(row: Mapping[str, Any], *fields: str) -> None:
    """Raise ValueError where a stored row has further fields: a checksum under a damaged name is one."""
    if row.keys() - set(fields):
        raise ValueError(f"a line with {', '.join(row)}")
