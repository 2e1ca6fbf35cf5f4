"""The tables of a run: the columns of every Parquet file, which users' scripts may read, and the types of their rows.

Leaves out: how rows are made (`prepare.py`, `sample.py`, `judge.py`, `pair.py`, `anchor.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NotRequired, TypedDict

import numpy as np
import pyarrow as pa

from sparring.models.tools import Message
from sparring.runtime.files import read_columns, read_table

TOKENS = pa.list_(pa.int32())

EXAMPLES = pa.schema(
    {
        "example": pa.string(),
        "messages": pa.list_(pa.struct({"role": pa.string(), "content": pa.string()})),
        "prompt": pa.string(),
        "prompt_ids": TOKENS,
        "responses": pa.list_(pa.struct({"role": pa.string(), "text": pa.string(), "token_ids": TOKENS})),
        "check": pa.string(),
        "group": pa.string(),
    }
)
"""data/train.parquet and data/held_out.parquet: one row per usable example; `check` is JSON"""


def training_schema(mixed: bool, preferences: bool) -> pa.Schema:
    """Columns of data/train.parquet: also `set` where several were mixed, and `preference`, the data's own P(chosen
    beats rejected), where the method reads it."""
    more = {"set": pa.string()} if mixed else {}
    return pa.schema([*EXAMPLES, *pa.schema(more | ({"preference": pa.float64()} if preferences else {}))])


SAMPLES = pa.schema(
    {
        "example": pa.string(),
        "role": pa.string(),
        "index": pa.int32(),
        "policy": pa.string(),
        "weights": pa.string(),
        "seed": pa.int64(),
        "text": pa.string(),
        "token_ids": TOKENS,
        "finish_reason": pa.string(),
    }
)
"""samples.parquet: one row per response; `weights` is the policy's hash, finish_reason is
`stop` (ended itself, end token included) or `length`"""

VERDICTS = pa.schema({"example": pa.string(), "a": pa.int32(), "b": pa.int32(), "preference": pa.float64()})
"""verdicts.parquet: P(a beats b), indices into the example's responses; null where the oracle failed"""

PAIRS = pa.schema(
    {
        "example": pa.string(),
        "prompt_ids": TOKENS,
        "responses": pa.list_(
            pa.struct({"role": pa.string(), "text": pa.string(), "token_ids": TOKENS, "win_rate": pa.float64()})
        ),
        "pairs": pa.list_(
            pa.struct(
                {
                    "winner": pa.int32(),
                    "loser": pa.int32(),
                    "preference": pa.float64(),
                    "weight": pa.float64(),
                    "term": pa.int32(),
                }
            )
        ),
    }
)
"""pairs.parquet: one row per training example; winner and loser index its responses"""

ANCHORS = pa.schema({"example": pa.string(), "weights": pa.string(), "logps": pa.list_(pa.float32())})
"""anchors.parquet: log-probability of each response of pairs.parquet under the policy whose weights have this hash"""


TURNS = pa.schema(
    {
        "task": pa.string(),
        "turn": pa.int32(),
        "reply": pa.int32(),
        "role": pa.string(),
        "policy": pa.string(),
        "text": pa.string(),
        "reward": pa.float64(),
        "kind": pa.string(),
        "example": pa.string(),
        "index": pa.int32(),
    }
)
"""turns.parquet: every reply of an environment's episodes, in order; `turn` counts its questions; `example` and `index`
say where samples.parquet has it, null where it is not trained on"""


NOTES = pa.schema({"task": pa.string(), "notes": pa.list_(pa.string())})
"""notes.parquet: what the environment noted of each task, this round's last"""


class Prompt(TypedDict):
    """The columns that sampling reads."""

    example: str
    prompt_ids: list[int]


class DataResponse(TypedDict):
    """A response that the data hold: `chosen`, `rejected` or `gold`."""

    role: str
    text: str
    token_ids: list[int]


class ExampleRow(Prompt):
    """A row of EXAMPLES."""

    messages: list[Message]
    prompt: str
    responses: list[DataResponse]
    check: str | None
    group: NotRequired[str | None]
    """absent in runs of older versions"""
    set: NotRequired[str | None]
    preference: NotRequired[float | None]
    """both only where `training_schema` has them"""


class Candidate(DataResponse):
    """A response as judging and pairing see it, drawn or from the data."""

    finish_reason: str


class SampleRow(Candidate):
    """A row of SAMPLES; a served opponent has neither weights nor seed."""

    example: str
    index: int
    policy: str
    weights: str | None
    seed: int | None


class VerdictRow(TypedDict):
    """A row of VERDICTS."""

    example: str
    a: int
    b: int
    preference: float | None


class PairResponse(DataResponse):
    """A response that some pair, or the objective, needs."""

    win_rate: float


class PairEntry(TypedDict):
    """One pair of an example, as `objectives.pairs.Pair`."""

    winner: int
    loser: int
    preference: float
    weight: float
    term: int


class PairRow(Prompt):
    """A row of PAIRS."""

    responses: list[PairResponse]
    pairs: list[PairEntry]


class AnchorRow(TypedDict):
    """A row of ANCHORS."""

    example: str
    weights: str
    logps: list[float]


class TurnRow(TypedDict):
    """A row of TURNS."""

    task: str
    turn: int
    reply: int
    role: str
    policy: str
    text: str
    reward: float | None
    kind: str
    example: str | None
    index: int | None


class NotesRow(TypedDict):
    """A row of NOTES."""

    task: str
    notes: list[str]


VerdictsByMatch = dict[tuple[int, int], float]
"""P(a beats b) of one example by (a, b), without the matches where the oracle failed"""


def verdicts_by_example(rows: Iterable[VerdictRow]) -> dict[str, VerdictsByMatch]:
    """The preferences of a file of verdicts by example and match."""
    verdicts: dict[str, VerdictsByMatch] = {}
    for row in rows:
        if row["preference"] is not None:
            verdicts.setdefault(row["example"], {})[row["a"], row["b"]] = row["preference"]
    return verdicts


def iterate_verdicts(path: Path) -> Iterator[VerdictsByMatch]:
    """The preferences of a file of verdicts, one example at a time; the file is kept as columns, not as rows."""
    table = read_columns(path, ["example", "a", "b", "preference"], repeated=["example"])
    table = table.filter(table["preference"].is_valid()).unify_dictionaries().combine_chunks()
    if not len(table):
        return
    owner = table["example"].chunk(0).indices.to_numpy(zero_copy_only=False)
    order = np.argsort(owner, kind="stable")
    a, b, preference = (table[name].to_numpy()[order] for name in ("a", "b", "preference"))
    for part in np.split(np.arange(len(order)), np.flatnonzero(np.diff(owner[order])) + 1):
        matches = zip(a[part].tolist(), b[part].tolist(), strict=True)
        yield dict(zip(matches, preference[part].tolist(), strict=True))


def texts_by_example(path: Path) -> dict[str, list[str]]:
    """The texts of a file of samples by example, each example's in the order of their indices."""
    texts: dict[str, list[str]] = {}
    rows: list[SampleRow] = read_table(path)
    for row in sorted(rows, key=lambda row: row["index"]):
        texts.setdefault(row["example"], []).append(row["text"])
    return texts
