"""A run on disk: stages from files to files, finished once, written beside their target and renamed.

    runs/NAME/recipe.yaml, lock.json, manifest.json, rounds/000/{samples,verdicts,pairs,anchors}.parquet ...

`manifest.json` has one entry per finished stage: its inputs' hashes and its outputs' hashes. A
finished stage is never run twice; a file that changed since it was written is an error; a file that
is gone makes its stage run again, and every later stage whose inputs then differ. Half-done work
(shards, fit checkpoints) lives in `*.partial` folders. Leaves out: what the stages do.

    store = Store(Path("runs/demo")); store.stage("rounds/000/pair", inputs, work)
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sparring.memory import OutOfMemory, PeakMemory, ran_out, release_memory
from sparring.weights import hash_file, hash_weights

Facts = dict[str, Any]
NO_PLACE = (FileExistsError, FileNotFoundError, IsADirectoryError, NotADirectoryError)
"""what the system says of a path where nothing can be written"""

SAVERS = {
    "sample": "sampling.batch_size (or with vLLM sampling.vllm.memory_share)",
    "anchor": "fit.micro_batch_tokens (the same result), or set fit.shard_weights with several devices",
    "fit": "fit.micro_batch_tokens (the same result), or set fit.gradient_checkpointing",
    "measure": "fit.micro_batch_tokens",
    "judge": "the oracle's batch_size or max_tokens",
    "summary": "the oracles' batch_size or max_tokens",
}
"""by the beginning of a stage's name: what to lower where memory ran out"""


@dataclass(frozen=True, slots=True)
class Made:
    """What a stage made: output files or policy folders (relative to the run), and facts to show."""

    outputs: tuple[str, ...]
    facts: Facts


class Store:
    """The run's folder and its manifest."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.manifest: dict[str, dict[str, Any]] = {}
        if (root / "manifest.json").exists():
            self.manifest = read_json(root / "manifest.json")

    def path(self, relative: str) -> Path:
        """An absolute path inside the run, its folder made."""
        path = self.root / relative
        make_folder(path.parent)
        return path

    def stage(self, key: str, inputs: Mapping[str, str], work: Callable[[], Made]) -> Facts:
        """Run `work` unless the manifest has it; returns its facts.

        `inputs` maps names to hashes; a finished stage whose inputs have other hashes is run again,
        and so is every stage that reads its outputs.
        """
        entry = self.manifest.get(key)
        if entry is not None and entry["inputs"] == dict(inputs) and self._present(entry):
            return entry["facts"]
        # Killed half-way, a second run leaves files that the old hashes would call altered.
        self.forget(key)
        start = time.time()
        with PeakMemory() as memory:
            made = _with_remedy(key, work)
        release_memory()
        self.manifest[key] = {
            "inputs": dict(inputs),
            "outputs": {name: self.fingerprint(name) for name in made.outputs},
            "facts": made.facts,
            "seconds": round(time.time() - start, 1),
            "peak_bytes": memory.peak,
            "finished": time.strftime("%Y-%m-%dT%H:%M:%S"),
        }
        write_json(self.root / "manifest.json", self.manifest)
        return made.facts

    def finished(self, key: str) -> bool:
        """Whether the stage was run and what it made is there (or pruned)."""
        return key in self.manifest and self._present(self.manifest[key])

    def forget(self, key: str) -> None:
        """Have a stage run again, if it was run."""
        if self.manifest.pop(key, None) is not None:
            write_json(self.root / "manifest.json", self.manifest)

    def _present(self, entry: Mapping[str, Any]) -> bool:
        pruned = entry.get("pruned", [])
        return all((self.root / name).exists() or name in pruned for name in entry["outputs"])

    def check(self) -> None:
        """Compare every stored output with its hash.

        Raises:
            ValueError: a file was altered or cut short since it was written.
        """
        for key, entry in self.manifest.items():
            for name, expected in entry["outputs"].items():
                # A pruned policy may be half deleted: a kill came in between.
                if name not in entry.get("pruned", []) and self._altered(name, expected):
                    raise ValueError(
                        f"{self.root / name} was altered or cut short since stage {key} wrote it. "
                        f"Restore it, or delete it to have {key} and what depends on it run again."
                    )

    def _altered(self, name: str, expected: str) -> bool:
        if not (self.root / name).exists():
            return False
        try:
            return self.fingerprint(name) != expected
        except ValueError:  # cut short, so that it cannot even be read
            return True

    def fingerprint(self, relative: str) -> str:
        """Hash of a file, or of a policy folder's weights."""
        path = self.root / relative
        return hash_weights(path) if path.is_dir() else hash_file(path)

    def output_hash(self, key: str, relative: str) -> str:
        """The recorded hash of a finished stage's output."""
        return self.manifest[key]["outputs"][relative]

    def prune(self, key: str, relative: str) -> None:
        """Delete a policy that nothing needs any more, and say so in the manifest."""
        entry = self.manifest[key]
        if relative not in entry.get("pruned", []):
            entry.setdefault("pruned", []).append(relative)
            write_json(self.root / "manifest.json", self.manifest)
        shutil.rmtree(self.root / relative, ignore_errors=True)

    def _foreign(self) -> bool:
        """Whether the folder holds something, but neither a run's lock nor its manifest."""
        ours = any((self.root / name).exists() for name in ("run.lock", "manifest.json"))
        return not ours and self.root.exists() and any(self.root.iterdir())

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run: two processes writing the same run would ruin it."""
        if self.root.exists() and not self.root.is_dir():
            raise ValueError(f"{self.root} is a file, not a run folder. Give another --out.")
        if self._foreign():
            raise ValueError(
                f"{self.root} holds files and is not a run folder; a run could overwrite them. Give another --out."
            )
        make_folder(self.root)
        with (self.root / "run.lock").open("w") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ValueError(
                    f"{self.root} is being worked on by another process. Wait for it, or give another --out."
                ) from None
            yield


def _with_remedy(key: str, work: Callable[[], Made]) -> Made:
    """The work's result.

    Raises:
        OutOfMemory: an allocation failed; names the field that takes less.
    """
    try:
        return work()
    except Exception as error:
        saver = SAVERS.get(key.rpartition("/")[2].partition("-")[0])
        if saver is None or not ran_out(error):
            raise
        first = (str(error) or type(error).__name__).splitlines()[0]
        raise OutOfMemory(
            f"{key} ran out of memory: {first} Lower {saver}, and give the same command: what was finished is kept."
        ) from error


def refuse_folder_of_runs(folder: Path, mark: str = "recipe.yaml") -> None:
    """Raise ValueError where a folder, such as a study's, is neither a run nor a model, but holds runs.

    Names the first that has the file `mark`.
    """
    if any((folder / name).exists() for name in ("recipe.yaml", "config.json", "adapter_config.json")):
        return
    runs = [file.parents[mark.count("/")] for file in sorted(folder.rglob(mark))]
    if runs:
        raise ValueError(f"{str(folder)!r} is no run's folder, but holds runs. Name one, such as {str(runs[0])!r}.")


def read_json(path: Path) -> Any:
    """A JSON file. Raises ValueError naming it when it is damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}. Restore it, or start a new run folder.") from error


def write_json(path: Path, value: Any) -> None:
    """Write beside the target, flush to disk, rename."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


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
