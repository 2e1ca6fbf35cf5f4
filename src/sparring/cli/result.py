"""What the evaluations have in common: a result that names its files, stored, printed or shown. Leaves out: tables."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

PIPE_WIDTH = 160


def finish(
    result: Mapping[str, Any], files: Sequence[Path], out: Path | None, as_json: bool, show: Callable[[Console], None]
) -> None:
    """Store `result` with the hashes of the files that it came from, then print or show it."""
    from sparring import __version__
    from sparring.runtime.files import write_json

    whole = finite({**result, "files": hashes(files), "sparring_version": __version__})
    if out is not None:
        write_json(out / "result.json", whole)
    if as_json:
        print(json.dumps(whole, allow_nan=False))
        return
    show(wide_console())


def finite(value: Any) -> Any:
    """Plain data: dataclasses as objects of their fields, and null for numbers that are not finite."""
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, Mapping):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def wide_console() -> Console:
    """For tables: a pipe has no width of its own, and rich's 80 columns would break them."""
    return Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else PIPE_WIDTH)


def hashes(files: Sequence[str | Path]) -> dict[str, str]:
    """SHA-256 by file; what is no file here (a hub's or a shipped data set) is left out."""
    from sparring.runtime.files import hash_file

    return {str(path): hash_file(Path(path)) for path in files if Path(path).is_file()}


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """Rows of plain text: names of models are not markup."""
    made = Table(title=title.replace("[", r"\["), title_justify="left")
    for column in columns:
        made.add_column(column)
    for row in rows:
        made.add_row(*(cell.replace("[", r"\[") for cell in row))
    return made


def existing(paths: Sequence[Path]) -> list[Path]:
    """The paths, after a check that all are files."""
    for path in paths:
        if not path.is_file():
            raise ValueError(f"{path} is not a file.")
    return list(paths)
