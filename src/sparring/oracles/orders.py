"""Both orders of a comparison: what makes a judge that favours a place answer symmetrically.

    P(a beats b) = ( f(a, b) + (1 - f(b, a)) ) / 2        f: the judge's word with its first argument shown first

An oracle that sees places (a language model, a classifier of pairs) is `PositionSensitive` (`abilities.py`): it has a
method `first_shown`, which is f, and gives `both_orders` of it as its verdict. Leaves out: ties on disagreement - a
judge that contradicts itself comes out near one half by itself.

    oracle: {name: both_orders, oracle: {name: function, path: "my_judges:first_wins"}}
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated

import numpy as np
from jaxtyping import Float
from pydantic import Field

from sparring.oracles.oracle import Comparison, Oracle
from sparring.oracles.wrapper import Wrapper


def swapped(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """The same questions with a and b exchanged."""
    return [Comparison(c.prompt, c.b, c.a) for c in comparisons]


def both_orders(
    first_shown: Callable[[Sequence[Comparison]], Float[np.ndarray, " N"]], comparisons: Sequence[Comparison]
) -> Float[np.ndarray, " N"]:
    """N: the mean over both orders, asked in one batch; NaN where either failed."""
    answers = np.asarray(first_shown([*comparisons, *swapped(comparisons)]), dtype=np.float64)
    there, back = np.split(answers, 2)
    return (there + (1.0 - back)) / 2  # in this order of sums equal halves give exactly 1/2


class BothOrders(Wrapper):
    """Asks `oracle` in both orders and takes the mean."""

    title = "both_orders"
    about = "Both orders of a comparison: what makes a judge that favours a place answer symmetrically."

    def __init__(self, oracle: Annotated[Oracle, Field(description="the oracle asked in both orders")]) -> None:
        super().__init__(oracle)

    @property
    def identity(self) -> str:
        """That of the oracle, and that orders are averaged."""
        return f"both_orders({self.oracle.identity})"

    def first_shown(self, comparisons: Sequence[Comparison]) -> Float[np.ndarray, " N"]:
        """What the oracle says about one order."""
        return self.oracle.judge(comparisons)

    def judge(self, comparisons: Sequence[Comparison]) -> Float[np.ndarray, " N"]:
        """P(a beats b), symmetric whatever the oracle says."""
        return both_orders(self.first_shown, comparisons)
