"""Averages both orders of a comparison, so that a judge that favours a position answers symmetrically.

    P(a beats b) = ( f(a, b) + (1 - f(b, a)) ) / 2        f: the judge's verdict with its first argument shown first

An oracle that sees positions (a language model, a classifier of pairs) is `PositionSensitive` (`abilities.py`): it has
a method `first_shown`, which is f, and its verdict is `both_orders` of it. Leaves out: ties on disagreement - the mean
of two opposite verdicts is near one half anyway.

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
    about = "Averages both orders of a comparison, so that a judge that favours a position answers symmetrically."

    def __init__(self, oracle: Annotated[Oracle, Field(description="the oracle asked in both orders")]) -> None:
        super().__init__(oracle)

    @property
    def identity(self) -> str:
        """The oracle's, marked as averaged."""
        return f"both_orders({self.oracle.identity})"

    def first_shown(self, comparisons: Sequence[Comparison]) -> Float[np.ndarray, " N"]:
        """The oracle's verdict on one order."""
        return self.oracle.judge(comparisons)

    def judge(self, comparisons: Sequence[Comparison]) -> Float[np.ndarray, " N"]:
        """P(a beats b), symmetric whatever the oracle says."""
        return both_orders(self.first_shown, comparisons)
