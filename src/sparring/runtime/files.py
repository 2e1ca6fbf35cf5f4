"""Files: read whole or refused by name, written beside their target and renamed, so that no half-written one is seen.

JSON, text and Parquet tables. A server may send half a surrogate pair (a lone surrogate, as a cut emoji leaves), which
UTF-8 cannot hold: JSON keeps it as an escape, text and tables get U+FFFD. Leaves out: which files a run has
(`layout.py`), half-done work (`parts.py`), and files that are appended to (`lines.py`).

    write_json(Path("summary.json"), {"rounds": 3}); read_table(Path("pairs.parquet"))
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

Rows = Sequence[Mapping[str, object]]
"""of a table; `TypedDict`s are such mappings too"""
NO_PLACE = (FileExistsError, FileNotFoundError, IsADirectoryError, NotADirectoryError)
"""what the system says of a path where nothing can be written"""
FULL = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the limit of a file's size (ulimit -f) is reached",
}
"""what the system says where there is no more room"""
LONG_NAME = 100
"""bytes of a name from which names that are made of it hold a hash instead"""
GROUP = 32_768
"""rows from which a joined table begins another row group; as few as fit into memory with long responses"""
STREAMED = 1024
"""rows that are turned into Python's objects together: a response of 200 tokens takes 15 KB"""
LONE_SURROGATE = re.compile(r"[\ud800-\udfff]")
"""half a surrogate pair: JSON carries it, and no file in UTF-8 can hold it"""


def read_json(path: Path) -> Any:
    """A JSON file. Raises ValueError naming it when it is damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise damaged(path, str(error)) from error


def read_object(path: Path, *keys: str) -> dict[str, Any]:
    """A JSON object with these keys. Raises ValueError naming the file when it is damaged."""
    value = read_json(path)
    check_object(path, value, keys)
    return value


def check_object(path: Path, value: Any, keys: Iterable[str], name: str = "it") -> None:
    """Raise ValueError unless a value of a file is an object with these keys; the message calls it `name`."""
    if not isinstance(value, dict):
        raise damaged(path, f"{name} is not an object")
    if missing := [key for key in keys if key not in value]:
        raise damaged(path, f"{name} has no {missing[0]!r}")


def damaged(path: Path, reason: str) -> ValueError:
    """The error of a stored file that is not what was written."""
    return ValueError(f"{path} is damaged: {reason}. Restore it, or start a new run folder.")


def json_text(value: Any, indent: int | None = None) -> str:
    """JSON that UTF-8 can hold and that reads back the same: only lone surrogates are escaped."""
    text = json.dumps(value, indent=indent, ensure_ascii=False, default=asdict)
    return LONE_SURROGATE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def write_json(path: Path, value: Any) -> None:
    """A value as an indented JSON file; a dataclass is written as an object of its fields."""
    write_text(path, json_text(value, indent=2) + "\n")


def write_json_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Rows as a JSON-lines file."""
    write_text(path, "".join(json_text(row) + "\n" for row in rows))


def write_text(path: Path, text: str) -> None:
    """Text as a UTF-8 file; lone surrogates, which UTF-8 cannot hold, become U+FFFD."""
    with beside(path) as partial:
        partial.write_bytes(whole_characters(text).encode())


def whole_characters(text: str) -> str:
    """The text with U+FFFD in place of every lone surrogate."""
    return LONE_SURROGATE.sub("\ufffd", text)


