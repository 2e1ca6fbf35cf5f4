"""Shards of a table: joined without holding it, and made again where a power cut tore them."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sparring.runtime import files
from sparring.runtime.files import read_table, stream_rows, table_bytes, write_table
from sparring.runtime.parts import join_shards, make_shards, sharded

SCHEMA = pa.schema({"text": pa.string(), "ids": pa.list_(pa.int32())})


def rows(index: int, count: int = 3) -> list[dict[str, Any]]:
    return [{"text": f"{index} {number}", "ids": list(range(number))} for number in range(count)]


def results(indices: Sequence[int]) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    for index in reversed(indices):  # in any order
        yield index, rows(index)


def keys(count: int) -> list[str]:
    return [f"{index:064x}"[::-1] for index in range(count)]


@pytest.mark.parametrize("count", [0, 1, 7])
def test_a_joined_table_is_the_file_of_all_rows(count: int, tmp_path: Path) -> None:
    sharded(tmp_path / "t.parquet", keys(count), SCHEMA, results, lambda _: None, print)
    everything = [row for index in range(count) for row in rows(index)]
    write_table(tmp_path / "whole.parquet", everything, SCHEMA)
    assert (tmp_path / "t.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    assert list(stream_rows(tmp_path / "t.parquet", ["text"])) == [{"text": row["text"]} for row in everything]
    assert bytes(table_bytes(everything, SCHEMA)) == (tmp_path / "whole.parquet").read_bytes()


def test_a_long_table_has_row_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "GROUP", 6)
    sharded(tmp_path / "t.parquet", keys(5), SCHEMA, results, lambda _: None, print)
    metadata = pq.read_metadata(tmp_path / "t.parquet")
    assert [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)] == [6, 6, 3]
    assert read_table(tmp_path / "t.parquet") == [row for index in range(5) for row in rows(index)]


def test_a_torn_shard_is_made_again(tmp_path: Path) -> None:
    target, made, said = tmp_path / "t.parquet", list[int](), list[str]()

    def counted(indices: Sequence[int]) -> Iterator[tuple[int, list[dict[str, Any]]]]:
        made.extend(indices)
        return results(indices)

    make_shards(target, keys(3), range(3), SCHEMA, counted, lambda _: None, said.append)
    torn = sorted((tmp_path / "t.partial").iterdir())[1]
    torn.write_bytes(b"")  # as a power cut leaves it
    with pytest.raises(ValueError, match=r"00001-.* is not as it was written.*Give the same command"):
        join_shards(target, keys(3), SCHEMA)
    make_shards(target, keys(3), range(3), SCHEMA, counted, lambda _: None, said.append)
    join_shards(target, keys(3), SCHEMA)
    assert made == [0, 1, 2, 1]
    assert said == []  # the failed join removed it


def test_joining_holds_a_row_group_and_not_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "GROUP", 64)

    def peak(count: int) -> int:
        target = tmp_path / f"{count}.parquet"
        make_shards(target, keys(count), range(count), SCHEMA, results, lambda _: None, print)
        tracemalloc.start()
        before = pa.total_allocated_bytes()
        join_shards(target, keys(count), SCHEMA)
        held = tracemalloc.get_traced_memory()[1] + max(0, pa.total_allocated_bytes() - before)
        tracemalloc.stop()
        return held

    peak(8)  # imports
    few, many = peak(40), peak(400)
    # Names of files are all that grows: a row as Python's objects would be some 500 bytes.
    assert (many - few) / (360 * 3) < 400
