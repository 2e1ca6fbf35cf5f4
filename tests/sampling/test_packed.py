"""Packed weights: the same products, for as long as they are asked for, of the layers that torch can pack."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sparring.runtime.precision import cpu_has_bfloat16
from sparring.sampling import packed as module
from sparring.sampling.packed import WIDE, packable, packed

PACKED = {"dtype": torch.bfloat16, "out_features": 80} if cpu_has_bfloat16() else {"out_features": WIDE}
"""what is packed on this CPU"""


def low(bias: bool) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(48, bias=bias, **PACKED)


@pytest.mark.parametrize("bias", [False, True])
@torch.inference_mode()
def test_products_are_the_same_and_plain_again_afterwards(bias: bool) -> None:
    layer = low(bias)
    x = torch.randn(3, 5, 48).to(layer.weight.dtype)
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


@pytest.mark.parametrize(
    ("bfloat16", "packs"), [(True, [True, True, False, False]), (False, [False, False, True, False])]
)
def test_float32_is_packed_where_there_is_no_bfloat16_and_the_layer_is_wide(
    bfloat16: bool, packs: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "cpu_has_bfloat16", lambda: bfloat16)
    kinds = [(48, torch.bfloat16), (WIDE, torch.bfloat16), (WIDE, torch.float32), (WIDE - 1, torch.float32)]
    assert [packable(nn.Linear(4, outputs, dtype=dtype)) for outputs, dtype in kinds] == packs
