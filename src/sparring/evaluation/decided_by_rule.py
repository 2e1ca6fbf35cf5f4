"""Pairs of answers that no judge is needed for: two equal ones tie, and an empty one loses to any other.

Head to head, exploitability, a study and a run's own evaluation all compare policies through `decide`, so the same
answers and judge give one win rate. Leaves out: training, which asks its oracle about empty answers too; benchmarks
whose judge is asked about equal ones (`judge_benchmarks.py`).

    preferences, rules = decide(comparisons, guard)
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sparring.oracles.guard import Guard
from sparring.oracles.oracle import Comparison
from sparring.oracles.preferences import by_rule

JUDGE = "judge"


def undecided(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """The comparisons that no rule decides, so that a judge has to be asked."""
    return [each for each in comparisons if by_rule(each.a, each.b) is None]


def decide(comparisons: Sequence[Comparison], guard: Guard) -> tuple[NDArray[np.float64], list[str]]:
    """P(a wins) of each comparison, NaN where the judge failed; and the rule that decided it, or "judge"."""
    ruled = [by_rule(each.a, each.b) or (math.nan, JUDGE) for each in comparisons]
    preferences = np.array([p for p, _ in ruled], dtype=np.float64)
    preferences[[name == JUDGE for _, name in ruled]] = guard.judge(undecided(comparisons))
    return preferences, [name for _, name in ruled]
