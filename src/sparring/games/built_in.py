"""The built-in games, by name: G3, GR, GBT, SB, GD.

Leaves out: games in files (`files.py`).

    built_in("GR:5:0").preference
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping

import numpy as np
from numpy.typing import ArrayLike

from sparring.games.game import Array, Game, one_context


def _softmax(logits: ArrayLike) -> Array:
    weights = np.exp(np.asarray(logits, dtype=np.float64) - np.max(logits))
    return weights / weights.sum()


def bradley_terry(rewards: ArrayLike) -> Array:
    """Bradley-Terry preference matrix P_ij = 1 / (1 + exp(r_j - r_i)) of a vector of rewards."""
    values = np.asarray(rewards, dtype=np.float64)
    # tanh keeps P + P^T = 1 to the last bit and cannot overflow.
    return 0.5 + 0.5 * np.tanh((values[:, None] - values[None, :]) / 2)


def g3() -> Game:
    """COMAL's cyclic game of three arms (2410.23223, synthetic experiment); Nash (4, 3, 4) / 11."""
    preference = [[0.5, 0.1, 0.8], [0.9, 0.5, 0.1], [0.2, 0.9, 0.5]]
    return one_context("G3", preference, _softmax([1.0, 0.3, -0.5]))


def random_game(n: int, seed: int) -> Game:
    """GR: P_ij uniform on [0, 1] below the diagonal (the bench of EGPO, 2503.08942).

    The reference is softmax of standard normals, because a uniform one would hide a wrong anchor.
    """
    _check_size("GR", "n", n, 2)
    rng = np.random.default_rng(seed)
    lower = np.tril(rng.uniform(size=(n, n)), -1)
    preference = lower + np.triu(1.0 - lower.T, 1) + 0.5 * np.eye(n)
    return one_context(f"GR:{n}:{seed}", preference, _softmax(rng.normal(size=n)))


def bradley_terry_game(n: int, seed: int) -> Game:
    """GBT: standard normal rewards under Bradley-Terry; its unregularised Nash is the best arm."""
    _check_size("GBT", "n", n, 2)
    rng = np.random.default_rng(seed)
    rewards = rng.normal(size=n)
    reference = _softmax(rng.normal(size=n))
    return one_context(f"GBT:{n}:{seed}", bradley_terry(rewards), reference, rewards=rewards)


def sparse_bandit(n_pairs: int, seed: int) -> Game:
    """SB: 34 of 40 arms are seen about 1.5 times in `n_pairs` comparisons (offline coverage, SPAC).

    Rewards 3, 2.5, 2, 1.5, 1, .5 on arms 0-5 and one uniform[0, 2] draw of `seed` on the rare arms.
    The data policy gives each rare arm min(1.5 / (2 n_pairs), .5 / 34) and splits the rest
    .25, .15, .15, .15, .15, .15 over arms 0-5; it is the reference too.
    """
    _check_size("SB", "n_pairs", n_pairs, 1)
    rare_rewards = np.random.default_rng(seed).uniform(0.0, 2.0, size=34)
    rewards = np.concatenate([[3.0, 2.5, 2.0, 1.5, 1.0, 0.5], rare_rewards])
    rare = np.full(34, min(1.5 / (2 * n_pairs), 0.5 / 34))
    common = np.array([0.25, 0.15, 0.15, 0.15, 0.15, 0.15]) * (1.0 - rare.sum())
    data = np.concatenate([common, rare])
    return one_context(f"SB:{n_pairs}:{seed}", bradley_terry(rewards), data, data, rewards)


def data_game() -> Game:
    """GD: five actions, a data policy and a reference; nothing is preferred to anything.

    For methods that imitate data and ask no oracle (SPIN 2401.01335, alpha-SPIN 2404.04291).
    """
    data = _softmax([0.2, 1.0, -0.3, 0.5, -1.0])
    reference = _softmax([1.0, 0.0, 0.5, -0.5, -0.2])
    return one_context("GD", np.full((5, 5), 0.5), reference, data)


def _check_size(game: str, field: str, value: int, least: int) -> None:
    if value < least:
        raise ValueError(f"game {game}: {field} = {value}; give an integer of at least {least}")


BUILT_IN: Mapping[str, tuple[Callable[..., Game], tuple[str, ...]]] = {
    "G3": (g3, ()),
    "GR": (random_game, ("n", "seed")),
    "GBT": (bradley_terry_game, ("n", "seed")),
    "SB": (sparse_bandit, ("n_pairs", "seed")),
    "GD": (data_game, ()),
}
"""Each built-in game's name, its constructor and the whole numbers that follow after colons."""


def built_in(spec: str) -> Game:
    """Build the game that a text such as "G3", "GR:5:0" or "SB:400:0" names."""
    name, *numbers = spec.split(":")
    if name not in BUILT_IN:
        raise ValueError(f"unknown game {spec!r}{nearest(name, BUILT_IN)}; built in are {usage()}")
    build, fields = BUILT_IN[name]
    if len(numbers) != len(fields):
        raise ValueError(
            f"game {spec!r} gives {len(numbers)} numbers after {name}, needed {len(fields)}: write "
            f"{':'.join((name, *fields))}"
        )
    return build(*(_whole(spec, field, text) for field, text in zip(fields, numbers, strict=True)))


def _whole(spec: str, field: str, text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"game {spec!r}: {field} = {text!r}; give a whole number of at least 0")
    return int(text)


def usage() -> str:
    """The games as they are written: `G3, GR:n:seed, ...`."""
    return ", ".join(":".join((name, *fields)) for name, (_, fields) in BUILT_IN.items())


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint for an error message, with the known word most like this one; empty if none is near."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f" (did you mean {close[0]!r}?)" if close else ""
