"""Arena-Hard from stored judgments: scores against a baseline, with intervals over questions and style control.

A judgment is two games, the model's answer second and then first, each with one of five verdicts; a strong one (`>>`)
counts three times, a tie half. With every game against one baseline the Bradley-Terry fit has a closed form: a
model's chance to beat the baseline is its weighted share of wins, which is the published score. With style control
the fit gains four features of both answers (tokens, headers, list items, bold passages), and the score is the chance
at equal style. Reads the files of v0.1 (`question_id`, `turns`, `choices`) and of v2.0 (`uid`, `prompt`, `messages`).
Leaves out: asking a judge (`judge_benchmarks.py`).

    result = score(read_judgments([Path("model_judgment/gpt-4.1/my-model.jsonl")]))

Shape suffixes: G games, Q questions, K models, F features.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from sparring.data.rows import read_file
from sparring.evaluation.intervals import SHARE, TAIL, Interval, ends
from sparring.evaluation.logistic import fit_logistic
from sparring.evaluation.ratings import fit_finite, one_judge

Array = NDArray[np.float64]
Style = Literal["densities", "counts"]

STRONG = 3.0
"""games that a verdict with >> counts for, as in Arena-Hard"""
VERDICTS = {"A>>B": (1.0, STRONG), "A>B": (1.0, 1.0), "A=B": (0.5, 1.0), "B>A": (0.0, 1.0), "B>>A": (0.0, STRONG)}
"""score of A, and weight"""
MIRRORED = {"A<<B": "B>>A", "A<B": "B>A", "B=A": "A=B", "B<A": "A>B", "B<<A": "A>>B"}
FEATURES = ("token_len", "header_count", "list_count", "bold_count")
FENCE = re.compile(r"```[^`]*```")
MARKDOWN = {
    "header_count": re.compile(r"^#{1,6}\s", re.MULTILINE),
    "list_count": re.compile(r"^\s*(?:\d+\.|[-*+])\s", re.MULTILINE),
    "bold_count": re.compile(r"\*\*[^*\n]+\*\*|__[^_\n]+__"),
}
TOKEN = re.compile(r"\w+|[^\w\s]")


@dataclass(frozen=True, slots=True)
class Judgment:
    """One question's two games of a model against the baseline."""

    question: str
    model: str
    baseline: str
    judge: str
    category: str
    verdicts: tuple[str | None, str | None]
    """the model is B in the first game and A in the second; None where the judge gave none"""

    def games(self) -> list[tuple[float, float] | None]:
        """Score of the model and weight, by game."""
        first, second = (None if verdict is None else VERDICTS[verdict] for verdict in self.verdicts)
        return [None if first is None else (1.0 - first[0], first[1]), second]


@dataclass(frozen=True, slots=True)
class ModelScore:
    """One model against the baseline, in percent."""

    model: str
    score: Interval
    questions: int
    without_verdict: int
    """questions left out because a game has no verdict"""
    consistent: float
    """share of questions whose two verdicts do not contradict each other"""
    first_preferred: float | None
    """share of decided games that the answer shown first wins; far from 1/2 is position bias; None: none is decided"""


@dataclass(frozen=True, slots=True)
class ArenaHard:
    """Scores of models under one judge, against one baseline, in one category, best first."""

    judge: str
    baseline: str
    category: str
    style: Style | None
    models: list[ModelScore]
    style_weights: dict[str, float]
    """log odds per standard deviation of a feature's difference; empty without style control"""


# ---------------------------------------------------------------- files


def read_judgments(paths: Sequence[Path], baseline: str | None = None) -> list[Judgment]:
    """Judgments from Arena-Hard's files of either version; `baseline` names it where the rows do not.

    Raises:
        ValueError: a field is missing, a verdict is unknown, a question is judged twice, or judges are mixed.
    """
    judgments: dict[tuple[str, str], Judgment] = {}
    for path in paths:
        for line, row in enumerate(read_file(path), start=1):
            where = f"{path}, judgment {line}"
            judgment = _judgment(row, baseline, where)
            if judgments.setdefault((judgment.model, judgment.question), judgment) is not judgment:
                raise ValueError(
                    f"{where}: question {judgment.question} of {judgment.model} was already judged. Remove one of the "
                    "two rows."
                )
    if not judgments:
        raise ValueError(f"{', '.join(map(str, paths))}: no judgments.")
    one_judge([judgment.judge for judgment in judgments.values()])
    return list(judgments.values())


def question_id(row: Mapping[str, Any], where: str) -> str:
    """The identity of a row's question, in the field of either version."""
    name = next((name for name in ("uid", "question_id") if row.get(name) is not None), None)
    if name is None:
        raise ValueError(f"{where}: it has neither uid nor question_id.")
    return str(row[name])


