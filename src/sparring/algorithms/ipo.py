"""IPO (2310.12036): a squared loss on the pair margin, offline or iterative.

    ( D_policy - D_ref - 1/(2 tau) )^2

on summed log-probabilities, as the paper writes it; with `per_token` each response's log-ratio is divided by its
length, as TRL does after contact with the authors: another loss, whose tau is not this one. tau is `kl_to_reference`;
step_size = 1/tau. Leaves out: other divergences.

    IPO(kl_to_reference=0.1).steps(t=0, data=DataFacts(100))
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from pydantic import Field

from sparring.algorithms.algorithm import About, DataFacts, Step, Symbol
from sparring.algorithms.sources import EITHER_SOURCE, OWN_IID, PairSource
from sparring.games.game import Array, Game
from sparring.games.probabilities import log_normalise, win_rates
from sparring.objectives.pairs import PairSquare
from sparring.objectives.variants import PerToken


class IPO(PairSource):
    """IPO's fields."""

    about = About("IPO, iterative IPO", "2310.12036", "reference 1", **EITHER_SOURCE)
    symbols: ClassVar = {"tau": Symbol("kl_to_reference")}
    on_games: ClassVar = {**OWN_IID, "kl_to_reference": 1.0}

    kl_to_reference: float = Field(default=0.1, gt=0)
    """tau: the target margin is 1/(2 tau) nats"""
    unit_loss: bool = True
    """multiply the loss by tau^2 (same minimiser); false is the paper's scale"""
    per_token: bool = False
    """divide each log-ratio by its response's length (TRL's loss); the target is then nats per token"""

    def steps(self, t: int, data: DataFacts) -> tuple[Step, ...]:
        """One step with one anchor."""
        target = "soft" if self.soft_labels else "hard"
        loss = PairSquare(self.anchor_weights, 1.0 / self.kl_to_reference, target, self.unit_loss)
        return (self.pair_step(t, PerToken(loss) if self.per_token else loss),)

    def regularisation(self) -> float | None:
        """tau, where the start stays the reference of own samples: the step's fixed point; else 0, or None."""
        if self.source == "pairs" or self.reference == "none":
            return None
        return self.kl_to_reference if self.reference == "start" else 0.0

    def exact_step(self, game: Game, history: Sequence[Array]) -> Array | None:
        """Own i.i.d. samples: anchor exp(P(y > pi_t) / tau), by the argument of INPO's Prop. 6."""
        if self.source == "pairs":
            return None
        anchor = self.exact_anchor(game, history)
        return log_normalise(anchor + win_rates(game.preference, np.exp(history[-1])) / self.kl_to_reference)
