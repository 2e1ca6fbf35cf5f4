"""Games of n players over continuous knobs whose pay-offs can only be asked for, at one profile of knobs at a time.

Each player's knob lies on a grid, so that the exploitability of a profile is known exactly where the game is:

    exploitability(a) = sum_i max_{a'} u_i(a', a_-i) - u_i(a)        0 at a Nash point of the grid

`cournot` and `contest` have equilibria that are known in closed form, and are on their grids of odd size (Cournot's: of
3 k + 1 points). Leaves out: finding them (`arise.py`).

    game = cournot(noise=0.01); game.payoffs((10, 10), rng); game.exploitability()[10, 10]

Shape suffixes: I players, D grid points of each player, one axis each.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Profile = tuple[int, ...]
"""an index into every player's grid"""


@dataclass(frozen=True)
class BlackBoxGame:
    """Players with a grid each, and pay-offs by profile."""

    name: str
    grids: tuple[Array, ...]
    """the values that each player may choose, ascending"""
    payoff: Callable[[Array], Array]
    """pay-offs (..., I) of knobs (..., I)"""
    nash: tuple[float, ...]
    """the knobs of the known equilibrium"""
    noise: float = 0.0
    """standard deviation of what is observed"""

    @property
    def players(self) -> int:
        """How many there are."""
        return len(self.grids)

    @property
    def shape(self) -> tuple[int, ...]:
        """Grid points of each player."""
        return tuple(map(len, self.grids))

    @cached_property
    def knobs(self) -> Array:
        """(D, ..., D, I): the knobs of every profile."""
        return np.stack(np.meshgrid(*self.grids, indexing="ij"), axis=-1)

    def payoffs(self, profile: Profile, rng: np.random.Generator) -> Array:
        """One observation of all players' pay-offs, (I,)."""
        return self.payoff(self.knobs[profile]) + self.noise * rng.normal(size=self.players)

    def exploitability(self) -> Array:
        """(D, ..., D): the exploitability of every profile."""
        return nash_gap(self.payoff(self.knobs))


def nash_gap(best: Array, own: Array | None = None) -> Array:
    """Sum over players of max over its own knob of `best`, less `own`, by default the same: (D, ..., D).

    Args:
        best: (D, ..., D, I), pay-offs or bounds of them.
        own: of the profile itself.
    """
    own = best if own is None else own
    gains = [best[..., i].max(axis=i, keepdims=True) - own[..., i] for i in range(best.shape[-1])]
    return np.sum(gains, axis=0)


def cournot(points: int = 31, noise: float = 0.0) -> BlackBoxGame:
    """Two sellers choose quantities: u_i = q_i (1 - q_1 - q_2); Nash at q = 1/3 each."""

    def payoff(q: Array) -> Array:
        return q * (1.0 - q.sum(-1, keepdims=True))

    return BlackBoxGame("cournot", (np.linspace(0.0, 1.0, points),) * 2, payoff, (1 / 3, 1 / 3), noise)


def contest(points: int = 13, noise: float = 0.0) -> BlackBoxGame:
    """Three players share a prize by what they spend: u_i = x_i / sum x - x_i; Nash at x = 2/9 each (Tullock)."""

    def payoff(x: Array) -> Array:
        return x / x.sum(-1, keepdims=True) - x

    grid: Array = np.arange(1.0, points + 1) * (2 / 9) / ((points + 1) / 2)  # the equilibrium is its middle
    return BlackBoxGame("contest", (grid,) * 3, payoff, (2 / 9,) * 3, noise)


GAMES = {"cournot": cournot, "contest": contest}
