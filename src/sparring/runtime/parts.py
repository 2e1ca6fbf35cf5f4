"""Half-done work: files that survive a kill, each with the checksum of its bytes at the end of its name.

What does not have its checksum is never used: a note says so, and it is made again. Tables made in shards are such
parts. Leaves out: finished work, whose hashes stand in the manifest (`rounds/store.py`).

    sharded(Path("samples.parquet"), keys, SAMPLES, results, done, progress.say)
"""

from __future__ import annotations

import glob
import hashlib
import os
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from sparring.runtime.files import Rows, blaming, hash_file, join_tables, table_bytes

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
    return _named(part, hash_file(path)).name


def _named(part: Path, digest: str) -> Path:
    return part.with_name(f"{part.stem}-{digest[:16]}{part.suffix}")


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
        _keep_rows(_shard(target, keys, index), rows, schema)
        done(index)


def _keep_rows(part: Path, rows: Rows, schema: pa.Schema) -> None:
    """Keep a shard, without waiting for the disk: what a power cut tears has not its checksum, and is made again.

    To wait for each would bound a stage to some hundred shards a second, whatever the number of devices.
    """
    content, new = table_bytes(rows, schema), part.with_suffix(".new")
    with blaming(part, new):
        new.write_bytes(content)
    new.replace(_named(part, hashlib.sha256(content).hexdigest()))


def join_shards(target: Path, keys: Sequence[str], schema: pa.Schema) -> None:
    """One table of all shards, in their order; the shards go.

    Raises:
        ValueError: a shard is gone or was altered since it was made.
    """
    kept = _kept(target)
    join_tables(target, (_whole(_shard(target, keys, index), kept) for index in range(len(keys))), schema)
    shutil.rmtree(_shards(target))


def _kept(target: Path) -> Mapping[str, list[Path]]:
    """The files of all shards, by INDEX-KEY; one look at the folder, as there may be tens of thousands."""
    kept: defaultdict[str, list[Path]] = defaultdict(list)
    folder = _shards(target)
    for path in sorted(folder.iterdir()) if folder.exists() else ():
        kept["-".join(path.stem.split("-")[:2])].append(path)
    return kept


def _whole(shard: Path, kept: Mapping[str, list[Path]]) -> Path:
    said: list[str] = []
    path = find_part(shard, said.append, kept)
    if path is None:
        why = said[0].removeprefix("note  ") if said else f"{shard} is gone"
        raise ValueError(f"{why}. Give the same command.")
    return path


def _shards(target: Path) -> Path:
    return target.with_name(f"{target.stem}.partial")


def _shard(target: Path, keys: Sequence[str], index: int) -> Path:
    return _shards(target) / f"{index:05d}-{keys[index][:16]}.parquet"