def _judgment(row: Mapping[str, Any], baseline: str | None, where: str) -> Judgment:
    if missing := [name for name in ("model", "judge", "games") if not row.get(name)]:
        raise ValueError(f"{where}: it has no {missing[0]}.")
    games = row["games"]
    if not isinstance(games, list) or len(games) != 2:
        raise ValueError(f"{where}: it needs two games, one in each order of the answers.")
    against = row.get("baseline") or baseline
    if against is None:
        raise ValueError(f"{where}: it does not name the baseline. Give --baseline (v0.1: gpt-4-0314).")
    category = str(row.get("category") or "arena-hard-v0.1")
    names = question_id(row, where), str(row["model"]), str(against), str(row["judge"]), category
    return Judgment(*names, verdicts=(_verdict(games[0], where), _verdict(games[1], where)))


def _verdict(game: Any, where: str) -> str | None:
    """A stored game's verdict; None where the judge gave none, also after an error of its endpoint."""
    label = game.get("score") if isinstance(game, Mapping) else None
    if label is None:
        return None
    verdict = MIRRORED.get(str(label), str(label))
    if verdict not in VERDICTS:
        raise ValueError(f"{where}: verdict {label!r} is unknown; allowed are {', '.join(VERDICTS)}.")
    return verdict


def read_answers(paths: Sequence[Path]) -> dict[str, dict[str, Mapping[str, Any]]]:
    """Answers by model and question, each with `text` and, where the file gives it, `style`.

    Raises:
        ValueError: a row has no question, model or text, or answers a question twice.
    """
    by_model: dict[str, dict[str, Mapping[str, Any]]] = {}
    for path in paths:
        for line, row in enumerate(read_file(path), start=1):
            where = f"{path}, answer {line}"
            model = row.get("model") or row.get("model_id")
            if model is None:
                raise ValueError(f"{where}: it names no model (model, or model_id).")
            question, answers = question_id(row, where), by_model.setdefault(str(model), {})
            if question in answers:
                raise ValueError(f"{where}: {model} answers question {question} twice. Remove one row.")
            answers[question] = {"text": _text(row, where), "style": row.get("metadata") or row.get("conv_metadata")}
    return by_model


def _text(row: Mapping[str, Any], where: str) -> str:
    try:
        if "messages" in row:
            content = row["messages"][-1]["content"]
            text = content["answer"] if isinstance(content, Mapping) else content
        else:
            text = row["choices"][0]["turns"][-1]["content"]
    except (KeyError, IndexError, TypeError) as error:
        raise ValueError(f"{where}: no answer under messages[-1].content or choices[0].turns[-1].content.") from error
    if not isinstance(text, str):
        raise ValueError(f"{where}: the answer is {type(text).__name__}, not text.")
    return text


def select(
    judgments: Sequence[Judgment], questions: Path | None = None, category: str | None = None, common: bool = False
) -> list[Judgment]:
    """The judgments of a category (None: of all), of which no question is missing.

    Args:
        questions: the benchmark's question.jsonl; None: all questions that some model has.
        common: instead of refusing gaps, leave out the questions that some model lacks.

    Raises:
        ValueError: no judgment is of the category, or a question is missing.
    """
    categories = {judgment.category for judgment in judgments}
    if category is not None and category not in categories:
        raise ValueError(f"--category {category}: no judgment is of it; there are {', '.join(sorted(categories))}.")
    selected = [judgment for judgment in judgments if category in (None, judgment.category)]
    wanted = None
    if questions is not None:
        wanted = [
            question_id(row, f"{questions}, question {line}")
            for line, row in enumerate(read_file(questions), start=1)
            if category in (None, row.get("category"))
        ]
    if common:
        return common_questions(selected, wanted)
    check_complete(selected, wanted)
    return selected


def common_questions(judgments: Sequence[Judgment], questions: Sequence[str] | None = None) -> list[Judgment]:
    """The judgments of questions, out of `questions` where those are named, on which every model was judged.

    Raises:
        ValueError: there are none.
    """
    shared = set.intersection(*_questions(judgments).values(), *([] if questions is None else [set(questions)]))
    if not shared:
        raise ValueError("no question was judged for every model.")
    return [judgment for judgment in judgments if judgment.question in shared]


def check_complete(judgments: Sequence[Judgment], questions: Sequence[str] | None = None) -> None:
    """Check that every model is judged on the benchmark's `questions`, or without them on all that any model has.

    Raises:
        ValueError: a model lacks questions, or was judged on one that the benchmark does not have.
    """
    by_model = _questions(judgments)
    wanted = set.union(*by_model.values()) if questions is None else set(questions)
    for model, judged in by_model.items():
        if unknown := sorted(judged - wanted):
            raise ValueError(f"{model} is judged on {unknown[0]}, which the questions file does not have.")
        if missing := sorted(wanted - judged):
            raise ValueError(
                f"{model} is not judged on {len(missing)} of {len(wanted)} questions (first {missing[0]}). Judge them, "
                "or give --common to score all models on the questions that they share."
            )


