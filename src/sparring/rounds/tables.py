"""The columns of every Parquet file of a run: a contract that users' scripts may read.

And the texts of a file of samples. Leaves out: how rows are made (`sample.py`, `judge.py`, `anchor.py`).
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from sparring.runtime.files import read_table

TOKENS = pa.list_(pa.int32())

EXAMPLES = pa.schema(
    {
        "example": pa.string(),
        "messages": pa.list_(pa.struct({"role": pa.string(), "content": pa.string()})),
        "prompt": pa.string(),
        "prompt_ids": TOKENS,
        "responses": pa.list_(pa.struct({"role": pa.string(), "text": pa.string(), "token_ids": TOKENS})),
        "check": pa.string(),
    }
)
"""data/train.parquet and data/held_out.parquet: one row per usable example; `check` is JSON"""

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
            pa.struct(
                {
                    "role": pa.string(),
                    "text": pa.string(),
                    "token_ids": TOKENS,
                    "win_rate": pa.float64(),
                }
            )
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


def texts_by_example(path: Path) -> dict[str, list[str]]:
    """The texts of a file of samples by example, each example's in the order of their indices."""
    texts: dict[str, list[str]] = {}
    for row in sorted(read_table(path), key=lambda row: row["index"]):
        texts.setdefault(row["example"], []).append(row["text"])
    return texts
