"""Data sets of a recipe: where rows are, how their columns are called, and mixtures of several sets.

Leaves out: reading them (`data/`), and which columns a method needs (`algorithms/`).

    MixtureConfig(sets={"a": {"path": "a.jsonl"}, "b": {"path": "b.jsonl"}}, weights={"a": 0.8, "b": 0.2})
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import Discriminator, Field, Tag, model_validator

from sparring.recipe.frozen import Frozen

SET_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
"""set names become parts of file names"""


class ColumnsConfig(Frozen):
    """Names of the data's columns."""

    prompt: str = "prompt"
    """text, or a list of messages"""
    chosen: str = "chosen"
    """the preferred response, text or conversation"""
    rejected: str = "rejected"
    """the other response"""
    gold: str = "gold"
    """a gold answer (SPIN)"""
    ranked: str = "answers"
    """several answers, best first, or as {answer, rank} or {answer, score}: best and worst stand in for chosen and
    rejected"""
    completion: str = "completion"
    """an answer with a label (KTO) or a score; inside a list of answers it may stand for `answer`"""
    label: str = "label"
    """true: that answer is desirable; false: it is not"""
    score: str = "score"
    """a number by which an answer is rated, of a row or inside a list of answers; higher is better"""
    preference: str = "preference"
    """P(chosen beats rejected), for soft_labels"""
    margin: str = "margin"
    """by how much chosen is rated higher than rejected, for soft_labels without a column of preferences"""
    chosen_score: str = "score_chosen"
    """with rejected_score: their difference is the margin, where there is no column of margins"""
    rejected_score: str = "score_rejected"
    """see chosen_score"""
    check: str = "check"
    """rules that code can verify; optional"""
    group: str = "group"
    """what the held-out prompt is one of ("unseen topics"): passed rules are shown by group; optional"""


class DatasetConfig(Frozen):
    """A data set: a file, a folder, or a set of the hub."""

    path: str
    """a .jsonl, .json, .parquet, .csv or .arrow file, a folder or pattern of such files, a hub data set, or
    'sparring:prompts' / 'sparring:gold' / 'sparring:instructions' / 'sparring:episodes' /
    'sparring:personas'"""
    name: str | None = None
    """configuration of a hub data set"""
    revision: str | None = None
    """of a hub data set; give a commit to be reproducible"""
    split: str | None = None
    """split of a hub data set or a folder (default train), or value of the column 'split' of a file"""
    stream: bool = False
    """of a hub data set: rows are used as they arrive and not kept, and with `limit` no more are fetched"""
    limit: int | None = Field(default=None, ge=1)
    """use only the first rows"""
    threshold: float | None = None
    """KTO, of rows with a score and no label: answers with at least this score are desirable"""
    margin_scale: float = Field(default=1.0, gt=0)
    """soft_labels: P(chosen beats rejected) = sigmoid(margin_scale * margin)"""
    columns: ColumnsConfig = Field(default_factory=ColumnsConfig)
    """column names"""


class MixtureConfig(Frozen):
    """Several training sets, each with its share of the training examples."""

    sets: dict[str, DatasetConfig]
    """data sets by names of your own, under which their rows are counted"""
    weights: dict[str, Annotated[float, Field(gt=0)]] | None = None
    """each set's share of the training examples, 1 in all; null: every usable row of every set"""
    examples: int | None = Field(default=None, ge=1)
    """training examples of all sets together; null: as many as the shares allow without using a row twice"""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(self.sets) < 2:
            raise ValueError("sets: a mixture needs at least two. Write the fields of a single set under train itself.")
        if bad := [name for name in self.sets if not SET_NAME.fullmatch(name)]:
            raise ValueError(f"sets: {bad[0]!r} is no name: use letters, digits, '-' and '_'.")
        if self.weights is None:
            if self.examples is not None:
                raise ValueError(f"examples = {self.examples} without weights: it would be cut nowhere. Give weights.")
            return self
        names = ", ".join(self.sets)
        if unknown := sorted(self.weights.keys() - self.sets.keys()):
            raise ValueError(f"weights: {unknown[0]!r} is no set; the sets are {names}.")
        if missing := [name for name in self.sets if name not in self.weights]:
            raise ValueError(f"weights: none for {missing[0]!r}. Give every set a share above 0, or remove the set.")
        if abs((total := math.fsum(self.weights.values())) - 1.0) > 1e-6:
            fair = {name: float(f"{weight / total:.9g}") for name, weight in self.weights.items()}
            raise ValueError(f"weights: they sum to {total:.6g}, but shares must sum to 1. In this ratio: {fair}.")
        return self

    def quotas(self, usable: Mapping[str, int]) -> dict[str, int]:
        """How many examples each set gives, of so many usable ones; with weights their sum is as the shares allow.

        Raises:
            ValueError: `examples` asks for more than a set has, or a set would give none.
        """
        if self.weights is None:
            return dict(usable)
        # A little more than the product, lest rounding of a share such as 0.1 costs an example.
        total = self.examples or int(min(usable[name] / weight for name, weight in self.weights.items()) + 1e-6)
        exact = {name: total * self.weights[name] for name in self.sets}
        counts = {name: math.floor(share + 1e-6) for name, share in exact.items()}
        # Largest remainders get the examples that rounding down left over, where the set has another one.
        by_remainder = sorted(exact, key=lambda name: counts[name] - exact[name])
        able = [name for name in by_remainder if counts[name] < usable[name]]
        for name in able[: total - sum(counts.values())]:
            counts[name] += 1
        most = int(min(usable[name] / weight for name, weight in self.weights.items()) + 1e-6)
        for name, count in counts.items():
            if count > usable[name]:
                raise ValueError(
                    f"data.train.examples = {self.examples}: the share {self.weights[name]:g} of {name!r} is {count} "
                    f"examples, and it has {usable[name]} usable ones. Give at most {most}, or other weights."
                )
            if count == 0:
                raise ValueError(
                    f"data.train.weights: the share {self.weights[name]:g} of {name!r} is no example of {total}. "
                    "Give more examples, or another share."
                )
        if (given := sum(counts.values())) < total:
            raise ValueError(
                f"data.train.examples = {self.examples}: by these weights the sets have {given} usable ones. Give at "
                f"most {most}, or other weights."
            )
        return counts


def several(value: Any) -> str:
    """Which kind of section stands under `train`: the tag of one data set or of a mixture."""
    if isinstance(value, Mapping):
        return "#several" if value.keys() & MixtureConfig.model_fields.keys() else "#one"
    return "#several" if isinstance(value, MixtureConfig) else "#one"


TrainingData = Annotated[
    Annotated[DatasetConfig, Tag("#one")] | Annotated[MixtureConfig, Tag("#several")], Discriminator(several)
]
"""one data set, or several; the tags begin with a sign by which `explain` knows them"""
