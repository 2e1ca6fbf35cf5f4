"""The losses: pure functions of log-probabilities. Start reading here.

Most methods of the field are one family. With D = log prob(winner) - log prob(loser):

    square  : ( D_policy - sum_k w_k D_k - target )^2           sum_k w_k = 1
    logistic: -log sigmoid( beta * ( D_policy - sum_k w_k D_k ) )

and differ in the anchors k (frozen policies), their weights, the target, and who sampled the
pair. A geometric mixture of anchors never needs its normaliser here: it cancels in D. An objective
is a frozen dataclass that maps a `Batch` to a `Loss`; it moves nothing to a device and logs
nothing. Leaves out: where log-probabilities come from (`training/`), how pairs are made
(`algorithms/pairing.py`), and which objective a method uses (`algorithms/`).

    PairSquare({"reference": 0.3, "iterate": 0.7}, step_size=200.0)(batch).total

Shape suffixes: R responses, P pairs, 2 the winner and loser of a pair; `_` is the length of any vector.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal, NamedTuple, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

Target = Literal["hard", "soft", "win_rate", "logit"]
SUREST = 1e-3
"""A probability is kept this far from 0 and 1 before its logit is taken"""


@dataclass(frozen=True, slots=True)
class Pair:
    """One training pair: indices of winner and loser among the example's responses."""

    winner: int
    loser: int
    preference: float = float("nan")
    weight: float = 1.0
    term: int = 0


@dataclass(frozen=True, slots=True)
class Batch:
    """Some whole examples: their responses, anchors and pairs. All log-probabilities are sums
    over response tokens, float32 on the language-model path (float64 on the games)."""

    logps_R: Float[Tensor, " R"]
    """log-probability under the trained policy; the only tensor with a gradient"""
    anchor_logps: Mapping[str, Float[Tensor, " R"]]
    """by anchor name, each R"""
    lengths_R: Int[Tensor, " R"]
    """response tokens, end token included"""
    example_R: Int[Tensor, " R"]
    """index of the example (prompt) within the batch"""
    roles: tuple[str, ...]
    """R names: own, opponent, chosen, rejected, gold, ..."""
    win_rates_R: Float[Tensor, " R"]
    """mean preference over the judged responses of the prompt, itself counting 1/2; NaN where not judged"""
    pairs_P2: Int[Tensor, "P 2"]
    """indices into R, winner first"""
    preference_P: Float[Tensor, " P"]
    """P(first beats second); NaN where no oracle was asked"""
    weight_P: Float[Tensor, " P"]
    """weights of an example's pairs, one per term summing to one, or to less where identical responses met"""
    term_P: Int[Tensor, " P"]
    """which term of the loss a pair belongs to; 0 unless the objective says otherwise"""


class Masked(NamedTuple):
    """A vector of which some entries count in a metric's mean."""

    values: Float[Tensor, " _"]
    counted: Bool[Tensor, " _"]
    """as long as `values`"""


@dataclass(frozen=True, slots=True)
class Loss:
    """The sum of an objective over the batch's examples, and metrics."""

    total: Float[Tensor, ""]
    """scalar: summed over examples, so that micro-batches add up to the big batch"""
    metrics: Mapping[str, Float[Tensor, " _"] | Masked] = field(default_factory=dict)
    """by name a vector (usually P) whose mean is worth a line in the log; no gradient"""


@runtime_checkable
class Objective(Protocol):
    """A pure function from log-probabilities to a loss."""

    def __call__(self, batch: Batch) -> Loss:
        """The loss summed over the batch's examples."""
        ...


@runtime_checkable
class OfWholeStep(Protocol):
    """An objective that needs a mean over all examples of an optimiser step, which micro-batches do not show."""

    @property
    def is_settled(self) -> bool:
        """Whether nothing is needed, or the mean is known already."""
        ...

    def statistic(self, batch: Batch) -> tuple[float, int]:
        """Sum and count over a micro-batch, without gradients."""
        ...

    def settled(self, total: float, count: int) -> Objective:
        """The objective with the mean that the sums of all micro-batches give."""
        ...


def needs_whole_step(objective: object) -> bool:
    """Whether every response of an optimiser step must be scored before the first one is trained on."""
    return isinstance(objective, OfWholeStep) and not objective.is_settled


