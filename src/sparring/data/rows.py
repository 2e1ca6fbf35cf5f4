"""Rows of data files, one at a time: a set of any size is read in the memory of a few hundred rows.

JSONL (gzipped too), CSV, Parquet and Arrow files are read piece by piece, and so are folders and patterns of such
files: shards, a data set fetched from the hub, one written by `save_to_disk`. A .json file is one value and is read
whole. Leaves out: what the columns mean (`examples.py`).

    for row, file, number in stream_rows(DatasetConfig(path="shards/*.jsonl.gz")): ...
"""

from __future__ import annotations

import csv
import glob
import gzip
import io
import json
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from importlib import resources
from itertools import islice
from pathlib import Path
from typing import IO, Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from sparring.recipe.sections import DatasetConfig
from sparring.runtime.errors import first_line

Row = dict[str, Any]
ENDINGS = (".jsonl", ".json", ".parquet", ".csv", ".arrow")
BATCH = 256
"""rows of a Parquet or Arrow file that are Python objects together"""
NOT_DATA = {"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"}
"""what `datasets` writes beside the data"""
SHARD = re.compile(r"([-_.]?\d+)?([-_.]of[-_.]\d+)?$")
PLAIN_NAMES = {"", "data", "part", "shard", "chunk", "default"}
"""names of files and folders that name no split"""
UNREAD = re.compile(r"\.(tsv|ndjson)(\.gz)?$|\.(jsonl?|csv|tsv|ndjson|parquet|arrow)\.(zst|bz2|xz|lz4|zip)$")
"""files of a folder that hold data in a form that is not read"""
EPISODES = "episodes"
"""the shipped set of numbered tasks, for environments that need no data: `limit` says how many"""
LONGEST_FIELD = 2**31 - 1
"""of a CSV cell: Python's own limit is 131,072 characters"""


class Placed(NamedTuple):
    """A row and its place in the data."""

    row: Row
    file: str
    number: int
    """counted from 1 within the file; not the line, where a row has several"""


def data_files(config: DatasetConfig) -> list[Path] | None:
    """The files of a data set on this machine; None for a shipped data set or one of the hub.

    Raises:
        ValueError: there are none, or a folder holds several splits and none is asked for.
    """
    return None if config.path.startswith("sparring:") else _files(config)[0]


def _files(config: DatasetConfig) -> tuple[list[Path] | None, bool]:
    """The files, and whether `split` chose among them (and so names no value of a column)."""
    path = Path(config.path).expanduser()
    here = path.is_dir() or path.is_file() or glob.has_magic(config.path)
    if here and config.stream:
        raise ValueError(
            f"data: stream = true with {config.path!r}, which is on this machine: files are always read row by row. "
            "Remove stream."
        )
    if path.is_dir():
        return _folder(_configuration(path, config), config.split)
    is_pattern = glob.has_magic(config.path)
    if path.is_file() or is_pattern:
        _refuse_fields(config, ("name", "revision"), "a pattern" if is_pattern else "a file")
    if path.is_file():
        if not path.stat().st_size:
            raise ValueError(f"data: {config.path!r} is empty. Write it again, or give another file.")
        return [path], False
    if is_pattern:
        matches = [Path(name) for name in sorted(glob.glob(str(path), recursive=True)) if Path(name).is_file()]
        if not matches:
            raise ValueError(f"data: no file matches {config.path!r}.")
        return matches, False
    if path.suffix in ENDINGS or path.suffix == ".gz" or config.path.startswith((".", "/", "~")):
        raise ValueError(
            f"data: {config.path!r} is not a file. Give a {', '.join(ENDINGS)} file, a folder or a pattern of such "
            "files, or a hub data set."
        )
    return None, False


def _refuse_fields(config: DatasetConfig, fields: Sequence[str], kind: str) -> None:
    for field in fields:
        if (value := getattr(config, field)) is not None:
            raise ValueError(
                f"data: {field} = {value!r} with {config.path!r}, which is {kind}: it would choose nothing. Remove "
                f"{field}, or give the files that are meant as path."
            )


