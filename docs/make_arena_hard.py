"""Writes the measured table of docs/evaluation/arena-hard.md, and holds published judgments against published scores.

    SPARRING_EVALUATION_DATA=my/data python docs/make_arena_hard.py fits
    SPARRING_EVALUATION_DATA=my/data python docs/make_arena_hard.py published

`fits` needs `arena_hard/arena_bench_v1_gpt4_scores.jsonl.gz` (rows: question_id, model, answer, gpt4_score), makes
judgments of the ratings, and holds our scores against fits by scikit-learn in the way of Arena-Hard's own scripts.
`published` needs `arena_hard/model_judgment/*.jsonl` and `arena_hard/leaderboard_20240731.csv`; it prints published and
own scores. Where the files come from stands on the page. Leaves out: fetching them.
"""

from __future__ import annotations

import csv
import gzip
import json
import math
import os
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from tables import table, write_section

from sparring.evaluation.arena_hard import (
    VERDICTS,
    Judgment,
    Style,
    read_judgments,
    score,
    style_difference,
    style_features,
)

PAGE, SCRIPT = "evaluation/arena-hard.md", "make_arena_hard.py"
BASELINE, LEAD = "claude-1", 3
"""of ratings: from this lead on a verdict is strong"""
UNBOUNDED = 1e8
"""inverse strength of scikit-learn's penalty: none"""
STYLES: tuple[Style, ...] = ("counts", "densities")
Answers = dict[str, dict[str, Mapping[str, Any]]]


# ---------------------------------------------------------------- ratings become judgments


def read_ratings(path: Path) -> tuple[dict[str, dict[str, float]], Answers, int]:
    """Ratings and answers by model and question, of the questions that all models have; and how many are left out."""
    with gzip.open(path, "rt", encoding="utf-8") as stream:
        rows = [json.loads(line) for line in stream]
    rated = [row for row in rows if row["gpt4_score"] is not None and 1 <= float(row["gpt4_score"]) <= 10]
    models = {row["model"] for row in rows}
    count = Counter(row["question_id"] for row in rated)
    ratings: dict[str, dict[str, float]] = {model: {} for model in sorted(models)}
    answers: Answers = {model: {} for model in ratings}
    for row in rated:
        if count[row["question_id"]] == len(models):
            ratings[row["model"]][row["question_id"]] = float(row["gpt4_score"])
            answers[row["model"]][row["question_id"]] = {"text": row["answer"], "style": None}
    return ratings, answers, len({row["question_id"] for row in rows}) - len(ratings[BASELINE])


def as_judgments(ratings: Mapping[str, Mapping[str, float]]) -> list[Judgment]:
    """Every model against the baseline; a rating has no order, so both games say the same."""
    found = []
    for model, mine in ratings.items():
        for question, rating in mine.items():
            lead = rating - ratings[BASELINE][question]
            sign = ("<" if lead < 0 else ">") * (2 if abs(lead) >= LEAD else 1) if lead else "="
            second = {"<": "B>A", "<<": "B>>A"}.get(sign, f"A{sign}B")  # the model is A in the second game
            first = {">": "B>A", ">>": "B>>A", "=": "A=B"}.get(sign, f"A{'>' * len(sign)}B")
            if model != BASELINE:
                found.append(Judgment(question, model, BASELINE, "gpt-4", "arena-bench-v1", (first, second)))
    return found


# ---------------------------------------------------------------- the benchmark's way


def battles(judgments: Sequence[Judgment]) -> tuple[list[Judgment], np.ndarray]:
    """As Arena-Hard's script copies them: a strong verdict three times, a tie half for each side (all doubled here)."""
    rows, won = [], []
    for judgment in judgments:
        for place, verdict in enumerate(judgment.verdicts):
            if verdict is None:
                continue
            first, weight = VERDICTS[verdict]
            mine = first if place else 1.0 - first
            copies = [1.0, 0.0] if mine == 0.5 else [mine] * (2 * int(weight))
            rows += [judgment] * len(copies)
            won += copies
    return rows, np.array(won)


def maximum_likelihood(design: np.ndarray, won: np.ndarray) -> np.ndarray:
    """Weights of a logistic regression without intercept or penalty."""
    from sklearn.linear_model import LogisticRegression  # comes with the extra `leaderboard`

    return LogisticRegression(fit_intercept=False, C=UNBOUNDED, tol=1e-10, max_iter=1000).fit(design, won).coef_[0]


def two_player_fit(judgments: Sequence[Judgment]) -> dict[str, float]:
    """Bradley-Terry over all players in Elo points, then each player's chance against the baseline, in percent."""
    rows, won = battles(judgments)
    players = sorted({row.model for row in rows} | {BASELINE})
    design = np.zeros((len(rows), len(players)))
    for i, row in enumerate(rows):
        design[i, players.index(row.model)], design[i, players.index(row.baseline)] = math.log(10), -math.log(10)
    elo = dict(zip(players, 400 * maximum_likelihood(design, won) + 1000, strict=True))
    return {name: 100 / (1 + 10 ** ((elo[BASELINE] - elo[name]) / 400)) for name in players if name != BASELINE}


