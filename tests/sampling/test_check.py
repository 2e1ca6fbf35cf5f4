"""The check of a model before it is sampled: rounding to 16 bits is no fault of the model."""

import pytest
import torch

from conftest import tiny_llama
from sparring.sampling import check
from sparring.sampling.check import _widened, check_sampling


def test_values_of_16_bits_are_compared_in_float32_and_come_back_exactly() -> None:
    """A policy of 135M parameters was refused: its logits are 0.7 apart by rounding alone."""
    model = tiny_llama().to(torch.bfloat16)
    stored = {name: value.clone() for name, value in model.state_dict().items()}
    with _widened(model) as wide:
        assert wide
        assert model.dtype == torch.float32
    assert all(torch.equal(value, stored[name]) for name, value in model.state_dict().items())
    assert model.dtype == torch.bfloat16
    check_sampling(model)
    (model(input_ids=torch.tensor([[1, 2]])).logits.sum()).backward()  # still trainable


def test_buffers_of_32_bits_stay_as_they_are() -> None:
    model = tiny_llama().to(torch.bfloat16)
    model.register_buffer("angles", torch.tensor([0.1234567]))
    with _widened(model):
        pass
    assert model.angles.tolist() == pytest.approx([0.1234567], abs=1e-7)


def test_a_large_model_is_compared_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "MOST_WIDENED", 10)
    model = tiny_llama().to(torch.bfloat16)
    with _widened(model) as wide:
        assert not wide
        assert model.dtype == torch.bfloat16
