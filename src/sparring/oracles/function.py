"""Any Python function as an oracle: `(prompt, a, b) -> P(a beats b)`.

Its identity hashes the source of the whole module, so that a changed helper in it makes another oracle. Leaves out:
other modules and data that it reads; when those change, rename the function.

FunctionOracle("my_package.judges:longer").judge([Comparison("p", "aa", "b")])
"""

from __future__ import annotations

import hashlib
import inspect
import sys
from collections.abc import Sequence
from functools import partial
from typing import Annotated

import numpy as np
from jaxtyping import Float
from pydantic import Field

from sparring.oracles.oracle import Comparison
from sparring.runtime.imports import import_attribute


class FunctionOracle:
    """Calls `path` (package.module:function); `both_orders` averages P(a, b) and 1 - P(b, a)."""

    title = "function"
    about = "Any Python function as an oracle: `(prompt, a, b) -> P(a beats b)`."

    def __init__(
        self,
        path: Annotated[str, Field(description="package.module:function, called with (prompt, a, b)")],
        both_orders: Annotated[bool, Field(description="ask both orders and average: for positional bias")] = False,
    ) -> None:
        self.path = path
        self.both_orders = both_orders
        self.function = import_attribute(path, "oracle.path")
        if not callable(self.function):
            raise ValueError(f"oracle.path: {path!r} is not a function of (prompt, a, b).")
        digest = hashlib.sha256(_sources(path, self.function).encode()).hexdigest()[:16]
        self.identity = f"function({path};source={digest};both_orders={both_orders})"

    def judge(self, comparisons: Sequence[Comparison]) -> Float[np.ndarray, " N"]:
        """P(a beats b) of each comparison."""
        return np.array([self._one(c) for c in comparisons], dtype=np.float64)

    def _one(self, comparison: Comparison) -> float:
        prompt, a, b = comparison
        forward = float(self.function(prompt, a, b))
        if not self.both_orders:
            return forward
        return (forward + (1.0 - float(self.function(prompt, b, a)))) / 2


def _sources(path: str, function: object) -> str:
    """The function and the modules that name and define it, where Python can show them."""
    while isinstance(function, partial):
        function = function.func
    modules = {path.partition(":")[0], str(getattr(function, "__module__", ""))}
    sources = []
    for item in (function, *map(sys.modules.get, sorted(modules))):
        try:
            sources.append(inspect.getsource(item))  # type: ignore[arg-type]
        except (OSError, TypeError):
            sources.append("")
    return "\0".join(sources)
