"""A base in 4 bits: what is refused, how it is asked for, and that every stage runs on it. No GPU is needed."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from conftest import tiny_llama
from sparring.models.weights import load_model
from sparring.recipe.reading import parse_recipe
from sparring.rounds import export, preflight
from sparring.rounds import policies as policies_module
from sparring.rounds import run as run_module
from sparring.runtime.progress import Progress
from sparring.training import quantised


def test_without_a_gpu_it_is_refused_before_any_work(tiny_recipe: dict[str, Any], tmp_path: Path) -> None:
    tiny_recipe["model"]["lora"] = {"quantize": "nf4"}
    with pytest.raises(ValueError, match=r"model\.lora\.quantize = 'nf4' needs an NVIDIA GPU"):
        run_module.run(parse_recipe(tiny_recipe), tmp_path / "run", Progress(quiet=True))
    assert not (tmp_path / "run/data").exists()


def test_without_bitsandbytes_the_remedy_is_named(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'sparring\[qlora\]'"):
        quantised.check_quantisation(tiny_model)


def test_a_quantised_start_model_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    (tmp_path / "config.json").write_text(json.dumps({"quantization_config": {"quant_method": "gptq"}}))
    with pytest.raises(ValueError, match="is quantised already"):
        quantised.check_quantisation(tmp_path)


def test_the_model_is_asked_for_in_nf4_on_this_gpu(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}
    monkeypatch.setattr(quantised, "check_quantisation", lambda folder: None)
    monkeypatch.setattr(transformers, "BitsAndBytesConfig", dict)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 3)
    monkeypatch.setattr(quantised, "load_model", lambda *given, **options: asked.update(options))
    quantised.load_quantised(tiny_model, torch.float32, torch.bfloat16)
    assert asked["device_map"] == {"": 3}
    assert asked["quantization_config"] == {
        "load_in_4bit": True,
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_use_double_quant": True,
        "bnb_4bit_compute_dtype": torch.bfloat16,
    }


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"sampling": {"engine": "vllm"}}, r"quantize with sampling\.engine = 'vllm'.*another policy"),
        ({"fit": {"shard_weights": True}}, r"quantize with fit\.shard_weights"),
    ],
)
def test_what_would_ignore_it_is_refused(section: dict[str, Any], message: str, tiny_recipe: dict[str, Any]) -> None:
    model = {**tiny_recipe["model"], "lora": {"quantize": "nf4"}}
    with pytest.raises(ValueError, match=message):
        parse_recipe({**tiny_recipe, **section, "model": model})


def test_every_stage_runs_on_the_quantised_base(
    tiny_recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another base stands in for the 4-bit one: a stage that took the plain one would show in the log-ratios."""

    def stand_in(*_: Any) -> Any:
        model = tiny_llama(seed=5)
        model.is_quantized = True  # type: ignore[assignment]

        def dequantize() -> Any:
            model.is_quantized = False  # type: ignore[assignment]
            return model

        model.dequantize = dequantize  # type: ignore[assignment]
        return model

    for module in (policies_module, export):
        monkeypatch.setattr(module, "load_quantised", stand_in)
    monkeypatch.setattr(preflight, "check_quantisation", lambda folder: None)
    lora = {"rank": 2, "quantize": "nf4"}
    plain = {**tiny_recipe, "model": {**tiny_recipe["model"], "lora": lora}, "evaluation": {"every_iterate": False}}
    recipe = parse_recipe(plain)
    out = tmp_path / "run"
    run_module.run(recipe, out, Progress(quiet=True))
    for t in range(2):
        first = json.loads((out / f"rounds/{t:03d}/fit.jsonl").read_text().splitlines()[0])
        assert first["chosen_vs_iterate"] == pytest.approx(0.0, abs=1e-4)
    assert first["chosen_vs_reference"] != pytest.approx(0.0, abs=1e-4)
    assert first["kl_to_iterate"] == pytest.approx(0.0, abs=1e-4)
    export.export(export.find_source(out), tmp_path / "exported", "float32")
    merged = load_model(tmp_path / "exported").state_dict()["model.layers.0.mlp.up_proj.weight"]
    base = stand_in().state_dict()["model.layers.0.mlp.up_proj.weight"]
    assert 0 < float((merged - base).abs().max()) < 0.05
