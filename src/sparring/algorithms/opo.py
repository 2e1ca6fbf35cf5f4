"""OPO, ordinal preference optimization (2410.04346): a differentiable NDCG over K judged responses.

Scores are beta * log pi(y)/ref(y), labels the responses' win rates, gains 2^label - 1. NeuralNDCG sorts with a relaxed
permutation (NeuralSort and Sinkhorn, in float32); ApproxNDCG with soft ranks. The method is offline in the paper; here
lists are the iterate's own samples, judged. Labels in [0, 1] make gains nearly linear, so the rank discount
dominates. Leaves out: the paper's list data, which needs a reward label per response.

    OPO(samples=8, form="neural").steps(t=0, data=DataFacts(100))
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from sparring.algorithms.algorithm import REFERENCE, About, DataFacts, Step, Symbol
from sparring.algorithms.judged import JudgedSamples
from sparring.algorithms.pairing import Listwise
from sparring.objectives.lists import ListNDCG


class OPO(JudgedSamples):
    """OPO's fields; beta, temperature and sharpness are the authors' code's."""

    about = About("OPO", "2410.04346", "reference 1", pairing="lists", loss="differentiable NDCG")
    symbols: ClassVar = {"tau": Symbol("temperature"), "a": Symbol("sharpness")}
    solves = "unknown"

    pairing: Literal["list"] = "list"  # type: ignore[assignment]
    """all comparisons; the judged responses form one list"""
    form: Literal["neural", "approx"] = "neural"
    """NeuralNDCG or ApproxNDCG"""
    beta: float = Field(default=0.1, gt=0)
    """scale of the scores"""
    temperature: float = Field(default=1.0, gt=0)
    """tau of NeuralSort; towards 0 the loss becomes the exact NDCG"""
    sharpness: float = Field(default=25.0, gt=0)
    """a of ApproxNDCG's soft ranks"""

    def steps(self, t: int, data: DataFacts) -> tuple[Step, ...]:
        """One step on lists of own samples."""
        objective = ListNDCG(self.form, self.beta, self.temperature, self.sharpness)
        return (self.judged_step(t, Listwise(), objective, {"reference": REFERENCE}),)
