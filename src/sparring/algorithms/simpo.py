"""SimPO (2405.14734): the log-likelihood per token as the score, a margin, and no reference.

    -log sigmoid( beta/|y_w| log pi(y_w) - beta/|y_l| log pi(y_l) - margin )

It is DPO with `reference: none`, `per_token` and `margin`, under its own name. The margin is the paper's gamma, in
units of the loss's argument; its code's configuration gives gamma/beta. Leaves out: nothing of the loss.

    SimPO(beta=2.0, margin=1.0).steps(t=0, data=DataFacts(100))
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from sparring.algorithms.algorithm import About, Symbol
from sparring.algorithms.dpo import DPO
from sparring.algorithms.sources import EITHER_SOURCE, OWN_IID


class SimPO(DPO):
    """SimPO's fields; beta and margin are the defaults of the paper's code."""

    about = About("SimPO", "2405.14734", "none", loss="pair logistic per token, margin", **EITHER_SOURCE)
    symbols: ClassVar = {"gamma": Symbol("margin")}
    on_games: ClassVar = {**OWN_IID, "reference": "none", "beta": 1.0, "margin": 0.5}

    beta: float = Field(default=2.0, gt=0)
    """scale of the scores, which are nats per token"""
    reference: Literal["none"] = "none"  # type: ignore[assignment]
    """it has no reference; scores per token against one are dpo with per_token"""
    per_token: Literal[True] = True  # type: ignore[assignment]
    """each response's score is divided by its length"""
    margin: float = Field(default=1.0, ge=0)
    """gamma: by how much beta times the winner's score has to lead"""
