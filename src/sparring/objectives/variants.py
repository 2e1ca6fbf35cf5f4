"""The variants of DPO's loss as fields: which score a response has, and which shape a pair of scores is put into.

A response's score s is its log-ratio to a geometric mixture of anchors, or to nothing (SimPO, CPO, ORPO), through a
link and perhaps divided by its length. With w = beta s(winner), l = beta s(loser), z = w - l - margin and
ell(x) = -log sigmoid(x), a pair's loss is

    logistic  q ell(z) + (1 - q) ell(-z)      q = 1 - e (cDPO), (1 - e) / (1 - 2e) (robust DPO), or the oracle's P
    hinge     max(0, 1 - z)                   SLiC (2305.10425)
    exo       KL( (s(z), s(-z)) || (1 - e, e) )                  EXO (2402.00856, eq. 16)
    nca       ell(w) + ell(-w)/2 + ell(-l)/2                     NCA (2402.05369)
    bco       ell(w) + ell(-l)                                   BCO (2404.04656), without its moving mean
    apo_zero  s(-w) + s(l)                                       APO (2408.06266, eq. 7)
    apo_down  s(w) + s(l - w)                                    APO (2408.06266, eq. 8)
    discopop  (1 - m) ell(z) + m exp(-z),  m = s(z / temperature)   DiscoPOP (2406.08414, eq. 5)

with s the sigmoid. Leaves out: AOT, which sorts a whole batch, and WPO's weights, which need the distribution at every
token: neither is a sum over examples of what a batch holds.

    PairVariant({"reference": 1.0}, beta=0.1, smoothing=0.1, robust=True)(batch).total

Shape suffixes: R responses, P pairs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from sparring.objectives.pairs import Batch, Loss, Objective, margins, only_differences, relative_logps

Shape = Literal["logistic", "hinge", "exo", "nca", "bco", "apo_zero", "apo_down", "discopop"]
OF_DIFFERENCES = ("logistic", "hinge", "exo", "discopop")
"""shapes that see only z, the difference of a pair's scores"""
Link = Literal["reverse_kl", "forward_kl", "js", "alpha", "odds"]
LARGEST_EXPONENT = 80.0
"""exp of this is finite in float32"""


def linked(ratio_R: Float[Tensor, " R"], link: Link, alpha: float) -> Float[Tensor, " R"]:
    """R: f'(u) at log u = `ratio_R`, f the divergence to the reference (f-DPO, 2309.16240); odds: log u/(1 - u)."""
    if link == "forward_kl":
        return 1.0 - (-ratio_R).clamp_max(LARGEST_EXPONENT).exp()
    if link == "js":
        return math.log(2.0) + F.logsigmoid(ratio_R)
    if link == "alpha":
        return torch.expm1(((alpha - 1.0) * ratio_R).clamp_max(LARGEST_EXPONENT)) / (alpha - 1.0)
    if link == "odds":
        below_R = ratio_R.clamp_max(-torch.finfo(ratio_R.dtype).eps)  # a probability of 1 has no finite odds
        return below_R - torch.log(-torch.expm1(below_R))
    return ratio_R


