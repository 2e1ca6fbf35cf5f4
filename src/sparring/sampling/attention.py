"""Decode attention for CPUs: one query per row against grouped keys, as two small batched products.

The general kernel that transformers would call repeats keys for every head and splits work badly at one query
(13 times slower at 64 rows of SmolLM2, docs/log.md). Prompts still go through the general one.
Leaves out: accelerators, which have good kernels.

Shape suffixes: B rows, H query heads, G key heads (H a multiple of G), Q queries of a row (1 while decoding), T keys of
a row, D width of a query or key head, E width of a value head.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

DECODE_ATTENTION = "sparring_decode"


def decode_attention(
    module: torch.nn.Module,
    query: Float[Tensor, "B H Q D"],
    key: Float[Tensor, "B G T D"],
    value: Float[Tensor, "B G T E"],
    attention_mask: Bool[Tensor, "B 1 Q T"] | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **extra: Any,
) -> tuple[Float[Tensor, "B Q H E"], Float[Tensor, "B H Q T"] | None]:
    """B x Q x H x E: softmax(scale * q k) v over the keys that the mask lets each query see, as transformers calls it.

    More than one query a row go to the general kernel. Attention weights are not returned (None).

    Raises:
        ValueError: the model computes anything but softmax attention (`plain_attention` finds the known ones).
    """
    unusual = [name for name in ("softcap", "s_aux", "position_bias") if extra.get(name) is not None]
    if unusual:
        raise ValueError(
            f"{type(module).__name__} uses {', '.join(unusual)}, which sampling with sdpa leaves out. "
            "Use sampling.engine: vllm."
        )
    if query.shape[2] != 1:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **extra
        )
    rows, heads, _, width = query.shape
    groups = key.shape[1]
    scale = width**-0.5 if scaling is None else scaling
    # The H / G heads that share a key head become rows of one product, so that keys are not repeated.
    grouped = query.reshape(rows, groups, heads // groups, width)
    scores = (grouped @ key.transpose(2, 3)).float() * scale
    if attention_mask is not None:
        scores = scores.masked_fill(~attention_mask, float("-inf"))
    mixed = scores.softmax(-1).to(value.dtype) @ value
    return mixed.reshape(rows, 1, heads, value.shape[-1]), None


AttentionInterface.register(DECODE_ATTENTION, decode_attention)
AttentionMaskInterface.register(DECODE_ATTENTION, sdpa_mask)