def _configuration(folder: Path, config: DatasetConfig) -> Path:
    """The folder of the configuration that `name` chooses; without a name the whole folder."""
    _refuse_fields(config, ("revision",), "a folder")
    if config.name is None:
        return folder
    folders = {path.name: path for path in [*(folder / "data").glob("*"), *folder.iterdir()] if path.is_dir()}
    if config.name not in folders:
        there = ", ".join(map(repr, sorted(folders))) or "no folders"
        raise ValueError(
            f"data: name = {config.name!r}, but the folder {str(folder)!r} holds {there}. Name one of its folders, or "
            "give the files that are meant as path, such as 'folder/part-*.parquet'."
        )
    return folders[config.name]


def _folder(folder: Path, split: str | None) -> tuple[list[Path], bool]:
    splits: dict[str, list[Path]] = {}
    unread: list[str] = []
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        hidden = any(part.startswith((".", "_", "cache-")) for part in inside.parts)
        if not path.is_file() or hidden or path.name in NOT_DATA:
            continue
        if _ending(path) in ENDINGS:
            splits.setdefault(_split_name(inside), []).append(path)
        elif UNREAD.search(path.name):
            unread.append(str(inside))
    if unread:
        raise ValueError(
            f"data: the folder {str(folder)!r} holds files that cannot be read here: {', '.join(unread[:3])}. Unpack "
            f"or convert them ({', '.join(ENDINGS)}; .gz of text files), or give a pattern of the others."
        )
    if not splits:
        raise ValueError(f"data: the folder {str(folder)!r} holds no data file ({', '.join(ENDINGS)}).")
    if len(splits) == 1:
        ((name, files),) = splits.items()
        return _one_configuration(folder, name, files), name == split
    if (chosen := split or "train") not in splits:
        raise ValueError(
            f"data: the folder {str(folder)!r} holds {', '.join(map(repr, splits))}"
            + (f" and no split {split!r}." if split else ".")
            + " Say which under split:, or give a pattern such as 'folder/*.parquet' for all."
        )
    return _one_configuration(folder, chosen, splits[chosen]), True


def _one_configuration(folder: Path, split: str, files: list[Path]) -> list[Path]:
    """The files of a split, which must not be those of several configurations (preference/train, feedback/train)."""
    inside = [path.relative_to(folder).parts[:-1] for path in files]
    names = {next((part for part in parts if part not in {*PLAIN_NAMES, split}), "") for parts in inside}
    if len(names) > 1 and split:
        shown = ", ".join(map(repr, sorted(names)))
        raise ValueError(
            f"data: {split!r} in the folder {str(folder)!r} is in several configurations: {shown}. Say which under "
            "name:, or give a pattern such as 'folder/*/*.parquet' for all."
        )
    return files


def _split_name(inside: Path) -> str:
    """A file's split by its name: train for train-00000-of-00002.parquet and train/data-00000.arrow; else empty."""
    names = [SHARD.sub("", inside.name.split(".")[0]), *reversed(inside.parts[:-1])]
    return next((name for name in names if name not in PLAIN_NAMES), "")


def _ending(path: Path) -> str:
    return Path(path.stem).suffix if path.suffix == ".gz" else path.suffix


def stream_rows(config: DatasetConfig) -> Iterator[Placed]:
    """The rows of a data set, `split` and `limit` applied.

    Raises:
        ValueError: it is missing or unreadable, or no row is of the split.
    """
    if config.path.startswith("sparring:"):
        _refuse_fields(config, ("name", "revision"), "a shipped set")
        rows, by_column = _placed(config.path, _shipped(config)), True
    else:
        files, named = _files(config)
        by_column = files is not None and not named
        rows = _hub(config) if files is None else (r for file in files for r in _placed(str(file), stream_file(file)))
    if by_column and config.split is not None:
        rows = _of_split(rows, config)
    return islice(rows, config.limit)


def read_rows(config: DatasetConfig) -> list[Row]:
    """All rows of a data set at once."""
    return [placed.row for placed in stream_rows(config)]


def _placed(name: str, rows: Iterable[Row]) -> Iterator[Placed]:
    return (Placed(row, name, number) for number, row in enumerate(rows, start=1))


def _of_split(rows: Iterable[Placed], config: DatasetConfig) -> Iterator[Placed]:
    names: dict[str, None] = {}
    for placed in rows:
        if not names and "split" not in placed.row:
            raise ValueError(f"data: split: {config.split!r} is set, but {config.path!r} has no column 'split'.")
        names[str(placed.row.get("split"))] = None
        if placed.row.get("split") == config.split:
            yield placed
    if names and config.split not in names:
        raise ValueError(f"data: {config.path!r} has no row of split {config.split!r}; it has {', '.join(names)}.")


