"""The round benchmark: our side runs for real on a tiny model, the peer's by a fake."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from sparring.bench import round as rounds
from sparring.bench.round import compare_round, prefer_distinct_words, run_round

FAKE = """
import json, sys
job = json.loads(open(sys.argv[1]).read())
seconds = {2: 4.0, 4: 3.0}[job["micro_batch"]] * len(job["prompts"])
json.dump({"seconds": seconds, "sampled_tokens": 7, "responses": 2 * len(job["prompts"])}, open(sys.argv[2], "w"))
"""


@pytest.fixture
def job(tiny_model: Path) -> dict[str, Any]:
    return {"model": str(tiny_model), "prompts": [f"Say {word}." for word in ("red", "blue", "green", "grey")],
            "max_new_tokens": 6, "temperature": 1.0, "batch_size": 4, "micro_batch_tokens": 64, "precision": "float32",
            "learning_rate": 1e-6, "beta": 0.1, "seed": 0}  # fmt: skip


def test_our_round_is_a_real_one(job: dict[str, Any]):
    result = run_round(job)
    assert {"sample", "judge", "pair", "anchor", "fit"} <= set(result["stages"])
    assert result["responses"] == 8
    assert 8 <= result["sampled_tokens"] <= 48


def test_the_peer_gets_its_best_micro_batch(job: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "fake_round.py").write_text(FAKE)
    monkeypatch.setattr(rounds, "PEERS", tmp_path)
    real = rounds.work
    ours = {"seconds": 2.0, "stages": {}, "sampled_tokens": 9, "responses": 8}
    monkeypatch.setattr(rounds, "work", lambda j, c: ours if j.get("kind") == "round" else real(j, c))
    case = compare_round(job, "fake", sys.executable, 2, lambda _: None)
    assert case["theirs"]["micro_batch"] == 4
    assert case["speed_ratio"] == pytest.approx(12.0 / 2.0)


def test_the_reward_of_both_sides():
    assert prefer_distinct_words("", "a b c", "a a A") == 1.0
    assert prefer_distinct_words("", "a", "b") == 0.5
