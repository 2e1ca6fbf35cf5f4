"""Ratings from pairwise results: Bradley-Terry and Elo, with intervals over prompts.

Bradley-Terry: P(a beats b) = sigmoid(theta_a - theta_b), by maximum likelihood, a tie counting as half a win for each;
shown as 1000 + 400 / ln 10 (theta - mean theta), so that 400 points are odds of ten to one. Elo goes through the
matches in their order, which changes the result: prefer Bradley-Terry unless the players themselves change. Intervals
weigh prompts where the matches name them, else matches. Those of Bradley-Terry add one unseen prompt in which the
player loses everything to the low end, wins everything to the high one (`intervals.py` says why); for two players they
are Clopper and Pearson's. Leaves out: choosing who is compared with
whom (`next_matches.py`), and by which judge.

    table = rate(read_matches(Path("matches.csv"))); table.rows[0]

Shape suffixes: M matches, K players, F features, B resamples.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components
from scipy.special import expit

from sparring.data.rows import read_file
from sparring.evaluation.intervals import TAIL
from sparring.evaluation.logistic import fit_logistic

Array = NDArray[np.float64]
Method = Literal["bradley-terry", "elo"]

CENTRE = 1000.0
SCALE = 400.0 / np.log(10.0)
"""rating points per unit of log odds"""
ELO_STEP = 4.0
"""points won at most by one match: small, as in the arenas, so that the last matches do not decide"""
ELO_ARRIVES = 500
"""matches a player after which Elo has gone from 1000 to the rating: 98 % of the way, at 75 % won"""
SAME = 1e-6
"""rating points below which resamples do not differ"""
SEPARATED = 20.0
"""log odds that no finite sample supports: where the likelihood only rises without bound"""
HALVINGS = 32
"""of SEPARATED, to within 1e-6 rating points"""
SIDES = {"left": 1.0, "right": 0.0, "tie": 0.5, "model_a": 1.0, "model_b": 0.0, "tie (bothbad)": 0.5}
COLUMNS = (("left", "right"), ("model_a", "model_b"))
PROMPTS = ("prompt", "question_id", "uid")
JUDGES = ("judge", "annotator")


@dataclass(frozen=True, slots=True)
class Matches:
    """Results of pairs of players."""

    names: tuple[str, ...]
    left_M: NDArray[np.int64]
    right_M: NDArray[np.int64]
    score_M: Array
    """1: left won, 0: right won, 1/2: a tie"""
    weight_M: Array
    unit_M: NDArray[np.int64]
    """the matches that are resampled together have one number, from 0 on"""
    unit: str
    """name of the units: "prompts" or "matches" """
    judge: str | None
    prompts: tuple[str, ...] | None = None
    """those that the matches name, by their number in `unit_M`"""


@dataclass(frozen=True, slots=True)
class PlayerRating:
    """A player's rating with its 95 % interval.

    Both ends are None for Elo where it has not arrived (see ELO_ARRIVES) or no resample differs: that shows nothing.
    """

    name: str
    rating: float
    low: float | None
    high: float | None
    matches: int


@dataclass(frozen=True, slots=True)
class Ratings:
    """Players with their ratings, best first."""

    method: Method
    rows: list[PlayerRating]
    matches: int
    units: int
    unit: str
    judge: str | None
    resamples: int


def read_matches(path: Path) -> Matches:
    """Matches from a file with columns `left`, `right` (or `model_a`, `model_b`) and `winner`.

    Optional columns: a prompt (`prompt`, `question_id` or `uid`), `weight`, `judge` (or `annotator`).

    Raises:
        ValueError: a column is missing, a winner is unknown, judges are mixed, or rows are repeated.
    """
    rows = read_file(path)
    if not rows:
        raise ValueError(f"{path} holds no match.")
    sides = next((pair for pair in COLUMNS if {*pair, "winner"} <= rows[0].keys()), None)
    if sides is None:
        has = ", ".join(rows[0])
        raise ValueError(f"{path} has columns {has}; it needs left, right (or model_a, model_b), winner.")
    prompt = next((name for name in PROMPTS if name in rows[0]), None)
    if prompt is not None:
        _refuse_repeated(rows, path)
    judges = () if "anony" in rows[0] else JUDGES  # in Arena's files `judge` is one of many voters
    needed = (*sides, "winner") if prompt is None else (*sides, "winner", prompt)
    for line, row in enumerate(rows, start=1):
        if lacking := next((name for name in needed if row.get(name) in (None, "")), None):
            raise ValueError(f"{path}, match {line}: it has no {lacking}. Give it, or remove that match.")
    return make_matches(
        [(str(row[sides[0]]), str(row[sides[1]])) for row in rows],
        [_score(row["winner"], path, line) for line, row in enumerate(rows, start=1)],
        [_weight(row.get("weight", 1.0), path, line) for line, row in enumerate(rows, start=1)],
        None if prompt is None else [str(row[prompt]) for row in rows],
        one_judge([next((row[name] for name in judges if row.get(name)), None) for row in rows]),
    )


def _refuse_repeated(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    lines: dict[str, int] = {}
    for number, row in enumerate(rows, start=1):
        first = lines.setdefault(json.dumps(row, sort_keys=True, default=str), number)
        if first != number:
            raise ValueError(
                f"{path}: match {number} repeats match {first}. Remove it; or tell repeated games apart by a further "
                "column (order, sample), or count them in a column weight."
            )


def _score(winner: Any, path: Path, line: int) -> float:
    if not isinstance(winner, str) or winner not in SIDES:
        raise ValueError(f"{path}, match {line}: winner {winner!r} is unknown; use one of {', '.join(SIDES)}.")
    return SIDES[winner]


def _weight(value: Any, path: Path, line: int) -> float:
    try:
        weight = float(value)
    except (OverflowError, TypeError, ValueError):
        weight = -1.0
    if not 0 < weight < np.inf:
        raise ValueError(f"{path}, match {line}: weight {value!r} is not a positive number.")
    return weight


def one_judge(judges: Sequence[str | None]) -> str | None:
    """The judge that all results share; None where none is named.

    Raises:
        ValueError: there are several, and their verdicts do not compare.
    """
    names = sorted({str(judge) if judge else "one that is not named" for judge in judges})
    if not any(judges):
        return None
    if len(names) > 1:
        raise ValueError(
            f"results of {len(names)} judges ({', '.join(names[:3])}) cannot be rated together: verdicts of "
            "different judges do not compare. Split them into one file per judge."
        )
    return names[0]


def make_matches(
    pairs: Sequence[tuple[str, str]],
    scores: Sequence[float],
    weights: Sequence[float] | None = None,
    prompts: Sequence[str] | None = None,
    judge: str | None = None,
) -> Matches:
    """Matches from plain lists; without prompts every match is a unit of its own."""
    for left, right in pairs:
        if left == right:
            raise ValueError(f"{left!r} is compared with itself. Remove that match.")
    names = tuple(sorted({name for pair in pairs for name in pair}))
    index = {name: k for k, name in enumerate(names)}
    units = {unit: u for u, unit in enumerate(dict.fromkeys(prompts or range(len(pairs))))}
    return Matches(
        names,
        np.array([index[left] for left, _ in pairs]),
        np.array([index[right] for _, right in pairs]),
        np.asarray(scores, dtype=np.float64),
        np.ones(len(pairs)) if weights is None else np.asarray(weights, dtype=np.float64),
        np.array([units[unit] for unit in prompts or range(len(pairs))]),
        "matches" if prompts is None else "prompts",
        judge,
        None if prompts is None else tuple(dict.fromkeys(prompts)),
    )


def bradley_terry(matches: Matches) -> Array:
    """Log strengths of the K players, mean zero.

    Raises:
        Unbounded: a group of players never lost to (or never met) the others, so no finite strengths fit.
    """
    wins_KK = wins_of(matches)
    groups, group_K = connected_components(wins_KK > 0, directed=True, connection="strong")
    if groups > 1:
        smallest = np.flatnonzero(group_K == np.bincount(group_K).argmin()).tolist()
        raise Unbounded(
            f"{', '.join(matches.names[k] for k in smallest[:5])} won or lost every match against the others, or never "
            "met them: no finite rating fits. Add matches, or leave these players out."
        )
    return strengths_of(wins_KK, fit_finite)


def strengths_of(wins_KK: Array, fit: Callable[[Array, Array, Array], Array] = fit_logistic) -> Array:
    """Log strengths, mean zero, that fit weights of wins of row over column best."""
    left, right = np.nonzero(np.triu(wins_KK + wins_KK.T))
    games = wins_KK[left, right] + wins_KK[right, left]
    design = np.zeros((len(left), len(wins_KK)))
    design[np.arange(len(left)), left] = 1.0
    design[np.arange(len(left)), right] = -1.0
    # The first player stays at zero while fitting: only differences are determined.
    strengths = np.array([0.0, *fit(design[:, 1:], wins_KK[left, right] / games, games)])
    return strengths - strengths.mean()


def wins_of(matches: Matches, weight_M: Array | None = None) -> Array:
    """K x K weights of wins of row over column, a tie half for each; `weight_M`: other weights than the matches'."""
    weight_M = matches.weight_M if weight_M is None else weight_M
    wins_KK = np.zeros((len(matches.names),) * 2)
    np.add.at(wins_KK, (matches.left_M, matches.right_M), weight_M * matches.score_M)
    np.add.at(wins_KK, (matches.right_M, matches.left_M), weight_M * (1.0 - matches.score_M))
    return wins_KK


