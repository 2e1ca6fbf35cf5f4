"""Where bfloat16 is asked for and a CPU has none: everything that multiplies does it in float32."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from command import sparring
from sparring.algorithms.algorithm import REFERENCE, Draw
from sparring.endpoints.local import LocalChat
from sparring.models.weights import load_model
from sparring.oracles.mutual_information import MutualInformation
from sparring.oracles.oracle import Comparison
from sparring.oracles.pair_model import PairModel
from sparring.oracles.reward_model import RewardModel
from sparring.planning.machine import parse_machine
from sparring.planning.plan import make_plan
from sparring.recipe.reading import parse_recipe
from sparring.rounds.engines import PolicyEngines
from sparring.rounds.policies import Policies
from sparring.rounds.run import check
from sparring.rounds.store import Store
from sparring.runtime.precision import INSTEAD, computed, products_in
from sparring.runtime.progress import Progress
from sparring.training.packing import Rollout
from sparring.training.rollout_logps import rollout_logps
from sparring.training.scorer import PolicyScorer

HAS = "sparring.runtime.precision.cpu_has_bfloat16"


@pytest.mark.parametrize(
    ("precision", "device", "has", "dtype"),
    [
        ("bfloat16", "cpu", True, torch.bfloat16),
        ("bfloat16", "cpu", False, torch.float32),
        ("bfloat16", "cuda", False, torch.bfloat16),
        ("float32", "cpu", True, torch.float32),
        ("float32", "cuda", True, torch.float32),
    ],
)
def test_what_is_computed(
    precision: str, device: str, has: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(HAS, lambda: has)
    assert computed(precision, device) == dtype
    if device == "cpu":
        with products_in(precision, device):
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype


@pytest.mark.parametrize(("has", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_all_that_run_a_model_ask(
    has: bool, dtype: torch.dtype, tiny_model: Path, tiny_recipe: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(HAS, lambda: has)
    recipe = parse_recipe({**tiny_recipe, "sampling": {**tiny_recipe["sampling"], "precision": "bfloat16"}})
    with Store(Path(tiny_recipe["model"]["path"]).parent / f"run-{has}").locked() as store:
        policies = Policies(store, recipe.model, "bfloat16")
        engine = PolicyEngines(policies, Draw("own", 1, {REFERENCE: 1.0}), recipe.sampling).get((REFERENCE,))
    assert engine.models[0][0].dtype == dtype
    assert LocalChat(str(tiny_model), None, 4, "bfloat16").model.dtype == dtype
    judge = MutualInformation(model=str(tiny_model))
    judge.judge([Comparison("Say ant", "ant", "a bee")])
    assert judge._leads.scorer.causal.dtype == dtype
    assert PairModel(str(tiny_model))._scorer.model.dtype == dtype


@pytest.mark.parametrize(("has", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_a_reward_model_that_is_stored_in_bfloat16(
    has: bool, dtype: torch.dtype, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(HAS, lambda: has)
    folder = shutil.copytree(tiny_model, tmp_path / "stored")
    AutoModelForSequenceClassification.from_pretrained(tiny_model, num_labels=1).bfloat16().save_pretrained(folder)
    assert RewardModel(str(folder)).model.dtype == dtype


def test_log_probabilities_are_those_in_float32(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HAS, lambda: False)
    scorer, rollouts = PolicyScorer(load_model(tiny_model)), [Rollout([5] * 10, [[6] * 11, [7] * 11])]
    low, high = (rollout_logps(scorer, rollouts, 64, precision) for precision in ("bfloat16", "float32"))
    assert low == high


def test_a_plan_counts_the_bytes_of_float32(tiny_recipe: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    weights = {}
    for has in (True, False):
        monkeypatch.setattr("sparring.planning.plan.cpu_has_bfloat16", lambda has=has: has)
        recipe = parse_recipe({**tiny_recipe, "sampling": {**tiny_recipe["sampling"], "precision": "bfloat16"}})
        plan = make_plan(recipe, parse_machine("cpu:64"))
        weights[has] = plan.stages[0].memory["weights"]
    assert weights[False] == 2 * weights[True]


def test_a_benchmark_gives_the_peer_the_same(monkeypatch: pytest.MonkeyPatch, tiny_model: Path, tmp_path: Path) -> None:
    monkeypatch.setattr(HAS, lambda: False)
    small = (
        "--prompts",
        "1",
        "--samples",
        "1",
        "--max-new-tokens",
        "2",
        "--repeats",
        "1",
        "--json",
        tmp_path / "figures.json",
    )
    code, _, err = sparring("bench", "sample", "--model", str(tiny_model), *small)
    assert code == 0
    assert "--precision bfloat16: this CPU has no bfloat16 products" in " ".join(err.split())
    assert json.loads((tmp_path / "figures.json").read_text())["cases"][0]["precision"] == "float32"


@pytest.mark.parametrize("has", [True, False])
def test_a_run_says_so(has: bool, tiny_recipe: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HAS, lambda: has)
    said: list[str] = []
    monkeypatch.setattr(Progress, "say", lambda self, text: said.append(text))
    check(parse_recipe({**tiny_recipe, "fit": {**tiny_recipe["fit"], "precision": "bfloat16"}}), Progress(quiet=True))
    assert [f"precision  {INSTEAD}"] * (not has) == [line for line in said if line.startswith("precision")]
