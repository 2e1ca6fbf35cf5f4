"""Can this oracle be believed? Its verdicts on labelled pairs against chance, against "the longer wins", and itself.

Accuracy, calibration, bias of place and of length, per category, and agreement between oracles; every share with a
95 % interval over prompts. Labels of 1/2 carry no winner and are left out of accuracy; failed verdicts are
left out of everything and counted. Pure functions of stored numbers. Leaves out: asking (`audit_oracles.py`), cycles
(`intransitivity.py`), the page (`report/audit.py`).

    audit_one(preferences, labels, prompts, lengths, categories)["accuracy"]
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
from scipy.special import xlogy

from sparring.evaluation.intervals import DIFFERENCE, SHARE, Bounds, CountedInterval, clustered_mean, interval
from sparring.oracles.calibrated import FEWEST_LABELS, fit_temperature, scaled
from sparring.oracles.preferences import wins

BINS = 10
"""of equal width between a confidence of 1/2 and 1"""
CHANCE_DRAWS = 200
"""draws of labels from the oracle's probabilities, for the calibration error that a calibrated oracle would show"""


def clustered(values: np.ndarray, prompts: Sequence[str], within: Bounds = SHARE) -> CountedInterval | None:
    """Mean over pairs and its 95 % interval, resampling whole prompts; NaN is left out, None when nothing is left."""
    known = ~np.isnan(values)
    if not known.any():
        return None
    _, owner = np.unique(np.asarray(prompts, dtype=object)[known].astype(str), return_inverse=True)
    mean = clustered_mean(values[known], owner, within)
    return CountedInterval(mean.value, mean.low, mean.high, int(known.sum()))


