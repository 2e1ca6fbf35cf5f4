"""The clipped surrogate of policy gradients on whole responses, with advantages from rewards or win rates.

    r = pi(y)/pi_t(y),  A = 2 (w - 1/2),  loss = -min( r A, clip(r, 1 - low, 1 + high) A ) + kl * k3

w is a response's win rate against its siblings, or against a baseline, so that 1/2 means no better than it. With the
group's mean as baseline this is GRPO (2402.03300) on sequences, as GSPO (2507.18071) when the ratio is length
normalised; with a baseline by role RAE (SPIRAL, 2506.24119); with none and the length-normalised ratio SPC's loss
(2504.19162). At the policy that sampled, its gradient is that of REINFORCE. Leaves out: a ratio per token.

    ClippedSurrogate()(batch).total

Shape suffixes: R responses.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sparring.objectives.pairs import Batch, Loss, relative_logps

LEAST_SPREAD = 1e-6
"""a group whose advantages spread less is not divided by its spread"""


@dataclass(frozen=True, slots=True)
class ClippedSurrogate:
    """Minus the clipped surrogate, averaged over each example's responses and summed over examples."""

    clip_low: float = 0.2
    clip_high: float = 0.2
    per_token: bool = False
    """the ratio of length-normalised log-probabilities (GSPO, SPC)"""
    normalise: bool = False
    """divide an example's advantages by their standard deviation (GRPO)"""
    kl_to_reference: float = 0.0
    """weight of k3 = exp(d) - d - 1, d = log ref - log pi (by token where `per_token`): KL(pi || ref) if pi sampled"""
    anchor: str = "iterate"

    def advantages(self, batch: Batch) -> Float[Tensor, " R"]:
        """R: 2 (w - 1/2), in [-1, 1] unless divided by the group's spread."""
        advantage_R = 2.0 * (batch.win_rates_R - 0.5)
        if not self.normalise:
            return advantage_R
        square_R = (advantage_R - self._mean(batch, advantage_R)[batch.example_R]) ** 2
        spread_R = self._mean(batch, square_R)[batch.example_R].sqrt()
        return torch.where(spread_R > LEAST_SPREAD, advantage_R / spread_R.clamp_min(LEAST_SPREAD), advantage_R)

    def _mean(self, batch: Batch, values_R: Float[Tensor, " R"]) -> Float[Tensor, " _"]:
        """By example of the batch, the mean of its responses' values."""
        counts = torch.bincount(batch.example_R).clamp_min(1)
        return torch.zeros_like(counts, dtype=values_R.dtype).index_add(0, batch.example_R, values_R) / counts

    def __call__(self, batch: Batch) -> Loss:
        """The loss; metrics: the ratio's logarithm, and the share of clipped responses."""
        length_R = batch.lengths_R if self.per_token else torch.ones_like(batch.lengths_R)
        log_ratio_R = relative_logps(batch, {self.anchor: 1.0}) / length_R
        # Cut far outside the clip, before the exponential: there is no gradient or no finite one.
        ratio_R, advantage_R = log_ratio_R.clamp_max(20.0).exp(), self.advantages(batch)
        bounded_R = ratio_R.clamp(1.0 - self.clip_low, 1.0 + self.clip_high)
        loss_R = -torch.minimum(ratio_R * advantage_R, bounded_R * advantage_R)
        if self.kl_to_reference:
            behind_R = -relative_logps(batch, {"reference": 1.0}) / length_R
            loss_R = loss_R + self.kl_to_reference * (behind_R.exp() - behind_R - 1.0)
        clipped_R = ((bounded_R * advantage_R) < (ratio_R * advantage_R)).to(loss_R.dtype)
        metrics = {"log_ratio": log_ratio_R.detach(), "ratio_clipped": clipped_R.detach()}
        return Loss(self._mean(batch, loss_R).sum(), metrics)
