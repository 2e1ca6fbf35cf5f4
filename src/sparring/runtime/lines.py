"""JSON-lines files of answers by key, whose lines begin `{"key": `; other files are refused unchanged.

A killed process leaves its last line half-written: it is passed over, and ended, so that the next does not join it.
Leaves out: what the rows hold.

    read_lines(Path("verdicts.jsonl"), lambda row: row["preference"])
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

START = '{"key": '


def read_lines(path: Path, take: Callable[[Any], object]) -> list[tuple[int, bool]]:
    """Give every row to `take`. The lines it cannot use, by number, and whether they are torn.

    Raises:
        ValueError: a folder, or a file of which no line can be used; nothing was written to it.
    """
    if path.is_dir():
        raise ValueError(f"{path} is a folder. Give a file, which is made where there is none.")
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    lines = text.splitlines()
    unused: list[tuple[int, bool]] = []
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            unused.append((number, line[: len(START)] == START[: len(line)]))
            continue
        try:
            take(row)
        except (AttributeError, KeyError, TypeError, ValueError):
            unused.append((number, False))
    if len(unused) == len(lines) and (foreign := [number for number, torn in unused if not torn]):
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
