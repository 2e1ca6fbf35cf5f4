"""Stores verdicts in a file that several runs share, so that an expensive judge compares two answers only once.

A run, a contest and an audit each store their own verdicts anyway; this wrapper shares them. The key holds the oracle's
identity, so one file may serve several judges, and the wrapper's identity is the oracle's. Failed comparisons are asked
again. Leaves out: changes that an identity does not show - a served model replaced under its name, other modules and
data that a function reads -, for which to name a new file; judges that should answer anew each time (sampled ones, to
measure their consistency).

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

from sparring.endpoints import usage
from sparring.oracles.abilities import PositionSensitive, nested
from sparring.oracles.llm_judge import LLMJudge
from sparring.oracles.oracle import Comparison, Oracle
from sparring.oracles.orders import both_orders
from sparring.oracles.verdicts import VerdictFile, verdict_key
from sparring.oracles.wrapper import Wrapper
from sparring.runtime.files import cache_folder

Ask = Callable[[Sequence[Comparison]], Float[np.ndarray, " N"]]


class Cached(Wrapper):
    """Asks `oracle` for the verdicts that the file lacks."""

    title = "cached"
    about = "Stores verdicts in a file that several runs share: an expensive judge compares two answers only once."
    first_shown: Ask
    """the oracle's verdict on one order, stored too; only a `PositionSensitive` oracle has it"""

    def __init__(
        self,
        oracle: Annotated[Oracle, Field(description="the oracle whose verdicts are stored")],
        path: Annotated[str | None, Field(description="the file; null: one per oracle in the cache")] = None,
    ) -> None:
        super().__init__(oracle)
        self.identity = oracle.identity
        name = f"{hashlib.sha256(self.identity.encode()).hexdigest()[:12]}.jsonl"
        self._file = VerdictFile(cache_folder() / "verdicts" / name if path is None else Path(path).expanduser())
        self._counts: Counter[str] = Counter()
        if isinstance(oracle, PositionSensitive):
            self.first_shown = partial(self._ask, ";first shown", oracle.first_shown)

    def judge(self, comparisons: Sequence[Comparison]) -> Float[np.ndarray, " N"]:
        """P(a beats b), from the file or from the oracle."""
        if isinstance(self, PositionSensitive):
            return both_orders(self.first_shown, comparisons)
        return self._ask("", self.oracle.judge, comparisons)

    def counts(self) -> dict[str, object]:
        """The oracle's counts, and how many verdicts came from the file."""
        return {**super().counts(), **self._counts}

    def diagnosis(self) -> str:
        """A note on damaged lines of the file; empty where there are none."""
        return self._file.damage

    def _ask(self, kind: str, ask: Ask, comparisons: Sequence[Comparison]) -> Float[np.ndarray, " N"]:
        keys = [verdict_key(self.identity + kind, comparison) for comparison in comparisons]
        known = np.array([self._file.get(key) for key in keys], dtype=np.float64)
        new = {keys[i]: comparisons[i] for i in np.flatnonzero(np.isnan(known)).tolist()}
        self._counts["kept verdicts used"] += len(set(keys)) - len(new)
        self._tell_journal([key for key in keys if key not in new], own=False)
        if not new:
            return known
        answers = np.asarray(ask(list(new.values())), dtype=np.float64)
        if answers.shape != (len(new),):
            return answers  # the guard says what is wrong with it
        verdicts = dict(zip(new, answers.tolist(), strict=True))
        self._tell_journal(list(new), own=True)
        self._file.keep(verdicts)
        return np.array([verdicts.get(key, p) for key, p in zip(keys, known.tolist(), strict=True)])

    def _tell_journal(self, keys: Sequence[str], own: bool) -> None:
        """What the file saved a run, for each served judge inside."""
        if keys and (journal := usage.current()) is not None:
            for inner, _ in nested(self.oracle):
                if isinstance(inner, LLMJudge):
                    journal.from_files(inner.endpoint.name, keys, own)
