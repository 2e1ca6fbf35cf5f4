"""What rows say of their answers beside their text: labels, ranks, scores, margins, probabilities.

Leaves out: prompts and texts (`examples.py`).

    Labels.of(row, config, unpaired=False, ranked=True, preferences=True).best_and_worst(row["answers"])
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, groupby
from typing import Any, NamedTuple

from sparring.data.form import BadCell, Form, asked, count_drop, is_null
from sparring.data.rows import Placed, Row, stream_rows
from sparring.recipe.datasets import ColumnsConfig, DatasetConfig


class BestAndWorst(NamedTuple):
    """The two of several answers that make a pair."""

    answers: dict[str, Any]
    """chosen and rejected"""
    margin: float | None
    """difference of their scores; None where the answers have none"""


def rows_of_prompts(config: DatasetConfig, roles: Sequence[str], dropped: Counter[str]) -> Iterator[Placed]:
    """The rows of a data set; where pairs are wanted, rated answers to one prompt become one row with a list of them.

    They must stand together: no prompt is held in memory to wait for more. Answers under other tools, or with another
    check or group, are to another prompt. Rows without answer or score are counted in `dropped`.

    Raises:
        ValueError: a rated row has other columns or kinds of values than those before it.
    """
    rows, columns = stream_rows(config), config.columns
    first = next(rows, None)
    if first is None:
        return
    rows = chain([first], rows)
    rated_row = (columns.prompt, columns.completion, columns.score)
    one_answer_a_row = first.row.keys() >= set(rated_row)
    if "chosen" not in roles or not one_answer_a_row or {columns.chosen, columns.ranked} & first.row.keys():
        yield from rows
        return
    rated = _rated(map(Form(rated_row).check, rows), columns, dropped)
    for _, same in groupby(rated, key=lambda placed: asked(placed.row, columns)):
        group = list(same)
        answers = [{"answer": one.row[columns.completion], columns.score: one.row[columns.score]} for one in group]
        yield group[0]._replace(row={**group[0].row, columns.ranked: answers})


def _rated(rows: Iterable[Placed], columns: ColumnsConfig, dropped: Counter[str]) -> Iterator[Placed]:
    """The rows with an answer and its score."""
    for placed in rows:
        try:
            number(placed.row[columns.score], "score", columns.score)
            if is_null(answer := placed.row[columns.completion]):
                raise BadCell("an answer is null", columns.completion, answer)
        except ValueError as error:
            count_drop(dropped, error, placed)
        else:
            yield placed


@dataclass(frozen=True, slots=True)
class Labels:
    """Where the labels of a data set stand, as its first row shows."""

    names: ColumnsConfig
    columns: tuple[str, ...]
    """that every row must have"""
    ranked: bool
    """a column of several answers stands in for chosen and rejected"""
    threshold: float | None
    """of scores in place of labels"""
    scale: float
    """of margins"""
    preferences: bool
    """whether the data's own probabilities are wanted"""

    @classmethod
    def of(cls, row: Row, config: DatasetConfig, unpaired: bool, ranked: bool, preferences: bool) -> Labels:
        """The labels of a data set that begins with `row`.

        Raises:
            ValueError: it has none of the kind that is wanted.
        """
        names, columns = config.columns, list[str]()
        threshold = None
        if unpaired and names.label not in row and names.score in row:
            if config.threshold is None:
                raise ValueError(
                    f"data: {config.path!r} has scores ({names.score!r}) and no labels ({names.label!r}). Give "
                    "threshold: the score from which an answer is desirable."
                )
            threshold, columns = config.threshold, [names.score]
        elif unpaired:
            columns = [names.label]
            if config.threshold is not None and names.label in row:
                raise ValueError(
                    f"data: threshold = {config.threshold:g}, but {config.path!r} has labels ({names.label!r}), which "
                    "need none. Remove threshold, or name a column that it lacks under columns: {label: ...}."
                )
        if preferences:
            columns += _preference_columns(row, config, ranked)
            if config.margin_scale != 1 and names.preference in row:
                raise ValueError(
                    f"data: margin_scale = {config.margin_scale:g}, but {config.path!r} has probabilities "
                    f"({names.preference!r}), which need none. Remove margin_scale, or name a column that it lacks "
                    "under columns: {preference: ...}."
                )
        return cls(names, tuple(columns), ranked, threshold, config.margin_scale, preferences)

    def desirable(self, row: Row) -> bool:
        """Whether the row's answer is desirable.

        Raises:
            ValueError: its label or score cannot be read.
        """
        if self.threshold is None:
            return parse_label(row[self.names.label], self.names.label)
        return number(row[self.names.score], "score", self.names.score) >= self.threshold

    def best_and_worst(self, value: Any) -> BestAndWorst:
        """The best and the worst of a list of texts, best first, or of {answer, rank} or {answer, score}.

        Raises:
            ValueError: why the list cannot be used.
        """
        answers, score = _list(value), self.names.score
        if len(answers) == 1 and isinstance(answers[0], Mapping):
            raise ValueError(
                "only one rated answer to its prompt (its rows must stand together, with one check, group and tools)"
            )
        if len(answers) < 2:
            raise ValueError("fewer than two ranked answers")
        if all(isinstance(answer, str) for answer in answers):
            return BestAndWorst({"chosen": answers[0], "rejected": answers[-1]}, None)
        if any(not isinstance(answer, Mapping) or self._text(answer) is None for answer in answers):
            raise ValueError("a ranked answer needs 'answer', and 'rank' or a score")
        if all(answer.get(score) is not None for answer in answers):
            values = [number(answer[score], "score", score) for answer in answers]
            margin = max(values) - min(values)
        elif all(answer.get("rank") is not None for answer in answers):
            values, margin = [-number(answer["rank"], "rank", "rank") for answer in answers], None
        else:
            raise ValueError("a ranked answer needs 'answer', and 'rank' or a score")
        best, worst = values.index(max(values)), values.index(min(values))
        if best == worst or values[best] == values[worst]:
            raise ValueError("all answers have one rank" if margin is None else "all answers have one score")
        return BestAndWorst({"chosen": self._text(answers[best]), "rejected": self._text(answers[worst])}, margin)

    def preference(self, row: Row, pair: BestAndWorst | None) -> float:
        """P(chosen beats rejected).

        Raises:
            ValueError: it cannot be read.
        """
        names = self.names
        if names.preference in self.columns:
            probability = number(row[names.preference], "preference", names.preference)
            if not 0.0 <= probability <= 1.0:
                about = "the preference is no probability from 0 to 1: divide percentages by 100"
                raise BadCell(about, names.preference, row[names.preference])
            return probability
        if names.margin in self.columns:
            margin = number(row[names.margin], "margin", names.margin)
        elif names.chosen_score in self.columns:
            chosen, rejected = (number(row[name], "score", name) for name in (names.chosen_score, names.rejected_score))
            margin = chosen - rejected
        elif pair is not None and pair.margin is not None:
            margin = pair.margin
        else:
            raise ValueError("the answers have ranks and no scores, which soft_labels needs")
        return 1.0 / (1.0 + math.exp(-min(max(self.scale * margin, -700.0), 700.0)))

    def _text(self, answer: Mapping[str, Any]) -> Any:
        return answer.get("answer", answer.get(self.names.completion))


