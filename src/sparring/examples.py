"""Rows of users' data become examples: a prompt and the responses that the data hold.

Reads JSONL, JSON, Parquet and CSV files, hub data sets, and the two sets that Sparring ships; maps
columns; and counts every row it cannot use, by reason. Leaves out: tokens (`rounds/prepare.py`).

    examples, dropped = load_examples(DatasetConfig(path="sparring:prompts", split="train"), roles=())
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sparring.chat import Message, answer_text, as_messages, split_conversation
from sparring.evaluation.checks import passes
from sparring.recipe import DatasetConfig

Row = dict[str, Any]
ENDINGS = (".jsonl", ".json", ".parquet", ".csv")


@dataclass(frozen=True, slots=True)
class Example:
    """A prompt, the responses by role, and an optional rule that code can check."""

    id: str
    """hash of the content, so that it is the same in every run"""
    messages: list[Message]
    responses: dict[str, str]
    check: dict[str, Any] | None = None


def load_examples(config: DatasetConfig, roles: Sequence[str]) -> tuple[list[Example], Counter[str]]:
    """Examples that hold every role, and the dropped rows counted by reason.

    Raises:
        ValueError: the file is missing or unreadable (with the line), a column is missing, or nothing is left.
    """
    examples: dict[str, Example] = {}
    dropped: Counter[str] = Counter()
    for row in _checked_columns(read_rows(config), config, roles):
        try:
            example = _example(row, config, roles)
        except UnknownCheck as error:
            raise ValueError(str(error)) from error
        except ValueError as error:
            dropped[str(error)] += 1
            continue
        if example.id in examples:
            dropped["duplicate"] += 1
        elif "chosen" in roles and example.responses["chosen"] == example.responses["rejected"]:
            dropped["chosen and rejected are identical"] += 1
        else:
            examples[example.id] = example
    if not examples:
        reasons = "; ".join(f"{count} x {reason}" for reason, count in dropped.items()) or "it has no rows"
        raise ValueError(f"data: {config.path!r} holds no usable example: {reasons}.")
    return list(examples.values()), dropped


def _example(row: Row, config: DatasetConfig, roles: Sequence[str]) -> Example:
    columns = config.columns
    values = {role: row.get(getattr(columns, role)) for role in roles}
    for role, value in values.items():
        if value is None:
            raise ValueError(f"the {role} response is null")
    prompt = row.get(columns.prompt)
    if prompt is None and roles and columns.prompt not in row:
        messages = split_conversation(values[roles[0]])[0]
    elif prompt is None:
        raise ValueError("the prompt is null")
    else:
        messages = as_messages(prompt)
    responses = {role: answer_text(value) for role, value in values.items()}
    check = parse_check(row.get(columns.check))
    content = json.dumps([messages, responses], sort_keys=True, ensure_ascii=False)
    return Example(hashlib.sha256(content.encode()).hexdigest()[:16], messages, responses, check)


def parse_check(value: Any) -> Row | None:
    """A rule, given as an object or as JSON text; empty cells and absent arguments are none.

    Raises:
        UnknownCheck: the rule or its arguments are not known.
    """
    if value is None or value == "":
        return None
    try:
        plain = json.loads(value) if isinstance(value, str) else value
        check = {name: argument for name, argument in plain.items() if argument is not None}
        passes(check, "")
    except (ValueError, AttributeError) as error:
        raise UnknownCheck(f"data: the check {value!r} cannot be used: {error}") from error
    return check


class UnknownCheck(Exception):
    """A rule that cannot be evaluated: the whole data set is refused, not just the row."""


def _checked_columns(rows: Iterable[Row], config: DatasetConfig, roles: Sequence[str]) -> Iterator[Row]:
    """The rows, after the first one has shown that the mapped columns exist."""
    for index, row in enumerate(rows):
        if index == 0:
            wanted = [getattr(config.columns, role) for role in roles]
            from_conversation = roles and isinstance(row.get(wanted[0]), list)
            needed = wanted if from_conversation else [config.columns.prompt, *wanted]
            missing = [name for name in needed if name not in row]
            if missing:
                raise ValueError(
                    f"data: {config.path!r} has no column {missing[0]!r}; it has {', '.join(map(repr, row))}. "
                    "Name yours under columns: {prompt: ..., chosen: ..., rejected: ..., gold: ...}."
                    + (" Or have pairs built: data.collect." if "chosen" in roles else "")
                )
        yield row


def read_rows(config: DatasetConfig) -> list[Row]:
    """All rows of a data set as dictionaries, `split` and `limit` applied."""
    if config.path.startswith("sparring:"):
        rows = _shipped(config.path.removeprefix("sparring:"))
    elif (path := Path(config.path).expanduser()).is_file():
        rows = _read_file(path)
    elif path.suffix in ENDINGS or path.exists() or config.path.startswith((".", "/", "~")):
        raise ValueError(f"data: {config.path!r} is not a file. Give a {', '.join(ENDINGS)} file, or a hub data set.")
    else:
        rows = _read_hub(config)
        return rows[: config.limit]
    if config.split is not None:
        if rows and "split" not in rows[0]:
            raise ValueError(f"data: split: {config.split!r} is set, but {config.path!r} has no column 'split'.")
        names = dict.fromkeys(str(row.get("split")) for row in rows)
        rows = [row for row in rows if row.get("split") == config.split]
        if not rows and names:
            raise ValueError(f"data: {config.path!r} has no row of split {config.split!r}; it has {', '.join(names)}.")
    return rows[: config.limit]


def _shipped(name: str) -> list[Row]:
    file = resources.files("sparring") / "data" / f"{name}.jsonl"
    if not file.is_file():
        raise ValueError(f"data: there is no shipped set 'sparring:{name}'. Shipped: prompts, gold.")
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    return [{"gold": row["response"], **row} if "response" in row else row for row in rows]


def _read_file(path: Path) -> list[Row]:
    if path.suffix not in ENDINGS:
        raise ValueError(f"data: {str(path)!r} has an unknown ending. Give one of {', '.join(ENDINGS)}.")
    try:
        if path.suffix == ".parquet":
            return pq.read_table(path).to_pylist()
        text = path.read_bytes().decode("utf-8-sig")  # Excel and PowerShell begin files with a mark
        if path.suffix == ".csv":
            return list(csv.DictReader(io.StringIO(text, newline=""), strict=True))
        if path.suffix == ".json":
            return _rows_of(json.loads(text), path)
        return list(_read_lines(text, path))
    except UnicodeDecodeError as error:
        raise ValueError(f"data: {str(path)!r} is not UTF-8 (byte {error.start}). Convert it to UTF-8.") from error
    except (json.JSONDecodeError, csv.Error, pa.ArrowException, OSError) as error:
        raise ValueError(f"data: {str(path)!r} cannot be read: {error}") from error


def _rows_of(plain: Any, path: Path) -> list[Row]:
    if not isinstance(plain, list) or not all(isinstance(row, dict) for row in plain):
        raise ValueError(f"data: {str(path)!r} must hold a list of objects.")
    return plain


def _read_lines(text: str, path: Path) -> Iterator[Row]:
    # Not splitlines: a JSON string may hold other line separators, such as U+2028.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(
                f"data: {str(path)!r}, line {number}: not valid JSON ({error.msg}). Mend or remove that line."
            ) from error
        if not isinstance(row, dict):
            raise ValueError(f'data: {str(path)!r}, line {number}: expected an object like {{"prompt": ...}}.')
        yield row


def _read_hub(config: DatasetConfig) -> list[Row]:
    import datasets

    try:
        found = datasets.load_dataset(config.path, config.name, split=config.split or "train")
    except Exception as error:
        raise ValueError(
            f"data: {config.path!r} is neither a file nor a data set that could be fetched from the hub "
            f"({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}). Check the spelling and "
            "the network, or download it and give its file."
        ) from error
    return [dict(row) for row in found]
