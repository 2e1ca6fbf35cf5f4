"""Files: read whole or refused by name, written beside their target and renamed, so that no half-written one is seen.

JSON, text, Parquet tables, journals (JSON lines that are appended to), and tables made in shards that survive a kill.
Leaves out: which files a run has (`rounds/store.py`).

    write_json(Path("summary.json"), {"rounds": 3}); read_table(Path("pairs.parquet"))
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

NO_PLACE = (FileExistsError, FileNotFoundError, IsADirectoryError, NotADirectoryError)
"""what the system says of a path where nothing can be written"""


def read_json(path: Path) -> Any:
    """A JSON file. Raises ValueError naming it when it is damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}. Restore it, or start a new run folder.") from error


def write_json(path: Path, value: Any) -> None:
    """Write beside the target, flush to disk, rename; a dataclass is written as an object of its fields."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, default=asdict) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write beside the target, flush to disk, rename."""
    with _beside(path) as partial, partial.open("w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())


def make_folder(folder: Path) -> None:
    """A folder for outputs, with its parents.

    Raises:
        ValueError: none can be there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except NO_PLACE as error:
        raise ValueError(f"the folder {folder} cannot be made: {error.strerror}. Give another --out.") from error


def check_output(path: Path) -> None:
    """Raise a ValueError where no file can be written, before the work for it."""
    if path.is_dir():
        raise ValueError(f"{path} is a folder, not a file to write. Give another --out.")
    make_folder(path.parent)
    partial = _partial(path)
    with _told(path, partial):
        partial.touch()
    partial.unlink()


@contextlib.contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """A path to write to, renamed to `path` at the end; nothing is left when writing fails."""
    make_folder(path.parent)
    partial = _partial(path)
    with _told(path, partial):
        try:
            yield partial
            partial.replace(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise


def _partial(path: Path) -> Path:
    return path.with_name(f".{path.name}.partial")


@contextlib.contextmanager
def _told(path: Path, partial: Path) -> Iterator[None]:
    """Raise a ValueError that names `path` where `partial` cannot be written; a missing input stays what it is."""
    try:
        yield
    except NO_PLACE as error:
        if error.filename != str(partial):
            raise
        raise ValueError(f"{path} cannot be written: {error.strerror}. Give another --out.") from error


def write_table(path: Path, rows: list[dict[str, Any]], schema: pa.Schema) -> None:
    """Rows as one Parquet file, written beside the target and renamed."""
    with _beside(path) as partial:
        pq.write_table(pa.Table.from_pylist(rows, schema), partial)
        with partial.open("rb+") as stream:
            os.fsync(stream.fileno())


def write_tables(path: Path, tables: Iterable[pa.Table], schema: pa.Schema) -> None:
    """Tables one after the other as one Parquet file, a row group each, written beside the target and renamed."""
    with _beside(path) as partial:
        with pq.ParquetWriter(partial, schema) as writer:
            for table in tables:
                writer.write_table(table)
        with partial.open("rb+") as stream:
            os.fsync(stream.fileno())


def read_table(path: Path) -> list[dict[str, Any]]:
    """All rows of a Parquet file.

    Raises:
        ValueError: it is not a whole Parquet file.
    """
    try:
        return pq.read_table(path).to_pylist()
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"{path} is not a whole Parquet file ({error}). Delete it to have it made again.") from error


def read_column(path: Path, name: str) -> list[Any]:
    """One column of a Parquet file."""
    return pq.read_table(path, columns=[name])[name].to_pylist()


def read_rows_at(path: Path, indices: Sequence[int]) -> list[dict[str, Any]]:
    """The rows at these places, in this order; one row group of the file is in memory at a time."""
    found: dict[int, dict[str, Any]] = {}
    wanted = sorted(set(indices))
    with pq.ParquetFile(path) as file:
        end = 0
        for group in range(file.num_row_groups):
            begin, end = end, end + file.metadata.row_group(group).num_rows
            here = wanted[bisect_left(wanted, begin) : bisect_left(wanted, end)]
            if here:
                rows = file.read_row_group(group).take([index - begin for index in here]).to_pylist()
                found.update(zip(here, rows, strict=True))
    return [found[index] for index in indices]


def read_journal(path: Path) -> list[Any]:
    """The whole lines of a JSON-lines file that is appended to; one cut off by a kill is removed from the file."""
    if not path.exists():
        return []
    whole = path.read_bytes()
    kept = whole[: whole.rfind(b"\n") + 1]
    if kept != whole:
        os.truncate(path, len(kept))
    return [json.loads(line) for line in kept.splitlines()]


def sharded(
    target: Path,
    keys: Sequence[str],
    schema: pa.Schema,
    make: Callable[[int], list[dict[str, Any]]],
    done: Callable[[int], None],
) -> None:
    """Make a table in shards that survive a kill: shard i is `make(i)`, kept in `target.partial/`.

    Shards already on disk under the same key are not made again. The whole table is then written in shard order.
    """
    make_shards(target, keys, range(len(keys)), schema, make, done)
    join_shards(target, keys, schema)


def make_shards(
    target: Path,
    keys: Sequence[str],
    indices: Sequence[int],
    schema: pa.Schema,
    make: Callable[[int], list[dict[str, Any]]],
    done: Callable[[int], None],
) -> None:
    """The shards with these indices, each a file of its own: several processes may make some each."""
    _shards(target).mkdir(parents=True, exist_ok=True)
    for index in indices:
        shard = _shard(target, keys, index)
        if not shard.exists():
            write_table(shard, make(index), schema)
        done(index)


def join_shards(target: Path, keys: Sequence[str], schema: pa.Schema) -> None:
    """One table of all shards, in their order; the shards go."""
    rows = [row for index in range(len(keys)) for row in read_table(_shard(target, keys, index))]
    write_table(target, rows, schema)
    shutil.rmtree(_shards(target))


def _shards(target: Path) -> Path:
    return target.with_name(f"{target.stem}.partial")


def _shard(target: Path, keys: Sequence[str], index: int) -> Path:
    return _shards(target) / f"{index:05d}-{keys[index][:16]}.parquet"


def cache_folder() -> Path:
    """The folder for dequantised models: `$SPARRING_CACHE`, else `~/.cache/sparring`."""
    return Path(os.environ.get("SPARRING_CACHE", Path.home() / ".cache" / "sparring"))


def hash_file(path: Path) -> str:
    """SHA-256 of a file's bytes, hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def hash_files(paths: Sequence[Path]) -> str:
    """SHA-256 of one file, or over the names and bytes of several."""
    if len(paths) == 1:
        return hash_file(paths[0])
    return hashlib.sha256(repr([(path.name, hash_file(path)) for path in paths]).encode()).hexdigest()
