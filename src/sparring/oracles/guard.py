"""Makes an oracle safe for the stages: it is probed first and retried, failures are counted, verdicts are stored.

A failed comparison becomes NaN - never a coin flip and never a tie - and a stage with too many of them stops. The share
is of all comparisons looked up, stored verdicts included, so that a resumed stage counts like one that never stopped.
Verdicts are stored by oracle identity and text, in a file where there is one; since P(a, b) + P(b, a) = 1, one
order answers the other, and two equal texts tie without a question. Leaves out: what the oracle thinks.

    guard = Guard(oracle, cache=Path("verdicts.jsonl")); guard.probe(["Why?"]); guard.judge(comparisons)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from jaxtyping import Float

from sparring.oracles.abilities import AsksPeople, CutsAnswers, Diagnoses, counts_of, nested
from sparring.oracles.function import FunctionOracle
from sparring.oracles.oracle import Comparison, Oracle
from sparring.oracles.orders import swapped
from sparring.oracles.verdicts import VerdictFile, verdict_key
from sparring.runtime.errors import OracleError, Terminated, where_raised

T = TypeVar("T")
SYMMETRY_TOLERANCE = 1e-6
RETRIES = 2
FIRST_QUESTIONS = ("Why is the sky blue?", "Name a fruit.")
"""prompts on which an oracle is probed before any work"""
MAX_FAILED_SHARE = 0.05
"""of at least 20 comparisons: beyond it, the remaining comparisons would be a biased sample"""


def former_identity(oracle: Oracle) -> str | None:
    """Under which earlier versions stored an oracle of functions; None where that is the same or not known."""
    identity = oracle.identity
    for inner, _ in nested(oracle):
        if isinstance(inner, FunctionOracle):
            if inner.former_identity is None:
                return None
            identity = identity.replace(inner.identity, inner.former_identity)
    return None if identity == oracle.identity else identity


class Ledger(NamedTuple):
    """What a guard found out: verdicts by key, and the keys of comparisons looked up, and of those that failed."""

    verdicts: dict[str, float]
    looked_up: set[str]
    failed: set[str]
    asked: int
    last_error: str


class Guard:
    """Wraps an oracle; see the module."""

    def __init__(self, oracle: Oracle, cache: Path | None = None, max_failed_share: float = MAX_FAILED_SHARE) -> None:
        """`max_failed_share`: 1 for a guard whose ledger another one merges, which then counts for all."""
        self.oracle, self.max_failed_share = oracle, max_failed_share
        self.identity = oracle.identity
        self.former_identity = former_identity(oracle)
        self.asked = 0
        self.last_error = ""
        self._verdicts = VerdictFile(cache)
        self._looked_up: set[str] = set()
        self._failed: set[str] = set()
        self._people = [inner for inner, _ in nested(oracle) if isinstance(inner, AsksPeople)]
        if cache is not None:
            for people in self._people:
                people.keep_votes_in(cache.parent)

    def __repr__(self) -> str:
        """Who is asked, and how often it was."""
        return f"Guard({self.identity}: {self.asked} asked, {self.failed} failed)"

    def probe(self, prompts: Sequence[str] = FIRST_QUESTIONS, say: Callable[[str], None] = lambda line: None) -> None:
        """Ask a few comparisons in both orders before any work, and `say` what the oracles inside diagnose.

        Raises:
            OracleError: it raises, returns NaN, leaves [0, 1], or P(a, b) + P(b, a) != 1.
        """
        if self._people:  # a first question to them would have to wait for somebody
            for people in self._people:
                people.try_database()
            return
        texts = ("Yes.", "It depends on several things; here is one of them.")
        there = [Comparison(prompt, *texts) for prompt in prompts]
        try:
            answers = self._ask([*there, *swapped(there)])
        except OracleError as error:
            if str(error).startswith(f"oracle {self.identity}"):
                raise
            raise OracleError(f"oracle {self.identity}: on a first question: {error}") from error
        except Exception as error:
            raise OracleError(
                f"oracle {self.identity}: it failed on a first question: {where_raised(error)}."
            ) from error
        if np.isnan(answers).any():
            counts = ", ".join(f"{what}: {count}" for what, count in counts_of(self.oracle).items() if count)
            raise OracleError(
                f"oracle {self.identity}: no preference came of {int(np.isnan(answers).sum())} of the first "
                f"{len(answers)} questions (NaN).{f' Its counts: {counts}.' if counts else ''} "
                f"{' '.join(self._diagnoses()) or 'Give P in [0, 1].'}"
            )
        for comparison, p, q in zip(there, answers[: len(there)], answers[len(there) :], strict=True):
            if abs(p + q - 1.0) > SYMMETRY_TOLERANCE:
                raise OracleError(
                    f"oracle {self.identity}: P(a, b) + P(b, a) = {p:.6g} + {q:.6g} is not 1 for the prompt "
                    f"{comparison.prompt[:60]!r}. Average both orders (function oracle: both_orders: true)."
                )
        for line in filter(None, [self.damage, *self._diagnoses()]):
            say(line)

    def _diagnoses(self) -> list[str]:
        lines = (inner.diagnosis() for inner, _ in nested(self.oracle) if isinstance(inner, Diagnoses))
        return list(filter(None, lines))

    def judge(self, comparisons: Sequence[Comparison]) -> Float[np.ndarray, " N"]:
        """P(a beats b); NaN where the oracle failed after retries.

        Raises:
            OracleError: it left [0, 1], or too many comparisons failed.
        """
        orders = zip(comparisons, swapped(comparisons), strict=True)
        keys = [(verdict_key(self.identity, there), verdict_key(self.identity, back)) for there, back in orders]
        self._take_over(comparisons, keys)
        new: dict[str, Comparison] = {}
        for (key, back), comparison in zip(keys, comparisons, strict=True):
            if key != back and back not in new and math.isnan(self._known(key, back)):
                new[key] = comparison
        if new:
            answers = self._answers(list(new.values()))
            self._verdicts.keep(dict(zip(new, answers.tolist(), strict=True)))
            self.asked += len(new)
        self._count(keys, comparisons)
        self._check_share()
        return np.array([self._known(*both) for both in keys])

    def _check_share(self) -> None:
        if self.failed > self.max_failed_share * max(len(self._looked_up), 20):
            last = self.last_error or " ".join(self._diagnoses()) or "NaN"
            raise OracleError(
                f"oracle {self.identity}: {self.failed} of {len(self._looked_up)} comparisons failed (last: {last}). "
                "What was judged is kept; repair the oracle and run the command again."
            )

    # ---- judging elsewhere --------------------------------------------------------------------

    def known(self, comparisons: Sequence[Comparison]) -> dict[str, float]:
        """The stored verdicts on these comparisons, by key, for a guard that judges them elsewhere."""
        if not self._verdicts:
            return {}
        keys = [verdict_key(self.identity, one) for one in (*comparisons, *swapped(comparisons))]
        return {key: p for key in keys if not math.isnan(p := self._verdicts.get(key))}

    def judge_with(self, known: Mapping[str, float], play: Callable[[], T]) -> tuple[T, Ledger]:
        """What `play` returns, which asks this guard, and its ledger; `known`: verdicts that are not asked for again.

        Nothing is kept from one call to the next: a worker judges shards of several stages, in any order.
        """
        self._verdicts, self.asked, self.last_error = VerdictFile(None), 0, ""
        self._looked_up, self._failed = set(), set()
        self._verdicts.keep(known)
        result = play()
        new = {key: p for key, p in self._verdicts.items() if key not in known}
        return result, Ledger(new, self._looked_up, self._failed, self.asked, self.last_error)

    def merge(self, ledger: Ledger) -> None:
        """Store and count what a guard elsewhere found out.

        Raises:
            OracleError: too many comparisons failed.
        """
        self._verdicts.keep(ledger.verdicts)
        self.asked += ledger.asked
        self.last_error = ledger.last_error or self.last_error
        self._looked_up |= ledger.looked_up
        self._failed |= ledger.failed
        self._check_share()

    def _take_over(self, comparisons: Sequence[Comparison], keys: Sequence[tuple[str, str]]) -> None:
        """Store verdicts that the file holds under the oracle's former identity under that of today."""
        if self.former_identity is None:
            return
        orders = zip(comparisons, swapped(comparisons), keys, strict=True)
        missing = [(there, back, both) for there, back, both in orders if math.isnan(self._known(*both))]
        former = {
            key: self._known(verdict_key(self.former_identity, there), verdict_key(self.former_identity, back))
            for there, back, (key, _) in missing
        }
        self._verdicts.keep(former)

    @property
    def damage(self) -> str:
        """A note on damaged lines of the file of verdicts; empty where there are none."""
        return self._verdicts.damage

    @property
    def failed(self) -> int:
        """Number of different comparisons looked up that have no verdict; both orders are one."""
        return len(self._failed)

    def _count(self, keys: Iterable[tuple[str, str]], comparisons: Sequence[Comparison]) -> None:
        for (key, back), asked in zip(keys, comparisons, strict=True):
            if key != back:
                comparison = min(key, back)
                self._looked_up.add(comparison)
                self._failed.discard(comparison)
                if math.isnan(self._known(key, back)) and not self.declined(asked):
                    self._failed.add(comparison)

    def expect(self, comparisons: Iterable[Comparison]) -> None:
        """Tell people inside which comparisons without a verdict will be asked; other oracles need no notice."""
        if not self._people:
            return
        comparisons = list(comparisons)
        orders = zip(comparisons, swapped(comparisons), strict=True)
        keys = [(verdict_key(self.identity, there), verdict_key(self.identity, back)) for there, back in orders]
        new = [c for c, both in zip(comparisons, keys, strict=True) if math.isnan(self._known(*both))]
        for people in self._people:
            people.expect(new)

    def declined(self, comparison: Comparison) -> str:
        """Why people inside gave no preference, which is no failure; empty where none are, or they gave one."""
        return next(filter(None, (people.declined(comparison) for people in self._people)), "")

    def cut(self, pairs: Iterable[tuple[str, str]]) -> dict[str, int]:
        """`answers_cut`: how many of the different (prompt, answer) pairs are read only in part; empty where unknown.

        Of several oracles inside, the one that cuts the most counts.
        """
        different = list(dict.fromkeys(pairs))
        counts = [inner.cut(different) for inner, _ in nested(self.oracle) if isinstance(inner, CutsAnswers)]
        return {"answers_cut": max(counts)} if counts else {}

    def _known(self, key: str, back: str) -> float:
        """P(a beats b) from the verdict on either order of the texts; NaN when neither was judged."""
        if key == back:
            return 0.5
        p = self._verdicts.get(key)
        return 1.0 - self._verdicts.get(back) if math.isnan(p) else p

    def _answers(self, comparisons: Sequence[Comparison]) -> Float[np.ndarray, " N"]:
        answers = self._asked_once(comparisons)
        # Failed comparisons are asked again one by one, so that one bad comparison does not lose its batch.
        for index in np.flatnonzero(np.isnan(answers)).tolist():
            for _ in range(RETRIES):
                if math.isnan(answers[index]):
                    answers[index] = self._asked_once([comparisons[index]])[0]
        return answers

    def _asked_once(self, comparisons: Sequence[Comparison]) -> Float[np.ndarray, " N"]:
        """As `_ask`; NaN where the oracle raises."""
        try:
            return self._ask(comparisons)
        except OracleError:
            raise
        except Exception as error:
            self.last_error = where_raised(error)
            return np.full(len(comparisons), math.nan)

    def _ask(self, comparisons: Sequence[Comparison]) -> Float[np.ndarray, " N"]:
        try:
            given = self.oracle.judge(comparisons)
        except Terminated:  # by a scheduler, and not by the oracle
            raise
        except SystemExit as stop:
            raise RuntimeError(f"it raised SystemExit({stop.code!r})") from stop
        if given is None:
            raise OracleError(f"oracle {self.identity}: `judge` returned None. Is a `return` missing?")
        raw = np.asarray(given)
        if np.iscomplexobj(raw):
            raise OracleError(f"oracle {self.identity}: it answered complex numbers. Give P in [0, 1].")
        answers = raw.astype(np.float64)
        if answers.shape != (len(comparisons),):
            raise OracleError(
                f"oracle {self.identity}: {len(comparisons)} comparisons gave answers of shape {answers.shape}."
            )
        outside = np.flatnonzero((answers < 0) | (answers > 1))
        if outside.size:
            raise OracleError(
                f"oracle {self.identity}: it answered {answers[outside[0]]:.6g}, outside [0, 1], for the prompt "
                f"{comparisons[outside[0]].prompt[:60]!r}."
            )
        return answers
