"""Errors of parts that work hours after a recipe was checked: they stop a stage, and everything finished is kept.

Wrong input is a `ValueError` everywhere. Leaves out: memory that ran out (`memory.py`).
"""

from __future__ import annotations


class RaisedByAll(RuntimeError):
    """Raised in a task on every rank alike: rank 0 may go on to another task, and the others wait for it."""


class Tripwire(RaisedByAll):
    """A run was stopped because going on would ruin the policy."""


class EngineError(RuntimeError):
    """An engine stopped half-way; what it had sampled is kept."""


class OracleError(RuntimeError):
    """The oracle does not answer, or answers nonsense."""