def styled_fit(judgments: Sequence[Judgment], answers: Answers, style: Style, centred: bool) -> dict[str, float]:
    """One column a model and one a standardised feature; the chance at features of zero, in percent."""
    rows, won = battles(judgments)
    features = {
        (model, question): style_features(answer)
        for model, mine in answers.items()
        for question, answer in mine.items()
    }
    difference = np.array(
        [style_difference(features[j.model, j.question], features[j.baseline, j.question], style) for j in rows]
    )
    difference = (difference - (difference.mean(0) if centred else 0.0)) / difference.std(0)
    models = sorted({row.model for row in rows})
    one_hot = np.array([[row.model == model for model in models] for row in rows], dtype=float)
    design = np.hstack([one_hot, difference])
    weights = maximum_likelihood(design, won)[: len(models)]
    return {model: 100 / (1 + math.exp(-weight)) for model, weight in zip(models, weights, strict=True)}


# ---------------------------------------------------------------- tables


def ours(judgments: Sequence[Judgment], **settings: Any) -> dict[str, float]:
    """Our scores; no intervals are shown, so the least number of resamples is drawn."""
    return {one.model: one.score.value for one in score(judgments, resamples=2, **settings).models}


def fits(data: Path) -> None:
    """Our scores beside fits by scikit-learn."""
    ratings, answers, left_out = read_ratings(data / "arena_bench_v1_gpt4_scores.jsonl.gz")
    judgments = as_judgments(ratings)
    kinds = Counter(judgment.verdicts[1] for judgment in judgments)
    plain, peer = ours(judgments), two_player_fit(judgments)
    rows: dict[str, list[str]] = {name: [f"{plain[name]:.4f}", f"{peer[name]:.4f}"] for name in plain}
    gaps = [abs(plain[name] - peer[name]) for name in plain]
    styled_gaps = []
    for style, centred in product(STYLES, (False, True)):
        mine = ours(judgments, answers=answers, style=style, centred=centred)
        theirs = styled_fit(judgments, answers, style, centred)
        styled_gaps += [abs(mine[name] - theirs[name]) for name in mine]
        if not centred:
            for name, cells in rows.items():
                cells += [f"{mine[name]:.4f}", f"{theirs[name]:.4f}"]
    told = ", ".join(f"{kinds[kind]} {kind}" for kind in VERDICTS)
    lines = [
        f"{len(judgments)} judgments of {len(plain)} models against {BASELINE} on {len(ratings[BASELINE])} questions "
        f"({left_out} lack a rating of some model); the model as A: {told}. Scores differ by at most {max(gaps):.0e} "
        f"points, with style control (both kinds, centred and not) by at most {max(styled_gaps):.0e}.",
        "",
        *table(
            ["model", "score", "scikit-learn", *(cell for style in STYLES for cell in (style, "scikit-learn"))],
            [[name, *cells] for name, cells in rows.items()],
        ),
    ]
    write_section(PAGE, SCRIPT, lines, "fits")


def published(data: Path) -> None:
    """Published judgments against the published scores."""
    paths = sorted((data / "model_judgment").glob("*.jsonl*"))
    if not paths:
        raise ValueError(f"{data / 'model_judgment'}: no .jsonl files. docs/{PAGE} says where to get them.")
    with (data / "leaderboard_20240731.csv").open(encoding="utf-8") as stream:
        board = {row["model"]: row for row in csv.DictReader(stream)}
    found = score(read_judgments(paths, baseline="gpt-4-0314"), lone_games=True)
    rows = []
    for one in found.models:
        told = board.get(one.model)
        if told is None:
            print(f"{one.model}: not on the leaderboard, left out", file=sys.stderr)
            continue
        value, low, high = one.score.value, one.score.low, one.score.high
        rows.append(
            [
                one.model,
                str(one.questions),
                f"{told['score']} ({told['rating_q025']} to {told['rating_q975']})",
                f"{value:.2f} ({low:.2f} to {high:.2f})",
                f"{value - float(told['score']):+.2f}",
            ]
        )
    print(*table(["model", "questions", "published", "score", "difference"], rows), sep="\n")


def main() -> None:
    """Do what is named."""
    verbs = {"fits": fits, "published": published}
    if not sys.argv[1:] or set(sys.argv[1:]) - verbs.keys():
        raise SystemExit(f"usage: {SCRIPT} {' | '.join(verbs)}")
    for name in sys.argv[1:]:
        verbs[name](Path(os.environ["SPARRING_EVALUATION_DATA"]) / "arena_hard")


if __name__ == "__main__":
    main()
