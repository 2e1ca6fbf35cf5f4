"""RSPO (2503.00030): SPPO plus a regulariser towards the start policy.

    L = L_SPPO + sum of   reverse_kl   * ( d_w^2 + d_l^2 )
                          forward_kl   * ( exp(min(-d_w, R)) + exp(min(-d_l, R)) )
                          chi_squared  * ( exp(min(d_w, R)) + exp(min(d_l, R)) )
                          reference_nll * mean over start-policy samples of -log pi(y)

with d = log pi(y)/ref(y); every coefficient is a field, where the authors' code hides them in names. The reverse-KL
surrogate is a squared log-ratio: its gradient is that of the KL for samples of pi, and biased on the iterate's. Their
`forward` is a mean over tokens, our reference_nll sums a response's. Leaves out: the entropy surrogate and `chisqsm1`.

    RSPO(reverse_kl=0.5).steps(t=0, data=DataFacts(100))
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

from pydantic import Field

from sparring.algorithms.algorithm import REFERENCE, About, DataFacts, Draw, Step, Symbol
from sparring.algorithms.judged import IID
from sparring.algorithms.pairing import KeepingRole
from sparring.algorithms.sppo import SPPO
from sparring.games.dynamics import mmd
from sparring.games.game import Array, Game
from sparring.objectives.pairs import Objective
from sparring.objectives.responses import RegularisedResponseSquare


class RSPO(SPPO):
    """RSPO's fields beside SPPO's; the default is the code's best reverse-KL script."""

    about = About(
        "RSPO",
        "2503.00030",
        "iterate 1, and the reference in the regulariser",
        samples="iterate, K per prompt; optionally the reference",
        pairing="best-worst",
        loss="response squares + divergences",
    )
    symbols: ClassVar = {"eta": Symbol("step_size"), "c": Symbol("reverse_kl"), "R": Symbol("ratio_bound")}
    on_games: ClassVar = {**IID, "step_size": 0.5, "reverse_kl": 0.1}
    solves = "regularised"

    reverse_kl: float = Field(default=0.5, ge=0)
    """coefficient of the squared log-ratio to the start policy"""
    forward_kl: float = Field(default=0.0, ge=0)
    """coefficient of the importance-weighted forward KL; shortens responses"""
    chi_squared: float = Field(default=0.0, ge=0)
    """coefficient of the clipped likelihood ratio"""
    ratio_bound: float = Field(default=10.0, gt=0)
    """R: log-ratios are cut at this before the exponential"""
    reference_nll: float = Field(default=0.0, ge=0)
    """coefficient of the negative log-likelihood of the start policy's own samples (one more draw)"""
    reference_samples: int = Field(default=1, ge=1)
    """start-policy samples per prompt; drawn only with reference_nll > 0"""

    def objective(self) -> Objective:
        """SPPO's squares and the divergences."""
        return RegularisedResponseSquare(
            self.squares(), self.reverse_kl, self.forward_kl, self.chi_squared, self.reference_nll, self.ratio_bound
        )

    def steps(self, t: int, data: DataFacts) -> tuple[Step, ...]:
        """SPPO's step, with start-policy samples beside it where they are asked for."""
        (step,) = super().steps(t, data)
        if self.reference_nll == 0:
            return (step,)
        extra = Draw("reference", self.reference_samples, {REFERENCE: 1.0})
        assert isinstance(step.responses, tuple)
        return (replace(step, responses=(*step.responses, extra), pairing=KeepingRole(step.pairing, "reference")),)

    def regularisation(self) -> float | None:
        """2 c / eta for reverse KL alone; no equilibrium is computed for the other divergences."""
        alone = not (self.forward_kl or self.chi_squared or self.reference_nll)
        return 2.0 * self.reverse_kl / self.step_size if alone else None

    def exact_step(self, game: Game, history: Sequence[Array]) -> Array | None:
        """Reverse KL alone is magnetic mirror descent with tau = 2 c / eta; nothing closed otherwise."""
        tau = self.regularisation()
        return None if tau is None else mmd(game.preference, history[-1], game.log_reference, self.step_size, tau)
