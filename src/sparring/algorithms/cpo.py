"""CPO (2401.08417): DPO without a reference, and the winner's likelihood beside it.

    -log sigmoid( beta ( log pi(y_w) - log pi(y_l) ) ) - sft_weight * log pi(y_w) / |y_w|

It is DPO with `reference: none` and `sft_weight: 1`, under its own name. The likelihood term is per token and per pair
here; TRL averages it over all tokens of a batch, so that long winners count more. Leaves out: AlphaPO's transform.

    CPO(beta=0.1).steps(t=0, data=DataFacts(100))
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from sparring.algorithms.algorithm import About
from sparring.algorithms.dpo import DPO
from sparring.algorithms.sources import EITHER_SOURCE, OWN_IID


class CPO(DPO):
    """CPO's fields."""

    about = About("CPO", "2401.08417", "none", loss="pair logistic, likelihood of the winner", **EITHER_SOURCE)
    on_games: ClassVar = {**OWN_IID, "reference": "none", "beta": 1.0, "sft_weight": 0.5}

    reference: Literal["none"] = "none"  # type: ignore[assignment]
    """it has no reference"""
    sft_weight: float = Field(default=1.0, ge=0)
    """weight of the winner's negative log-likelihood per token"""