class Unbounded(ValueError):
    """Somebody won or lost everything, or never met the others: no finite ratings fit."""


def fit_finite(design_MF: Array, score_M: Array, weight_M: Array) -> Array:
    """Coefficients of a logistic regression without intercept or penalty on scores in [0, 1].

    Raises:
        Unbounded: the features separate wins from losses, so the likelihood has no maximum.
    """
    beta_F = fit_logistic(design_MF, score_M, weight_M)
    if np.abs(design_MF @ beta_F).max(initial=0.0) > SEPARATED:
        raise Unbounded("the ratings do not converge: wins and losses are separated. Add matches.")
    return beta_F


def elo(matches: Matches, order: Sequence[int] | None = None) -> Array:
    """Elo ratings of the K players after the matches in their order, or in `order`; everybody begins at 1000."""
    ratings = np.full(len(matches.names), CENTRE)
    for m in range(len(matches.left_M)) if order is None else order:
        left, right = matches.left_M[m], matches.right_M[m]
        gain = ELO_STEP * matches.weight_M[m] * (matches.score_M[m] - expit((ratings[left] - ratings[right]) / SCALE))
        ratings[left] += gain
        ratings[right] -= gain
    return ratings


def rate(matches: Matches, method: Method = "bradley-terry", resamples: int = 1000, seed: int = 0) -> Ratings:
    """Ratings with 95 % bootstrap intervals over units.

    Raises:
        ValueError: no finite ratings fit.
    """
    rng, games_K = np.random.default_rng(seed), _appearances(matches, np.ones(len(matches.left_M)))
    if method == "bradley-terry":
        rating_K = CENTRE + SCALE * bradley_terry(matches)
        ends_B2K = CENTRE + SCALE * _resampled_strengths(matches, resamples, rng)
    else:
        rating_K, elo_BK = elo(matches), _resampled_elo(matches, resamples, rng)
        arrived = games_K.min() >= ELO_ARRIVES and np.ptp(elo_BK) > SAME
        ends_B2K = np.stack([elo_BK] * 2, axis=1) if arrived else np.full((1, 2, len(rating_K)), np.nan)
    low_K = np.quantile(ends_B2K[:, 0], TAIL, axis=0).tolist()
    high_K = np.quantile(ends_B2K[:, 1], 1 - TAIL, axis=0).tolist()
    rows = [
        PlayerRating(matches.names[k], float(rating_K[k]), _known(low_K[k]), _known(high_K[k]), int(games_K[k]))
        for k in np.argsort(-rating_K, kind="stable")
    ]
    units = int(matches.unit_M.max()) + 1
    return Ratings(method, rows, len(matches.left_M), units, matches.unit, matches.judge, resamples)