def correct(preferences: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """1 where the oracle picks the label's winner, 1/2 where it ties, else 0; NaN without a verdict or a winner."""
    agreement = np.where(labels > 0.5, wins(preferences), 1 - wins(preferences))
    return np.where(labels == 0.5, np.nan, agreement)


def longer_wins(lengths: np.ndarray) -> np.ndarray:
    """The rule to beat: P(a beats b) is 1 where a has more words, 1/2 where they have the same."""
    return (1.0 + np.sign(lengths[:, 0] - lengths[:, 1])) / 2


def calibration(preferences: np.ndarray, labels: np.ndarray) -> dict[str, Any] | None:
    """Reliability by confidence, calibration error, log-loss, Brier score; the temperature that fits these pairs."""
    known = ~np.isnan(preferences) & (labels != 0.5)
    if not known.any():
        return None
    p, truth = preferences[known], labels[known]
    error, bins = _reliability(p, truth)
    measures = {
        "ece": error,
        "ece_by_chance": chance_error(p),
        "brier": float(np.mean((p - truth) ** 2)),
        "log_loss": float(-np.mean(xlogy(truth, np.clip(p, 1e-6, 1)) + xlogy(1 - truth, np.clip(1 - p, 1e-6, 1)))),
        "bins": bins,
    }
    if known.sum() >= FEWEST_LABELS:
        temperature = fit_temperature(p, truth)
        measures |= {"temperature": temperature, "ece_at_temperature": _reliability(scaled(p, temperature), truth)[0]}
    return measures


def chance_error(p: np.ndarray, seed: int = 0) -> float:
    """Mean calibration error of a calibrated oracle: with labels drawn, one by one, from its P(a beats b)."""
    confidence, place = _binned(p)
    tied, rng = wins(p) == 0.5, np.random.default_rng(seed)
    sums = [
        np.bincount(place, np.where(tied, 0.5, rng.random(len(p)) < confidence) - confidence)
        for _ in range(CHANCE_DRAWS)
    ]
    return float(np.abs(sums).sum(1).mean() / len(p))


def _binned(p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    confidence = np.maximum(p, 1 - p)
    return confidence, np.minimum(((confidence - 0.5) * 2 * BINS).astype(int), BINS - 1)


def _reliability(p: np.ndarray, truth: np.ndarray) -> tuple[float, list[dict[str, float]]]:
    (confidence, place), hit = _binned(p), correct(p, truth)
    inside = [place == i for i in range(BINS) if (place == i).any()]
    bins = [
        {"confidence": float(confidence[i].mean()), "accuracy": float(hit[i].mean()), "count": int(i.sum())}
        for i in inside
    ]
    return sum(b["count"] * abs(b["accuracy"] - b["confidence"]) for b in bins) / len(p), bins


def length_bias(
    preferences: np.ndarray, labels: np.ndarray, lengths: np.ndarray, prompts: Sequence[str]
) -> dict[str, Any]:
    """How often oracle and labels pick the longer answer; accuracy where the longer or the shorter one is right.

    The difference of these accuracies, `accuracy_gap`, is the bias: an oracle without one errs as often in either case.
    The share of longer answers picked shows no bias: errors alone bring it nearer to 1/2 than the labels' share.
    """
    rule = longer_wins(lengths)
    decided = (labels != 0.5) & (rule != 0.5) & ~np.isnan(preferences)
    oracle = np.where(decided, correct(preferences, rule), np.nan)
    people = np.where(decided, correct(labels, rule), np.nan)
    hit = np.where(decided, correct(preferences, labels), np.nan)
    return {
        "oracle_picks_longer": clustered(oracle, prompts),
        "label_picks_longer": clustered(people, prompts),
        "accuracy_longer_right": clustered(np.where(people == 1, hit, np.nan), prompts),
        "accuracy_shorter_right": clustered(np.where(people == 0, hit, np.nan), prompts),
        "accuracy_gap": accuracy_gap(hit, people, prompts),
    }


def accuracy_gap(hit: np.ndarray, longer_right: np.ndarray, prompts: Sequence[str]) -> CountedInterval | None:
    """Accuracy where the longer answer is right minus that where the shorter is (1, 0; NaN is left out).

    Its interval is over prompts, and not narrower than the two accuracies' own put together (Newcombe's square and
    add), which is wide where either kind of pair is rare.
    """
    sides = [np.where(longer_right == side, hit, np.nan) for side in (1, 0)]
    longer, shorter = (clustered(values, prompts) for values in sides)
    if longer is None or shorter is None:
        return None
    known = ~np.isnan(sides)
    _, owner = np.unique(np.asarray(prompts, dtype=object).astype(str), return_inverse=True)
    one, other = (
        _ratios(np.bincount(owner, np.where(has_value, values, 0)), np.bincount(owner, has_value))
        for values, has_value in zip(sides, known, strict=True)
    )
    bootstrap = interval((one - other)[np.bincount(owner, known.any(0)) > 0].tolist())
    value = longer.value - shorter.value
    below = float(np.hypot(longer.value - longer.low, shorter.high - shorter.value))
    above = float(np.hypot(longer.high - longer.value, shorter.value - shorter.low))
    wide = bootstrap.stretched(value - below, value + above)
    low, high = max(wide.low, DIFFERENCE[0]), min(wide.high, DIFFERENCE[1])
    return CountedInterval(value, low, high, longer.count + shorter.count)


def _ratios(sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """One value per cluster, whose mean is sum(sums) / sum(counts) and varies as that ratio does (delta method)."""
    whole = sums.sum() / counts.sum()
    return whole + (sums - whole * counts) / counts.mean()


def position_bias(there: np.ndarray, back: np.ndarray, prompts: Sequence[str]) -> dict[str, Any]:
    """Bias of an oracle that sees places: `there` is P(a wins) with a first, `back` is P(b wins) with b first."""
    first, second = wins(there), wins(back)
    return {
        "first_wins": clustered((first + second) / 2, prompts),
        "mean_preference_for_first": clustered((there + back) / 2, prompts),
        "consistent": clustered(np.where(np.isnan(first + second), np.nan, first == 1 - second), prompts),
    }


def audit_one(
    preferences: np.ndarray,
    labels: np.ndarray,
    prompts: Sequence[str],
    lengths: np.ndarray,
    categories: Sequence[str],
    orders: tuple[np.ndarray, np.ndarray] | None = None,
) -> dict[str, Any]:
    """All measures of one oracle over N pairs.

    `lengths` is (N, 2), in words; `orders` are P(the answer shown first wins) with a and with b first, where it sees
    places.
    """
    hit, rule = correct(preferences, labels), correct(longer_wins(lengths), labels)
    places: dict[str, list[int]] = {}
    for i, name in enumerate(categories):
        places.setdefault(name, []).append(i)
    return {
        "accuracy": clustered(hit, prompts),
        "over_length_rule": clustered(hit - rule, prompts, within=DIFFERENCE),
        "failed": int(np.isnan(preferences).sum()),
        "ties": int((wins(preferences) == 0.5).sum()),
        "calibration": calibration(preferences, labels),
        "length": length_bias(preferences, labels, lengths, prompts),
        "position": None if orders is None else position_bias(*orders, prompts),
        "categories": {
            name: {
                "accuracy": clustered(hit[own], [prompts[i] for i in own]),
                "length_rule": clustered(rule[own], [prompts[i] for i in own]),
            }
            for name, own in sorted(places.items())
        },
    }


def agreement(verdicts: dict[str, np.ndarray], prompts: Sequence[str]) -> list[dict[str, Any]]:
    """By two oracles, the share of pairs on which they pick the same winner (a tie of one counts half)."""
    won = {name: wins(preferences) for name, preferences in verdicts.items()}
    return [
        {"oracles": [one, two], "same_winner": clustered(1.0 - np.abs(won[one] - won[two]), prompts)}
        for one, two in combinations(won, 2)
    ]
