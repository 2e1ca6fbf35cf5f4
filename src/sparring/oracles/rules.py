"""Answers that code can check: the one that keeps its prompt's rules wins, both or neither tie.

The rules come with the data (column `check`, as in `sparring:prompts`, one or several for a prompt; or IFEval's
columns `instruction_id_list` and `kwargs`), or are one kind for every row whose gold answer is in a column:

    number   the last number of the answer is the last number of the gold text ("... #### 72" too)
    equals   the answer is the gold text; case, quotes, space and a closing full stop aside
    regex    the gold text is a pattern that must be found in the answer

With `score: all` an answer keeps all its prompt's rules (1) or not (0); with `score: share` its score is the share
that it keeps. P(a beats b) = 1/2 + (score of a - score of b) / 2. A prompt without a rule ties, and is counted. Leaves
out: answers that are right in other words.

    oracle: {name: rules, data: gsm8k.jsonl, rule: number, prompt: question, gold: answer}
    oracle: {name: rules, data: "sparring:prompts", score: share}
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
from jaxtyping import Float
from pydantic import Field

from sparring.data.checks import IDS, Check, UnknownCheck, check_of_row, obeyed, passes
from sparring.data.examples import prompt_and_answers, with_tools
from sparring.data.instructions.plain import last_number
from sparring.data.rows import stream_rows
from sparring.models.messages import prompt_text
from sparring.oracles.oracle import Comparison
from sparring.recipe.sections import DatasetConfig


class Rules:
    """Looks up each prompt's rules and applies them to both answers."""

    title = "rules"
    about = "Answers that code can check: the one that keeps its prompt's rules wins, both or neither tie."

    def __init__(
        self,
        data: Annotated[str, Field(description="a data file, or a shipped set, whose rows hold the rules")],
        rule: Annotated[
            Literal["check", "number", "equals", "regex"],
            Field(description="check: the row's own rule; number, equals, regex: compare with the gold column"),
        ] = "check",
        prompt: Annotated[str, Field(description="column of the prompt")] = "prompt",
        gold: Annotated[str | None, Field(description="column of the right answer; null with rule check")] = None,
        split: Annotated[str | None, Field(description="of the data; null: all")] = None,
        score: Annotated[
            Literal["all", "share"],
            Field(description="of an answer. all: 1 if it keeps all its prompt's rules, else 0; share: how many"),
        ] = "all",
        reading: Annotated[
            Literal["strict", "loose"],
            Field(description="strict: the answer as it is; loose: also without its first or last line or asterisks"),
        ] = "strict",
    ) -> None:
        if (rule == "check") != (gold is None):
            raise ValueError(
                f"oracle.gold = {gold!r} with oracle.rule = {rule!r}: name the gold column for number, equals and "
                "regex, and none for check."
            )
        rows = list(stream_rows(DatasetConfig(path=data, split=split)))
        columns = rows[0].row if rows else {}
        for name in (prompt, gold or (IDS if IDS in columns else "check")):
            if name not in columns:
                raise ValueError(f"oracle.data: {data!r} has no column {name!r}.")
        self.score, self.reading = score, reading
        if score == "share":
            self.about = "Answers that code can check: the larger the share of its prompt's rules that one keeps."
        self.checks: dict[str, Check] = {}
        self.dropped = Counter[str]()
        """rows with a rule and no prompt that a run could ask, by reason"""
        for row, file, number in rows:
            try:
                check = _check(row, rule, gold)
            except (UnknownCheck, ValueError) as error:
                where = f"column {gold or 'check'!r}"
                raise ValueError(f"oracle.data: {file!r}, row {number}, {where}: {error}") from error
            if check is None:
                continue
            try:
                messages, _ = prompt_and_answers(row.get(prompt) or "", {})
                self.checks[prompt_text(with_tools(row, messages))] = check
            except ValueError as error:
                self.dropped[str(error)] += 1
        if not self.checks:
            reasons = "".join(f"; {count} x {reason}" for reason, count in self.dropped.items())
            raise ValueError(f"oracle.data: no row of {data!r} holds a rule{reasons}.")
        self.without_rule = 0

    @property
    def identity(self) -> str:
        """The rules themselves, and how they are scored."""
        digest = hashlib.sha256(json.dumps(self.checks, sort_keys=True).encode()).hexdigest()
        settings = [setting for setting in (self.score, self.reading) if setting not in ("all", "strict")]
        return f"rules-v1({', '.join([digest[:16], *settings])})"

    def judge(self, comparisons: Sequence[Comparison]) -> Float[np.ndarray, " N"]:
        """1, 1/2 or 0; with `score: share` also between."""
        return np.array([self._one(c) for c in comparisons], dtype=np.float64)

    def _one(self, comparison: Comparison) -> float:
        check = self.checks.get(comparison.prompt)
        if check is None:
            self.without_rule += 1
            return 0.5
        return (1.0 + self._scored(check, comparison.a) - self._scored(check, comparison.b)) / 2

    def _scored(self, check: Check, text: str) -> float:
        kept = obeyed(check, text, loose=self.reading == "loose")
        return float(np.mean(kept)) if self.score == "share" else float(all(kept))

    def abstains(self, comparison: Comparison) -> bool:
        """Whether it is a tie because the prompt has no rule."""
        return comparison.prompt not in self.checks

    def counts(self) -> dict[str, object]:
        """How many comparisons had no rule, and how many rows of the data no usable prompt."""
        left_out = {f"rows of oracle.data left out: {reason}": count for reason, count in self.dropped.items()}
        return {"comparisons without a rule": self.without_rule, **left_out}


def _check(row: dict[str, Any], rule: str, gold: str | None) -> Check | None:
    if gold is None:
        return check_of_row(row, "check")
    value = row.get(gold)
    if value is None or not str(value).strip():
        return None
    if rule == "number":
        number = last_number(str(value))
        if number is None:
            raise ValueError(f"oracle.gold: {str(value)[-60:]!r} holds no number. Use rule: equals.")
        return {"rule": "number", "value": number}
    check = {"rule": "equals", "expected": str(value)} if rule == "equals" else {"rule": "regex", "pattern": str(value)}
    passes(check, "")
    return check
