"""DPO, Direct Preference Optimization (2305.18290), offline or iterative on own samples; and its variants.

Iterative DPO is the baseline of INPO's tables: samples of the iterate, best against worst, the
starting policy as the reference of every round (or the iterate, by `reference`). On a
Bradley-Terry oracle its population minimiser is ref(y) exp(r(y)/beta); off Bradley-Terry there is no such
form. Fields choose a variant: another shape of the loss, noisy labels (cDPO, robust DPO), another divergence (f-DPO),
scores per token, a margin, a likelihood term (RPO), no reference. Leaves out: AOT, WPO and LD-DPO.

    DPO(source="own", samples=4).steps(t=0, data=DataFacts(100))
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from sparring.algorithms.algorithm import About, DataFacts, Step
from sparring.algorithms.sources import EITHER_SOURCE, OWN_IID, PairSource
from sparring.games.game import Array, Game
from sparring.games.probabilities import log_normalise
from sparring.objectives.pairs import Objective, PairLogistic
from sparring.objectives.variants import OF_DIFFERENCES, PairVariant, Shape

USED_WITH: Sequence[tuple[str, str, Sequence[str]]] = (
    ("divergence", "loss", OF_DIFFERENCES),
    ("divergence", "reference", ("start", "iterate")),
    ("per_token", "loss", OF_DIFFERENCES),
    ("margin", "loss", OF_DIFFERENCES),
    ("label_smoothing", "loss", ("logistic", "exo")),
    ("robust", "loss", ("logistic",)),
    ("soft_labels", "loss", ("logistic",)),
    ("divergence_alpha", "divergence", ("alpha",)),
    ("discopop_temperature", "loss", ("discopop",)),
)
"""A field, another one, and the values of that with which the first has an effect"""
VARIANT = ("loss", "divergence", "per_token", "margin", "label_smoothing", "sft_weight")
"""fields that, at other values than DPO's own, make the loss a variant"""


class DPO(PairSource):
    """DPO's fields."""

    about = About("DPO and its variants", "2305.18290", "reference 1, or none", loss="pair logistic", **EITHER_SOURCE)
    solves = "unknown"
    on_games: ClassVar = {**OWN_IID, "beta": 0.5}

    beta: float = Field(default=0.1, gt=0)
    """weight of the KL to the reference, per nat; without a reference the scale of the scores"""
    loss: Shape = "logistic"
    """shape of a pair's loss: logistic (DPO), hinge (SLiC), exo, nca, bco, apo_zero, apo_down or discopop"""
    label_smoothing: float = Field(default=0.0, ge=0, lt=0.5)
    """e: the probability that a label is wrong (cDPO, robust DPO), or EXO's epsilon (its paper: 0.001)"""
    robust: bool = False
    """correct for a share e of flipped labels (robust DPO) instead of smoothing the labels (cDPO)"""
    divergence: Literal["reverse_kl", "forward_kl", "js", "alpha"] = "reverse_kl"
    """f-DPO: the divergence to the reference"""
    divergence_alpha: float = 0.5
    """of divergence: alpha, which is u^-alpha up to scale; 1 would be reverse_kl"""
    per_token: bool = False
    """divide each response's score by its length"""
    margin: float = Field(default=0.0, ge=0)
    """by how much beta times the winner's score has to lead (SimPO's gamma)"""
    sft_weight: float = Field(default=0.0, ge=0)
    """weight of the winner's negative log-likelihood per token (RPO's alpha, CPO's term)"""
    discopop_temperature: float = Field(default=0.05, gt=0)
    """of loss: discopop"""

    @model_validator(mode="after")
    def _fields_are_used(self) -> Self:
        """Refuse a field that the chosen variant does not use."""
        for name, other, values in USED_WITH:
            if not self._is_default(name) and getattr(self, other) not in values:
                raise ValueError(
                    f"{name} = {getattr(self, name)!r} with {other} = {getattr(self, other)!r}, which does not use it: "
                    f"leave it out, or give {other}: {' or '.join(values)}."
                )
        return self

    @model_validator(mode="after")
    def _labels_agree(self) -> Self:
        if self.label_smoothing == 0 and (self.loss == "exo" or self.robust):
            needs, usual = ("robust = true", "0.1") if self.robust else ("loss = 'exo'", "0.001")
            raise ValueError(f"label_smoothing = 0 with {needs}, which needs it: give a share, such as {usual}.")
        if self.soft_labels and self.label_smoothing:
            raise ValueError(
                f"label_smoothing = {self.label_smoothing} with soft_labels = true, where the oracle's probability is "
                "the label: leave one of them out."
            )
        if self.divergence == "alpha" and self.divergence_alpha == 1:
            raise ValueError("divergence_alpha = 1 with divergence = 'alpha' is the reverse KL: leave both out.")
        return self

    def _is_default(self, name: str) -> bool:
        """Whether a field has the value of plain DPO."""
        return getattr(self, name) == DPO.model_fields[name].default

    def objective(self) -> Objective:
        """The loss of a pair: DPO's own, or the variant that the fields choose."""
        if all(map(self._is_default, VARIANT)):
            return PairLogistic(self.anchor_weights, self.beta, self.soft_labels)
        return PairVariant(
            self.anchor_weights,
            self.beta,
            shape=self.loss,
            link=self.divergence,
            alpha=self.divergence_alpha,
            per_token=self.per_token,
            margin=self.margin,
            smoothing=self.label_smoothing,
            robust=self.robust,
            soft=self.soft_labels,
            temperature=self.discopop_temperature,
            sft_weight=self.sft_weight,
        )

    def steps(self, t: int, data: DataFacts) -> tuple[Step, ...]:
        """One step with one anchor, or with none."""
        return (self.pair_step(t, self.objective()),)

    def exact_step(self, game: Game, history: Sequence[Array]) -> Array | None:
        """ref exp(r / beta) of DPO's own loss, on Bradley-Terry games only; off them there is no such form."""
        # A game's responses have one token each, so that scores per token are the same.
        if game.rewards is None or not all(self._is_default(name) for name in VARIANT if name != "per_token"):
            return None
        anchor = self.exact_anchor(game, history)
        return log_normalise(anchor + game.rewards / self.beta)
