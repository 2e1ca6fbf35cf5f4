"""Several oracles as one: the mean of their probabilities, the majority of their votes, or the least certain one.

    mean      sum_k w_k P_k                                   w sums to 1
    majority  sum_k w_k [P_k > 1/2], ties half               the share of votes, so a 2:1 jury says 2/3
    cautious  the P_k nearest to 1/2 when all are on one side, else 1/2

`cautious` is a pessimistic ensemble: a flaw that one member overlooks does not win. Unlike the minimum over rewards it
needs no common zero of the rewards and stays symmetric. A majority can be intransitive even when no member is. Leaves
out: juries that go on without a member - its failure fails the comparison, or verdicts would depend on outages.

    oracle: {name: jury, rule: majority, members: [{name: panel}, {name: reward_model, model: org/a}]}
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
from jaxtyping import Float
from pydantic import Field

from sparring.oracles.abilities import counts_of
from sparring.oracles.oracle import Comparison, Oracle
from sparring.oracles.preferences import wins


class Jury:
    """Asks every member and combines their answers by `rule`."""

    title = "jury"
    about = "Several oracles as one: mean of probabilities, majority of votes, or the least certain member."

    def __init__(
        self,
        members: Annotated[list[Oracle], Field(description="the oracles that vote")],
        rule: Annotated[
            Literal["mean", "majority", "cautious"],
            Field(
                description=(
                    "mean of probabilities, majority of votes, or cautious: the least sure member, a tie where they "
                    "disagree"
                )
            ),
        ] = "mean",
        weights: Annotated[
            list[Annotated[float, Field(gt=0)]] | None, Field(description="one per member; null: all alike")
        ] = None,
    ) -> None:
        if len(members) < 2:
            raise ValueError(f"oracle.members: a jury of {len(members)}; give at least two oracles.")
        if weights is not None and (len(weights) != len(members) or not all(0 < w < np.inf for w in weights)):
            raise ValueError(
                f"oracle.weights = {weights}: give one positive number for each of {len(members)} members."
            )
        if weights is not None and rule == "cautious":
            raise ValueError("oracle.weights with rule: cautious, which uses none: remove the weights.")
        self.members, self.rule = members, rule
        self.weights = np.array(weights or [1.0] * len(members)) / sum(weights or [len(members)])

    @property
    def inside(self) -> list[Oracle]:
        """The members."""
        return self.members

    @property
    def identity(self) -> str:
        """The rule, and every member with its weight."""
        members = ";".join(f"{w:.6g}*{m.identity}" for w, m in zip(self.weights, self.members, strict=True))
        return f"jury({self.rule};{members})"

    def judge(self, comparisons: Sequence[Comparison]) -> Float[np.ndarray, " N"]:
        """The jury's P(a beats b); NaN where a member failed."""
        p_KN = np.array([member.judge(comparisons) for member in self.members], dtype=np.float64)
        if self.rule == "mean":
            return np.clip(0.5 + self.weights @ (p_KN - 0.5), 0.0, 1.0)
        if self.rule == "majority":
            return np.clip(0.5 + self.weights @ (wins(p_KN) - 0.5), 0.0, 1.0)
        return cautious(p_KN)

    def counts(self) -> dict[str, object]:
        """The counts of each member, prefixed with its index."""
        return {f"member {i}: {k}": v for i, m in enumerate(self.members) for k, v in counts_of(m).items()}


def cautious(p_KN: Float[np.ndarray, "K N"]) -> Float[np.ndarray, " N"]:
    """Per column the probability nearest to 1/2 where all are on one side of it, else 1/2; NaN stays NaN."""
    lead_KN = p_KN - 0.5
    least_N = np.abs(lead_KN).min(0)
    agreed_N = np.where((lead_KN > 0).all(0), 1.0, np.where((lead_KN < 0).all(0), -1.0, 0.0))
    return 0.5 + agreed_N * least_N
