"""The `sparring` command in this process: what it prints, and how it exits."""

from __future__ import annotations

import contextlib
import io
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from sparring.cli.main import main


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


class Ran(NamedTuple):
    """A finished run: its recipe, its folder, and what the command printed."""

    recipe: Path
    out: Path
    printed: str


def sparring(*words: object, columns: int | None = 200) -> Outcome:
    """Run `sparring WORDS` in a pipe of so many columns; None: of no width of its own."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["sparring", *map(str, words)])
        patch.setattr(sys, "path", list(sys.path))
        if columns is None:
            patch.delenv("COLUMNS", raising=False)
        else:
            patch.setenv("COLUMNS", str(columns))
        redirected = contextlib.redirect_stdout(out), contextlib.redirect_stderr(err)
        with redirected[0], redirected[1], pytest.raises(SystemExit) as exit_:
            main()
    return Outcome(int(exit_.value.code or 0), out.getvalue(), err.getvalue())
