"""A pool of policies playing each other on held-out prompts: matrices, Nash mixture, empirical duality gaps.

The gap of a policy against a pool is 2 (max_j P(j beats it) - 1/2) over the pool's members: a lower bound of its
exploitability, because the best response of the whole policy space is not in the pool. Beside the policies
themselves the pool holds the best of each one's N samples, a cheap stronger attacker. Nothing is chosen and scored on
the same comparisons, which would find gaps in noise: a best sample is chosen among its siblings and scored against
other policies, and for the estimate the strongest member is chosen on one half of the prompts and scored on the other.
The members' intervals hold together in 95 % (Bonferroni). Empty and equal answers are decided by rule
(`decided_by_rule.py`). Leaves out: sampling.

    pool = play_pool(prompts, {"start": texts, "3": texts}, guard); pool_gap(pool, "3")
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from sparring.evaluation.decided_by_rule import decide
from sparring.evaluation.intervals import SHARE, TAIL, Interval, interval, known_mean
from sparring.games.equilibrium import nash
from sparring.oracles.guard import Guard
from sparring.oracles.oracle import Comparison
from sparring.oracles.preferences import wins

Texts = Sequence[Sequence[str]]
Array = NDArray[np.float64]
Indices = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Pool:
    """M players on N prompts; NaN where no comparison of a prompt was judged."""

    names: tuple[str, ...]
    """the policies, then the best of each one's samples (`NAME best of N`) where there are several"""
    policies: int
    """number of plain policies, which come first in `names`"""
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


def _prompt_matrix(prompt: str, answers: Sequence[Sequence[str]], guard: Guard) -> tuple[Array, Indices]:
    """S x S preferences between all samples of a prompt (1/2 on the diagonal), and the policy each belongs to."""
    flat = [text for group in answers for text in group]
    owner = np.repeat(np.arange(len(answers)), [len(group) for group in answers])
    matrix = np.full((len(flat), len(flat)), 0.5)
    pairs = list(combinations(range(len(flat)), 2))
    preferences, _ = decide([Comparison(prompt, flat[i], flat[j]) for i, j in pairs], guard)
    for (i, j), p in zip(pairs, preferences, strict=True):
        matrix[i, j], matrix[j, i] = p, 1.0 - p
    return matrix, owner


def _blocks(matrix: Array, owner: Indices, several: bool) -> tuple[Array, Array]:
    """M x M means of a prompt's sample matrix, with the best sample of each policy as a further player."""
    groups: list[Indices] = [np.flatnonzero(owner == policy) for policy in range(owner.max() + 1)]
    players = [*groups, *(np.array([_best(matrix, group)]) for group in groups if several)]
    return _means(matrix, matrix, groups, players), _means(matrix, wins(matrix), groups, players)


def _means(matrix: Array, values: Array, groups: Sequence[Indices], players: Sequence[Indices]) -> Array:
    """Mean of `values` for each row player against each column player; 1/2 against itself."""
    table = np.array([[known_mean(values[np.ix_(a, b)]) for b in players] for a in players])
    for k, group in enumerate(groups[: len(players) - len(groups)]):
        best = len(groups) + k
        table[best, k] = _own_best(matrix, values, group)
        table[k, best] = 1.0 - table[best, k]
    np.fill_diagonal(table, 0.5)
    return table


def _best(matrix: Array, group: Indices) -> int:
    """The sample with the highest mean preference over its siblings; those without a verdict come last."""
    scores = [known_mean(matrix[i, group[group != i]]) for i in group]
    return int(group[int(np.argmax(np.nan_to_num(scores, nan=-1.0)))])


def _own_best(matrix: Array, values: Array, group: Indices) -> float:
    """A policy's best sample against the policy itself: each sample meets the best of the others, chosen without it."""
    rest = [(group[group != j], j) for j in group if len(group) > 1]
    return known_mean(np.array([values[_best(matrix, others), j] for others, j in rest]))


def nash_mixture(pool: Pool) -> dict[str, float]:
    """The pool's maximal lottery under mean preferences: members with more than a thousandth of the mass."""
    mean = np.nanmean(pool.preferences, axis=0)
    mixture = nash((mean + 1.0 - mean.T) / 2.0)  # P + P^T = 1 exactly: averages over other prompts may miss it
    return {name: float(share) for name, share in zip(pool.names, mixture, strict=True) if share > 1e-3}


def pool_gap(pool: Pool, name: str) -> Interval:
    """Empirical duality gap of a member against the pool, with the 95 % interval of the others' gains together.

    The pool holds the member itself, so the estimate is 0 where no other beats it, and the interval may end there.
    """
    index = pool.names.index(name)
    attacks_NM = pool.preferences[:, :, index]
    return gap_interval(cross_fitted(attacks_NM), attack_intervals(np.delete(attacks_NM, index, axis=1)))


def gap_interval(scored: Array, attackers: Sequence[Interval]) -> Interval:
    """The gap: `value` from cross-fitted scores, `low` and `high` from the attackers' `attack_intervals`.

    The strongest attacker gains at least the highest lower end, and at most the highest upper one, unless one of the
    intervals misses: `low` is above it in 2.5 % of cases at most. The ends are moved out to hold the value.
    """
    value = float(2.0 * scored.mean() - 1.0)
    low, high = max(one.low for one in attackers), max(one.high for one in attackers)
    return Interval(value, 2.0 * low - 1.0, 2.0 * high - 1.0).stretched(value)


def attack_intervals(attacks_NM: Array) -> list[Interval]:
    """Each of M attackers' mean preference over N prompts, with intervals that hold together in 95 % of cases.

    Each is taken at 0.05 / M (Bonferroni), so the attacker with the highest end may be named without choosing it on
    other prompts. NaN is left out; every attacker needs a verdict.
    """
    columns = [column[~np.isnan(column)] for column in attacks_NM.T]
    return [interval(column.tolist(), SHARE, TAIL / len(columns)) for column in columns]


def cross_fitted(attacks_NM: Array) -> Array:
    """Scores of the strongest of M attackers on N prompts, without the prompts that have no verdict.

    Each half of the prompts is scored with the attacker that is strongest on the other half, so the gain of noise is 0
    on average (and may come out negative), and the largest gain is at least this. A single prompt is scored with its
    own attacker. The halves' means vary together, because each chose the other's attacker: intervals of these scores
    are too narrow.
    """
    half_N = np.arange(len(attacks_NM)) % 2
    scores = []
    for half in (0, 1):
        chosen_on = attacks_NM[half_N != half] if len(attacks_NM) > 1 else attacks_NM
        scores.append(attacks_NM[half_N == half, _strongest(chosen_on)])
    known = np.concatenate(scores)
    return known[~np.isnan(known)]


def _strongest(attacks_NM: Array) -> int:
    return int(np.argmax([known_mean(column) if not np.isnan(column).all() else -1.0 for column in attacks_NM.T]))
