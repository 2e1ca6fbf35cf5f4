"""The run's own part of the summary: nothing that was left out is missing from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sparring.rounds.run_record import _dropped
from sparring.rounds.store import Store


def test_a_teacher_and_a_collection_count_what_they_left_out(tmp_path: Path) -> None:
    facts: dict[str, Any] = {
        "data": {"dropped": {"train": {"empty": 1}, "held_out": {}}},
        "teacher": {"dropped": {"no answer": 2}},
        "collect/judge": {"failed": 3},
        "collect/pair": {"dropped_examples": {"tie": 4}, "dropped_pairs": {"tie": 1}},
    }
    store = Store(tmp_path)
    store.manifest = {key: {"facts": value} for key, value in facts.items()}
    assert _dropped(store) == {
        "train": {"empty": 1},
        "held_out": {},
        "teacher": {"no answer": 2},
        "collection": {"tie": 5, "comparison without a verdict": 3},
    }
    store.manifest = {"data": {"facts": facts["data"]}}
    assert _dropped(store) == facts["data"]["dropped"]
