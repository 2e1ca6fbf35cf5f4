"""Stored judgments of one model against one baseline under one judge, in AlpacaEval's format.

`annotations.json` is a list of objects with instruction, output_1 (the baseline's), output_2 (the model's),
generator_1, generator_2, annotator and preference: 1 where the baseline wins, 2 where the model does, anything
between for a probability, 0 or 1.5 for a tie, null where the judge gave none. Leaves out: judging.

    judgments = read_judgments(Path("annotations.json")); judgments.preferences
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sparring.data.rows import read_rows
from sparring.recipe.sections import DatasetConfig

Rows = list[dict[str, Any]]
Placed = tuple[dict[str, Any], str]
"""a row, and where it stands, counted from 1"""
COLUMNS = ("instruction", "output_1", "output_2", "generator_1", "generator_2", "annotator", "preference")
SINGLE = {"generator_1": "baseline", "generator_2": "model", "annotator": "judge"}
MAX_LACKING = 0.05
"""share of rows that may lack the key preference and count as without one; AlpacaEval writes null"""
NOTED = 3
"""values shown in an error"""


@dataclass(frozen=True, slots=True)
class Judgments:
    """One row per instruction; `preferences` are P(model wins) in [0, 1], NaN where the judge gave none."""

    model: str
    baseline: str
    judge: str
    instructions: list[str]
    outputs: list[str]
    baseline_outputs: list[str]
    preferences: np.ndarray
    dropped: Counter[str] = field(default_factory=Counter)
    """rows left out, by reason"""

    def lengths(self) -> tuple[np.ndarray, np.ndarray]:
        """Characters of the model's and of the baseline's outputs."""
        return np.array([len(t) for t in self.outputs]), np.array([len(t) for t in self.baseline_outputs])


def read_judgments(*paths: Path) -> Judgments:
    """Judgments from AlpacaEval's annotations, one or several files; a row repeated exactly is dropped and counted.

    Raises:
        ValueError: they cannot be read, mix models or judges, or hold two different judgments of one instruction.
    """
    rows, dropped = _distinct([row for path in paths for row in _rows(path)])
    names = {column: _single(rows, column, paths) for column in SINGLE}
    return Judgments(
        model=names["generator_2"],
        baseline=names["generator_1"],
        judge=names["annotator"],
        instructions=[row["instruction"] for row, _ in rows],
        outputs=[row["output_2"] for row, _ in rows],
        baseline_outputs=[row["output_1"] for row, _ in rows],
        preferences=np.array([_probability(row["preference"], where) for row, where in rows]),
        dropped=dropped,
    )


def annotation_rows(judgments: Judgments) -> Rows:
    """Rows of an annotations file, for `read_judgments` and AlpacaEval itself."""
    columns = (judgments.instructions, judgments.baseline_outputs, judgments.outputs, judgments.preferences.tolist())
    return [
        {
            "instruction": instruction,
            "output_1": baseline_output,
            "generator_1": judgments.baseline,
            "output_2": output,
            "generator_2": judgments.model,
            "annotator": judgments.judge,
            "preference": None if math.isnan(preference) else 1 + preference,
        }
        for instruction, baseline_output, output, preference in zip(*columns, strict=True)
    ]


def _rows(path: Path) -> list[Placed]:
    """A file's rows, each with its place; ValueError where it lacks a column."""
    rows = read_rows(DatasetConfig(path=str(path)))
    if not rows:
        raise ValueError(f"annotations: {str(path)!r} holds no rows.")
    for column in COLUMNS:
        lacking = [number for number, row in enumerate(rows, start=1) if column not in row]
        if len(lacking) > (MAX_LACKING * len(rows) if column == "preference" else 0):
            raise ValueError(
                f"annotations: {str(path)!r} has no column {column!r} in {len(lacking)} of {len(rows)} rows (first: "
                f"row {lacking[0]}). It needs {', '.join(COLUMNS)}; a preference of null says that there is none."
            )
    return [(row, f"{str(path)!r}, row {number}") for number, row in enumerate(rows, start=1)]


def _distinct(rows: list[Placed]) -> tuple[list[Placed], Counter[str]]:
    dropped: Counter[str] = Counter()
    distinct: dict[str, Placed] = {}
    for read, where in rows:
        row = {column: read.get(column) for column in COLUMNS}
        for column in COLUMNS[:3]:
            if not isinstance(row[column], str):
                raise ValueError(f"annotations: {where}: {column} = {row[column]!r} is not text. Correct it.")
        instruction = str(row["instruction"])
        first, first_place = distinct.setdefault(instruction, (row, where))
        if first_place == where:
            continue
        if repr(first) != repr(row):  # repr: NaN equals NaN
            raise ValueError(
                f"annotations: two different judgments of the instruction {instruction[:60]!r}: {first_place}, and "
                f"{where}. Keep one row per instruction."
            )
        dropped["repeated rows"] += 1
    return list(distinct.values()), dropped


def _single(rows: list[Placed], column: str, paths: Sequence[Path]) -> str:
    """The one value of a column; judgments of two judges are different quantities."""
    values = list(dict.fromkeys(str(row[column]) for row, _ in rows))
    if len(values) > 1:
        shown = ", ".join(repr(value) for value in values[:NOTED])
        files, remedy = (
            ", ".join(repr(str(path)) for path in paths),
            "Split the file" if len(paths) == 1 else "Give one",
        )
        raise ValueError(
            f"annotations: {files} mixes {len(values)} values of {column} ({shown}): a win rate is of one "
            f"{SINGLE[column]}. {remedy}."
        )
    return values[0]


def _probability(value: Any, where: str) -> float:
    """P(model wins) from AlpacaEval's code; NaN where there is none."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float) or not (value == 0 or 1 <= value <= 2):
        raise ValueError(
            f"annotations: {where}: preference = {value!r}; allowed: 1 (baseline) to 2 (model), "
            "0 or 1.5 for a tie, null for none."
        )
    return 0.5 if value == 0 else value - 1.0
