"""Losses of self-play methods outside the common family of `pairs.py`.

    NoiseContrastive  SPACE (2512.07175): a classifier of data against own samples, with its prior odds
    WinRateLogistic   DNO (2404.03715): cross-entropy to the win rates' difference
    ClippedRatio      SPO (2401.04056): the policy gradient of the win rate, with PPO's clip on whole responses
    WithLikelihood    XPO (2405.21046): another loss, and the log-likelihood of some responses
    TermWeights       T-SPIN (2601.08198): another loss whose second term has a weight
    TeamLogistic      TPAW (2605.09922): logistic losses against several frozen policies, weighted by their margins

Leaves out: anchors, pairings and who samples (`algorithms/`).

    NoiseContrastive(ratio=1.0)(batch).total

Shape suffixes: R responses, P pairs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from sparring.objectives.pairs import Batch, Loss, Objective, margins, relative_logps


@dataclass(frozen=True, slots=True)
class NoiseContrastive:
    """log(1 + mu exp(-r(winner))) + mu log(1 + exp(r(loser)) / mu), over weighted pairs, r the log-ratio to the anchor.

    Each response is classified by itself, so the normaliser counts: the minimum is r = log(data / sampler), for any mu.
    """

    ratio: float = 1.0
    """mu: prior odds of a sample against an answer of the data"""
    anchor: str = "iterate"

    def __call__(self, batch: Batch) -> Loss:
        """The loss; metrics: the margin of log-ratios."""
        ratio_R, log_mu = relative_logps(batch, {self.anchor: 1.0}), math.log(self.ratio)
        win_P, lose_P = ratio_R[batch.pairs_P2].unbind(1)
        loss_P = F.softplus(log_mu - win_P) + self.ratio * F.softplus(lose_P - log_mu)
        return Loss((batch.weight_P * loss_P).sum(), {"margin": (win_P - lose_P).detach()})


@dataclass(frozen=True, slots=True)
class WinRateLogistic:
    """q ell(z) + (1 - q) ell(-z), z = beta (D_policy - D_anchor), q = sigmoid(difference of the two win rates)."""

    differences: ClassVar[bool] = True
    beta: float
    anchor: str = "iterate"

    def __call__(self, batch: Batch) -> Loss:
        """The loss; metrics: the margin and its target."""
        margin_P = margins(relative_logps(batch, {self.anchor: 1.0}), batch.pairs_P2)
        target_P = margins(batch.win_rates_R, batch.pairs_P2)
        loss_P = F.softplus(-self.beta * margin_P) + torch.sigmoid(-target_P) * self.beta * margin_P
        metrics = {"margin": margin_P.detach(), "margin_target": target_P / self.beta}
        return Loss((batch.weight_P * loss_P).sum(), metrics)


@dataclass(frozen=True, slots=True)
class ClippedRatio:
    """-min(A rho, A clip(rho, 1 - c, 1 + c)) of both responses of a pair, rho = pi(y)/pi_t(y).

    The advantage A is P - 1/2 for the first response and its opposite for the second, P the oracle's probability, or
    1 with hard labels. At pi = pi_t the gradient is that of the win rate against pi_t.
    """

    # A pair of identical responses holds no preference: with soft labels A is 0; with hard ones its two terms cancel
    # within the clip and only draw rho back beyond it. So such pairs are dropped.
    differences: ClassVar[bool] = True
    clip: float = 0.2
    soft: bool = False
    anchor: str = "iterate"

    def __call__(self, batch: Batch) -> Loss:
        """The loss; metrics: the margin of log-ratios, and the share of responses whose gradient is clipped away."""
        log_rho_R = relative_logps(batch, {self.anchor: 1.0})
        win_P, lose_P = log_rho_R[batch.pairs_P2].unbind(1)
        advantage_P = batch.preference_P - 0.5 if self.soft else torch.full_like(batch.weight_P, 0.5)
        both_P = self._one(win_P, advantage_P) + self._one(lose_P, -advantage_P)
        beyond_P = (win_P > math.log1p(self.clip)) | (lose_P < math.log1p(-self.clip))
        metrics = {"margin": (win_P - lose_P).detach(), "ratio_clipped": beyond_P.to(win_P.dtype)}
        return Loss((batch.weight_P * both_P).sum(), metrics)

    def _one(self, log_rho_P: Float[Tensor, " P"], advantage_P: Float[Tensor, " P"]) -> Float[Tensor, " P"]:
        # Cut far outside the clip, before the exponential: there is no gradient or no finite one.
        rho_P = log_rho_P.clamp_max(20.0).exp()
        return -torch.minimum(advantage_P * rho_P, advantage_P * rho_P.clamp(1.0 - self.clip, 1.0 + self.clip))


@dataclass(frozen=True, slots=True)
class WithLikelihood:
    """Another loss plus weight * log pi(y), averaged over an example's responses of one role."""

    inner: Objective
    weight: float
    role: str

    def __call__(self, batch: Batch) -> Loss:
        """The loss; metrics: the inner one's."""
        inner = self.inner(batch)
        if self.weight == 0.0:
            return inner
        places = [i for i, role in enumerate(batch.roles) if role == self.role]
        index_R = torch.tensor(places, dtype=torch.long, device=batch.logps_R.device)
        examples = batch.example_R[index_R]
        counts = torch.bincount(examples, minlength=int(batch.example_R.max()) + 1).clamp_min(1)
        bonus = (batch.logps_R[index_R] / counts[examples]).sum()
        return Loss(inner.total + self.weight * bonus, inner.metrics)


@dataclass(frozen=True, slots=True)
class TermWeights:
    """Another loss whose pairs of term 1 count `second` times."""

    inner: Objective
    second: float

    def __call__(self, batch: Batch) -> Loss:
        """The loss; metrics: the inner one's."""
        factor_P = torch.ones_like(batch.weight_P).masked_fill(batch.term_P == 1, self.second)
        return self.inner(replace(batch, weight_P=batch.weight_P * factor_P))


@dataclass(frozen=True, slots=True)
class TeamLogistic:
    """sum_j b_j ell(a_j P_j(winner) - P_j(loser)), P_j = beta (log pi - log pi_j), over weighted pairs.

    a_j is `target_weight` where P_j(winner) <= 0 and 1 elsewhere; b is the softmax over the policies j of -focus
    (P_j(winner) - P_j(loser)). Both are constants to the gradient; of b, the note that we read does not say so.
    """

    players: tuple[str, ...]
    """names of the anchors, each by itself"""
    beta: float
    target_weight: float = 6.0
    focus: float = 0.5

    def __call__(self, batch: Batch) -> Loss:
        """The loss; metrics: the margin to the first player, and the share of winners not above it."""
        ratios = torch.stack([relative_logps(batch, {name: 1.0}) for name in self.players])
        win, lose = (self.beta * ratios[:, batch.pairs_P2]).unbind(2)  # (players, P) each
        factor = torch.where(win <= 0.0, self.target_weight, 1.0)
        share = torch.softmax(-self.focus * (win - lose).detach(), dim=0)
        loss_P = (share * F.softplus(lose - factor * win)).sum(0)
        margin_P, falling_P = (win - lose)[0].detach() / self.beta, (win[0] <= 0.0).to(loss_P.dtype)
        return Loss((batch.weight_P * loss_P).sum(), {"margin": margin_P, "target_fell": falling_P})
