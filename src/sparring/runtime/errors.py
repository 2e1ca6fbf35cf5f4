"""Errors of parts that work hours after a recipe was checked: they stop a stage; finished work stays on disk.

Wrong input is a `ValueError` everywhere. Leaves out: memory that ran out (`memory.py`).
"""

from __future__ import annotations

import sysconfig
import traceback
from pathlib import Path

OURS = Path(__file__).parents[1]
STANDARD_LIBRARY = Path(sysconfig.get_path("stdlib"))
INSTALLED = {"site-packages", "dist-packages"}
"""folders of packages"""


class Terminated(SystemExit):
    """SIGTERM came: raised wherever the process is, in an oracle too, whose own SystemExit is a failed verdict."""


class RaisedByAll(RuntimeError):
    """Raised in a task on every rank alike: rank 0 may go on to another task, and the others wait for it."""


class Tripwire(RaisedByAll):
    """A run was stopped because going on would ruin the policy."""


class EngineError(RuntimeError):
    """An engine stopped half-way; its responses until then stay on disk."""


class OracleError(RuntimeError):
    """The oracle does not answer, or answers nonsense."""


def where_raised(error: BaseException) -> str:
    """An error after the last line of the user's own code that it passed, `my_judges.py:6: KeyError('boom')`."""
    return f"{own_place(error)}{error!r}"


def own_place(error: BaseException) -> str:
    """The last line of the user's own code that an error passed, `my_judges.py:6: `; empty where it passed none."""
    raised = [one.__traceback__ for one in (error.__cause__, error) if one is not None]
    places = [(Path(frame.filename), frame.lineno) for trace in raised for frame in traceback.extract_tb(trace)]
    own = [place for place in places if _is_own(place[0])]
    if not own:
        return ""
    path, line = own[-1]
    shown = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    return f"{shown}:{line}: "


def _is_own(path: Path) -> bool:
    """Whether a user wrote this file of code."""
    theirs = any(map(path.is_relative_to, (OURS, STANDARD_LIBRARY))) or INSTALLED & set(path.parts)
    return not theirs and not str(path).startswith("<frozen")


def first_line(error: Exception) -> str:
    """An error's type and the first line of its message, to be quoted in another message."""
    return f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"


def reason_of(error: Exception) -> str:
    """The first line of an error's message, or its type where it says nothing."""
    return next(iter(str(error).splitlines()), type(error).__name__)