def only_differences(objective: object) -> bool:
    """Whether it sees a pair only through differences, so that two identical responses have no gradient.

    A class of your own says so by a class attribute `differences = True`.
    """
    return bool(getattr(objective, "differences", False))


def relative_logps(batch: Batch, anchors: Mapping[str, float]) -> Float[Tensor, " R"]:
    """R: log pi(y) - sum_k w_k log pi_k(y), the log-ratio to a geometric mixture of anchors."""
    relative_R = batch.logps_R
    for name, weight in anchors.items():
        if weight != 0.0:
            relative_R = relative_R - weight * batch.anchor_logps[name]
    return relative_R


def margins(values_R: Float[Tensor, " R"], pairs_P2: Int[Tensor, "P 2"]) -> Float[Tensor, " P"]:
    """P: value of the first response of each pair minus value of the second."""
    return values_R[pairs_P2[:, 0]] - values_R[pairs_P2[:, 1]]


def of_term(values_P: Float[Tensor, " P"], batch: Batch, term: int) -> Masked:
    """P: the values, of which those of one term's pairs count.

    Selecting these instead would make the host wait for the device, to learn how many there are.
    """
    return Masked(values_P, batch.term_P == term)


def pair_labels(batch: Batch, target: Target) -> Float[Tensor, " P"]:
    """P: the advantage that a pair-difference step regresses on, in units of the step size.

    hard: 1/2 for the winner as drawn; soft: P(y > y') - 1/2; win_rate: difference of the two
    responses' empirical win rates. All three have the same population minimiser when both responses
    are i.i.d. from one policy (INPO, 2407.00617, Prop. 6); they differ in variance. logit: log P/(1 - P), the
    difference of rewards on a Bradley-Terry oracle (REBEL, 2404.16767), another aim.
    """
    if target == "hard":
        return torch.full_like(batch.weight_P, 0.5)
    if target == "soft":
        return batch.preference_P - 0.5
    if target == "logit":
        return torch.logit(batch.preference_P, eps=SUREST)
    return margins(batch.win_rates_R, batch.pairs_P2)


@dataclass(frozen=True, slots=True)
class PairSquare:
    """( D_policy - sum_k w_k D_k - step_size * label )^2, summed over weighted pairs.

    INPO (2407.00617, L_INPO): label 1/2, step_size = 1/eta, anchors reference: tau/eta and
    iterate: 1 - tau/eta. IPO (2310.12036): anchors reference: 1, step_size = 1/tau. ONPO
    (2502.16852): its own anchor, step_size = eta (a step there).

    `unit_loss` divides the square by step_size^2: the same minimiser, with a gradient whose size
    does not explode as the step grows (at INPO's eta = .005 the target is 100 nats).
    """

    differences: ClassVar[bool] = True
    anchors: Mapping[str, float]
    step_size: float
    target: Target = "hard"
    unit_loss: bool = True

    def __call__(self, batch: Batch) -> Loss:
        """The loss; metrics: the margin and the fraction of its target reached."""
        margin_P = margins(relative_logps(batch, self.anchors), batch.pairs_P2)
        target_P = self.step_size * pair_labels(batch, self.target)
        scale = self.step_size**-2 if self.unit_loss else 1.0
        total = (batch.weight_P * (margin_P - target_P) ** 2).sum() * scale
        return Loss(total, {"margin": margin_P.detach(), "margin_target": target_P})


@dataclass(frozen=True, slots=True)
class PairLogistic:
    """-log sigmoid( beta * ( D_policy - sum_k w_k D_k ) ), summed over weighted pairs.

    DPO (2305.18290): anchors reference: 1. SPIN (2401.01335): anchors iterate: 1,
    gold against own sample. alpha-SPIN (2404.04291): iterate: 1 - alpha, reference: alpha.

    With `soft` the label is the oracle's P: P * ell(z) + (1 - P) * ell(-z), the exact
    expectation of the hard label over the oracle's verdict.
    """

    differences: ClassVar[bool] = True
    anchors: Mapping[str, float]
    beta: float
    soft: bool = False

    def __call__(self, batch: Batch) -> Loss:
        """The loss; metrics: the margin."""
        margin_P = margins(relative_logps(batch, self.anchors), batch.pairs_P2)
        loss_P = F.softplus(-self.beta * margin_P)
        if self.soft:
            loss_P = loss_P + (1.0 - batch.preference_P) * self.beta * margin_P
        return Loss((batch.weight_P * loss_P).sum(), {"margin": margin_P.detach()})


