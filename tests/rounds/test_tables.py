"""The types of rows are those of the files: every column and every nested field, with its type."""

from __future__ import annotations

from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints, is_typeddict

import pyarrow as pa
import pytest

from sparring.rounds import tables
from sparring.rounds.tables import AnchorRow, ExampleRow, NotesRow, PairRow, SampleRow, TurnRow, VerdictRow

PLAIN = {pa.string(): str, pa.int32(): int, pa.int64(): int, pa.float32(): float, pa.float64(): float}


def agrees(row: Any, column: pa.DataType) -> bool:
    """Whether values of a column have this type in Python; any column may be null."""
    if isinstance(row, UnionType):
        row, none = get_args(row)
        assert none is type(None)
    if pa.types.is_list(column):
        return get_origin(row) is list and agrees(get_args(row)[0], column.value_type)
    if not pa.types.is_struct(column):
        return PLAIN[column] is row
    names = [field.name for field in column]
    if get_origin(row) is dict:  # a message, of role and content
        return get_args(row) == (str, str) and all(field.type == pa.string() for field in column)
    hints = get_type_hints(row)
    return is_typeddict(row) and hints.keys() == set(names) and all(agrees(hints[f.name], f.type) for f in column)


@pytest.mark.parametrize(
    ("row", "schema"),
    [
        (ExampleRow, tables.training_schema(mixed=True, preferences=True)),
        (SampleRow, tables.SAMPLES),
        (VerdictRow, tables.VERDICTS),
        (PairRow, tables.PAIRS),
        (AnchorRow, tables.ANCHORS),
        (TurnRow, tables.TURNS),
        (NotesRow, tables.NOTES),
    ],
)
def test_a_row_has_the_columns_of_its_table(row: Any, schema: pa.Schema) -> None:
    assert agrees(row, pa.struct(list(schema)))


def test_every_table_has_a_type_of_rows() -> None:
    assert sum(isinstance(value, pa.Schema) for value in vars(tables).values()) == 7


def test_a_missing_or_mistyped_column_is_noticed() -> None:
    assert not agrees(SampleRow, pa.struct(list(tables.SAMPLES)[1:]))
    text = tables.PAIRS.set(1, pa.field("prompt_ids", pa.list_(pa.string())))
    assert not agrees(PairRow, pa.struct(list(text)))
