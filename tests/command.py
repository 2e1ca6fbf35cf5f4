"""The `sparring` command in this process: what it prints, and how it exits."""

from __future__ import annotations

import contextlib
import io
import sys
from typing import NamedTuple

import pytest

from sparring.cli.main import main


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


def sparring(*words: object) -> Outcome:
    """Run `sparring WORDS`."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["sparring", *map(str, words)])
        patch.setattr(sys, "path", list(sys.path))
        patch.setenv("COLUMNS", "200")
        redirected = contextlib.redirect_stdout(out), contextlib.redirect_stderr(err)
        with redirected[0], redirected[1], pytest.raises(SystemExit) as exit_:
            main()
    return Outcome(int(exit_.value.code or 0), out.getvalue(), err.getvalue())
