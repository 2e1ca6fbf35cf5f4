"""Our benchmark worker on a tiny model: it fits, counts tokens, and sees its memory."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from conftest import tiny_llama
from sparring.bench.compare import Setup
from sparring.bench.measure import matrix_peak
from sparring.bench.worker import run_body, run_fit, run_generate, run_sample
from sparring.bench.worker_memory import run_memory
from sparring.bench.workload import Workload


@pytest.fixture
def setup(tmp_path: Path) -> Setup:
    model = tiny_llama()
    model.save_pretrained(tmp_path)
    return Setup(str(tmp_path), Workload.draw("chat", 4, 3, 260, scale=0.05), batch_size=2, precision="float32")


def test_a_fit_starts_at_log_two_and_counts_packed_tokens(setup: Setup):
    result = run_fit(setup.job())
    assert result["losses"][0] == pytest.approx(math.log(2), abs=1e-4)
    assert len(result["losses"]) == len(result["step_seconds"]) == 2
    assert result["tokens"] == sum(r.tokens("packed") for r in setup.workload.rollouts)
    assert result["peak_bytes"] > 0


def test_the_body_alone_sees_every_token(setup: Setup):
    result = run_body(setup.job("body"))
    assert result["tokens"] == sum(len(r.prompt_ids) + len(y) for r in setup.workload.rollouts for y in r.responses)
    assert len(result["step_seconds"]) == 1


def test_the_matrix_peak_is_positive():
    assert matrix_peak("float32", size=64, repeats=1) > 0


def test_both_samplers_draw_as_many_tokens(setup: Setup):
    job = {"model": setup.model, "precision": "float32", "samples": 2, "temperature": 1.0, "top_p": 0.9, "passes": 1,
           "max_new_tokens": 5, "batch_size": 4, "prompts": [[5, 6, 7], [8, 9], [10]]}  # fmt: skip
    assert run_sample(job)["tokens"] == run_generate(job)["tokens"] == 30


@pytest.mark.parametrize("plain", [False, True])
def test_a_round_in_memory_runs_both_ways(setup: Setup, plain: bool):
    size = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    job = setup.job("memory") | {"model": size | {"vocab_size": 300}, "anchors": 2, "plain": plain}
    job["rollouts"] = [(prompt, responses[:2]) for prompt, responses in job["rollouts"]]
    assert run_memory(job)["peak_bytes"] > 0
