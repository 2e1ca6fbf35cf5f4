"""Stores an oracle's verdicts on both orders, so that contests and audits can say how often the order decides.

The verdict of a `PositionSensitive` oracle is the mean over both orders. This wrapper asks it exactly as often, gives
the same verdict and writes the two halves to a file. Other oracles pass through unrecorded. Leaves out: retries and
the file of verdicts (`guard.py`).

    oracle = Recorded(judge, Path("orders.jsonl")); oracle.judge(comparisons); oracle.orders(comparisons[0])
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from sparring.oracles.abilities import PositionSensitive
from sparring.oracles.oracle import Comparison, Oracle
from sparring.oracles.orders import swapped
from sparring.oracles.verdicts import only_fields, probability, verdict_key
from sparring.oracles.wrapper import Wrapper
from sparring.runtime.lines import append_lines, as_line, damage, read_lines


class Recorded(Wrapper):
    """Wraps an oracle; see the module."""

    def __init__(self, oracle: Oracle, journal: Path) -> None:
        super().__init__(oracle)
        self.journal = journal
        self.identity = oracle.identity
        self._known: dict[str, tuple[float, float]] = {}
        unused = read_lines(journal, self._take)
        self._damage = damage(journal, [line for line, _ in unused], "The order of their comparisons stays unknown.")

    def judge(self, comparisons: Sequence[Comparison]) -> Float[np.ndarray, " N"]:
        """P(a beats b)."""
        if not isinstance(self.oracle, PositionSensitive):
            return self.oracle.judge(comparisons)
        answers = np.asarray(self.oracle.first_shown([*comparisons, *swapped(comparisons)]), dtype=np.float64)
        if answers.shape != (2 * len(comparisons),):
            return answers  # the guard says what is wrong with it
        first, second = answers[: len(comparisons)], 1 - answers[len(comparisons) :]
        self._keep(comparisons, first.tolist(), second.tolist())
        return (first + second) / 2

    def orders(self, comparison: Comparison) -> tuple[float, float] | None:
        """P(a beats b) with a shown first, and with a shown second; None where it was not recorded."""
        if (there := self._known.get(verdict_key(self.identity, comparison))) is not None:
            return there
        back = self._known.get(verdict_key(self.identity, *swapped([comparison])))
        return None if back is None else (1 - back[1], 1 - back[0])

    def _take(self, row: dict[str, Any]) -> None:
        both = probability(row["first"]), probability(row["second"])
        only_fields(row, "key", "first", "second")
        self._known[str(row["key"])] = both

    def diagnosis(self) -> str:
        """A note on damaged lines of the journal; empty where there are none."""
        return self._damage

    def _keep(self, comparisons: Sequence[Comparison], first: list[float], second: list[float]) -> None:
        new = {
            verdict_key(self.identity, comparison): (p, q)
            for comparison, p, q in zip(comparisons, first, second, strict=True)
            if not (math.isnan(p) or math.isnan(q))
        }
        self._known |= new
        lines = (as_line({"key": key, "first": p, "second": q}) for key, (p, q) in new.items())
        append_lines(self.journal, "".join(lines))
