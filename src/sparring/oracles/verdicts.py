"""Verdicts in memory and in a file, by key: one line each, so that a killed process loses none.

file = VerdictFile(Path("verdicts.jsonl")); file.keep({key: 0.7}); file.get(key)
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sparring.models.messages import turns
from sparring.oracles.oracle import Comparison
from sparring.runtime.lines import read_lines


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
        """Read the stored verdicts; the torn line of a killed process is skipped.

        Raises:
            ValueError: the file has another form.
        """
        self.path = path
        self._verdicts: dict[str, float] = {}
        foreign = [] if path is None else [line for line, torn in read_lines(path, self._take) if not torn]
        if foreign:
            raise ValueError(
                f"{path}, line {foreign[0]}: not a verdict, {{key: text, preference: number}}. Give another file of "
                "verdicts, or take the line out."
            )

    def _take(self, row: Any) -> None:
        self._verdicts[str(row["key"])] = float(row["preference"])

    def get(self, key: str) -> float:
        """The verdict; NaN where there is none."""
        return self._verdicts.get(key, math.nan)

    def keep(self, verdicts: Mapping[str, float]) -> None:
        """Store the verdicts that did not fail."""
        new = {key: p for key, p in verdicts.items() if not math.isnan(p)}
        self._verdicts |= new
        if self.path is not None and new:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as lines:
                lines.writelines(json.dumps({"key": k, "preference": p}) + "\n" for k, p in new.items())