def _models(judgments: Sequence[Judgment]) -> list[str]:
    return list(dict.fromkeys(judgment.model for judgment in judgments))


def _questions(judgments: Sequence[Judgment]) -> dict[str, set[str]]:
    return {model: {j.question for j in own} for model, own in _by_model(judgments).items()}


def _by_model(judgments: Sequence[Judgment]) -> dict[str, list[Judgment]]:
    found: dict[str, list[Judgment]] = {}
    for judgment in judgments:
        found.setdefault(judgment.model, []).append(judgment)
    return found


# ---------------------------------------------------------------- style


def style_features(answer: Mapping[str, Any]) -> Array:
    """Tokens, headers, list items and bold passages: those stored with the answer, else counted here.

    Counted tokens are words and punctuation marks, not a tokenizer's; differences are relative, so the unit matters
    little as long as all answers are counted alike.
    """
    stored = answer.get("style")
    if stored is not None:
        values = [stored.get(name, 0) for name in FEATURES]
        return np.array([sum(v.values()) if isinstance(v, Mapping) else v for v in values], dtype=np.float64)
    text = FENCE.sub("", answer["text"])
    counts = [len(pattern.findall(text)) for pattern in MARKDOWN.values()]
    return np.array([len(TOKEN.findall(answer["text"])), *counts], dtype=np.float64)


def style_difference(model: Array, baseline: Array, style: Style) -> Array:
    """Relative differences of two answers' `style_features`: of counts (v0.1), or of length and densities (v2.0)."""
    if style == "counts":
        return (model - baseline) / (model + baseline + 1.0)
    length = (model[0] - baseline[0]) / max(model[0] + baseline[0], 1.0)
    dense, sparse = model[1:] / max(model[0], 1.0), baseline[1:] / max(baseline[0], 1.0)
    return np.array([length, *((dense - sparse) / (dense + sparse + 1.0))])


def _difference_of(judgment: Judgment, answers: Mapping[str, Mapping[str, Any]], style: Style) -> Array:
    sides = []
    for model in (judgment.model, judgment.baseline):
        answer = answers.get(model, {}).get(judgment.question)
        if answer is None:
            raise ValueError(
                f"style control needs the answers of {model}, and there is none to question {judgment.question}. "
                "Give its file with --answers."
            )
        sides.append(answer)
    if (sides[0]["style"] is None) != (sides[1]["style"] is None):
        raise ValueError(
            f"style counts are stored with only one of {judgment.model} and {judgment.baseline}: their tokens would be "
            "counted differently. Remove `metadata` from one file, or add it to the other."
        )
    return style_difference(style_features(sides[0]), style_features(sides[1]), style)


# ---------------------------------------------------------------- scores


def score(
    judgments: Sequence[Judgment],
    answers: Mapping[str, Mapping[str, Any]] | None = None,
    style: Style | None = None,
    centred: bool = False,
    lone_games: bool = False,
    resamples: int = 1000,
    seed: int = 0,
) -> ArenaHard:
    """Scores of every model, in percent.

    Args:
        answers: the models' and the baseline's, for style control.
        style: the differences that are controlled for.
        centred: subtract the features' means, as Arena-Hard's script does. The score is then the chance at the average
            style difference of these models, so that it depends on who else is among them.
        lone_games: also use a question with one verdict, as v0.1 did; otherwise both orders are needed.
        resamples: draws of the questions' weights for the intervals under style control; `seed` is theirs.

    Raises:
        ValueError: several judges, baselines or categories; a model without any verdict; or answers are missing.
    """
    judge = one_judge([judgment.judge for judgment in judgments]) or ""
    baseline = _one({j.baseline for j in judgments}, "baselines")
    category = _one({j.category for j in judgments}, "categories", "Give --category.")
    used = [j for j in judgments if (any if lone_games else all)(game is not None for game in j.games())]
    if not used:
        raise ValueError("no judgment has a verdict in both orders.")
    models = _models(used)
    if unjudged := [model for model in _models(judgments) if model not in models]:
        raise ValueError(
            f"{', '.join(unjudged[:5])}: not one question has the verdicts that a score needs. Judge again, or leave "
            "out the file."
        )
    rows = [(j, *game) for j in used for game in j.games() if game is not None]
    score_G, weight_G = np.array([row[1] for row in rows]), np.array([row[2] for row in rows])
    questions = {q: i for i, q in enumerate(dict.fromkeys(j.question for j in used))}
    place = {model: k for k, model in enumerate(models)}
    model_G = np.array([place[row[0].model] for row in rows])
    question_G = np.array([questions[row[0].question] for row in rows])
    features_GF = np.zeros((len(rows), 0))
    if style is not None:
        differences = {id(j): _difference_of(j, answers or {}, style) for j in used}
        features_GF = _standardised(np.array([differences[id(row[0])] for row in rows]), weight_G, centred)

    games = (model_G, features_GF, score_G, weight_G)
    estimate, ends_2K = _fit(*games, len(models)), None
    if style is not None:
        ends_2K = _style_ends(*games, len(models), question_G, resamples, seed)
    rated, all_by_model, used_by_model = [], _by_model(judgments), _by_model(used)
    for k, model in enumerate(models):
        own = model_G == k
        won, played = (np.bincount(question_G[own], x[own]) for x in (weight_G * score_G, weight_G))
        # Without style control the score is the weighted share of wins.
        low, high = ends(won, played, SHARE) if ends_2K is None else ends_2K[:, k].tolist()
        chance = Interval(float(estimate[k]), low, high)
        rated.append(_model_score(model, chance.scaled(100.0), len(all_by_model[model]), used_by_model[model]))
    names = FEATURES if style else ()
    return ArenaHard(
        judge,
        baseline,
        category,
        style,
        sorted(rated, key=lambda model: -model.score.value),
        {name: float(w) for name, w in zip(names, estimate[len(models) :], strict=True)},
    )


