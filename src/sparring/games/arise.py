"""Nash points of black-box games with Gaussian processes: ARISE (2405.08318), on grids.

Each player's pay-off has a Gaussian process over the knobs of all. With bounds l_i <= u_i <= h_i from its mean and
`WIDTH` standard deviations, the exploitability of a profile lies in

    high(a) = sum_i max_{a'} h_i(a', a_-i) - l_i(a)      low(a) = max(0, sum_i max_{a'} l_i(a', a_-i) - h_i(a))

The region of interest is {a : low(a) <= min high}: only there can a Nash point be. The next profile asked is the one
of it with the widest bounds, and the answer is the profile with the smallest `high` in the end. `uniform` and `grid`
ask profiles that are drawn at random, or that lie evenly, and answer with the same processes: beside them it shows
what choosing is worth. The processes are scikit-learn's, with a Gaussian kernel of one length scale a knob.
Leaves out: knobs off the grid, several equilibria (one is found), and the paper's proof, whose widths grow with time.

    found = search(cournot(noise=0.01), evaluations=30); found.profile

Shape suffixes: I players, N observations, D grid points of each player.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from sparring.games.black_box import BlackBoxGame, Profile, nash_gap

Array = NDArray[np.float64]
Design = Literal["arise", "uniform", "grid"]
DESIGNS: tuple[Design, ...] = get_args(Design)
WIDTH = 2.0
"""standard deviations on either side"""
FIRST = 6
"""profiles asked at random before the processes are fitted"""
LENGTHS = (0.05, 5.0)
"""bounds of the length scales, in shares of a knob's range"""


@dataclass(frozen=True, slots=True)
class Found:
    """What a search answers after its evaluations."""

    profile: Profile
    """with the smallest upper bound of its exploitability"""
    high: float
    """that bound"""
    asked: list[Profile]
    region: int
    """profiles that may still be a Nash point"""


def search(game: BlackBoxGame, evaluations: int, design: Design = "arise", seed: int = 0) -> Found:
    """Ask for so many profiles' pay-offs, and answer with the one that may be exploited least.

    Raises:
        ValueError: unknown design; too few evaluations, or more than profiles; or scikit-learn is not installed.
    """
    if design not in DESIGNS:
        raise ValueError(f"design {design!r}: there is none of this name. Give one of {', '.join(DESIGNS)}.")
    if evaluations <= FIRST:
        raise ValueError(f"evaluations={evaluations}: too few; {FIRST} are asked at random. Give {FIRST + 1} or more.")
    if evaluations > np.prod(game.shape):
        raise ValueError(
            f"evaluations={evaluations}: {game.name} has only {np.prod(game.shape)} profiles. Give that at most."
        )
    if design == "grid" and evaluations < 2**game.players:
        raise ValueError(f"evaluations={evaluations}: an even grid has 2 points a player, {2**game.players} or more.")
    rng = np.random.default_rng(seed)
    asked: list[Profile] = []
    seen: list[Array] = []
    fixed = _fixed(game, evaluations, design, rng)
    while True:
        if len(asked) < len(fixed):
            profile = fixed[len(asked)]
        else:
            low, high = bounds(game, asked, np.array(seen))
            region = low <= high.min()
            if len(asked) == evaluations:
                best = np.unravel_index(int(high.argmin()), high.shape)
                return Found(tuple(map(int, best)), float(high.min()), asked, int(region.sum()))
            widest = np.unravel_index(int(np.where(region, high - low, -1.0).argmax()), high.shape)
            profile = tuple(map(int, widest))
        asked.append(profile)
        seen.append(game.payoffs(profile, rng))


def bounds(game: BlackBoxGame, asked: list[Profile], seen_NI: Array) -> tuple[Array, Array]:
    """(low, high) of every profile's exploitability, (D, ..., D) each, from what was observed."""
    where, scaled = tuple(np.array(asked).T), _scaled(game)
    every = scaled.reshape(-1, game.players)
    ends = [_predicted(scaled[where], seen_NI[:, i], every) for i in range(game.players)]
    mean, deviation = (np.stack(x, axis=-1).reshape(game.knobs.shape) for x in zip(*ends, strict=True))
    least, most = mean - WIDTH * deviation, mean + WIDTH * deviation
    return np.maximum(0.0, nash_gap(least, most)), nash_gap(most, least)


def _predicted(x_NI: Array, y_N: Array, every: Array) -> tuple[Array, Array]:
    """Mean and standard deviation of a pay-off at every profile, without the noise of an observation."""
    try:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.gaussian_process import GaussianProcessRegressor
        from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
    except ImportError as error:
        raise ValueError("ARISE needs scikit-learn. Install it with: pip install 'sparring[lab]'") from error
    scale = float(y_N.std()) or 1.0
    smooth = ConstantKernel(1.0, (1e-2, 1e3)) * RBF([0.5] * x_NI.shape[1], LENGTHS)  # type: ignore[arg-type] - one length each
    process = GaussianProcessRegressor(smooth + WhiteKernel(1e-2, (1e-6, 1.0)), alpha=1e-10)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a scale at its bound is an answer
        process.fit(x_NI, (y_N - y_N.mean()) / scale)
    mean, deviation = map(np.asarray, process.predict(every, return_std=True))
    noise = np.exp(process.kernel_.k2.theta[0])  # type: ignore[union-attr] - the sum of two kernels
    return y_N.mean() + scale * mean, scale * np.sqrt(np.maximum(deviation**2 - noise, 0.0))


def _scaled(game: BlackBoxGame) -> Array:
    """Every profile's knobs, each in shares of its range."""
    least, most = (np.array([end(grid) for grid in game.grids]) for end in (np.min, np.max))
    return (game.knobs - least) / (most - least)


def _fixed(game: BlackBoxGame, evaluations: int, design: Design, rng: np.random.Generator) -> list[Profile]:
    """The profiles that are asked without looking at pay-offs: the first ones, or all."""
    if design == "grid":
        return list(_even(game, evaluations))
    count = FIRST if design == "arise" else evaluations
    drawn = rng.choice(int(np.prod(game.shape)), count, replace=False)
    return [tuple(map(int, profile)) for profile in zip(*np.unravel_index(drawn, game.shape), strict=True)]


def _even(game: BlackBoxGame, evaluations: int) -> Iterator[Profile]:
    """The profiles of the finest even grid that has at most so many, then some of them again."""
    side = int(evaluations ** (1 / game.players) + 1e-9)
    lines = [np.unique(np.linspace(0, points - 1, side).round().astype(int)) for points in game.shape]
    grid = np.stack(np.meshgrid(*lines, indexing="ij"), axis=-1).reshape(-1, game.players).tolist()
    return (tuple(grid[n % len(grid)]) for n in range(evaluations))
