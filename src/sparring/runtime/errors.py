"""Errors of parts that work hours after a recipe was checked: they stop a stage; finished work stays on disk.

Wrong input is a `ValueError` everywhere. Leaves out: memory that ran out (`memory.py`).
"""

from __future__ import annotations


class EngineError(RuntimeError):
    """An engine stopped half-way; its responses until then stay on disk."""


class OracleError(RuntimeError):
    """The oracle does not answer, or answers nonsense."""


def first_line(error: Exception) -> str:
    """An error's type and the first line of its message, to be quoted in another message."""
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
