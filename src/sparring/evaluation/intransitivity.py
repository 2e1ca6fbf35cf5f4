"""Can a game-theoretic method gain anything over a reward method, under this oracle, on these samples?

Three measures over prompts whose samples were all compared: the share of triples that beat each other in a circle, with
its 95 % interval over prompts, the distance of the preferences from the best Bradley-Terry (reward) model, and how many
samples share the Nash mixture (1 means that one sample beats all). Leaves out: oracles that were asked too few
comparisons.

    measure([{(0, 1): 0.9, (1, 2): 0.9, (0, 2): 0.2}])
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from sparring.evaluation.intervals import SHARE, CountedInterval, Interval, ends
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
    return _cyclic(_matrix(verdicts))


def _cyclic(matrix: np.ndarray) -> tuple[int, int]:
    """Closed walks of three steps: along wins each circle is walked from three places, along any from six."""
    beats = (matrix > 0.5).astype(np.float64)
    decided = beats + beats.T
    cyclic, count = (float(np.sum(m * (m @ m).T)) for m in (beats, decided))
    return round(cyclic / 3), round(count / 6)


def _matrix(verdicts: Verdicts) -> np.ndarray:
    """P(row beats column), 1/2 on the diagonal; NaN where there is no verdict."""
    verdicts = ordered(verdicts)
    size = 1 + max(b for _, b in verdicts)
    matrix = np.full((size, size), np.nan)
    np.fill_diagonal(matrix, 0.5)
    for (a, b), p in verdicts.items():
        matrix[a, b], matrix[b, a] = p, 1.0 - p
    return matrix


def measure(prompts: Iterable[Verdicts]) -> dict[str, Any] | None:
    """The three measures over prompts, and their meaning in words; None where no triple was judged.

    A prompt's verdicts are P(response i beats response j) by (i, j); prompts are read once, and none is kept.
    """
    cyclic, counts, whole = [], [], []
    for verdicts in prompts:
        matrix = _matrix(verdicts)
        circles, triples = _cyclic(matrix)
        cyclic.append(circles)
        counts.append(triples)
        if len(matrix) > 2 and not np.isnan(matrix).any():
            fit = best_bradley_terry(np.clip(matrix, EDGE, 1 - EDGE))
            beaten = not (matrix >= 0.5).all(axis=1).any()
            whole.append((fit.mean_distance, (nash(matrix) > 1e-3).sum(), beaten))
    if not any(counts):
        return None
    both = np.array(cyclic), np.array(counts)
    share = CountedInterval(sum(cyclic) / sum(counts), *ends(*both, SHARE), sum(counts))
    distance = support = None
    words = [f"{sum(cyclic)} of {share.count} triples are cyclic (95 % interval {share.span('.1%')})."]
    if whole:
        distance, support, beaten = np.mean(whole, axis=0).tolist()
        words.append(
            f"The best reward model misses the preferences by {distance:.3f} on average, and on {beaten:.0%} of the "
            "prompts no single sample is unbeaten."
        )
    text = " ".join([*words, _verdict(share, int(np.count_nonzero(counts)))])
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
