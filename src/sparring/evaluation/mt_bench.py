"""MT-Bench from stored judgments: ratings of single answers, and wins between two models.

Single: a judge rates each of two turns from 1 to 10; the score is the mean over questions and turns; a rating that the
judge did not give is left out, and all ratings of a turn count. Pairwise: both orders are judged, and a model wins a
turn only if both agree, else it is a tie. Questions of math, reasoning and coding must be judged beside a reference
answer. Reads FastChat's files. Unlike FastChat, a pairwise game without a verdict is left out and counted; there it
becomes a tie. Leaves out: asking a judge (`judge_benchmarks.py`).

    score_files([Path("model_judgment/gpt-4_single.jsonl")]).models[0]
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sparring.data.rows import read_file
from sparring.evaluation.intervals import SHARE, Bounds, Interval, clustered_mean
from sparring.evaluation.ratings import one_judge

Row = Mapping[str, Any]
Turns = set[tuple[str, int]]
"""(question, turn)"""
REFERENCE_CATEGORIES = ("math", "reasoning", "coding", "arena-hard-200")
"""judged beside a reference answer, as in FastChat"""
TURNS = (1, 2)
SCALE: Bounds = (1.0, 10.0)
NO_RATING = -1
WINNERS = ("model_1", "model_2", "tie", "error")


@dataclass(frozen=True, slots=True)
class ModelRating:
    """One model's ratings on a scale from 1 to 10."""

    model: str
    average: Interval
    turns: dict[int, float | None]
    """mean rating by turn; None where no rating is of that turn"""
    categories: dict[str, float | None]
    """mean rating by category; empty without the questions file"""
    ratings: int
    without_rating: int
    repeated: int
    """ratings beyond the first of a turn: all count in the means, as in FastChat"""


@dataclass(frozen=True, slots=True)
class Single:
    """Ratings under one judge, best first."""

    judge: str
    models: list[ModelRating]
    not_judged: dict[int, int]
    """by turn, the number of questions whose turn is not judged; with the questions file they are refused"""
    left_out: dict[str, str]
    """why a model's judgments give no score, by model"""


@dataclass(frozen=True, slots=True)
class ModelWins:
    """One model's turns against all others; `win_rate` counts a tie half."""

    model: str
    wins: int
    losses: int
    ties: int
    win_rate: Interval


@dataclass(frozen=True, slots=True)
class Pairwise:
    """Wins under one judge, best first."""

    judge: str
    models: list[ModelWins]
    failed: int
    """turns left out because a game has no verdict"""
    inconsistent: float
    """share of turns whose two orders disagree: they count as ties"""
    not_judged: dict[int, int]
    """as for single ratings"""
    repeated: int
    """rows beyond the first of two models on a turn: all count, as in FastChat"""


def score_files(
    judgments: Sequence[Path], questions: Path | None = None, models: Sequence[str] | None = None
) -> Single | Pairwise:
    """`single` or `pairwise` on files of model_judgment/, of all models or of those that are named.

    Raises:
        ValueError: as these two; no judgment is of a model, or the files mix ratings and games.
    """
    placed = [(row, f"{path}, row {number}") for path in judgments for number, row in enumerate(read_file(path), 1)]
    if models:
        players = [{str(row[name]) for name in ("model", "model_1", "model_2") if name in row} for row, _ in placed]
        if unknown := set(models) - set().union(*players):
            raise ValueError(f"--model {min(unknown)}: no judgment is of it.")
        placed = [place for place, names in zip(placed, players, strict=True) if names <= set(models)]
    rows, places = [row for row, _ in placed], [place for _, place in placed]
    categories = None if questions is None else read_categories(questions)
    games = ["g1_winner" in row for row in rows]
    if any(games) and not all(games):
        raise ValueError("the files mix single ratings and pairwise games. Give either.")
    return (pairwise if any(games) else single)(rows, categories, places)


def read_categories(path: Path) -> dict[str, str]:
    """Categories by question; ValueError where the file is not MT-Bench's question.jsonl."""
    rows = read_file(path)
    if not rows or not {"question_id", "category"} <= rows[0].keys():
        raise ValueError(f"{path}: a row needs question_id and category, as in MT-Bench's question.jsonl.")
    return {str(row["question_id"]): str(row["category"]) for row in rows}


