"""An oracle that can be trusted by the stages: probed first, retried, its failures counted, its verdicts kept.

A failed comparison becomes NaN - never a coin flip and never a tie - and a stage with too many of them stops: too many
of all that were looked up, kept verdicts included, so that a resumed stage counts as one that never stopped.
Verdicts are cached by oracle identity and text, in a file when one is given; since P(a, b) + P(b, a) = 1, one
order answers the other, and two equal texts tie unasked. Leaves out: what the oracle thinks.

    guard = Guard(oracle, cache=Path("verdicts.jsonl")); guard.probe(["Why?"]); guard.judge(comparisons)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from sparring.oracles.abilities import CutsAnswers, Doubts, Remedies, counts_of, nested
from sparring.oracles.oracle import Comparison, Oracle
from sparring.oracles.verdicts import VerdictFile, verdict_key
from sparring.runtime.errors import OracleError

SYMMETRY_TOLERANCE = 1e-6
RETRIES = 2
FIRST_QUESTIONS = ("Why is the sky blue?", "Name a fruit.")
"""what an oracle is asked before any work"""
MAX_FAILED_SHARE = 0.05
"""of at least 20 comparisons: past that a stage would train on what is left by accident"""


class Guard:
    """Wraps an oracle; see the module."""

    def __init__(self, oracle: Oracle, cache: Path | None = None) -> None:
        self.oracle = oracle
        self.identity = oracle.identity
        self.asked = 0
        self.last_error = ""
        self._verdicts = VerdictFile(cache)
        self._looked_up: set[str] = set()
        self._failed: set[str] = set()

    def probe(self, prompts: Sequence[str] = FIRST_QUESTIONS, say: Callable[[str], None] = lambda line: None) -> None:
        """Ask a few comparisons in both orders before any work; `say` is told what the oracles inside doubt.

        Raises:
            OracleError: it raises, returns NaN, leaves [0, 1], or P(a, b) + P(b, a) != 1.
        """
        texts = ("Yes.", "It depends on several things; here is one of them.")
        there = [Comparison(prompt, *texts) for prompt in prompts]
        back = [Comparison(c.prompt, c.b, c.a) for c in there]
        try:
            answers = self._ask([*there, *back])
        except OracleError as error:
            told = str(error)
            if told.startswith(f"oracle {self.identity}"):
                raise
            raise OracleError(f"oracle {self.identity}: on a first question: {told}") from error
        except Exception as error:
            raise OracleError(f"oracle {self.identity}: it failed on a first question: {error!r}.") from error
        if np.isnan(answers).any():
            counts = ", ".join(f"{what}: {count}" for what, count in counts_of(self.oracle).items() if count)
            remedies = (inner.remedy() for inner, _ in nested(self.oracle) if isinstance(inner, Remedies))
            raise OracleError(
                f"oracle {self.identity}: no preference came of {int(np.isnan(answers).sum())} of the first "
                f"{len(answers)} questions (NaN).{f' Its counts: {counts}.' if counts else ''} "
                f"{' '.join(filter(None, remedies)) or 'Give P in [0, 1].'}"
            )
        for comparison, p, q in zip(there, answers[: len(there)], answers[len(there) :], strict=True):
            if abs(p + q - 1.0) > SYMMETRY_TOLERANCE:
                raise OracleError(
                    f"oracle {self.identity}: P(a, b) + P(b, a) = {p:.6g} + {q:.6g} is not 1 for the prompt "
                    f"{comparison.prompt[:60]!r}. Average both orders (function oracle: both_orders: true)."
                )
        for inner, _ in nested(self.oracle):
            if isinstance(inner, Doubts) and (line := inner.doubt()):
                say(line)

    def judge(self, comparisons: Sequence[Comparison]) -> Float[np.ndarray, " N"]:
        """P(a beats b); NaN where the oracle failed after retries.

        Raises:
            OracleError: it left [0, 1], or too many comparisons failed.
        """
        keys = [(self._key(c), self._key(Comparison(c.prompt, c.b, c.a))) for c in comparisons]
        new: dict[str, Comparison] = {}
        for (key, swapped), comparison in zip(keys, comparisons, strict=True):
            if key != swapped and swapped not in new and math.isnan(self._known(key, swapped)):
                new[key] = comparison
        if new:
            answers = self._answers(list(new.values()))
            self._verdicts.keep(dict(zip(new, answers.tolist(), strict=True)))
            self.asked += len(new)
        self._count(keys)
        if self.failed > MAX_FAILED_SHARE * max(len(self._looked_up), 20):
            raise OracleError(
                f"oracle {self.identity}: {self.failed} of {len(self._looked_up)} comparisons failed (last: "
                f"{self.last_error or 'NaN'}). What was judged is kept; mend the oracle and run the command again."
            )
        return np.array([self._known(*both) for both in keys])

    @property
    def failed(self) -> int:
        """How many different comparisons were looked up and have no verdict; both orders are one."""
        return len(self._failed)

    def _count(self, keys: Iterable[tuple[str, str]]) -> None:
        for key, swapped in keys:
            if key != swapped:
                comparison = min(key, swapped)
                self._looked_up.add(comparison)
                self._failed.discard(comparison)
                if math.isnan(self._known(key, swapped)):
                    self._failed.add(comparison)

    def cut(self, pairs: Iterable[tuple[str, str]]) -> dict[str, int]:
        """A fact to show: how many of the different (prompt, answer) the oracle reads only in part, if it can tell.

        Of several oracles inside, the one that cuts the most.
        """
        different = list(dict.fromkeys(pairs))
        counts = [inner.cut(different) for inner, _ in nested(self.oracle) if isinstance(inner, CutsAnswers)]
        return {"answers_cut": max(counts)} if counts else {}

    def _known(self, key: str, swapped: str) -> float:
        """P(a beats b) from the verdict on either order of the texts; NaN when neither was judged."""
        if key == swapped:
            return 0.5
        p = self._verdicts.get(key)
        return 1.0 - self._verdicts.get(swapped) if math.isnan(p) else p

    def _answers(self, comparisons: Sequence[Comparison]) -> Float[np.ndarray, " N"]:
        try:
            answers = self._ask(comparisons)
        except OracleError:
            raise
        except Exception as error:
            self.last_error = repr(error)
            answers = np.full(len(comparisons), math.nan)
        # What failed is asked again one by one, so that only what really fails is lost.
        for index in np.flatnonzero(np.isnan(answers)).tolist():
            answers[index] = self._retried(comparisons[index])
        return answers

    def _retried(self, comparison: Comparison) -> float:
        answer = math.nan
        for _ in range(RETRIES):
            try:
                answer = float(self._ask([comparison])[0])
            except OracleError:
                raise
            except Exception as error:
                self.last_error = repr(error)
            if not math.isnan(answer):
                break
        return answer

    def _ask(self, comparisons: Sequence[Comparison]) -> Float[np.ndarray, " N"]:
        try:
            given = np.asarray(self.oracle.judge(comparisons))
        except SystemExit as stop:
            raise RuntimeError(f"it raised SystemExit({stop.code!r})") from stop
        if np.iscomplexobj(given):
            raise OracleError(f"oracle {self.identity}: it answered complex numbers. Give P in [0, 1].")
        answers = given.astype(np.float64)
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

    def _key(self, comparison: Comparison) -> str:
        return verdict_key(self.identity, comparison)
