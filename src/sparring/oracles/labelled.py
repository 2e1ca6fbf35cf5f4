"""Pairs of answers with a label: what oracles are trained on, calibrated on and audited against.

A row holds a prompt, two answers and who won, in any of these forms:

    {"prompt": "Why?", "chosen": "...", "rejected": "..."}
    {"prompt": "Why?", "response_1": "...", "response_2": "...", "label": 1}          1 | 2 | 0 (tie)
    {"prompt": "Why?", "a": "...", "b": "...", "preference": 0.8}                     P(a beats b)

Prompts and answers may be all that a recipe's data may be: text, conversations, HH-RLHF transcripts. The prompt of a
comparison keeps its turns (`PromptText`), as in a run.
Optional: `category` or `subset`. Reads the formats that recipes read: JSONL, JSON, Parquet, CSV, hub data sets. Rows
that cannot be used are counted by reason. Leaves out: other names of columns; rename them in the file.

    pairs, dropped = read_labelled("pairs.jsonl")
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from typing import NamedTuple

from sparring.data.examples import prompt_and_answers, refuse_attached, with_tools
from sparring.data.form import Form, is_null
from sparring.data.rows import Row, stream_rows
from sparring.models.messages import PromptText
from sparring.models.tools import Calls
from sparring.oracles.oracle import Comparison
from sparring.oracles.orders import swapped
from sparring.recipe.sections import DatasetConfig

SIDES = (("response_1", "response_2"), ("a", "b"), ("response_a", "response_b"), ("chosen", "rejected"))
WINNERS: dict[object, float] = {"1": 1.0, "2": 0.0, "0": 0.5, "a": 1.0, "b": 0.0, "tie": 0.5}
"""`label`, as lower-case text"""


class Labelled(NamedTuple):
    """A comparison and its label."""

    comparison: Comparison
    preference: float
    """the label: P(a beats b), 1/2 for a tie"""
    category: str
    """of the prompt, or empty"""

    def flipped(self) -> Labelled:
        """The same pair with its answers exchanged."""
        return Labelled(swapped([self.comparison])[0], 1.0 - self.preference, self.category)


def read_labelled(path: str, split: str | None = None, limit: int | None = None) -> tuple[list[Labelled], Counter[str]]:
    """Labelled pairs of a data set, and the dropped rows counted by reason.

    Raises:
        ValueError: it cannot be read, has other columns (all rows or a later one), or no row can be used.
    """
    rows = [*stream_rows(DatasetConfig(path=path, split=split, limit=limit))]
    first = rows[0].row if rows else {}
    sides, beside = _sides(path, first), "prompt" in first
    form = Form((*sides, "prompt") if beside else sides)
    pairs: dict[str, Labelled] = {}
    dropped: Counter[str] = Counter()
    for placed in map(form.check, rows):
        try:
            pair = _labelled(placed.row, sides, beside)
        except ValueError as error:
            dropped[str(error)] += 1
            continue
        key = repr((pair.comparison, pair.preference))
        if key in pairs:
            dropped["duplicate"] += 1
        pairs.setdefault(key, pair)
    if not pairs:
        reasons = "; ".join(f"{count} x {reason}" for reason, count in dropped.items()) or "it has no rows"
        raise ValueError(f"labels: {path!r} holds no usable pair: {reasons}.")
    return list(pairs.values()), dropped


def _sides(path: str, columns: Row) -> tuple[str, str]:
    for one, two in SIDES:
        if {one, two} <= columns.keys() and (one == "chosen" or {"label", "preference"} & columns.keys()):
            return one, two
    raise ValueError(
        f"labels: {path!r} has the columns {', '.join(map(repr, columns)) or 'of no row'}. Give prompt, chosen and "
        "rejected; or prompt, response_1, response_2 and label (1, 2, 0 for a tie) or preference (0 to 1)."
    )


def _labelled(row: Row, sides: tuple[str, str], beside: bool) -> Labelled:
    """`beside`: the data have a column of prompts."""
    refuse_attached(row, ("prompt", *sides))
    prompt, values = row.get("prompt"), {side: row.get(side) for side in sides}
    if any(is_null(value) for value in values.values()):
        raise ValueError("an answer is null")
    if beside and is_null(prompt):
        raise ValueError("the prompt is null")
    messages, answers = prompt_and_answers(prompt if beside else None, values)
    messages = with_tools(row, messages)
    texts = [answers[side] for side in sides]
    if any(isinstance(text, Calls) for text in texts):
        raise ValueError("an answer calls tools in a field of its own: only a policy's template can write it")
    if texts[0] == texts[1]:
        raise ValueError("the two answers are identical")
    category = str(row.get("category") or row.get("subset") or "")
    preference = 1.0 if sides[0] == "chosen" else _preference(row)
    return Labelled(Comparison(PromptText(messages), *texts), preference, category)


def _preference(row: Row) -> float:
    if row.get("preference") is not None:
        try:
            value = float(row["preference"])
        except (OverflowError, TypeError, ValueError):
            value = math.nan
        if not 0 <= value <= 1:  # NaN too
            raise ValueError("the preference is no number in [0, 1]")
        return value
    label = row.get("label")
    if isinstance(label, float) and not math.isnan(label):
        if not label.is_integer():
            raise ValueError("the label is not a whole number; a probability goes under preference")
        label = int(label)
    value = WINNERS.get(str(label).lower())
    if value is None:
        raise ValueError("the label is none of 1, 2, 0, a, b, tie")
    return value


def held_out(prompt: str, share: float, seed: int = 0) -> bool:
    """Whether a prompt is on the held-out side: by its hash, so that no prompt is ever on both."""
    digest = hashlib.sha256(f"{seed}\n{prompt}".encode()).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64
