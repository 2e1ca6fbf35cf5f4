"""Lean layers give the values and gradients of the layers they replace, and keep less."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM, Gemma2Config, GPT2Config, LlamaConfig

from sparring.training.lean import make_lean

SIZES = {"vocab_size": 50, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}


def llama() -> nn.Module:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(LlamaConfig(**SIZES, num_key_value_heads=2))
    for name, parameter in model.named_parameters():
        if "norm" in name:
            nn.init.normal_(parameter, 1.0, 0.2)
    return model


def grads(model: nn.Module, low: bool) -> tuple[torch.Tensor, torch.Tensor]:
    model.zero_grad()
    ids = torch.arange(20).reshape(2, 10)
    with torch.autocast("cpu", torch.bfloat16, enabled=low):
        loss = model(input_ids=ids, labels=ids).loss
    loss.backward()
    return loss.detach(), torch.cat([p.grad.flatten() for p in model.parameters()])


@pytest.mark.parametrize(("low", "tolerance"), [(False, 1e-5), (True, 0.02)])
def test_values_and_gradients_stay(low: bool, tolerance: float):
    model = llama()
    loss, gradient = grads(model, low)
    assert make_lean(model) == {"norms": 5, "mlps": 2, "embeddings": 1}
    lean_loss, lean_gradient = grads(model, low)
    assert lean_loss == pytest.approx(float(loss), rel=tolerance)
    assert (lean_gradient - gradient).norm() < tolerance * gradient.norm()


def kept_bytes(model: nn.Module) -> int:
    """Bytes that autograd keeps for backward, every storage once."""
    storages: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    ids = torch.arange(40).reshape(1, 40)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda t: t), torch.autocast("cpu", torch.bfloat16):
        alive = model(input_ids=ids).logits
    del alive
    return sum(storages.values())


def test_less_is_kept_for_backward():
    model = llama()
    before = kept_bytes(model)
    make_lean(model)
    assert kept_bytes(model) < 0.85 * before


def test_what_means_something_else_is_left_alone():
    gemma = AutoModelForCausalLM.from_config(Gemma2Config(**SIZES, num_key_value_heads=2, head_dim=8))
    # Gemma multiplies by 1 + weight, its gate is a GELU, and its embedding is scaled
    assert make_lean(gemma) == {"norms": 0, "mlps": 0, "embeddings": 0}
    gpt2 = AutoModelForCausalLM.from_config(GPT2Config(vocab_size=50, n_embd=32, n_layer=1, n_head=4))
    assert make_lean(gpt2) == {"norms": 0, "mlps": 0, "embeddings": 2}
