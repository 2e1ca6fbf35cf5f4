"""Claims on OPO's differentiable NDCG: its limits, and properties that hold for any list.

[claim.measured for claim in ndcg_limits(Effort())]

Shape suffixes: N responses of one list.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from sparring.certificates.claims.claim import Check, Checks, Claim, Effort, number, over_seeds, vanishes
from sparring.certificates.claims.gradients import random_batch
from sparring.objectives.lists import ListNDCG, approx_ndcg, discounts, ideal_dcg, neural_ndcg, relaxed_permutation

SOURCE = "2410.04346"


def lists(effort: Effort, count: int = 20) -> list[tuple[Float[Tensor, " N"], Float[Tensor, " N"]]]:
    """Random (scores, gains) of N = 6 responses, float64."""
    draw = torch.Generator().manual_seed(effort.seed)
    return [
        (torch.randn(6, generator=draw, dtype=torch.float64), torch.rand(6, generator=draw, dtype=torch.float64))
        for _ in range(count)
    ]


def ndcg(scores: Float[Tensor, " N"], gains: Float[Tensor, " N"]) -> Float[Tensor, ""]:
    """The exact NDCG, by sorting."""
    return (gains[scores.argsort(descending=True)] * discounts(len(gains), gains)).sum() / ideal_dcg(gains)


def stochastic_error(scores: Float[Tensor, " N"], temperature: float) -> float:
    """How far rows or columns of the relaxed permutation are from summing to 1."""
    matrix = relaxed_permutation(scores, temperature)
    return max(float((matrix.sum(axis) - 1).abs().max()) for axis in (0, 1))


@over_seeds(20)
def ndcg_limits(effort: Effort) -> Iterable[Claim]:
    """Both relaxations become the exact NDCG."""
    samples = lists(effort)
    errors = {t: max(float((neural_ndcg(s, g, t) - ndcg(s, g)).abs()) for s, g in samples) for t in (1.0, 0.1, 1e-4)}
    shown = ", ".join(f"tau {t:g}: {number(error)}" for t, error in errors.items())
    claim = "NeuralNDCG becomes the exact NDCG as tau falls to 0: largest error of 20 lists"
    yield Claim("neural_ndcg_limit", claim, SOURCE, "tau 1e-4: 0 (< 1e-9)", shown, errors[1e-4] < 1e-9)
    sharp = {a: max(float((approx_ndcg(s, g, a) - ndcg(s, g)).abs()) for s, g in samples) for a in (25.0, 1e6)}
    shown = ", ".join(f"a {a:g}: {number(error)}" for a, error in sharp.items())
    claim = "ApproxNDCG becomes the exact NDCG as a grows: largest error of 20 lists"
    yield Claim("approx_ndcg_limit", claim, SOURCE, "a 1e6: 0 (< 1e-9)", shown, sharp[1e6] < 1e-9)


@over_seeds(20)
def permutations(effort: Effort) -> Iterable[Claim]:
    """The relaxed permutation is doubly stochastic, and a list's order changes nothing."""
    samples = lists(effort)
    errors = {t: max(stochastic_error(scores, t) for scores, _ in samples) for t in (3.0, 1.0, 0.3, 0.1)}
    shown = ", ".join(f"tau {t:g}: {number(error)}" for t, error in errors.items())
    claim = "the relaxed permutation is doubly stochastic: largest error of a row or column sum, scores of spread 1"
    note = "50 Sinkhorn sweeps, as in the authors' code, do not reach their tolerance of 1e-6 where tau is small"
    yield Claim("permutation_is_doubly_stochastic", claim, SOURCE, "tau 3: 0 (< 1e-5)", shown, errors[3.0] < 1e-5, note)

    turned, order = 0.0, torch.tensor([3, 0, 5, 1, 4, 2])
    for scores, gains in samples:
        for value in (lambda s, g: neural_ndcg(s, g, 1.0), lambda s, g: approx_ndcg(s, g, 25.0)):
            turned = max(turned, float((value(scores, gains) - value(scores[order], gains[order])).abs()))
    claim = "the order of the list does not matter: largest change under a permutation"
    yield vanishes("order_does_not_matter", claim, turned, 1e-12, source=SOURCE)


@over_seeds(20)
def list_losses(effort: Effort) -> Iterable[Claim]:
    """The range of the loss, and its gradient where all scores are equal."""
    values = []
    for form in ("neural", "approx"):
        for seed in range(20):
            batch = random_batch((), effort.seed + seed)
            per_list = ListNDCG(form, 1.0)(batch).metrics["ndcg"]
            assert isinstance(per_list, torch.Tensor), "one value per list, none masked"
            values += (-per_list).tolist()
    inside = min(values) >= -1 - 1e-5 and max(values) <= 0
    claim = "the loss of a list lies in [-1, 0]"
    yield Claim("list_loss_range", claim, SOURCE, "[-1, 0]", f"[{min(values):.4f}, {max(values):.4f}]", inside)

    finite = True
    for form in ("neural", "approx"):
        batch = random_batch((), effort.seed)
        leaf = torch.zeros_like(batch.logps_R).requires_grad_()
        tied = {key: torch.zeros_like(value) for key, value in batch.anchor_logps.items()}
        loss = ListNDCG(form)(replace(batch, logps_R=leaf, anchor_logps=tied)).total
        finite &= bool(torch.autograd.grad(loss, leaf)[0].isfinite().all())
    claim = "the gradient is finite where all scores are tied (every first step)"
    yield Claim("tied_scores_have_a_gradient", claim, SOURCE, "finite", "finite" if finite else "not finite", finite)


CHECKS: Checks = {"opo": (Check(ndcg_limits), Check(permutations), Check(list_losses))}