def make_folder(folder: Path, option: str = "--out") -> None:
    """A folder for outputs, with its parents.

    Raises:
        ValueError: none can be there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except NO_PLACE as error:
        raise ValueError(f"the folder {folder} cannot be made: {error.strerror}. Give another {option}.") from error


def check_output(path: Path, option: str = "--out") -> None:
    """Raise a ValueError where no file can be written, before the work for it; `option` is what named it."""
    if path.is_dir():
        raise ValueError(f"{path} is a folder, not a file to write. Give another {option}.")
    make_folder(path.parent, option)
    partial = hidden_beside(path, "partial")
    with blaming(path, partial, option):
        partial.touch()
    partial.unlink()


@contextlib.contextmanager
def beside(path: Path) -> Iterator[Path]:
    """A path to write to, flushed to disk and renamed to `path` at the end; nothing is left when writing fails."""
    make_folder(path.parent)
    partial = hidden_beside(path, "partial")
    with blaming(path, partial):
        try:
            yield partial
            with partial.open("rb+") as stream:
                os.fsync(stream.fileno())
            partial.replace(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise


@contextlib.contextmanager
def folder_beside(target: Path, hidden: bool = False) -> Iterator[Path]:
    """A folder to fill, renamed at the end to `target`, which is not there by then; a failure leaves nothing.

    `hidden`: where folders of the user may lie beside it, one of which could have the plain name.
    """
    make_folder(target.parent)
    partial = hidden_beside(target, "partial") if hidden else target.with_name(f"{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        yield partial
        partial.rename(target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def hidden_beside(path: Path, ending: str) -> Path:
    """A hidden name beside `path` that no file system finds too long where it takes `path` itself."""
    name = path.name
    if len(os.fsencode(name)) > LONG_NAME:
        name = hashlib.sha256(os.fsencode(name)).hexdigest()[:32]
    return path.with_name(f".{name}.{ending}")


@contextlib.contextmanager
def blaming(path: Path, partial: Path, option: str = "--out") -> Iterator[None]:
    """Raise an error that names `path` where `partial` cannot be written; a missing input stays what it is."""
    try:
        yield
    except NO_PLACE as error:
        if error.filename != str(partial):
            raise
        raise ValueError(f"{path} cannot be written: {error.strerror}. Give another {option}.") from error
    except OSError as error:
        if error.filename is not None or error.errno not in FULL:
            raise
        raise OSError(error.errno, os.strerror(error.errno), str(path)) from error


def write_table(path: Path, rows: Rows, schema: pa.Schema) -> None:
    """Rows as one Parquet file; lone surrogates in their texts, which Parquet cannot hold, become U+FFFD."""
    table = _as_table(rows, schema)
    with beside(path) as partial:
        pq.write_table(table, partial)


def table_bytes(rows: Rows, schema: pa.Schema) -> memoryview:
    """What `write_table` would write."""
    table, sink = _as_table(rows, schema), pa.BufferOutputStream()
    with pq.ParquetWriter(sink, schema) as writer:
        writer.write_table(table)
    return memoryview(sink.getvalue())


def _as_table(rows: Rows, schema: pa.Schema) -> pa.Table:
    try:
        return pa.Table.from_pylist(rows, schema)
    except UnicodeEncodeError:
        return pa.Table.from_pylist(json.loads(whole_characters(json.dumps(rows, ensure_ascii=False))), schema)


def write_tables(path: Path, tables: Iterable[pa.Table], schema: pa.Schema) -> None:
    """Tables one after the other as one Parquet file, a row group each."""
    with beside(path) as partial, pq.ParquetWriter(partial, schema) as writer:
        for table in tables:
            writer.write_table(table)


def join_tables(path: Path, sources: Iterable[Path], schema: pa.Schema) -> None:
    """The rows of several Parquet files as one, in row groups of about `GROUP` rows, of which memory holds one.

    Raises:
        ValueError: a source is not a whole Parquet file.
    """
    write_tables(path, _groups((_table(source) for source in sources), schema), schema)


def _groups(tables: Iterable[pa.Table], schema: pa.Schema) -> Iterator[pa.Table]:
    """The tables, so many together that they have `GROUP` rows or more; the last ones may have fewer."""
    waiting, rows, none = list[pa.Table](), 0, True
    for table in tables:
        waiting.append(table)
        rows += table.num_rows
        if rows >= GROUP:
            yield pa.concat_tables(waiting).combine_chunks()
            waiting, rows, none = [], 0, False
    if rows or none:
        yield pa.concat_tables(waiting or [schema.empty_table()]).combine_chunks()


def stream_rows(path: Path, names: list[str] | None = None) -> Iterator[Any]:
    """The rows of a Parquet file one after the other, of which memory holds some; `names`: of the columns to read.

    Raises:
        ValueError: it is not a whole Parquet file.
    """
    with _whole(path), pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=STREAMED, columns=names):
            yield from batch.to_pylist()


def read_table(path: Path) -> list[Any]:
    """All rows of a Parquet file; `rounds/tables.py` has a type for the rows of each table of a run.

    Raises:
        ValueError: it is not a whole Parquet file.
    """
    return _table(path).to_pylist()


def read_columns(path: Path, names: list[str], repeated: list[str] | None = None) -> pa.Table:
    """Columns of a Parquet file; the `repeated` ones hold each of their texts once.

    Raises:
        ValueError: it is not a whole Parquet file.
    """
    return _table(path, columns=names, read_dictionary=repeated)


def read_column(path: Path, name: str) -> list[Any]:
    """One column of a Parquet file. Raises ValueError as `read_table`."""
    return _table(path, columns=[name])[name].to_pylist()


def _table(path: Path, **options: Any) -> pa.Table:
    with _whole(path):
        return pq.read_table(path, **options)


@contextlib.contextmanager
def _whole(path: Path) -> Iterator[None]:
    """Raise ValueError, which names the file, where it is cut short or damaged."""
    try:
        yield
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"{path} is not a whole Parquet file ({error}). Delete it to have it made again.") from error


def read_rows_at(path: Path, indices: Sequence[int]) -> list[Any]:
    """The rows at these places, in this order; one row group of the file is in memory at a time.

    Raises:
        ValueError: it is not a whole Parquet file.
    """
    rows_by_index: dict[int, dict[str, Any]] = {}
    wanted = sorted(set(indices))
    with _whole(path), pq.ParquetFile(path) as file:
        end = 0
        for group in range(file.num_row_groups):
            begin, end = end, end + file.metadata.row_group(group).num_rows
            here = wanted[bisect_left(wanted, begin) : bisect_left(wanted, end)]
            if here:
                rows = file.read_row_group(group).take([index - begin for index in here]).to_pylist()
                rows_by_index.update(zip(here, rows, strict=True))
    return [rows_by_index[index] for index in indices]


def cache_folder() -> Path:
    """The folder for dequantised models, replies and verdicts: `$SPARRING_CACHE`, else `~/.cache/sparring`.

    Raises:
        ValueError: neither is there.
    """
    if given := os.environ.get("SPARRING_CACHE"):
        return Path(given)
    try:
        return Path.home() / ".cache" / "sparring"
    except RuntimeError as error:
        raise ValueError("this user has no home folder to cache in: set SPARRING_CACHE to a folder.") from error


def hash_file(path: Path) -> str:
    """SHA-256 of a file's bytes, hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def hash_files(paths: Sequence[Path]) -> str:
    """SHA-256 of one file, or over the names and bytes of several."""
    if len(paths) == 1:
        return hash_file(paths[0])
    return hashlib.sha256(repr([(path.name, hash_file(path)) for path in paths]).encode()).hexdigest()
