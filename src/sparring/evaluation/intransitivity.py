"""Can a game-theoretic method gain anything over a reward method, under this oracle, on these samples?

Three measures over prompts whose samples were all compared: the share of triples that beat each other in a circle, with
its 95 % interval over prompts, the distance of the preferences from the best Bradley-Terry (reward) model, and how many
samples share the Nash mixture (1 means that one sample beats all). Leaves out: oracles that were asked too few
comparisons.

    measure([{(0, 1): 0.9, (1, 2): 0.9, (0, 2): 0.2}])
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from sparring.evaluation.intervals import Interval
from sparring.evaluation.oracle_quality import clustered
from sparring.games.bradley_terry import best_bradley_terry
from sparring.games.equilibrium import nash

Verdicts = Mapping[tuple[int, int], float]
CYCLES, TRANSITIVE = 0.01, 0.05
"""shares of cyclic triples: an interval wholly above CYCLES shows cycles, one below TRANSITIVE shows hardly any"""
FEWEST = 10
"""prompts below which cycles are not concluded: fewer do not stand for others"""
EDGE = 1e-6
"""probabilities are kept this far from 0 and 1, where a Bradley-Terry fit would not be finite"""


def ordered(verdicts: Verdicts) -> dict[tuple[int, int], float]:
    """Every verdict with the smaller index first: a tournament's final may have been asked the other way round."""
    return {(min(m), max(m)): p if m[0] < m[1] else 1.0 - p for m, p in verdicts.items()}


def cyclic_triples(verdicts: Verdicts) -> tuple[int, int]:
    """(cyclic, all) triples among responses whose three comparisons are all known and not tied."""
    verdicts, cyclic, count = ordered(verdicts), 0, 0
    nodes = sorted({index for match in verdicts for index in match})
    for a, b, c in combinations(nodes, 3):
        if not {(a, b), (b, c), (a, c)} <= verdicts.keys():
            continue
        ab, bc, ca = verdicts[a, b], verdicts[b, c], 1 - verdicts[a, c]
        if 0.5 in (ab, bc, ca) or np.isnan(ab + bc + ca):
            continue
        count += 1
        cyclic += (ab > 0.5) == (bc > 0.5) == (ca > 0.5)
    return cyclic, count


def _matrix(verdicts: Verdicts) -> np.ndarray | None:
    verdicts = ordered(verdicts)
    size = 1 + max(b for _, b in verdicts)
    matrix = np.full((size, size), 0.5)
    for a, b in combinations(range(size), 2):
        p = verdicts.get((a, b), np.nan)
        matrix[a, b], matrix[b, a] = p, 1.0 - p
    return None if np.isnan(matrix).any() else matrix


def measure(prompts: Sequence[Verdicts]) -> dict[str, Any] | None:
    """The three measures over prompts, and their meaning in words; None where no triple was judged.

    A prompt's verdicts are P(response i beats response j) by (i, j).
    """
    triples = [cyclic_triples(verdicts) for verdicts in prompts]
    each = [(float(k < cyclic), str(i)) for i, (cyclic, count) in enumerate(triples) for k in range(count)]
    share = clustered(np.array([value for value, _ in each]), [prompt for _, prompt in each])
    if share is None:
        return None
    whole = [m for m in map(_matrix, prompts) if m is not None and len(m) > 2]
    distance = support = None
    cyclic = round(share.value * share.count)
    words = [f"{cyclic} of {share.count} triples are cyclic (95 % interval {share.span('.1%')})."]
    if whole:
        distance = float(np.mean([best_bradley_terry(np.clip(m, EDGE, 1 - EDGE)).mean_distance for m in whole]))
        support = float(np.mean([(nash(m) > 1e-3).sum() for m in whole]))
        beaten = np.mean([not (m >= 0.5).all(axis=1).any() for m in whole])
        words.append(
            f"The best reward model misses the preferences by {distance:.3f} on average, and on {beaten:.0%} of the "
            "prompts no single sample is unbeaten."
        )
    text = " ".join([*words, _verdict(share, sum(count > 0 for _, count in triples))])
    return {"cyclic": share, "bradley_terry_distance": distance, "nash_support": support, "words": text}


def _verdict(share: Interval, prompts: int) -> str:
    if share.low > CYCLES and prompts >= FEWEST:
        return (
            "The oracle has cycles on these samples (of taste or of noise: one verdict a pair cannot tell): no reward "
            "can express them, and if they are taste, a game-theoretic method can gain."
        )
    if share.high < TRANSITIVE:
        return "The oracle is close to transitive on these samples: a reward method could do as well here."
    return (
        "These are too few triples to tell whether the oracle is close to transitive (an interval below "
        f"{TRANSITIVE:.0%}) or has cycles (above {CYCLES:.0%})."
    )
