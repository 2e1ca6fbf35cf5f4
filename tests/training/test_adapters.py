"""Adapters: which modules they may stand on, and that stored, beside the base and merged they are one policy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel, LlamaForCausalLM

from conftest import tiny_llama
from fit_fakes import ROLLOUTS
from sparring.recipe.sections import LoraConfig
from sparring.training.adapters import load_adapter, with_adapter
from sparring.training.rollout_logps import rollout_logps
from sparring.training.scorer import PolicyScorer

LINEAR = "down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj"


def targeted(model: nn.Module) -> set[str]:
    """The modules that got an adapter, by the last part of their names."""
    return {name.split(".")[-2] for name, _ in model.named_modules() if name.endswith(".lora_A")}


def trained(model: Any) -> Any:
    """The adapter as a fit would leave it: no longer zero."""
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    return model


def logps(model: Any) -> torch.Tensor:
    """Of the tiny examples' responses, as fits and anchors compute them."""
    return torch.tensor(rollout_logps(PolicyScorer(model), ROLLOUTS, 100, "float32"))


def test_a_fresh_adapter_changes_nothing_and_alone_is_trained() -> None:
    model = with_adapter(tiny_llama(), LoraConfig(rank=4))
    assert torch.equal(logps(model), logps(tiny_llama()))
    assert all(("lora_" in name) == parameter.requires_grad for name, parameter in model.named_parameters())


def test_an_adapter_is_written_alike_by_every_process(tmp_path: Path) -> None:
    adapted: Any = with_adapter(tiny_llama(), LoraConfig(rank=2))
    adapted.save_pretrained(tmp_path / "first")
    again: Any = load_adapter(tiny_llama(), tmp_path / "first", True)  # a later round's
    again.save_pretrained(tmp_path / "second")
    for name in ("first", "second"):
        written = json.loads((tmp_path / name / "adapter_config.json").read_text())["target_modules"]
        assert len(written) > 1
        assert written == sorted(written)


@pytest.mark.parametrize(
    ("model", "targets", "expected"),
    [
        (tiny_llama(), "all-linear", set(LINEAR.split(", "))),
        (tiny_llama(), ["q_proj", "v_proj"], {"q_proj", "v_proj"}),
        (tiny_llama(), ["self_attn.q_proj"], {"q_proj"}),
        (GPT2LMHeadModel(GPT2Config(n_embd=8, n_layer=1, n_head=1, vocab_size=9)), ["c_attn"], {"c_attn"}),
    ],
    ids=["all", "names", "a path", "Conv1D"],
)
@pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to False:UserWarning")  # peft's, as it mends this itself
def test_targets(model: Any, targets: Any, expected: set[str]) -> None:
    assert targeted(with_adapter(model, LoraConfig(rank=2, target_modules=targets))) == expected


@pytest.mark.parametrize(
    ("targets", "reason"),
    [
        (["nonsense"], f"no module of the model is called 'nonsense'. Linear modules of this model: {LINEAR}."),
        (["q_prj", "q_proj"], "no module of the model is called 'q_prj'"),
        (["q_proj", "proj"], "no module of the model is called 'proj'"),
        ([], "nothing would be trained"),
        (["embed_tokens"], "'model.embed_tokens' is not a linear layer"),
        (["q_proj", "mlp"], "'model.layers.0.mlp' is not a linear layer"),
        (["lm_head"], "an adapter on the LM head ('lm_head') is not supported"),
    ],
)
@pytest.mark.parametrize("tied", [True, False])
def test_names_that_get_no_adapter(targets: list[str], reason: str, tied: bool) -> None:
    with pytest.raises(ValueError, match=r"model\.lora\.target_modules = ") as error:
        with_adapter(tiny_llama(tie_word_embeddings=tied), LoraConfig(target_modules=targets))
    assert reason in str(error.value)


def test_the_head_is_refused_whatever_it_is_called() -> None:
    model = tiny_llama(tie_word_embeddings=False)
    model.vocabulary = model.lm_head
    model.get_output_embeddings = lambda: model.vocabulary  # type: ignore[method-assign]
    del model.lm_head
    with pytest.raises(ValueError, match="LM head"):
        with_adapter(model, LoraConfig(target_modules=["vocabulary"]))


@pytest.mark.parametrize("tied", [True, False])
def test_stored_beside_and_merged_are_one_policy(tmp_path: Path, tied: bool) -> None:
    def base() -> LlamaForCausalLM:
        return tiny_llama(tie_word_embeddings=tied)

    model = trained(with_adapter(base(), LoraConfig(rank=4)))
    model.save_pretrained(tmp_path)
    fitted = logps(model)
    assert not torch.allclose(fitted, logps(base()), atol=0.01)
    assert torch.equal(logps(load_adapter(base(), tmp_path, False)), fitted)
    merged: Any = load_adapter(base(), tmp_path, False)
    torch.testing.assert_close(logps(merged.merge_and_unload()), fitted, rtol=1e-5, atol=1e-5)
    with model.disable_adapter():
        assert torch.equal(logps(model), logps(base()))


@pytest.mark.parametrize("trainable", [True, False])
def test_a_loaded_adapter_is_trainable_only_when_asked_for(tmp_path: Path, trainable: bool) -> None:
    with_adapter(tiny_llama(), LoraConfig(rank=4)).save_pretrained(tmp_path)
    model = load_adapter(tiny_llama(), tmp_path, trainable)
    assert {"lora_" in name for name, p in model.named_parameters() if p.requires_grad} == (
        {True} if trainable else set()
    )


def test_an_adapter_of_another_width_is_an_error(tmp_path: Path) -> None:
    with_adapter(tiny_llama(), LoraConfig(rank=4)).save_pretrained(tmp_path)
    config = tiny_llama().config
    config.hidden_size = 64
    with pytest.raises(ValueError, match=r"belongs to another base than .*size mismatch for .*Give the base"):
        load_adapter(LlamaForCausalLM(config), tmp_path, False)
