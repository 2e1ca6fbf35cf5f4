"""REBEL (2404.16767): the log-ratio of a pair regressed to its difference of rewards.

    ( (1/eta) ( D_policy - D_iterate ) - ( r(y) - r(y') ) )^2

The reward's difference is what the oracle knows: the logit of P(y beats y'), which on Bradley-Terry oracles is the
difference of rewards, or the difference of win rates, which a general preference has. With win rates it is INPO without
a reference, tau = 0. Transcribed from a summary of the paper. Leaves out: pairs with a response of a mixed-in policy.

    REBEL(step_size=1.0).steps(t=0, data=DataFacts(100))
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from sparring.algorithms.algorithm import About, DataFacts, PolicyRef, Step, Symbol
from sparring.algorithms.judged import IID, JudgedPlay, PairingName
from sparring.games.dynamics import mwu
from sparring.games.game import Array, Game
from sparring.games.probabilities import log_normalise


class REBEL(JudgedPlay):
    """REBEL's fields; the defaults are ours."""

    about = About("REBEL", "2404.16767", "iterate 1", pairing="i.i.d., or any")
    symbols: ClassVar = {"eta": Symbol("step_size")}
    on_games: ClassVar = {**IID, "step_size": 0.5}
    solves = "unknown"

    step_size: float = Field(default=1.0, gt=0)
    """eta: nats of log-ratio per unit of reward"""
    samples: int = Field(default=2, ge=1)
    """K, responses per prompt and round"""
    pairing: PairingName = "iid"
    """how K judged responses become pairs"""
    target: Literal["logit", "win_rate"] = "logit"  # type: ignore[assignment]
    """logit: of the oracle's probability, which must be calibrated; win_rate: difference of empirical win rates"""

    def steps(self, t: int, data: DataFacts) -> tuple[Step, ...]:
        """One pair square anchored to the iterate."""
        return (self.square_step(PolicyRef(t), {"iterate": (PolicyRef(t), 1.0)}, self.step_size),)

    def exact_step(self, game: Game, history: Sequence[Array]) -> Array | None:
        """pi_t exp(eta r) on Bradley-Terry games, or multiplicative weights on win rates."""
        if self.target == "win_rate":
            return mwu(game.preference, history[-1], self.step_size)
        if game.rewards is None or np.abs(game.preference - 0.5).max() > 0.5 - 1e-3:
            return None
        return log_normalise(history[-1] + self.step_size * game.rewards)
