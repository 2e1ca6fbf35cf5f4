"""Two policies on the same documents: means, their difference, and whether it could be chance.

For right-or-wrong scores the test is McNemar's, exact: among documents on which the two differ, each side is equally
likely to be right. For other scores the signs of the differences are flipped at random. Leaves out: corrections for
testing many tasks at once.

    compare([0, 1, 1], [1, 1, 1])["p"]
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import binomtest

from sparring.evaluation.intervals import DIFFERENCE, SHARE, Bounds, interval

FLIPS, BLOCK = 2000, 50


def compare(before: Sequence[float], after: Sequence[float], seed: int = 0) -> dict[str, Any]:
    """Both means, the difference after - before, their 95 % intervals over documents, and a two-sided p.

    Raises:
        ValueError: the two do not have the same number of documents, or none.
    """
    if len(before) != len(after):
        raise ValueError(f"a paired comparison needs the same documents: {len(before)} before, {len(after)} after.")
    old, new = np.asarray(before, dtype=np.float64), np.asarray(after, dtype=np.float64)
    binary = bool(np.isin(np.concatenate([old, new]), (0.0, 1.0)).all())
    gained, lost = int((new > old).sum()), int((new < old).sum())
    bounds = None if None in (bounds_of(old), bounds_of(new)) else DIFFERENCE
    return {
        "before": interval(old.tolist(), bounds_of(old)),
        "after": interval(new.tolist(), bounds_of(new)),
        "difference": interval((new - old).tolist(), bounds),
        "p": mcnemar(gained, lost) if binary else sign_flip(new - old, seed),
        "test": "McNemar" if binary else "sign flips",
        "gained": gained,
        "lost": lost,
    }


def bounds_of(scores: np.ndarray) -> Bounds | None:
    """Bounds of scores: those of shares where all are in [0, 1], else None, as they are unknown."""
    return SHARE if bool(((scores >= 0) & (scores <= 1)).all()) else None


def mcnemar(gained: int, lost: int) -> float:
    """Exact two-sided p of McNemar's test."""
    return float(binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0


def sign_flip(differences: np.ndarray, seed: int = 0) -> float:
    """Two-sided p of the mean difference under random signs."""
    rng, measured = np.random.default_rng(seed), abs(differences.mean()) * (1 - 1e-12)
    blocks = (2 * rng.integers(2, size=(BLOCK, len(differences))) - 1 for _ in range(FLIPS // BLOCK))
    beyond = sum(int((abs(block @ differences) / len(differences) >= measured).sum()) for block in blocks)
    return (1 + beyond) / (1 + FLIPS)
