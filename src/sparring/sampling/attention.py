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
from jaxtyping import Float, Shaped
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
    attention_mask: Shaped[Tensor, "B 1 Q T"] | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **extra: Any,
) -> tuple[Float[Tensor, "B Q H E"], Float[Tensor, "B H Q T"] | None]:
    """B x Q x H x E: softmax(scale * q k + mask) v, as transformers calls it; the mask is `decode_mask`'s.

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
    scores = (grouped @ key.transpose(2, 3)).float().mul_(scale)
    if attention_mask is not None:
        masks = attention_mask.dtype == torch.bool  # some models make their own masks
        scores = scores.masked_fill_(~attention_mask, float("-inf")) if masks else scores.add_(attention_mask)
    mixed = scores.softmax(-1).to(value.dtype) @ value
    return mixed.reshape(rows, 1, heads, value.shape[-1]), None


def decode_mask(*, q_length: int, **arguments: Any) -> Shaped[Tensor, "B 1 Q T"] | None:
    """sdpa's mask; for one query a row as 0 and -inf to be added, once a token and not once a layer."""
    mask = sdpa_mask(q_length=q_length, **arguments)
    if mask is None or q_length != 1:
        return mask
    return torch.zeros(mask.shape, device=mask.device).masked_fill_(~mask, float("-inf"))


AttentionInterface.register(DECODE_ATTENTION, decode_attention)
AttentionMaskInterface.register(DECODE_ATTENTION, decode_mask)