def _shipped(config: DatasetConfig) -> Iterator[Row]:
    name = config.path.removeprefix("sparring:")
    if name == EPISODES:
        if config.limit is None:
            raise ValueError(f"data: 'sparring:{EPISODES}' has no end. Give limit: the number of episodes.")
        split = config.split or "train"
        yield from ({"prompt": f"{split} episode {number}", "split": split} for number in range(config.limit))
        return
    file = resources.files("sparring") / "data" / f"{name}.jsonl"
    if not file.is_file():
        raise ValueError(
            f"data: there is no shipped set 'sparring:{name}'. Shipped: prompts, gold, instructions, personas, "
            f"{EPISODES}."
        )
    for line in file.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        yield {"gold": row["response"], **row} if "response" in row else row


def _stream_hub(config: DatasetConfig, rows: Iterable[Any]) -> Iterator[Row]:
    """Rows as they arrive; a connection that ends half-way is an error, not the end of the data."""
    count = 0
    try:
        for row in rows:
            yield dict(row)
            count += 1
    except (OSError, RuntimeError, ValueError) as error:
        raise ValueError(
            f"data: {config.path!r} stopped arriving after {count} rows ({first_line(error)}). Run the command again, "
            "or set stream: false, which keeps what was fetched."
        ) from error


def _hub(config: DatasetConfig) -> Iterator[Placed]:
    import datasets

    try:
        rows = datasets.load_dataset(
            config.path,
            config.name,
            split=config.split or "train",
            revision=config.revision,
            streaming=config.stream,
        )
    except Exception as error:
        raise ValueError(
            f"data: {config.path!r} is neither a file nor a data set that could be fetched from the hub "
            f"({first_line(error)}). Check the spelling and "
            "the network, or download it and give its file."
        ) from error
    return _placed(config.path, _stream_hub(config, rows) if config.stream else (dict(row) for row in rows))


def read_file(path: Path) -> list[Row]:
    """All rows of a file at once."""
    return list(stream_file(path))


def stream_file(path: Path) -> Iterator[Row]:
    """Rows of a JSONL, JSON, CSV, Parquet or Arrow file; text files may be gzipped (`.jsonl.gz`).

    Raises:
        ValueError: missing, unreadable or cut short; names the file, and the line where there is one.
    """
    readers = {".parquet": _parquet, ".arrow": _arrow, ".csv": _csv, ".json": _json, ".jsonl": _lines}
    reader = readers.get(_ending(path))
    if reader is None:
        raise ValueError(f"data: {str(path)!r} has an unknown ending. Give one of {', '.join(ENDINGS)}.")
    try:
        yield from reader(path)
    except UnicodeDecodeError as error:
        raise ValueError(f"data: {str(path)!r} is not UTF-8 (byte {error.start}). Convert it to UTF-8.") from error
    except EOFError as error:
        raise ValueError(f"data: {str(path)!r} is cut short. Fetch or write it again.") from error
    except (json.JSONDecodeError, pa.ArrowException, zlib.error, OSError) as error:
        raise ValueError(f"data: {str(path)!r} cannot be read: {error}") from error


def _parquet(path: Path) -> Iterator[Row]:
    with pq.ParquetFile(path, memory_map=False, pre_buffer=False) as file:
        for batch in file.iter_batches(BATCH):
            yield from _objects(batch, path)


def _arrow(path: Path) -> Iterator[Row]:
    with pa.memory_map(str(path)) as source:
        for batch in pa.ipc.open_stream(source):
            for begin in range(0, batch.num_rows, BATCH):
                yield from _objects(batch.slice(begin, BATCH), path)


def _objects(batch: pa.RecordBatch, path: Path) -> list[Row]:
    """Rows of a batch; what `datasets` stores as JSON text (arrow.json) is decoded, as it gives it back."""
    _refuse_doubled(batch.schema.names, path)
    rows = batch.to_pylist()
    for field in batch.schema:
        if _holds_json(field.type):
            for row in rows:
                row[field.name] = _json_inside(row[field.name], field.type)
    return rows


def _holds_json(kind: pa.DataType) -> bool:
    inner = [kind.field(i).type for i in range(kind.num_fields)]
    return getattr(kind, "extension_name", "") == "arrow.json" or any(map(_holds_json, inner))


