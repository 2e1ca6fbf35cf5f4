"""The precision in which a machine multiplies: bfloat16 where that is asked for, but float32 on a CPU without bfloat16.

torch multiplies bfloat16 on every CPU. On one with AVX2 alone (most laptops) it takes five to eight times as long as
float32 (docs/log.md), so that `precision: bfloat16` is computed in float32 there: no less exact, twice the bytes.
Leaves out: GPUs, whose bfloat16 is as it was asked for.

    computed("bfloat16", "cpu")  ->  torch.float32 on a CPU with AVX2
"""

from __future__ import annotations

import torch

INSTEAD = "this CPU has no bfloat16 products: float32 instead, which is several times faster here and no less exact"


def cpu_has_bfloat16() -> bool:
    """Whether torch has a kernel for bfloat16 products on this CPU."""
    return torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def computed(precision: str, device: str) -> torch.dtype:
    """The dtype for a recipe's precision on a kind of device ("cpu", "cuda")."""
    low = precision == "bfloat16" and (device != "cpu" or cpu_has_bfloat16())
    return torch.bfloat16 if low else torch.float32


def products_in(precision: str, device: str) -> torch.autocast:
    """A block whose matrix products are of that dtype, while weights stay float32."""
    return torch.autocast(device, torch.bfloat16, enabled=computed(precision, device) == torch.bfloat16)