def single(
    rows: Sequence[Row], categories: Mapping[str, str] | None = None, places: Sequence[str] | None = None
) -> Single:
    """Ratings of every model; `categories` by question switches on the checks against the benchmark.

    A model whose ratings do not fit is left out, with the reason; `places` name the rows in it.

    Raises:
        ValueError: a field is missing, judges differ, or no model's ratings fit: one is impossible, a question is not
            the benchmark's, a turn is not rated.
    """
    by_model: dict[str, list[tuple[Row, str]]] = {}
    for row, where in zip(rows, places or [f"rating {number}" for number in range(1, len(rows) + 1)], strict=True):
        _need(row, ("question_id", "model", "judge", "score", "turn"), where)
        by_model.setdefault(str(row["model"]), []).append((row, where))
    judge = _judge(rows)
    ratings: dict[str, list[tuple[tuple[str, int], float | None]]] = {}
    left_out: dict[str, str] = {}
    for model, own in by_model.items():
        try:
            ratings[model] = [_rated_turn(row, categories, where) for row, where in own]
        except ValueError as error:
            left_out[model] = str(error)
    judged = {model: {turn for turn, _ in own} for model, own in ratings.items()}
    wanted = _wanted(judged, categories)
    rated = []
    for model, own in ratings.items():
        try:
            _check_complete(model, judged[model], wanted)
            rated.append(_model_rating(model, own, categories))
        except ValueError as error:
            left_out[model] = str(error)
    if not rated:
        raise ValueError(next(iter(left_out.values())))
    not_judged = _not_judged(set().union(*(judged[model.model] for model in rated)))
    return Single(judge, sorted(rated, key=lambda model: -model.average.value), not_judged, left_out)


def _rated_turn(row: Row, categories: Mapping[str, str] | None, where: str) -> tuple[tuple[str, int], float | None]:
    _check_prompt(row, categories, where)
    return (str(row["question_id"]), _turn(row, where)), _rating(row["score"], where)


def _need(row: Row, names: Sequence[str], where: str) -> None:
    if missing := [name for name in names if row.get(name) is None]:
        raise ValueError(f"{where}: it has no {missing[0]}. Is it a row of FastChat's gen_judgment?")


def _turn(row: Row, where: str) -> int:
    if row["turn"] not in TURNS:
        raise ValueError(f"{where}: turn {row['turn']!r} is neither 1 nor 2.")
    return int(row["turn"])


def _rating(score: Any, where: str) -> float | None:
    if score == NO_RATING:
        return None
    if isinstance(score, bool) or not isinstance(score, int | float) or not 0 <= score <= 10:
        raise ValueError(f"{where}: score {score!r} is not between 0 and 10 (-1 where the judge gave none).")
    return float(score)


def _judge(rows: Sequence[Row]) -> str:
    """The judging model; its prompt differs by category and turn."""
    if not rows:
        raise ValueError("the file holds no judgment.")
    names = [row["judge"][0] if isinstance(row["judge"], list) else str(row["judge"]) for row in rows]
    return one_judge(names) or ""


def _check_prompt(row: Row, categories: Mapping[str, str] | None, where: str) -> None:
    """Whether the question belongs to the benchmark, and was judged beside a reference where it must be."""
    if categories is None:
        return
    category = categories.get(str(row["question_id"]))
    if category is None:
        raise ValueError(f"{where}: question {row['question_id']} is not in the questions file.")
    prompt = row["judge"][1] if isinstance(row["judge"], list) and len(row["judge"]) > 1 else None
    if prompt is not None and ("math" in prompt) != (category in REFERENCE_CATEGORIES):
        wanted = "with" if category in REFERENCE_CATEGORIES else "without"
        raise ValueError(
            f"{where}: question {row['question_id']} ({category}) was judged by prompt {prompt!r}; MT-Bench judges "
            f"{category} {wanted} a reference answer, so the score would not compare."
        )


def _wanted(judged: Mapping[str, Turns], categories: Mapping[str, str] | None) -> Turns:
    """The benchmark's turns, or without its questions those that any model has."""
    return set().union(*judged.values()) if categories is None else {(q, t) for q in categories for t in TURNS}


def _check_complete(model: str, judged: Turns, wanted: Turns) -> None:
    if missing := sorted(wanted - judged):
        question, turn = missing[0]
        raise ValueError(
            f"{model}: {len(missing)} of {len(wanted)} turns are not judged (first: question {question}, turn "
            f"{turn}). Judge them, or leave that model out."
        )