def _known(end: float) -> float | None:
    return None if np.isnan(end) else end


def _appearances(matches: Matches, value_M: Array) -> Array:
    """By player, the sum of a value of each of its matches."""
    both_M = np.concatenate([matches.left_M, matches.right_M])
    return np.bincount(both_M, np.tile(value_M, 2), minlength=len(matches.names)).astype(np.float64)


def _resampled_strengths(matches: Matches, resamples: int, rng: np.random.Generator) -> Array:
    """Log strengths under exponential weights of units, B x 2 x K: as low, and as high, as one more unit puts them.

    In that unit, with the mean number of games of those in which the player is seen, it loses or wins everything.
    """
    units, all_KK = int(matches.unit_M.max()) + 1, wins_of(matches)
    seen_in_K = np.array([len(np.unique(matches.unit_M[played])) for played in _played(matches)])
    unseen_KK = (all_KK + all_KK.T) / seen_in_K[:, None]
    found = np.empty((resamples, 2, len(matches.names)))
    for b in range(resamples):
        weight_U = rng.exponential(size=units)
        wins_KK = wins_of(matches, matches.weight_M * weight_U[matches.unit_M])
        found[b] = _with_one_more(wins_KK, rng.exponential() * unseen_KK)
    return found


def _played(matches: Matches) -> list[NDArray[np.bool_]]:
    return [(matches.left_M == k) | (matches.right_M == k) for k in range(len(matches.names))]


def _with_one_more(wins_KK: Array, unseen_KK: Array) -> Array:
    """Each player's strength where it also loses, and where it wins, its unseen games: 2 x K.

    The others keep their strengths relative to each other; the mean of all is zero again.
    """
    strength_K = strengths_of(wins_KK)
    won_2K1 = np.stack([np.zeros_like(unseen_KK), unseen_KK]).sum(2, keepdims=True) + wins_KK.sum(1)[:, None]
    games_KK = wins_KK + wins_KK.T + unseen_KK
    below_2K1 = strength_K[:, None] + np.array([-SEPARATED, 0.0])[:, None, None]
    for step in SEPARATED / 2.0 ** np.arange(1, HALVINGS):
        tried = below_2K1 + step
        expected = (games_KK * expit(tried - strength_K)).sum(2, keepdims=True)
        below_2K1 = np.where(expected < won_2K1, tried, below_2K1)
    moved_2K = below_2K1[:, :, 0] - strength_K
    return strength_K + moved_2K * (1 - 1 / len(strength_K))


def _resampled_elo(matches: Matches, resamples: int, rng: np.random.Generator) -> Array:
    """Elo of units drawn with replacement, B x K; it depends on the order, so that is shuffled too."""
    units = int(matches.unit_M.max()) + 1
    found = np.empty((resamples, len(matches.names)))
    for b in range(resamples):
        counts_U = np.bincount(rng.integers(units, size=units), minlength=units)
        order = rng.permutation(np.repeat(np.arange(len(matches.unit_M)), counts_U[matches.unit_M])).tolist()
        found[b] = elo(matches, order)
    return found
