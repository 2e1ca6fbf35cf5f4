"""Losses on lists of responses: differentiable NDCG (OPO, 2410.04346).

    NeuralNDCG : -(1/IDCG) sum_j d_j (P G)_j,   P = Sinkhorn(NeuralSort_tau(s)), d_j = 1/log2(1 + j)
    ApproxNDCG : -(1/IDCG) sum_i G_i / log2(1 + pos_i),   pos_i = 1 + sum_{j != i} sigmoid(-a (s_i - s_j))

with scores s = beta log pi/ref and gains G = 2^label - 1. Sinkhorn runs in the scores' precision, float32 at least, and
the ideal DCG sorts the labels: the authors' code halves the precision of the one and assumes sorted lists
in the other. Leaves out: pairs.

    ListNDCG("neural", beta=0.1)(batch).total

Shape suffixes: R responses of a batch, L lists (one per example), N responses of one list.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sparring.objectives.pairs import Batch, Loss, relative_logps

SINKHORN_SWEEPS = 50
SINKHORN_TOLERANCE = 1e-6


def discounts(count: int, like: Float[Tensor, " ..."]) -> Float[Tensor, " N"]:
    """N: 1 / log2(1 + rank) for ranks 1..N, on the device and in the precision of `like`."""
    return 1.0 / torch.log2(torch.arange(2, count + 2, device=like.device, dtype=like.dtype))


def ideal_dcg(gains_N: Float[Tensor, " N"]) -> Float[Tensor, ""]:
    """The largest discounted gain: gains in falling order."""
    return (gains_N.sort(descending=True).values * discounts(len(gains_N), gains_N)).sum()


def relaxed_permutation(scores_N: Float[Tensor, " N"], temperature: float) -> Float[Tensor, "N N"]:
    """N x N, doubly stochastic; row j is the j-th place. NeuralSort then Sinkhorn; exact as temperature falls to 0."""
    count = len(scores_N)
    spread_N = (scores_N[:, None] - scores_N[None, :]).abs().sum(1)
    places = torch.arange(1, count + 1, device=scores_N.device, dtype=scores_N.dtype)
    logits = ((count + 1 - 2 * places)[:, None] * scores_N[None, :] - spread_N[None, :]) / temperature
    matrix = logits.log_softmax(1)
    for _ in range(SINKHORN_SWEEPS):
        matrix = matrix - matrix.logsumexp(0, keepdim=True)
        matrix = matrix - matrix.logsumexp(1, keepdim=True)
        if float((matrix.detach().exp().sum(0) - 1).abs().max()) < SINKHORN_TOLERANCE:
            break
    return matrix.exp()


def neural_ndcg(scores_N: Float[Tensor, " N"], gains_N: Float[Tensor, " N"], temperature: float) -> Float[Tensor, ""]:
    """Relaxed NDCG in [0, 1]."""
    placed_N = relaxed_permutation(scores_N, temperature) @ gains_N
    return (placed_N * discounts(len(gains_N), gains_N)).sum() / ideal_dcg(gains_N)


def approx_ndcg(scores_N: Float[Tensor, " N"], gains_N: Float[Tensor, " N"], sharpness: float) -> Float[Tensor, ""]:
    """NDCG with soft ranks."""
    beaten = torch.sigmoid(-sharpness * (scores_N[:, None] - scores_N[None, :]))
    rank_N = 1.0 + beaten.sum(1) - 0.5  # a response's comparison with itself gives the half
    return (gains_N / torch.log2(1.0 + rank_N)).sum() / ideal_dcg(gains_N)


@dataclass(frozen=True, slots=True)
class ListNDCG:
    """Minus the NDCG of each example's list, summed over examples; labels are win rates."""

    form: Literal["neural", "approx"] = "neural"
    beta: float = 0.1
    temperature: float = 1.0
    sharpness: float = 25.0
    anchor: str = "reference"

    def __call__(self, batch: Batch) -> Loss:
        """The loss; metrics: each list's relaxed NDCG."""
        scores_R = self.beta * relative_logps(batch, {self.anchor: 1.0})
        gains_R = 2.0**batch.win_rates_R - 1.0
        ndcg_L = torch.stack([self._one(scores_R[listed_R], gains_R[listed_R]) for listed_R in _lists(batch)])
        return Loss(-ndcg_L.sum(), {"ndcg": ndcg_L.detach()})

    def _one(self, scores_N: Float[Tensor, " N"], gains_N: Float[Tensor, " N"]) -> Float[Tensor, ""]:
        if self.form == "neural":
            return neural_ndcg(scores_N, gains_N, self.temperature)
        return approx_ndcg(scores_N, gains_N, self.sharpness)


def _lists(batch: Batch) -> list[Bool[Tensor, " R"]]:
    """For each example, which of the batch's responses are its list."""
    return [batch.example_R == example for example in batch.example_R.unique()]
