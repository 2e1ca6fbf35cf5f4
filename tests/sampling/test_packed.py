"""Packed weights: the same products, for as long as they are asked for, of the layers that torch can pack."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sparring.sampling.packed import packable, packed


def low(bias: bool) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(48, 80, bias=bias, dtype=torch.bfloat16)


@pytest.mark.skipif(not packable(low(False)), reason="needs a CPU with bfloat16 products")
@pytest.mark.parametrize("bias", [False, True])
@torch.inference_mode()
def test_products_are_the_same_and_plain_again_afterwards(bias: bool) -> None:
    layer = low(bias)
    x = torch.randn(3, 5, 48).bfloat16()
    plain = layer(x)
    with packed(nn.Sequential(layer)):
        assert "forward" in vars(layer)
        torch.testing.assert_close(layer(x), plain)
    assert "forward" not in vars(layer)
    with torch.no_grad():
        layer.weight.mul_(2.0)
        with packed(layer):
            torch.testing.assert_close(layer(x), nn.functional.linear(x, layer.weight, layer.bias))


def test_weights_are_plain_again_after_an_error() -> None:
    layer = low(False)
    with pytest.raises(KeyError), packed(layer):
        raise KeyError
    assert "forward" not in vars(layer)


def test_other_layers_are_left_alone() -> None:
    class Own(nn.Linear):
        pass

    layers = [nn.Linear(4, 4), Own(4, 4, dtype=torch.bfloat16), nn.Embedding(4, 4, dtype=torch.bfloat16)]
    assert not any(map(packable, layers))
