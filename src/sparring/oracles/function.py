"""Any Python function as an oracle: `(prompt, a, b) -> P(a beats b)`.

FunctionOracle("my_package.judges:longer").judge([Comparison("p", "aa", "b")])
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Sequence
from typing import Annotated

import numpy as np
from pydantic import Field

from sparring.oracles.oracle import Comparison


class FunctionOracle:
    """Calls `path` (package.module:function); `both_orders` averages P(a, b) and 1 - P(b, a)."""

    def __init__(
        self,
        path: Annotated[str, Field(description="package.module:function, called with (prompt, a, b)")],
        both_orders: Annotated[bool, Field(description="ask both orders and average: for positional bias")] = False,
    ) -> None:
        from sparring.oracles.table import import_attribute

        self.path = path
        self.both_orders = both_orders
        self.function = import_attribute(path, "oracle.path")
        if not callable(self.function):
            raise ValueError(f"oracle.path: {path!r} is not a function of (prompt, a, b).")

    @property
    def identity(self) -> str:
        """The path and a hash of the function's source, where Python can show it."""
        try:
            source = inspect.getsource(self.function)
        except (OSError, TypeError):
            source = ""
        digest = hashlib.sha256(source.encode()).hexdigest()[:16]
        return f"function({self.path};source={digest};both_orders={self.both_orders})"

    def judge(self, comparisons: Sequence[Comparison]) -> np.ndarray:
        """P(a beats b) of each comparison."""
        return np.array([self._one(c) for c in comparisons], dtype=np.float64)

    def _one(self, comparison: Comparison) -> float:
        prompt, a, b = comparison
        forward = float(self.function(prompt, a, b))
        if not self.both_orders:
            return forward
        return (forward + (1.0 - float(self.function(prompt, b, a)))) / 2
