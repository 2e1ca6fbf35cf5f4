"""Half-done work: files that survive a kill, each with the checksum of its bytes at the end of its name.

What does not have its checksum is never used: a note says so, and it is made again. Tables made in shards are such
parts. Leaves out: finished work, whose hashes stand in the manifest (`rounds/store.py`).

    sharded(Path("samples.parquet"), keys, SAMPLES, results, done, progress.say)
"""

from __future__ import annotations

import glob
import os
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from sparring.runtime.files import Rows, hash_file, read_table, write_table

Say = Callable[[str], None]
Results = Callable[[Sequence[int]], Iterable[tuple[int, Rows]]]
"""makes the shards of these indices, in any order"""


def find_part(part: Path, say: Say, kept: Mapping[str, Sequence[Path]] | None = None) -> Path | None:
    """The file of a part that was kept before, or None; one with another checksum, or with none, is removed.

    `kept`: the files of its folder by the stem of their part, where many are looked for.
    """
    files = sorted(part.parent.glob(f"{glob.escape(part.stem)}*{part.suffix}")) if kept is None else kept[part.stem]
    for path in files:
        if path.name == _checked_name(part, path):
            return path
        say(f"note  {path} is not as it was written, or of an earlier version without checksums: it is made again")
        path.unlink()
    return None


def keep_part(part: Path, write: Callable[[Path], object]) -> Path:
    """Write a part by `write`, which gets a path to write to; returns where it is kept, beside `part`."""
    part.parent.mkdir(parents=True, exist_ok=True)
    new = part.with_suffix(".new")
    write(new)
    with new.open("rb+") as stream:
        os.fsync(stream.fileno())
    return new.replace(part.with_name(_checked_name(part, new)))


def _checked_name(part: Path, path: Path) -> str:
    return f"{part.stem}-{hash_file(path)[:16]}{part.suffix}"


def sharded(
    target: Path,
    keys: Sequence[str],
    schema: pa.Schema,
    results: Results,
    done: Callable[[int], None],
    say: Say,
) -> None:
    """Make a table in shards that survive a kill: those of `results`, kept in `target.partial/`.

    Shards already on disk under the same key are not made again. The whole table is then written in shard order.
    """
    make_shards(target, keys, range(len(keys)), schema, results, done, say)
    join_shards(target, keys, schema)


def make_shards(
    target: Path,
    keys: Sequence[str],
    indices: Sequence[int],
    schema: pa.Schema,
    results: Results,
    done: Callable[[int], None],
    say: Say,
) -> None:
    """The shards with these indices, each a file of its own: several processes may make some each."""
    _shards(target).mkdir(parents=True, exist_ok=True)
    kept = _kept(target)
    missing = [index for index in indices if find_part(_shard(target, keys, index), say, kept) is None]
    for index in set(indices).difference(missing):
        done(index)
    for index, rows in results(missing):
        keep_part(_shard(target, keys, index), lambda path, rows=rows: write_table(path, rows, schema))
        done(index)


def join_shards(target: Path, keys: Sequence[str], schema: pa.Schema) -> None:
    """One table of all shards, in their order; the shards go.

    Raises:
        ValueError: a shard is gone or was altered since it was made.
    """
    kept = _kept(target)
    rows = [row for index in range(len(keys)) for row in _rows(_shard(target, keys, index), kept)]
    write_table(target, rows, schema)
    shutil.rmtree(_shards(target))


def _kept(target: Path) -> Mapping[str, list[Path]]:
    """The files of all shards, by INDEX-KEY; one look at the folder, as there may be tens of thousands."""
    kept: defaultdict[str, list[Path]] = defaultdict(list)
    folder = _shards(target)
    for path in sorted(folder.iterdir()) if folder.exists() else ():
        kept["-".join(path.stem.split("-")[:2])].append(path)
    return kept


def _rows(shard: Path, kept: Mapping[str, list[Path]]) -> Rows:
    said: list[str] = []
    path = find_part(shard, said.append, kept)
    if path is None:
        why = said[0].removeprefix("note  ") if said else f"{shard} is gone"
        raise ValueError(f"{why}. Give the same command.")
    return read_table(path)


def _shards(target: Path) -> Path:
    return target.with_name(f"{target.stem}.partial")


def _shard(target: Path, keys: Sequence[str], index: int) -> Path:
    return _shards(target) / f"{index:05d}-{keys[index][:16]}.parquet"
