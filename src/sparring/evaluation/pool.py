"""A pool of policies playing each other on held-out prompts: matrices, Nash mixture, empirical duality gaps.

The gap of a policy against a pool is 2 (max_j P(j beats it) - 1/2) over the pool's members: a lower bound of its
exploitability, because the best response of the whole policy space is not in the pool. Beside the policies
themselves the pool holds the best of each one's N samples (chosen by mean preference over the others' samples), a
cheap stronger attacker. Leaves out: sampling.

    pool = play_pool(prompts, {"start": texts, "3": texts}, guard); pool_gap(pool, "3")
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from sparring.evaluation.statistics import wins
from sparring.games.equilibrium import nash
from sparring.oracles.guard import Guard
from sparring.oracles.oracle import Comparison

Texts = Sequence[Sequence[str]]
Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Pool:
    """M players on N prompts; NaN where no comparison of a prompt was judged."""

    names: tuple[str, ...]
    """the policies, then the best of each one's samples (`NAME best of N`) where there are several"""
    policies: int
    """how many of the names are plain policies"""
    preferences: Array
    """(N, M, M): mean preference of row over column"""
    wins: Array
    """(N, M, M): share of sample pairs that the row wins, ties counting half"""

    def matrix(self) -> dict[str, list[list[float]] | list[str]]:
        """Win rates and mean preferences of the plain policies over prompts."""
        m = self.policies
        with np.errstate(invalid="ignore"):
            won, preferred = (np.nanmean(x[:, :m, :m], axis=0) for x in (self.wins, self.preferences))
        return {"policies": list(self.names[:m]), "win_rate": won.tolist(), "mean_preference": preferred.tolist()}


def play_pool(prompts: Sequence[str], texts: Mapping[str, Texts], guard: Guard) -> Pool:
    """Every sample of every policy against every sample of the others, prompt by prompt."""
    names = list(texts)
    several = max(len(answers) for rows in texts.values() for answers in rows) > 1
    per_prompt = [_prompt_matrix(prompt, [texts[n][i] for n in names], guard) for i, prompt in enumerate(prompts)]
    blocks = [_blocks(matrix, owner, several) for matrix, owner in per_prompt]
    count = max(len(answers) for answers in texts[names[0]])
    best = [f"{name} best of {count}" for name in names] if several else []
    return Pool((*names, *best), len(names), np.stack([b[0] for b in blocks]), np.stack([b[1] for b in blocks]))


def _prompt_matrix(prompt: str, answers: Sequence[Sequence[str]], guard: Guard) -> tuple[Array, NDArray[np.int64]]:
    """S x S preferences between all samples of a prompt (1/2 on the diagonal), and the policy each belongs to."""
    flat = [text for group in answers for text in group]
    owner = np.repeat(np.arange(len(answers)), [len(group) for group in answers])
    matrix = np.full((len(flat), len(flat)), 0.5)
    asked = [(i, j) for i, j in product(range(len(flat)), repeat=2) if i < j]
    found = guard.judge([Comparison(prompt, flat[i], flat[j]) for i, j in asked])
    for (i, j), p in zip(asked, found, strict=True):
        matrix[i, j], matrix[j, i] = p, 1.0 - p
    return matrix, owner


def _blocks(matrix: Array, owner: NDArray[np.int64], several: bool) -> tuple[Array, Array]:
    """M x M means of a prompt's sample matrix, with the best sample of each policy as a further player."""
    players = [np.flatnonzero(owner == policy) for policy in range(owner.max() + 1)]
    if several:
        players += [_best(matrix, mine, owner) for mine in players]
    won = wins(matrix)
    with np.errstate(invalid="ignore"):
        means = [[[_mean(x[np.ix_(a, b)]) for b in players] for a in players] for x in (matrix, won)]
    preferred, won_by = np.array(means[0]), np.array(means[1])
    for x in (preferred, won_by):
        np.fill_diagonal(x, 0.5)
    return preferred, won_by


def _best(matrix: Array, mine: NDArray[np.int64], owner: NDArray[np.int64]) -> NDArray[np.int64]:
    """The sample with the highest mean preference over the other policies' samples."""
    others = np.flatnonzero(owner != owner[mine[0]])
    scores = [_mean(matrix[i, others]) if len(others) else 0.5 for i in mine]
    return mine[[int(np.nanargmax([*np.nan_to_num(scores, nan=-1.0)]))]]


def _mean(values: Array) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")


def nash_mixture(pool: Pool) -> dict[str, float]:
    """The pool's maximal lottery under mean preferences: members with more than a thousandth of the mass."""
    mixture = nash(_skewed(np.nanmean(pool.preferences, axis=0)))
    return {name: float(share) for name, share in zip(pool.names, mixture, strict=True) if share > 1e-3}


def _skewed(preferences: Array) -> Array:
    """P with P + P^T = 1 exactly, which averages over different prompts may miss by rounding."""
    return (preferences + 1.0 - preferences.T) / 2.0


def pool_gap(pool: Pool, name: str, resamples: int = 2000, seed: int = 0) -> dict[str, float]:
    """Empirical duality gap of a member against the pool, with a 95 % bootstrap interval over prompts.

    The maximum over attackers makes the bootstrap's centre lie a little above the estimate.
    """
    attacks_NM = pool.preferences[:, :, pool.names.index(name)]
    draws = np.random.default_rng(seed).integers(len(attacks_NM), size=(resamples, len(attacks_NM)))
    gaps = 2.0 * np.nanmean(attacks_NM[draws], axis=1).max(axis=1) - 1.0
    low, high = np.quantile(gaps, [0.025, 0.975])
    return {"value": float(2.0 * np.nanmean(attacks_NM, axis=0).max() - 1.0), "low": float(low), "high": float(high)}
