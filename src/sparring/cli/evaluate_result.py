"""What the evaluations have in common: a result that names its files, stored, printed or shown. Leaves out: tables."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table


def finish(
    result: Mapping[str, Any], files: Sequence[Path], out: Path | None, as_json: bool, show: Callable[[Console], None]
) -> None:
    """Store `result` with the hashes of the files that it came from, then print or show it."""
    from sparring import __version__
    from sparring.rounds.store import write_json
    from sparring.weights import hash_file

    hashes = {str(path): hash_file(path) for path in files}
    whole = {**result, "files": hashes, "sparring_version": __version__}
    if out is not None:
        write_json(out / "result.json", whole)
    if as_json:
        print(json.dumps(whole))
        return
    show(Console(highlight=False, soft_wrap=True))


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
