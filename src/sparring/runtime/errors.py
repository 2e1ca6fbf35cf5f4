"""Errors of parts that work hours after a recipe was checked: they stop a stage; finished work stays on disk.

Wrong input is a `ValueError` everywhere. Leaves out: memory that ran out (`memory.py`).
"""

from __future__ import annotations


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


def first_line(error: Exception) -> str:
    """An error's type and the first line of its message, to be quoted in another message."""
    return f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"


def reason_of(error: Exception) -> str:
    """The first line of an error's message, or its type where it says nothing."""
    return next(iter(str(error).splitlines()), type(error).__name__)
