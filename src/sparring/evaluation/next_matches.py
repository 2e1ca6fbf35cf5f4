"""Which matches to play next, so that ratings become sure with few: between players of about equal strength.

A match of i and j tells p (1 - p) about their difference, p = sigmoid(theta_i - theta_j): 1/4 between equals, 1/16 at
.93. Chosen is, one after another, the pair that lowers the sum of the ratings' variances most (A-optimal):

    V = (sum over matches p (1 - p) x x')^-1, x = e_i - e_j;     gain of a match = w |V x|^2 / (1 + w x' V x)

The strengths come from the matches so far with one match more per pair, half won by each (PRIOR), so that nobody is
sure of anything at the start. The choice depends on the file and the seed alone. It reads no result that is not in the
file, so the likelihood, and with it the ratings' intervals, stay as they are. Leaves out: whose results are worth
asking for because they cost less.

    next_matches(read_matches(Path("matches.csv")), count=20)  ->  [NextMatch("a", "b", "prompt 7"), ...]

Shape suffixes: K players.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import expit

from sparring.evaluation.ratings import Array, Matches, strengths_of, wins_of

PRIOR = 1.0
"""matches of each pair that are taken as played, half won by each"""


class NextMatch(NamedTuple):
    """Two players to be compared, on a prompt where the matches so far name theirs."""

    left: str
    right: str
    prompt: str | None


def next_matches(matches: Matches, count: int, seed: int = 0, prompts: Sequence[str] | None = None) -> list[NextMatch]:
    """The next matches, the most telling first; fewer where every pair has met on every prompt.

    Args:
        matches: so far.
        prompts: that may be asked; each is asked of a pair once. Default: those of the matches.

    Raises:
        ValueError: `count` is below 1.
    """
    if count < 1:
        raise ValueError(f"--next {count}: give 1 or more.")
    names = matches.names
    pairs = [(i, j) for i in range(len(names)) for j in range(i + 1, len(names))]
    unasked = _unasked(matches, pairs, prompts if prompts is not None else matches.prompts, seed)
    strength_K = strengths_of(wins_of(matches) + PRIOR / 2 * (1 - np.eye(len(names))))
    variance_KK: Array = np.asarray(np.linalg.pinv(_information(matches, strength_K)), dtype=np.float64)
    found: list[NextMatch] = []
    while len(found) < count:
        open_ = [pair for pair in pairs if unasked is None or unasked[pair]]
        if not open_:
            break
        i, j = max(open_, key=lambda pair: _gain(variance_KK, strength_K, pair))
        weight, x = _told(strength_K, i, j), variance_KK[:, i] - variance_KK[:, j]
        variance_KK = variance_KK - weight * np.outer(x, x) / (1 + weight * (x[i] - x[j]))
        prompt = None if unasked is None else unasked[i, j].pop()
        side = hashlib.sha256(repr((seed, names[i], names[j], prompt, len(found))).encode()).digest()
        left, right = (i, j) if side[0] % 2 else (j, i)  # a judge's liking for a side must not follow the names
        found.append(NextMatch(names[left], names[right], prompt))
    return found


def _information(matches: Matches, strength_K: Array) -> Array:
    """K x K information of the matches so far, and of the prior ones."""
    wins_KK = wins_of(matches)
    played_KK = wins_KK + wins_KK.T + PRIOR
    told_KK = played_KK * expit(strength_K[:, None] - strength_K) * expit(strength_K - strength_K[:, None])
    np.fill_diagonal(told_KK, 0.0)
    return np.diag(told_KK.sum(1)) - told_KK


def _told(strength_K: Array, i: int, j: int) -> float:
    return float(expit(strength_K[i] - strength_K[j]) * expit(strength_K[j] - strength_K[i]))


def _gain(variance_KK: Array, strength_K: Array, pair: tuple[int, int]) -> float:
    """By how much a match of the two lowers the sum of the variances."""
    i, j = pair
    weight, x = _told(strength_K, i, j), variance_KK[:, i] - variance_KK[:, j]
    return float(weight * (x @ x) / (1 + weight * (x[i] - x[j])))


def _unasked(
    matches: Matches, pairs: Sequence[tuple[int, int]], prompts: Sequence[str] | None, seed: int
) -> dict[tuple[int, int], list[str]] | None:
    """By pair, the prompts that it has not met on, the first to ask last; None where matches name no prompts.

    The order is a random one of each pair's own.
    """
    if prompts is None:
        return None
    both = zip(matches.left_M.tolist(), matches.right_M.tolist(), strict=True)
    met = {(min(pair), max(pair), unit) for pair, unit in zip(both, matches.unit_M.tolist(), strict=True)}
    units = {prompt: unit for unit, prompt in enumerate(matches.prompts or ())}

    def place(pair: tuple[int, int], prompt: str) -> bytes:
        return hashlib.sha256(repr((seed, *(matches.names[k] for k in pair), prompt)).encode()).digest()

    return {
        pair: sorted((p for p in prompts if (*pair, units.get(p, -1)) not in met), key=lambda p: place(pair, p))
        for pair in pairs
    }
