"""Linear layers whose weights are kept in the order in which a CPU's kernel reads them, for a while.

torch brings a bfloat16 weight into that order for every product, which costs a fifth of a product with 64 rows. Here it
is done once, for as long as a batch is sampled, and products are the same sums. In float32, on a CPU without bfloat16
products, it is done for a vocabulary's projection, whose product with a batch is faster by that kernel, while smaller
ones are not (docs/log.md); it rounds otherwise. It takes the bytes of the packed weights again.
Leaves out: accelerators, and layers that are not plain `nn.Linear`: they compute as before.

    with packed(model): ...
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sparring.runtime.precision import cpu_has_bfloat16

Forward = Callable[[Float[Tensor, "..."]], Float[Tensor, "..."]]
ROWS = 64
"""rows of a product that the order is chosen for"""
WIDE = 8192
"""outputs from which a float32 layer is packed"""


def packable(module: nn.Module) -> bool:
    """Whether torch has another order for this layer's weight."""
    if type(module) is not nn.Linear or "forward" in vars(module):
        return False
    if module.weight.device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    if cpu_has_bfloat16():
        return module.weight.dtype == torch.bfloat16
    return module.weight.dtype == torch.float32 and module.out_features >= WIDE


@contextlib.contextmanager
def packed(*models: nn.Module) -> Iterator[None]:
    """Products of packed weights inside; the weights themselves stay what they are, and must not change meanwhile."""
    layers: list[Any] = [module for model in models for module in model.modules() if packable(module)]
    try:
        for layer in layers:
            layer.forward = _product(layer)
        yield
    finally:
        for layer in layers:
            vars(layer).pop("forward", None)


def _product(layer: nn.Linear) -> Forward:
    weight, bias = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach(), ROWS), layer.bias
    return lambda x: torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
