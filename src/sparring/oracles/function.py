"""Any Python function as an oracle: `(prompt, a, b) -> P(a beats b)`.

Its identity hashes the code that it reaches (`code_identity.py`), so that a changed helper makes another oracle,
wherever it is written. Leaves out: data that it reads; when those change, rename the function.

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

from sparring.oracles.code_identity import code_identity
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
        self.path, self.title = path, f"function ({path})"
        self.both_orders = both_orders
        self.function = import_attribute(path, "oracle.path")
        if not callable(self.function):
            raise ValueError(f"oracle.path: {path!r} is not a function of (prompt, a, b).")
        python = f"py{sys.version_info[0]}.{sys.version_info[1]}"
        code = f"{python}-{code_identity(self.function)[:16]}"
        self.identity = f"function({path};code={code};both_orders={both_orders})"
        shown = _sources(path, self.function)
        digest = hashlib.sha256((shown or "").encode()).hexdigest()[:16]
        self.former_identity = f"function({path};source={digest};both_orders={both_orders})" if shown else None
        """under which earlier versions stored its verdicts: its module's source; None where Python cannot show that"""

    def judge(self, comparisons: Sequence[Comparison]) -> Float[np.ndarray, " N"]:
        """P(a beats b) of each comparison."""
        return np.array([self._one(c) for c in comparisons], dtype=np.float64)

    def _one(self, comparison: Comparison) -> float:
        prompt, a, b = comparison
        forward = self._verdict(prompt, a, b)
        return (forward + (1.0 - self._verdict(prompt, b, a))) / 2 if self.both_orders else forward

    def _verdict(self, *texts: str) -> float:
        value = self.function(*texts)
        try:
            return float(value)
        except (TypeError, ValueError) as error:
            remedy = "Is a `return` missing?" if value is None else "Give P(a beats b) in [0, 1]."
            raise TypeError(f"{self.path} returned {value!r:.60}, which is no number. {remedy}") from error


def _sources(path: str, function: object) -> str | None:
    """The function and the modules that name and define it; None where Python cannot show the module that names it."""
    while isinstance(function, partial):
        function = function.func
    name = path.partition(":")[0]
    modules = {name, str(getattr(function, "__module__", ""))}
    sources = []
    for item in (function, *map(sys.modules.get, sorted(modules))):
        try:
            sources.append(inspect.getsource(item))  # type: ignore[arg-type]
        except (OSError, TypeError):
            if item is sys.modules.get(name):
                return None
            sources.append("")
    return "\0".join(sources)