@dataclass(frozen=True, slots=True)
class PairVariant:
    """pair_weight * shape(winner's score, loser's score) - sft_weight * log pi(winner)/|winner|, over weighted pairs.

    SimPO (2405.14734): no anchors, per_token, margin gamma. CPO (2401.08417): no anchors, sft_weight 1. ORPO
    (2403.07691): no anchors, per_token, link odds, beta 1, pair_weight lambda, sft_weight 1. RPO (2404.19733,
    2405.16436): sft_weight alpha.
    """

    anchors: Mapping[str, float]
    beta: float
    shape: Shape = "logistic"
    link: Link = "reverse_kl"
    alpha: float = 0.5
    """of the link alpha, f'(u) = (u^(alpha - 1) - 1)/(alpha - 1)"""
    per_token: bool = False
    """divide each score by its response's length; of odds, the log-probability before the link"""
    margin: float = 0.0
    """subtracted from beta times the difference of scores"""
    smoothing: float = 0.0
    """e: the probability that a pair's label is wrong"""
    robust: bool = False
    """logistic: remove in expectation what a share e of flipped labels does, instead of smoothing them"""
    soft: bool = False
    """logistic: the oracle's P is the label's weight"""
    temperature: float = 0.05
    """of discopop"""
    pair_weight: float = 1.0
    sft_weight: float = 0.0
    """of the winner's negative log-likelihood, nats per token"""

    @property
    def differences(self) -> bool:
        """Whether identical responses have no gradient (see `only_differences`)."""
        return self.shape in OF_DIFFERENCES and self.sft_weight == 0.0

    def scores(self, batch: Batch) -> Float[Tensor, " R"]:
        """R: each response's score before beta."""
        ratio_R = relative_logps(batch, self.anchors)
        lengths_R = batch.lengths_R if self.per_token else torch.ones_like(batch.lengths_R)
        if self.link == "odds":
            return linked(ratio_R / lengths_R, self.link, self.alpha)
        return linked(ratio_R, self.link, self.alpha) / lengths_R

    def shaped(self, win_P: Float[Tensor, " P"], lose_P: Float[Tensor, " P"], batch: Batch) -> Float[Tensor, " P"]:
        """P: the loss of each pair, from beta times its scores."""
        z_P, e = win_P - lose_P - self.margin, self.smoothing
        match self.shape:
            case "logistic":
                sure = batch.preference_P if self.soft else (1.0 - e) / (1.0 - 2.0 * e) if self.robust else 1.0 - e
                return F.softplus(-z_P) + (1.0 - sure) * z_P
            case "hinge":
                return (1.0 - z_P).clamp_min(0.0)
            case "exo":
                log_won_P, log_lost_P = F.logsigmoid(z_P), F.logsigmoid(-z_P)
                won_P = log_won_P.exp() * (log_won_P - math.log1p(-e))
                return won_P + log_lost_P.exp() * (log_lost_P - math.log(e))
            case "nca":
                return F.softplus(-win_P) + 0.5 * F.softplus(win_P) + 0.5 * F.softplus(lose_P)
            case "bco":
                return F.softplus(-win_P) + F.softplus(lose_P)
            case "apo_zero":
                return torch.sigmoid(-win_P) + torch.sigmoid(lose_P)
            case "apo_down":
                return torch.sigmoid(win_P) + torch.sigmoid(lose_P - win_P)
            case "discopop":
                log_m_P = F.logsigmoid(z_P / self.temperature)
                # One exponential: m vanishes faster than exp(-z) grows, while their product by factors overflows.
                return (1.0 - log_m_P.exp()) * F.softplus(-z_P) + (log_m_P - z_P).exp()

    def __call__(self, batch: Batch) -> Loss:
        """The loss; metrics: the margin of the scores (after the link), and the winners' nats per token."""
        score_R = self.scores(batch)
        win_P, lose_P = (self.beta * score_R[batch.pairs_P2]).unbind(1)
        total = self.pair_weight * (batch.weight_P * self.shaped(win_P, lose_P, batch)).sum()
        metrics = {"margin": margins(score_R.detach(), batch.pairs_P2)}
        if self.sft_weight:
            nll_P = -(batch.logps_R / batch.lengths_R)[batch.pairs_P2[:, 0]]
            total = total + self.sft_weight * (batch.weight_P * nll_P).sum()
            metrics["sft_nll"] = nll_P.detach()
        return Loss(total, metrics)


@dataclass(frozen=True, slots=True)
class CorruptedLogistic:
    """lambda xi + ell(z + xi) - likelihood_weight log pi(winner), z = beta D + length_weight (|winner| - |loser|).

    D is the pair's margin of log-ratios, xi = max(0, log(1/lambda - 1) - z) the noise that explains the label best, and
    none at lambda = 1. The slope in z is never below -lambda. DPO-COV (2510.05526, eq. 17 and 19), whose sign y of the
    noise cancels.
    """

    anchors: Mapping[str, float]
    beta: float
    noise_weight: float = 1.0
    """lambda, in (0, 1]"""
    likelihood_weight: float = 0.0
    """of the winner's negative log-likelihood, nats per response"""
    length_weight: float = 0.0
    """per token"""

    @property
    def differences(self) -> bool:
        """Whether identical responses have no gradient (see `only_differences`)."""
        return self.likelihood_weight == 0.0

    def __call__(self, batch: Batch) -> Loss:
        """The loss; metrics: the margin, and the share of pairs whose label is taken to be noisy."""
        margin_P = margins(relative_logps(batch, self.anchors), batch.pairs_P2)
        longer_P = margins(batch.lengths_R.to(margin_P.dtype), batch.pairs_P2)
        z_P = self.beta * margin_P + self.length_weight * longer_P
        noise_P = torch.zeros_like(z_P)
        if self.noise_weight < 1.0:
            noise_P = (math.log(1.0 / self.noise_weight - 1.0) - z_P).clamp_min(0.0)
        loss_P = self.noise_weight * noise_P + F.softplus(-(z_P + noise_P))
        loss_P = loss_P - self.likelihood_weight * batch.logps_R[batch.pairs_P2[:, 0]]
        noisy_P = (noise_P.detach() > 0).to(z_P.dtype)
        return Loss((batch.weight_P * loss_P).sum(), {"margin": margin_P.detach(), "label_noisy": noisy_P})


@dataclass(frozen=True, slots=True)
class PerToken:
    """Another objective on log-probabilities per token: each response's and its anchors' divided by its length."""

    inner: Objective

    @property
    def differences(self) -> bool:
        """As the inner objective."""
        return only_differences(self.inner)

    def __call__(self, batch: Batch) -> Loss:
        """The inner loss; its metrics are per token too."""
        anchors = {name: logps_R / batch.lengths_R for name, logps_R in batch.anchor_logps.items()}
        return self.inner(replace(batch, logps_R=batch.logps_R / batch.lengths_R, anchor_logps=anchors))
