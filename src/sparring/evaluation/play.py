"""Held-out play between policies: who wins how often, under one oracle.

Every sample of one policy meets every sample of the other on each prompt. Leaves out: sampling, intervals
over anything but prompts.

    outcome = head_to_head(prompts, texts_a, texts_b, guard); interval(outcome.wins)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from sparring.evaluation.statistics import wins
from sparring.oracles.guard import Guard
from sparring.oracles.oracle import Comparison


@dataclass(frozen=True, slots=True)
class Outcome:
    """One value per prompt that was judged: A's share of wins over B, and its mean preference."""

    wins: list[float]
    preferences: list[float]
    failed: int
    """comparisons without a verdict; they are left out"""


def head_to_head(
    prompts: Sequence[str],
    texts_a: Sequence[Sequence[str]],
    texts_b: Sequence[Sequence[str]],
    guard: Guard,
) -> Outcome:
    """All sample pairs of each prompt under the oracle."""
    spans, flat = [], []
    for prompt, ours, theirs in zip(prompts, texts_a, texts_b, strict=True):
        spans.append(len(ours) * len(theirs))
        flat += [Comparison(prompt, a, b) for a, b in product(ours, theirs)]
    answers = guard.judge(flat)
    won, preferred = [], []
    for part in np.split(answers, np.cumsum(spans)[:-1]):
        if not np.isnan(part).all():
            won.append(float(np.nanmean(wins(part))))
            preferred.append(float(np.nanmean(part)))
    return Outcome(won, preferred, int(np.isnan(answers).sum()))


def win_matrix(
    prompts: Sequence[str], texts: Mapping[str, Sequence[Sequence[str]]], guard: Guard
) -> dict[str, list[list[float]] | list[str]]:
    """Win rates and mean preferences of every policy (row) against every other (column); 1/2 on the diagonal."""
    names = list(texts)
    won = np.full((len(names), len(names)), 0.5)
    preferred = won.copy()
    for i in range(len(names)):
        for j in range(i):
            outcome = head_to_head(prompts, texts[names[i]], texts[names[j]], guard)
            won[i, j], preferred[i, j] = np.mean(outcome.wins), np.mean(outcome.preferences)
            won[j, i], preferred[j, i] = 1 - won[i, j], 1 - preferred[i, j]
    return {"policies": names, "win_rate": won.tolist(), "mean_preference": preferred.tolist()}


def cyclic_triples(verdicts: Mapping[tuple[int, int], float]) -> tuple[int, int]:
    """(cyclic, all) triples among responses whose three comparisons are all known and not tied."""
    nodes = sorted({index for match in verdicts for index in match})
    cyclic = count = 0
    for i, a in enumerate(nodes):
        for j, b in enumerate(nodes[i + 1 :], start=i + 1):
            for c in nodes[j + 1 :]:
                try:
                    ab, bc, ca = verdicts[a, b], verdicts[b, c], 1 - verdicts[a, c]
                except KeyError:
                    continue
                if 0.5 in (ab, bc, ca) or np.isnan(ab + bc + ca):
                    continue
                count += 1
                cyclic += (ab > 0.5) == (bc > 0.5) == (ca > 0.5)
    return cyclic, count
