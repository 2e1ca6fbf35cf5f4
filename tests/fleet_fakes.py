"""What the tests of clusters share: a recipe with several shards, and what two runs must have in common."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from oracle_fakes import more_vowels
from sparring.models.identity import hash_weights

HOLD = "SPARRING_TEST_HOLD"
"""environment variable with the name of a file; `patient` waits while it is there"""


def several_shards(tiny_recipe: dict[str, Any]) -> dict[str, Any]:
    """A recipe whose stages have several shards, and whose oracle is a model."""
    return {
        **tiny_recipe,
        "oracle": {"name": "mutual_information"},
        "sampling": {**tiny_recipe["sampling"], "batch_size": 4},
        "fit": {**tiny_recipe["fit"], "batch_size": 2, "micro_batch_tokens": 64, "checkpoint_minutes": 0},
    }


def contents(out: Path) -> dict[str, Any]:
    """All that a run decides: the bytes of its tables, and the hashes of its policies."""
    tables = {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*.parquet"))}
    return tables | {path: hash_weights(out / path) for path in ("rounds/000/policy", "rounds/001/policy")}


def check_same(one: Path, other: Path) -> None:
    """Two runs decided the same."""
    expected, found = contents(one), contents(other)
    assert expected.keys() == found.keys()
    assert [name for name in expected if expected[name] != found[name]] == []


def wait_for(happened: Callable[[], Any], seconds: float = 600) -> None:
    """Look until it happened."""
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def patient(prompt: str, a: str, b: str) -> float:
    """A judge that can be made to wait."""
    while Path(os.environ.get(HOLD, "nowhere")).exists():
        time.sleep(0.1)
    return more_vowels(prompt, a, b)
