"""What all rows of a data set must have in common, and which of their columns belong to a prompt.

Leaves out: what a column says (`examples.py`, `labels.py`), reading files (`rows.py`).

    Form(["prompt", "completion"]).check(placed)
"""

from __future__ import annotations

import contextlib
import math
import re
import reprlib
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from sparring.data.checks import IDS, KWARGS
from sparring.data.rows import Placed, Row
from sparring.models.messages import KINDS
from sparring.recipe.datasets import ColumnsConfig

ATTACHED = re.compile(r"tools|functions|(image|video|audio)s?")
"""columns of what belongs to a prompt and is no text"""
UNREAD = ("system", "system_prompt", "instruction", "input", "context", "history", "documents")
"""columns that hold a part of the prompt in many sets, and are read only where the recipe names them"""


class Form:
    """Columns that every row must have, with one kind of value in each."""

    def __init__(self, columns: Iterable[str]) -> None:
        self.columns = tuple(dict.fromkeys(columns))
        self.kinds: dict[str, str] = {}

    def check(self, placed: Placed) -> Placed:
        """The row, compared with those before it.

        Raises:
            ValueError: columns or kinds of values changed; names file, row and field.
        """
        for column in self.columns:
            kind = _kind(placed.row[column]) if column in placed.row else "no such column"
            before = self.kinds.setdefault(column, kind) if kind != "null" else kind
            if kind != before:
                raise ValueError(
                    f"data: {placed.file!r}, row {placed.number}, field {column!r}: {kind}, but {before} in the rows "
                    f"before it; the row has {', '.join(map(repr, placed.row))}. Bring all rows into one form, or "
                    "leave that file out."
                )
        return placed


def _kind(value: Any) -> str:
    """The kind of a value, on which all rows must agree; text and messages are one kind."""
    usual = "text or messages"
    return "null" if is_null(value) else {**KINDS, str: usual, list: usual}.get(type(value), type(value).__name__)


def asked(row: Row, columns: ColumnsConfig) -> dict[str, Any]:
    """What a row's answer is an answer to: its prompt, what stands beside it, and by what answers are checked."""
    beside = {columns.prompt, columns.check, columns.group, IDS, KWARGS, *UNREAD}
    belongs = (name for name in row if name in beside or ATTACHED.fullmatch(name.lower()))
    used = {columns.completion, columns.score}
    held = {name: row[name] for name in belongs if name not in used}
    return {name: value for name, value in held.items() if not is_null(value) and value not in ("", [])}


@contextlib.contextmanager
def named(place: str) -> Iterator[None]:
    """Errors about a data set name its place in the recipe, `data.train.sets.chat`."""
    try:
        yield
    except ValueError as error:
        if not (text := str(error)).startswith("data: "):
            raise
        raise ValueError(f"data.{place}: {text.removeprefix('data: ')}") from error


class BadCell(ValueError):
    """A cell that cannot be used, and its column and value."""

    def __init__(self, reason: str, column: str, value: Any) -> None:
        super().__init__(reason)
        self.column, self.value = column, value


def count_drop(dropped: Counter[str], error: ValueError, placed: Placed) -> None:
    """Count a row by the reason why it cannot be used; with that of cells stands the first of them as an example."""
    reason = str(error)
    if isinstance(error, BadCell):
        begin = f"{reason} (first: "
        first = f"{begin}row {placed.number}, {error.column!r} = {reprlib.repr(error.value)})"
        reason = next((known for known in dropped if known.startswith(begin)), first)
    dropped[reason] += 1


def is_null(value: Any) -> bool:
    """Whether a cell holds nothing; NaN is how pandas writes that."""
    return value is None or (isinstance(value, float) and math.isnan(value))
