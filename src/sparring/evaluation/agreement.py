"""How far people agree on pairs of answers: with each other, with themselves, and with the side of the screen.

Krippendorff's alpha for nominal verdicts (Content Analysis, 2004, ch. 11): 1 - (observed disagreement) / (that by
chance), over pairs with votes of two people at least; its interval is a percentile bootstrap over pairs, the unit that
is sampled. Self-consistency is the share of pairs that returned to the same voter, swapped, and got the same verdict.
Somebody who presses one side whatever is there shows by a binomial test. Leaves out: what votes are worth as a
preference (`oracles/people.py`), and weights for unreliable voters: they are shown, not silently discounted.

    agreement(read_records(database))["alpha"]
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr

from sparring.evaluation.intervals import SHARE, Interval, interval
from sparring.votes.records import Record

DRAWS = 2000
"""of the bootstrap"""
FEWEST_SIDED, SURPRISE = 20, 1e-3
"""votes for a side, and the two-sided p-value, from which on a voter counts as one who favours a side"""
POOR = 0.2
"""alpha below it is warned of: the verdicts say little more than chance"""


def agreement(records: Sequence[Record]) -> dict[str, Any]:
    """All measures, for all voters together and for each; a number that nothing tells is None."""
    given = [record for record in records if not record.undone]
    by_voter: defaultdict[str, list[Record]] = defaultdict(list)
    for record in given:
        by_voter[record.voter].append(record)
    units = _units(given)
    alpha = krippendorff_alpha(units)
    voters = {name: _rates(own) for name, own in by_voter.items()}
    return {
        **_rates(given),
        "alpha": alpha,
        "pairs_of_two": len(units),
        "voters": voters,
        "warnings": _warnings(alpha, voters),
    }


def krippendorff_alpha(units: Sequence[Sequence[object]], seed: int = 0) -> Interval | None:
    """Alpha of the values that different people gave to each unit; None where nobody could have disagreed."""
    names = sorted({str(value) for unit in units for value in unit})
    counts_UC = np.array([[[str(v) for v in unit].count(name) for name in names] for unit in units], dtype=np.float64)
    counts_UC = counts_UC.reshape(len(units), len(names))
    sizes_U = counts_UC.sum(axis=1)
    counts_UC, sizes_U = counts_UC[sizes_U >= 2], sizes_U[sizes_U >= 2]
    if len(names) < 2 or not len(counts_UC):
        return None
    # Per unit: values, values by name, and pairs of equal values over (size - 1), whose sums are all that alpha needs.
    equal_U = (counts_UC * (counts_UC - 1)).sum(axis=1) / (sizes_U - 1)
    value = float(_alpha(counts_UC.sum(axis=0)[None], equal_U.sum()[None])[0])
    draw = np.random.default_rng(seed).multinomial(len(sizes_U), np.full(len(sizes_U), 1 / len(sizes_U)), size=DRAWS)
    alphas = _alpha(draw @ counts_UC, draw @ equal_U)
    known = alphas[~np.isnan(alphas)]
    if np.isnan(value) or not len(known):
        return None
    low, high = np.quantile(known, [0.025, 0.975])
    return Interval(value, float(min(low, value)), float(max(high, value)))


def _alpha(by_name_DC: NDArray[np.float64], equal_D: NDArray[np.float64]) -> NDArray[np.float64]:
    """D: alpha of each draw; NaN where all values are alike, and chance has nothing to disagree about."""
    total_D = by_name_DC.sum(axis=1)
    observed_D = 1 - equal_D / total_D
    expected_D = 1 - (by_name_DC * (by_name_DC - 1)).sum(axis=1) / (total_D * (total_D - 1))
    return 1 - np.divide(observed_D, expected_D, out=np.full_like(observed_D, np.nan), where=expected_D > 0)


def _units(records: Sequence[Record]) -> list[list[object]]:
    """The verdicts of different people on the same pair."""
    said: defaultdict[str, dict[str, object]] = defaultdict(dict)
    for record in records:
        if not record.repeat and record.meant != "skip":
            said[record.item][record.voter] = record.meant
    return [list(by_voter.values()) for by_voter in said.values() if len(by_voter) > 1]


def _rates(records: Sequence[Record]) -> dict[str, Any]:
    votes = [record for record in records if record.meant != "skip"]
    sided = [float(record.verdict == "left") for record in votes if record.verdict in ("left", "right")]
    first = {(b.item, b.voter): b.meant for b in votes if not b.repeat}
    again = [float(first[b.item, b.voter] == b.meant) for b in votes if b.repeat and (b.item, b.voter) in first]
    kinds, times = Counter(record.meant for record in records), [b.seconds for b in votes if b.seconds is not None]
    return {
        "votes": len(votes),
        "skips": kinds["skip"],
        "tie_share": kinds["tie"] / len(votes) if votes else None,
        "both_bad_share": kinds["both_bad"] / len(votes) if votes else None,
        "left": interval(sided, SHARE) if sided else None,
        "favours": _favoured(sided),
        "self_consistency": interval(again, SHARE) if again else None,
        "returned": len(again),
        "median_seconds": median(times) if times else None,
    }


def _favoured(sided: Sequence[float]) -> str:
    """The side that a voter presses more often than chance would; empty where none is shown."""
    left = int(sum(sided))
    p_value = 2 * bdtr(min(left, len(sided) - left), len(sided), 0.5)
    if len(sided) < FEWEST_SIDED or p_value >= SURPRISE:
        return ""
    return "left" if 2 * left > len(sided) else "right"


def _warnings(alpha: Interval | None, voters: Mapping[str, Mapping[str, Any]]) -> list[str]:
    lines = []
    for name, rates in voters.items():
        if rates["favours"]:
            share = rates["left"].value if rates["favours"] == "left" else 1 - rates["left"].value
            lines.append(
                f"{name} presses {rates['favours']} in {share:.0%} of the votes for a side, whatever is there: ask, or "
                "revoke the link."
            )
    if alpha is not None and alpha.value < POOR:
        lines.append(
            f"Two people who judge the same pair hardly agree (alpha {alpha.value:.2f}): say what counts as better "
            "(oracle.question), or take pairs that differ more."
        )
    return lines
