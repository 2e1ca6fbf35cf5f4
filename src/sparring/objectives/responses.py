"""Losses on single responses: SPPO's regression to win rates, RSPO's divergences beside it, and KTO's labels.

The normaliser of the target policy does not cancel here as it does in a pair difference. Leaves out: pair losses
(`objectives/pairs.py`) and lists (`objectives/lists.py`).

    ResponseSquare(step_size=10.0, labels="soft")(batch).total

Shape suffixes: R responses, P pairs, 2 the winner and loser of a pair.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sparring.objectives.pairs import Batch, Loss, margins, relative_logps


@dataclass(frozen=True, slots=True)
class ResponseSquare:
    """1/2 sum over a pair's responses of ( log pi(y)/pi_t(y) - step_size * (label - 1/2) )^2.

    SPPO (2405.00675): labels are win rates (soft), or 1 and 0 (hard). `unit_loss` divides by step_size^2.
    """

    step_size: float
    labels: Literal["soft", "hard"] = "soft"
    unit_loss: bool = True
    anchor: str = "iterate"

    def residuals(self, batch: Batch) -> Float[Tensor, "P 2"]:
        """P x 2: distance of each response's log-ratio from its target."""
        ratio_P2 = relative_logps(batch, {self.anchor: 1.0})[batch.pairs_P2]
        if self.labels == "soft":
            label_P2 = batch.win_rates_R[batch.pairs_P2]
        else:
            label_P2 = torch.tensor([1.0, 0.0], dtype=ratio_P2.dtype, device=ratio_P2.device).expand_as(ratio_P2)
        return ratio_P2 - self.step_size * (label_P2 - 0.5)

    def __call__(self, batch: Batch) -> Loss:
        """The loss; metrics: the margin."""
        scale = self.step_size**-2 if self.unit_loss else 1.0
        total = 0.5 * scale * (batch.weight_P * (self.residuals(batch) ** 2).sum(1)).sum()
        margin_P = margins(relative_logps(batch, {self.anchor: 1.0}), batch.pairs_P2)
        return Loss(total, {"margin": margin_P.detach()})


@dataclass(frozen=True, slots=True)
class RegularisedResponseSquare:
    """RSPO (2503.00030, authors' code): SPPO plus surrogates of divergences from the start policy.

    Per pair, with d = log pi(y)/ref(y) of winner and loser and R the ratio bound: reverse_kl * sum d^2,
    forward_kl * sum exp(min(-d, R)), chi_squared * sum exp(min(d, R)); per response of role "reference":
    reference_nll * (-log pi(y)), averaged over the example's. Coefficients are on the scale of the paper's SPPO loss;
    with `unit_loss` the whole sum is divided by step_size^2, so the minimiser is the same.
    """

    sppo: ResponseSquare
    reverse_kl: float = 0.0
    forward_kl: float = 0.0
    chi_squared: float = 0.0
    reference_nll: float = 0.0
    ratio_bound: float = 10.0

    def penalty(self, batch: Batch) -> Float[Tensor, ""]:
        """Scalar: the weighted divergences, summed over examples."""
        ratio_P2 = relative_logps(batch, {"reference": 1.0})[batch.pairs_P2]
        bound = self.ratio_bound
        terms_P2 = torch.zeros_like(ratio_P2)
        if self.reverse_kl:
            terms_P2 = terms_P2 + self.reverse_kl * ratio_P2**2
        if self.forward_kl:
            terms_P2 = terms_P2 + self.forward_kl * (-ratio_P2).clamp_max(bound).exp()
        if self.chi_squared:
            terms_P2 = terms_P2 + self.chi_squared * ratio_P2.clamp_max(bound).exp()
        total = (batch.weight_P * terms_P2.sum(1)).sum()
        return total + self.reference_nll * self._nll(batch) if self.reference_nll else total

    def _nll(self, batch: Batch) -> Float[Tensor, ""]:
        """Scalar: sum over examples of the mean -log pi of their reference samples."""
        sampled_R = torch.tensor([role == "reference" for role in batch.roles], device=batch.logps_R.device)
        examples = batch.example_R[sampled_R]
        counts = torch.bincount(examples, minlength=int(batch.example_R.max()) + 1).clamp_min(1)
        return -(batch.logps_R[sampled_R] / counts[examples]).sum()

    def __call__(self, batch: Batch) -> Loss:
        """The loss; metrics: SPPO's."""
        sppo = self.sppo(batch)
        scale = self.sppo.step_size**-2 if self.sppo.unit_loss else 1.0
        return Loss(sppo.total + scale * self.penalty(batch), sppo.metrics)


UNPAIRED = DESIRABLE, UNDESIRABLE, MISMATCHED = "desirable", "undesirable", "mismatched"
"""Roles of unpaired data, of which an example has some: a labelled answer, and an answer to another prompt"""


@dataclass(frozen=True, slots=True)
class LabelledResponses:
    """KTO (2402.01306): weight * (1 - sigmoid(beta (r - z))) of desirable, (z - r) of undesirable responses.

    r is the log-ratio to the anchor, z (`kl`) the mean log-ratio of mismatched responses, at least 0 and without a
    gradient. With `kl` 0 it is the unpaired APO-zero (2408.06266).
    """

    beta: float
    desirable_weight: float = 1.0
    undesirable_weight: float = 1.0
    anchor: str = "reference"
    kl: float | None = None
    """z; None: to be estimated, from a whole optimiser step by `settled`, else from the batch at hand"""

    @property
    def is_settled(self) -> bool:
        """Whether z is known."""
        return self.kl is not None

    def statistic(self, batch: Batch) -> tuple[float, int]:
        """Sum and count of the mismatched responses' log-ratios."""
        ratio_R = relative_logps(batch, {self.anchor: 1.0}).detach()[self._having(batch, MISMATCHED)]
        return float(ratio_R.sum()), len(ratio_R)

    def settled(self, total: float, count: int) -> LabelledResponses:
        """The objective with the z that these sums give."""
        return replace(self, kl=max(0.0, total / count) if count else 0.0)

    def __call__(self, batch: Batch) -> Loss:
        """The loss; metrics: both sides' log-ratios, and z."""
        kl = self.settled(*self.statistic(batch)).kl if self.kl is None else self.kl
        assert kl is not None
        ratio_R = relative_logps(batch, {self.anchor: 1.0})
        total, metrics = ratio_R.new_zeros(()), {}
        for role, sign, weight in (
            (DESIRABLE, 1.0, self.desirable_weight),
            (UNDESIRABLE, -1.0, self.undesirable_weight),
        ):
            side_R = ratio_R[self._having(batch, role)]
            total = total + weight * torch.sigmoid(-self.beta * sign * (side_R - kl)).sum()
            metrics[f"{role}_vs_{self.anchor}"] = side_R.detach()
        return Loss(total, {**metrics, "kl_estimate": torch.full((1,), kl)})

    def _having(self, batch: Batch, role: str) -> Int[Tensor, " _"]:
        places = [i for i, name in enumerate(batch.roles) if name == role]
        return torch.tensor(places, dtype=torch.long, device=batch.logps_R.device)
