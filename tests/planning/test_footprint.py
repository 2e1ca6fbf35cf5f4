"""Peaks from fake tensors: the tracker, depth, and that what should change a peak does."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import AutoConfig, LlamaConfig, PretrainedConfig

from conftest import tiny_llama
from sparring.planning import footprint
from sparring.planning.footprint import Live, Shape, anchor_footprint, fit_footprint, parameters, sample_footprint
from sparring.recipe.sections import FitConfig, LoraConfig, SamplingConfig

SHAPE = Shape(prompt=20, response=30, responses=2, budget=200)


def config(layers: int = 6) -> PretrainedConfig:
    return LlamaConfig(
        vocab_size=500,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=True,
    )


def test_the_tracker_counts_what_is_alive_at_once() -> None:
    with FakeTensorMode(), Live() as live:
        kept = torch.empty(1000, dtype=torch.float32)
        live.restart()
        one = torch.empty(500, dtype=torch.float64)
        del one
        other = torch.empty(100, dtype=torch.float32)
        view = other[:50]
        assert live.now == 4000 + 400
        del other, view
    assert live.working == 4000
    assert live.now == 4000
    assert kept.numel() == 1000


def test_weights_are_counted_once_where_they_are_tied() -> None:
    model = tiny_llama()
    assert parameters(model.config) == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("layout", ["packed", "padded"])
def test_a_deep_model_is_its_shallow_copies_extended(layout: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fit = FitConfig.model_validate({"layout": layout})
    extended = fit_footprint(config(), SHAPE, fit, None), anchor_footprint(config(), SHAPE, fit)
    monkeypatch.setattr(footprint, "SHALLOW", (2, 6))
    whole = fit_footprint(config(), SHAPE, fit, None), anchor_footprint(config(), SHAPE, fit)
    for ours, theirs in zip(extended, whole, strict=True):
        assert ours.weights == theirs.weights == 4 * parameters(config())
        assert ours.trained == theirs.trained
        assert ours.working == pytest.approx(theirs.working, rel=0.01)


def test_what_is_known_to_save_memory_does() -> None:
    shallow = config(2)
    plain = fit_footprint(shallow, SHAPE, FitConfig(), None)
    assert plain.trained == plain.weights
    smaller = Shape(20, 30, 2, 80)
    assert fit_footprint(shallow, smaller, FitConfig(), None).working < plain.working
    assert fit_footprint(shallow, SHAPE, FitConfig(gradient_checkpointing=True), None).working < plain.working
    assert anchor_footprint(shallow, SHAPE, FitConfig()).working < plain.working
    lora = fit_footprint(shallow, SHAPE, FitConfig(), LoraConfig(rank=2))
    assert 0 < lora.trained < 0.2 * lora.weights


def test_a_batch_of_samples() -> None:
    settings = SamplingConfig(max_new_tokens=40, batch_size=8, precision="float32")
    found = sample_footprint(config(), 10, 4, settings)
    heads, width, layers = 2, 8, 6
    assert found.cache == 2 * layers * heads * width * 4 * 8 * 50
    assert found.working > 8 * 500 * 4  # at least the logits
    half = sample_footprint(config(), 10, 4, settings.model_copy(update={"batch_size": 4}))
    assert half.cache == found.cache // 2
    low = sample_footprint(config(), 10, 4, settings.model_copy(update={"precision": "bfloat16", "top_p": 0.9}))
    assert (low.cache, low.weights) == (found.cache // 2, found.weights // 2)


@pytest.mark.parametrize("layout", ["packed", "padded"])
def test_packs_fill_the_budget(layout: str) -> None:
    sizes = [r.tokens(layout) for r in SHAPE.rollouts(layout)]  # type: ignore[arg-type]
    assert 0.9 * SHAPE.budget < sum(sizes) <= SHAPE.budget
    assert len(Shape(20, 300, 2, 200).rollouts(layout)) == 1  # type: ignore[arg-type]


def test_a_configuration_is_all_that_is_read(tiny_model: Path) -> None:
    (weights := tiny_model / "model.safetensors").rename(away := tiny_model / "away")
    try:
        assert parameters(AutoConfig.from_pretrained(tiny_model)) > 0
    finally:
        away.rename(weights)
