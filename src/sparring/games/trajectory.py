"""Many rounds of an update from the reference, and the distances of every round.

Leaves out: the updates (`dynamics.py`, `squares.py`).

    trajectory(lambda game, past: mwu(game.preference, past[-1], 0.1), built_in("G3"), 100).gaps()
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from sparring.games.equilibrium import duality_gap
from sparring.games.game import Array, Game
from sparring.games.probabilities import log_kl, log_normalise

Update = Callable[[Game, Sequence[Array]], Array]
"""From a game and the log-policies of rounds 0..t to the log-policy of round t + 1."""


@dataclass(frozen=True, slots=True)
class Trajectory:
    """The log-policies of rounds 0..T of one run, (T + 1, C, n)."""

    game: Game
    log_policies: Array
    notes: tuple[str, ...] = ()
    """cautions for the reader of its numbers"""

    @property
    def policies(self) -> Array:
        """Probabilities of every round; `policies[t]` is (C, n)."""
        return np.exp(self.log_policies)

    @property
    def averages(self) -> Array:
        """Running average: `averages[t]` is the mean of rounds 0..t."""
        rounds = np.arange(1, len(self.log_policies) + 1)
        return np.cumsum(self.policies, axis=0) / rounds[:, None, None]

    def gaps(self, policies: Array | None = None) -> Array:
        """Duality gap of each round's policy, or of `policies` such as `averages`: the weighted mean over contexts."""
        played = self.policies if policies is None else policies
        return duality_gap(self.game.preference, played) @ self.game.context_weights

    def kl_from(self, target: Array) -> Array:
        """KL(target || pi_t) of each round, target (C, n): the weighted mean over contexts."""
        with np.errstate(divide="ignore"):
            log_target = np.log(target)
        return log_kl(log_target, self.log_policies) @ self.game.context_weights


def trajectory(update: Update, game: Game, rounds: int, start: Array | None = None) -> Trajectory:
    """Play `rounds` rounds from the reference, or from log-policies `start` of shape (C, n)."""
    history = [game.log_reference if start is None else log_normalise(start)]
    for _ in range(rounds):
        history.append(update(game, history))
    return Trajectory(game, np.stack(history))
