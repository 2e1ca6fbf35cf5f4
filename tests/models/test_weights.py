"""What stands beside the weights: generation settings, a head that is tied or not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, GenerationConfig

from command import sparring
from conftest import byte_tokenizer, tiny_llama
from model_zoo import folder_of
from sparring.models.generation import generation_note, writable_generation
from sparring.models.identity import hash_weights
from sparring.models.weights import load_model
from sparring.recipe.reading import parse_recipe
from sparring.rounds.run import run
from sparring.runtime.progress import Progress

FLAGS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"temperature": 0.9, "top_p": 0.6}, {"temperature": 0.9, "top_p": 0.6, "do_sample": True}),
    ({"do_sample": False, "min_p": 0.1}, {"do_sample": True, "min_p": 0.1}),
    ({"length_penalty": 2.0}, {"length_penalty": None}),
    ({"pad_token_id": -1}, {"pad_token_id": None}),
]


@pytest.mark.parametrize(("flags", "kept"), FLAGS)
def test_generation_settings_that_cannot_be_written(
    flags: dict[str, Any], kept: dict[str, Any], tmp_path: Path
) -> None:
    """transformers reads them, and refuses to write them: after the fit."""
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": 256, **flags}))
    config = GenerationConfig.from_pretrained(tmp_path)
    made = writable_generation(config)
    made.save_pretrained(tmp_path / "again")
    assert made.eos_token_id == 256
    assert {name: getattr(made, name) for name in kept} == kept
    assert "cannot be saved again" in generation_note(tmp_path)


def test_settings_that_can_be_written_are_left_alone(tiny_model: Path) -> None:
    config = GenerationConfig.from_pretrained(tiny_model)
    assert writable_generation(config) is config
    assert generation_note(tiny_model) == ""


@pytest.mark.parametrize("lora", [None, {"rank": 2}])
def test_a_policy_with_such_settings_is_trained_and_exported(
    lora: dict[str, Any] | None, tiny_recipe: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = folder_of(tiny_llama(), tmp_path / "model")
    settings = folder / "generation_config.json"
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "temperature": 0.9, "top_p": 0.6}))
    plain = {**tiny_recipe, "model": {"path": str(folder), "lora": lora}, "rounds": 1}
    run(parse_recipe(plain), tmp_path / "run", Progress(quiet=True))
    code, out, err = sparring("export", tmp_path / "run", "--out", tmp_path / "out")
    assert (code, err) == (0, "")
    assert ("kept with do_sample: true" in out) == (lora is not None)  # a policy's own settings are right already
    exported = json.loads((tmp_path / "out/generation_config.json").read_text())
    assert (exported["temperature"], exported["do_sample"]) == (0.9, True)


def test_a_head_of_its_own_survives_a_config_that_ties_it(tmp_path: Path) -> None:
    folder = folder_of(tiny_llama(tie_word_embeddings=False), tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": True}))
    model = load_model(folder)
    assert not torch.equal(model.lm_head.weight, model.model.embed_tokens.weight)
    model.save_pretrained(tmp_path / "again")
    assert hash_weights(tmp_path / "again") == hash_weights(folder)


def test_a_bare_body_with_tied_embeddings_is_whole(tmp_path: Path) -> None:
    """It needs no head of its own."""
    tiny_llama().model.save_pretrained(tmp_path)
    byte_tokenizer().save_pretrained(tmp_path)
    ids = torch.tensor([[1, 2, 3]])
    assert torch.equal(load_model(tmp_path)(ids).logits, tiny_llama()(ids).logits)


def test_old_tables_among_the_weights_are_no_weights(tiny_model: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = folder_of(tiny_llama(), tmp_path / "model")
    tensors = load_file(folder / "model.safetensors")
    tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(4)
    tensors["model.layers.0.attn.masked_bias"] = torch.ones(())
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    assert isinstance(load_model(folder), type(AutoModelForCausalLM.from_pretrained(tiny_model)))