def _not_judged(judged: set[tuple[str, int]]) -> dict[int, int]:
    questions = {question for question, _ in judged}
    lacking = {turn: sum((question, turn) not in judged for question in questions) for turn in TURNS}
    return {turn: count for turn, count in lacking.items() if count}


def _model_rating(
    model: str, scores: Sequence[tuple[tuple[str, int], float | None]], categories: Mapping[str, str] | None
) -> ModelRating:
    known = [(key, score) for key, score in scores if score is not None]
    if not known:
        raise ValueError(f"{model}: the judge gave no rating at all.")

    def mean(wanted: Callable[[str, int], bool]) -> float | None:
        values = [score for (question, turn), score in known if wanted(question, turn)]
        return float(np.mean(values)) if values else None

    kinds = dict.fromkeys(categories.values()) if categories else {}
    return ModelRating(
        model,
        mean_over_questions([(question, score) for (question, _), score in known], SCALE),
        {turn: mean(lambda _, t, turn=turn: t == turn) for turn in TURNS},
        {kind: mean(lambda q, _, kind=kind: (categories or {})[q] == kind) for kind in kinds},
        len(known),
        len(scores) - len(known),
        len(scores) - len({key for key, _ in scores}),
    )


def mean_over_questions(values: Sequence[tuple[str, float]], within: Bounds) -> Interval:
    """The mean of all values, and its interval when questions are resampled with all their values."""
    questions = {question: i for i, question in enumerate(dict.fromkeys(q for q, _ in values))}
    index = np.array([questions[question] for question, _ in values])
    return clustered_mean(np.array([value for _, value in values]), index, within)


def pairwise(
    rows: Sequence[Row], categories: Mapping[str, str] | None = None, places: Sequence[str] | None = None
) -> Pairwise:
    """Wins of every model over its opponents; `categories` and `places` as for `single`.

    Raises:
        ValueError: a field is missing, judges differ, a winner is unknown, a question is not the benchmark's, or a turn
            of two models is not judged.
    """
    seen: dict[str, Turns] = {}
    outcomes: dict[str, list[tuple[str, float]]] = {}
    failed = disagreed = 0
    for row, where in zip(rows, places or [f"match {number}" for number in range(1, len(rows) + 1)], strict=True):
        _need(row, ("question_id", "model_1", "model_2", "g1_winner", "g2_winner", "judge", "turn"), where)
        one, two = str(row["model_1"]), str(row["model_2"])
        question, turn = str(row["question_id"]), _turn(row, where)
        if one == two:
            raise ValueError(f"{where}: {one} is compared with itself. Remove that row.")
        seen.setdefault(" and ".join(sorted((one, two))), set()).add((question, turn))
        _check_prompt(row, categories, where)
        winners = [row["g1_winner"], row["g2_winner"]]
        if unknown := [winner for winner in winners if winner not in WINNERS]:
            raise ValueError(f"{where}: winner {unknown[0]!r} is unknown; allowed are {', '.join(WINNERS)}.")
        if "error" in winners:
            failed += 1
            continue
        disagreed += winners[0] != winners[1]
        score = {"model_1": 1.0, "model_2": 0.0}.get(winners[0], 0.5) if winners[0] == winners[1] else 0.5
        outcomes.setdefault(one, []).append((question, score))
        outcomes.setdefault(two, []).append((question, 1.0 - score))
    judge = _judge(rows)
    wanted = _wanted(seen, categories)
    for pair in sorted(seen):
        _check_complete(pair, seen[pair], wanted)
    if not outcomes:
        raise ValueError("no match has a verdict in both orders.")
    models = [_model_wins(model, values) for model, values in outcomes.items()]
    ranked = sorted(models, key=lambda model: -model.win_rate.value)
    inconsistent, repeated = disagreed / (len(rows) - failed), len(rows) - sum(map(len, seen.values()))
    return Pairwise(judge, ranked, failed, inconsistent, _not_judged(set().union(*seen.values())), repeated)


def _model_wins(model: str, values: Sequence[tuple[str, float]]) -> ModelWins:
    scores = [score for _, score in values]
    counts = scores.count(1.0), scores.count(0.0), scores.count(0.5)
    return ModelWins(model, *counts, mean_over_questions(values, SHARE))