def _preference_columns(row: Row, config: DatasetConfig, ranked: bool) -> list[str]:
    """The columns that say how sure a pair is."""
    names = config.columns
    for columns in ([names.preference], [names.margin], [names.chosen_score, names.rejected_score]):
        if set(columns) <= row.keys():
            return columns
    if ranked:  # by the answers' scores, which each row shows
        return []
    raise ValueError(
        f"data: {config.path!r} does not say how sure its pairs are, which algorithm.soft_labels needs: it has none of "
        f"the columns {names.preference!r}, {names.margin!r}, {names.chosen_score!r} with {names.rejected_score!r}. "
        "Name yours under columns: {preference: ...} or {margin: ...}, or set soft_labels: false."
    )


def parse_label(value: Any, column: str) -> bool:
    """A label as a truth value: true or false, 1 or 0, or these as text (of a CSV file).

    Raises:
        ValueError: it is something else.
    """
    known = {"true": True, "false": False, "1": True, "0": False}
    plain = known.get(value.strip().lower()) if isinstance(value, str) else value
    if plain is None or plain not in (0, 1):
        raise BadCell("the label is neither true nor false", column, value)
    return bool(plain)


def number(value: Any, what: str, column: str) -> float:
    """A number of a cell, which is text in a CSV file.

    Raises:
        ValueError: it is none, or not finite.
    """
    try:
        plain = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        plain = math.nan
    if not math.isfinite(plain):
        raise BadCell(f"the {what} of an answer is no number", column, value)
    return plain


def _list(value: Any) -> list[Any]:
    """Ranked answers; a CSV cell holds them as JSON text."""
    if value is None:
        return []
    try:
        ranked = json.loads(value) if isinstance(value, str) else value
    except json.JSONDecodeError as error:
        raise ValueError("the ranked answers are text, but not a JSON list") from error
    if not isinstance(ranked, list | tuple):
        raise ValueError("the ranked answers are no list")
    return list(ranked)