def _one(values: set[str], what: str, remedy: str = "Score each by itself.") -> str:
    if len(values) > 1:
        raise ValueError(f"judgments of {len(values)} {what} ({', '.join(sorted(values)[:4])}) do not mix. {remedy}")
    return values.pop()


def _standardised(features_GF: Array, weight_G: Array, centred: bool) -> Array:
    """Features in standard deviations; a feature that never differs stays zero."""
    mean_F = np.average(features_GF, axis=0, weights=weight_G)
    spread_F = np.sqrt(np.average((features_GF - mean_F) ** 2, axis=0, weights=weight_G))
    return (features_GF - (mean_F if centred else 0.0)) / np.where(spread_F > 0, spread_F, 1.0)


def _fit(model_G: NDArray[np.int64], features_GF: Array, score_G: Array, weight_G: Array, models: int) -> Array:
    """Chances of the models to beat the baseline, then the features' weights."""
    if not features_GF.shape[1]:
        won, played = (np.bincount(model_G, weights=x, minlength=models) for x in (weight_G * score_G, weight_G))
        return won / played
    fitted = fit_finite(np.hstack([np.eye(models)[model_G], features_GF]), score_G, weight_G)
    return np.array([*expit(fitted[:models]), *fitted[models:]])


def _style_ends(
    model_G: NDArray[np.int64],
    features_GF: Array,
    score_G: Array,
    weight_G: Array,
    models: int,
    question_G: NDArray[np.int64],
    resamples: int,
    seed: int,
) -> Array:
    """Both ends of the chances, 2 x K: of fits with exponential weights of questions and one unseen question more.

    In that question, at equal style, every model loses for the low ends and wins for the high ones.
    """
    rng, questions = np.random.default_rng(seed), int(question_G.max()) + 1
    asked_K = np.array([len(np.unique(question_G[model_G == k])) for k in range(models)])
    unseen_K = np.bincount(model_G, weight_G, models) / asked_K
    unseen_features = np.zeros((models, features_GF.shape[1]))
    design = np.vstack(
        [np.hstack([np.eye(models)[model_G], features_GF]), np.hstack([np.eye(models), unseen_features])]
    )
    scores_2G = [np.concatenate([score_G, np.full(models, won)]) for won in (0.0, 1.0)]
    found_B2K, start_2F = np.empty((resamples, 2, models)), [np.zeros(design.shape[1])] * 2
    for b in range(resamples):
        weights = np.concatenate([weight_G * rng.exponential(size=questions)[question_G], rng.exponential() * unseen_K])
        fits = [fit_logistic(design, score, weights, start=s) for score, s in zip(scores_2G, start_2F, strict=True)]
        start_2F, found_B2K[b] = fits, [expit(fit[:models]) for fit in fits]
    return np.stack([np.quantile(found_B2K[:, 0], TAIL, axis=0), np.quantile(found_B2K[:, 1], 1 - TAIL, axis=0)])


def _model_score(model: str, score: Interval, count: int, used: Sequence[Judgment]) -> ModelScore:
    both = [[g[0] for g in j.games() if g is not None] for j in used]
    shown_first = Counter(VERDICTS[v][0] for j in used for v in j.verdicts if v is not None)
    decided = shown_first[0.0] + shown_first[1.0]
    return ModelScore(
        model,
        score,
        len(used),
        count - len(used),
        float(np.mean([abs(max(games) - min(games)) < 1.0 for games in both])),
        shown_first[1.0] / decided if decided else None,
    )
