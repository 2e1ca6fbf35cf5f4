"""Verdicts in memory and in a file, by key: a line each, so that a killed process loses none that was given.

kept = VerdictFile(Path("verdicts.jsonl")); kept.keep({key: 0.7}); kept.get(key)
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path

from sparring.oracles.oracle import Comparison


def verdict_key(identity: str, comparison: Comparison) -> str:
    """A hash of who judges and what."""
    return hashlib.sha256(json.dumps([identity, *comparison]).encode()).hexdigest()


class VerdictFile:
    """P(a beats b) by key; without a path, in memory only. Failed verdicts (NaN) are not kept."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._verdicts: dict[str, float] = {}
        if path is None or not path.exists():
            return
        text = path.read_text(encoding="utf-8")
        if text and not text.endswith("\n"):  # a killed process; the next line must not join it
            with path.open("a", encoding="utf-8") as lines:
                lines.write("\n")
        for line in text.splitlines():
            try:
                row = json.loads(line)
            except json.JSONDecodeError:
                continue  # the last line of a killed process
            self._verdicts[row["key"]] = row["preference"]

    def get(self, key: str) -> float:
        """NaN where there is none."""
        return self._verdicts.get(key, math.nan)

    def keep(self, verdicts: Mapping[str, float]) -> None:
        """Add those that did not fail."""
        new = {key: p for key, p in verdicts.items() if not math.isnan(p)}
        self._verdicts |= new
        if self.path is not None and new:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as lines:
                lines.writelines(json.dumps({"key": k, "preference": p}) + "\n" for k, p in new.items())
