"""Verdicts kept in a file that several runs share: an expensive judge is asked about two answers once in its life.

A run, a contest and an audit keep their own verdicts without it; this wrapper keeps them across all. They are kept
under the oracle's identity, so one file may serve several judges, and the wrapper changes no identity. What failed is
asked again. Leaves out: what an identity does not see - a served model that changes behind its name, other modules and
data that a function reads -, for which a new file is due; a judge that should answer anew each time (a sampled one, to
measure its consistency).

    oracle: {name: cached, path: verdicts.jsonl, oracle: {name: pair_model, model: org/judge}}
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
from jaxtyping import Float
from pydantic import Field

from sparring.oracles.abilities import PositionSensitive
from sparring.oracles.oracle import Comparison, Oracle
from sparring.oracles.orders import both_orders
from sparring.oracles.verdicts import VerdictFile, verdict_key
from sparring.oracles.wrapper import Wrapper
from sparring.runtime.files import cache_folder

Ask = Callable[[Sequence[Comparison]], Float[np.ndarray, " N"]]


class Cached(Wrapper):
    """Asks `oracle` what the file does not hold."""

    title = "cached"
    about = (
        "Verdicts kept in a file that several runs share: an expensive judge is asked about two answers once in its "
        "life."
    )
    first_shown: Ask
    """the oracle's verdict on one order, kept too; only an oracle that sees places has it"""

    def __init__(
        self,
        oracle: Annotated[Oracle, Field(description="the oracle whose verdicts are kept")],
        path: Annotated[str | None, Field(description="the file; null: one per oracle in the cache")] = None,
    ) -> None:
        super().__init__(oracle)
        self.identity = oracle.identity
        name = f"{hashlib.sha256(self.identity.encode()).hexdigest()[:12]}.jsonl"
        self._kept = VerdictFile(cache_folder() / "verdicts" / name if path is None else Path(path).expanduser())
        self._counts: Counter[str] = Counter()
        if isinstance(oracle, PositionSensitive):
            self.first_shown = partial(self._ask, ";first shown", oracle.first_shown)

    def judge(self, comparisons: Sequence[Comparison]) -> Float[np.ndarray, " N"]:
        """P(a beats b) as the oracle says, or said."""
        if isinstance(self, PositionSensitive):
            return both_orders(self.first_shown, comparisons)
        return self._ask("", self.oracle.judge, comparisons)

    def counts(self) -> dict[str, object]:
        """What the oracle counted, and what it was not asked."""
        return {**super().counts(), **self._counts}

    def _ask(self, kind: str, ask: Ask, comparisons: Sequence[Comparison]) -> Float[np.ndarray, " N"]:
        keys = [verdict_key(self.identity + kind, comparison) for comparison in comparisons]
        known = np.array([self._kept.get(key) for key in keys], dtype=np.float64)
        new = {keys[i]: comparisons[i] for i in np.flatnonzero(np.isnan(known)).tolist()}
        self._counts["kept verdicts used"] += len(set(keys)) - len(new)
        if not new:
            return known
        answers = np.asarray(ask(list(new.values())), dtype=np.float64)
        if answers.shape != (len(new),):
            return answers  # the guard says what is wrong with it
        found = dict(zip(new, answers.tolist(), strict=True))
        self._kept.keep(found)
        return np.array([found.get(key, p) for key, p in zip(keys, known.tolist(), strict=True)])