@dataclass(frozen=True, slots=True)
class ChiSquaredLogistic:
    """-log sigmoid( clip[ beta * (phi_w - phi_l) ] to +-2 * reward_bound ), phi = z + log z, z = pi(y)/ref(y).

    chi-PO (2407.13399), as transcribed in a note on the paper. Log-ratios are cut at `ratio_bound` inside the
    exponential, so that a float32 ratio stays finite.
    """

    differences: ClassVar[bool] = True
    beta: float
    reward_bound: float = 4.0
    ratio_bound: float = 20.0
    anchor: str = "reference"

    def __call__(self, batch: Batch) -> Loss:
        """The loss; metrics: the margin of log-ratios, and the share of clipped pairs."""
        ratio_R = relative_logps(batch, {self.anchor: 1.0})
        link_R = ratio_R.clamp_max(self.ratio_bound).exp() + ratio_R
        reward_P = self.beta * margins(link_R, batch.pairs_P2)
        bound = 2.0 * self.reward_bound
        total = (batch.weight_P * F.softplus(-reward_P.clamp(-bound, bound))).sum()
        clipped_P = (reward_P.detach().abs() >= bound).to(ratio_R.dtype)
        return Loss(total, {"margin": margins(ratio_R.detach(), batch.pairs_P2), "reward_clipped": clipped_P})


DATA, PESSIMISM = 0, 1
"""Terms of `AdversarialCritic`: the data's own pair, and a dataset response against a fresh own one."""


@dataclass(frozen=True, slots=True)
class AdversarialCritic:
    """SPAC (2406.04274): fit the preference data, and lower own samples relative to them.

    With the critic f(y) = beta * (log pi(y) - log pi_t(y)), bounded to [-bound, bound] in the linear
    form, pairs (y+, y-) of term DATA and (y+, y'), (y-, y') of term PESSIMISM, weight 1/2 each:

        linear  : data_weight * ell(f(y+) - f(y-)) + pessimism_weight * [ f(y') - (f(y+) + f(y-))/2 ]
        smoothed: data_weight * ell(f(y+) - f(y-)) + pessimism_weight * mean_y~ ell(f(y~) - f(y'))

    with ell(z) = -log sigmoid(z). The sum is divided by data_weight + pessimism_weight: only their ratio
    matters to the minimiser, and learning rate and clipping then carry over from DPO.
    Reconstructed, not read in the paper: the change of variables and the bound (docs/algorithms/spac.md).
    """

    differences: ClassVar[bool] = True
    beta: float
    data_weight: float
    pessimism_weight: float
    form: Literal["linear", "smoothed"] = "smoothed"
    bound: float = 4.0
    iterate: str = "iterate"

    def critic(self, batch: Batch) -> Float[Tensor, " R"]:
        """R: f(y), clamped in the linear form (without a bound it is unbounded below)."""
        values_R = self.beta * relative_logps(batch, {self.iterate: 1.0})
        return values_R.clamp(-self.bound, self.bound) if self.form == "linear" else values_R

    def __call__(self, batch: Batch) -> Loss:
        """The loss; metrics: the data margin, both terms, and the share of clamped responses."""
        f_R = self.critic(batch)
        margin_P = margins(f_R, batch.pairs_P2)
        data_P = (batch.term_P == DATA) * batch.weight_P
        own_P = (batch.term_P == PESSIMISM) * batch.weight_P
        own_loss_P = -margin_P if self.form == "linear" else F.softplus(-margin_P)
        data, own = (data_P * F.softplus(-margin_P)).sum(), (own_P * own_loss_P).sum()
        total = self.data_weight * data + self.pessimism_weight * own
        metrics = {
            "margin": of_term(margin_P.detach() / self.beta, batch, DATA),
            "own_margin": of_term(margin_P.detach() / self.beta, batch, PESSIMISM),
            "critic_at_bound": (f_R.detach().abs() >= self.bound).to(f_R.dtype),
        }
        return Loss(total / (self.data_weight + self.pessimism_weight), metrics)
