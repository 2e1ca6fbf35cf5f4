"""JSON-lines files of answers by key, whose lines begin `{"key": `; other files are refused unchanged.

Every line ends in a checksum of its own, so that a damaged one is not used; lines of earlier versions have none. A
killed process leaves its last line half-written: it is passed over, and ended, so that the next does not join it.
Leaves out: what the rows hold.

    path.write_text(as_line({"key": "a", "preference": 0.7})); read_lines(path, lambda row: row["preference"])
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

START = '{"key": '
CHECK = "check"


def as_line(row: Mapping[str, Any]) -> str:
    """The row as a line, with its checksum."""
    return json.dumps({**row, CHECK: _checksum(row)}) + "\n"


def _checksum(row: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(row).encode()).hexdigest()[:12]


def read_lines(path: Path, take: Callable[[Any], object]) -> list[tuple[int, bool]]:
    """Give every row to `take`. The numbers of lines that it cannot use, each with whether damage made it so.

    `take` raises ValueError for a value that cannot have been written, KeyError or TypeError for another form of row.

    Raises:
        ValueError: a folder, or a file of which no line can be used; nothing was written to it.
    """
    if path.is_dir():
        raise ValueError(f"{path} is a folder. Give a file, which is made where there is none.")
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    lines = text.removesuffix("\n").split("\n") if text else []
    unused: list[tuple[int, bool]] = []
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            unused.append((number, line[: len(START)] == START[: len(line)]))
            continue
        try:
            take(checked(row))
        except ValueError:
            unused.append((number, line.startswith(START)))
        except (AttributeError, KeyError, TypeError):
            unused.append((number, False))
    if len(unused) == len(lines) and (foreign := [number for number, ours in unused if not ours]):
        raise ValueError(
            f"{path}, line {foreign[0]}: not what is kept here, and neither is any other line. Nothing was written to "
            "it: give another file, which is made where there is none."
        )
    if text and not text.endswith("\n"):
        with path.open("ab+") as stream, _alone(stream):
            stream.seek(-1, os.SEEK_END)
            if stream.read() != b"\n":
                stream.write(b"\n")
    return unused


def append_lines(path: Path, lines: str) -> None:
    """Add whole lines in one piece: those of several processes that share the file do not mix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as stream, _alone(stream):
        stream.write(lines.encode())


@contextlib.contextmanager
def _alone(stream: IO[bytes]) -> Iterator[None]:
    """Wait for other processes that write the file, where the file system knows locks."""
    with contextlib.suppress(OSError):
        fcntl.flock(stream, fcntl.LOCK_EX)
    yield
    stream.flush()  # while it is locked; closing it lets go


def checked(row: Any) -> Any:
    """The row without its checksum. Raises ValueError where it is another's."""
    if not isinstance(row, dict) or CHECK not in row:
        return row
    plain = {name: value for name, value in row.items() if name != CHECK}
    if row[CHECK] != _checksum(plain):
        raise ValueError("damaged")
    return plain


def damage(path: Path | None, lines: Sequence[int], remedy: str) -> str:
    """A note on the damaged lines of a file; empty where there are none."""
    if not lines:
        return ""
    many = "line is damaged and is" if len(lines) == 1 else "lines are damaged and are"
    return f"note  {path}: {len(lines)} {many} not used (line {lines[0]}{' first' * (len(lines) > 1)}). {remedy}"