def _json_inside(value: Any, kind: pa.DataType) -> Any:
    if value is None or not _holds_json(kind):
        return value
    if isinstance(value, str):
        return json.loads(value)
    if isinstance(value, dict):
        return {name: _json_inside(inside, kind.field(name).type) for name, inside in value.items()}
    return [_json_inside(inside, kind.field(0).type) for inside in value]


def _refuse_doubled(names: Iterable[str], path: Path) -> None:
    """Of two columns of one name only the last would be read."""
    if doubled := [name for name, count in Counter(names).items() if count > 1 and name.strip()]:
        raise ValueError(f"data: {str(path)!r} has two columns {doubled[0]!r}. Rename or remove one.")


def _open(path: Path) -> IO[bytes]:
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")  # type: ignore[return-value]


def _csv(path: Path) -> Iterator[Row]:
    with _open(path) as stream, io.TextIOWrapper(stream, encoding="utf-8-sig", newline="") as text:
        csv.field_size_limit(LONGEST_FIELD)
        reader = csv.DictReader(text, strict=True)
        try:
            _refuse_doubled(reader.fieldnames or (), path)
            _refuse_other_separator(reader.fieldnames or (), path)
            for row in reader:
                extra: Any = row.pop(None, [])  # type: ignore[call-overload]
                fields = [value for value in row.values() if value is not None]
                if not any(value.strip() for value in [*fields, *extra]):
                    continue
                if len(fields) < len(row) or any(value.strip() for value in extra):
                    count = len(fields) + len(extra)
                    raise ValueError(
                        f"data: {str(path)!r}, line {reader.line_num}: {count} fields, but the header names "
                        f"{len(row)}. Put quotes around text that holds commas."
                    )
                yield row
        except UnicodeDecodeError as error:
            error.start += stream.tell() - len(error.object)  # counted from where the last piece began
            raise
        except csv.Error as error:
            line = reader.line_num + 1
            raise ValueError(f"data: {str(path)!r}, line {line}: cannot be read: {error}") from error


def _refuse_other_separator(names: Sequence[str], path: Path) -> None:
    for sign, called in ((";", "semicolons"), ("\t", "tabs")):
        if len(names) == 1 and sign in names[0]:
            raise ValueError(
                f"data: {str(path)!r}: its header is the one field {names[0]!r}. Is it separated by {called}? Save "
                "it with commas."
            )


def _json(path: Path) -> Iterator[Row]:
    with _open(path) as stream:
        text = stream.read().decode("utf-8-sig")
    try:
        plain = json.loads(text)
    except json.JSONDecodeError as error:
        if not text.strip():
            raise ValueError(f"data: {str(path)!r} is empty. Write it again, or give another file.") from error
        if _is_object(text.lstrip().split("\n", 1)[0]):
            raise ValueError(f"data: {str(path)!r} looks like JSON Lines: name it .jsonl.") from error
        raise
    if not isinstance(plain, list) or not all(isinstance(row, dict) for row in plain):
        raise ValueError(f"data: {str(path)!r} must hold a list of objects.")
    yield from plain


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except json.JSONDecodeError:
        return False


def _lines(path: Path) -> Iterator[Row]:
    begin = 0
    with _open(path) as stream:
        # Lines of bytes: a JSON string may hold other line separators, such as U+2028.
        for number, line in enumerate(stream, start=1):
            try:
                # Excel and PowerShell begin files with a mark.
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                error.start += begin
                raise
            begin += len(line)
            if text.strip():
                yield from _line(text.strip(), path, number)


def _line(text: str, path: Path, number: int) -> Iterator[Row]:
    """The row of a line, or one for each JSON string in it: ALOE's persona files hold such, some lines two."""
    try:
        if text.startswith('"'):
            for prompt in _strings(text):
                yield {"prompt": prompt}
            return
        row = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(
            f"data: {str(path)!r}, line {number}: not valid JSON ({error.msg}). Correct or remove that line."
        ) from error
    if not isinstance(row, dict):
        raise ValueError(f'data: {str(path)!r}, line {number}: expected an object like {{"prompt": ...}}.')
    yield row


def _strings(text: str) -> Iterator[str]:
    decode, place = json.JSONDecoder().raw_decode, 0
    while place < len(text):
        value, place = decode(text, place)
        if not isinstance(value, str):
            raise json.JSONDecodeError("a string, and more beside it", text, place)
        yield value.strip()
        while text[place : place + 1].isspace():
            place += 1
