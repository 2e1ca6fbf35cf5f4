"""Attention of a packed row by torch's FlexAttention: one compiled kernel for CUDA instead of a few calls per block.

The same function as `attention.py`, chosen by `fit.attention: flex`. Tested here against the dense definition in its
uncompiled form; the compiled one was not run by us for want of a GPU. Leaves out: CPUs, where FlexAttention has no
backward, and whatever `attention.py` refuses.

    out_THD = flex_branches(q_HTD, k_GTD, v_GTD, segments, scale=D**-0.5)
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention
from transformers import AttentionInterface, AttentionMaskInterface

from sparring.training.attention import branch_attention
from sparring.training.packing import Segment

FLEX_ATTENTION = "sparring_flex"
"""name under which it is registered with transformers"""


def check_flex(device: torch.device) -> None:
    """Raise ValueError where FlexAttention cannot train."""
    if device.type != "cuda":
        raise ValueError(
            f"fit.attention = 'flex' needs a CUDA device, and this is {device.type}: FlexAttention has no backward "
            "there. Set fit.attention: blocks."
        )


def visible(segments: tuple[Segment, ...], device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Each T: where a token's own span begins, and where its prompt begins and ends."""
    spans = [(s.prompt, s.prompt) for s in segments] + [(b, s.prompt) for s in segments for b in s.branches]
    length = max(end for (_, end), _ in spans)
    found = torch.zeros(3, length, dtype=torch.int32)
    for (begin, end), (prompt, prompt_end) in spans:
        found[:, begin:end] = torch.tensor([[begin], [prompt], [prompt_end]])
    own, start, stop = found.to(device)
    return own, start, stop


@lru_cache(maxsize=2)
def block_mask(segments: tuple[Segment, ...], device: torch.device) -> BlockMask:
    """What the kernel may skip; all layers of a pack share it."""
    own, start, stop = visible(segments, device)

    def sees(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        shared = (key >= start[query]) & (key < stop[query])
        return (key <= query) & ((key >= own[query]) | shared)

    return create_block_mask(sees, None, None, len(own), len(own), device=str(device))


@lru_cache(maxsize=1)
def _compiled() -> Any:
    return torch.compile(flex_attention, dynamic=True)


def flex_branches(
    q_HTD: Tensor, k_GTD: Tensor, v_GTD: Tensor, segments: tuple[Segment, ...], scale: float, softcap: float = 0.0
) -> Tensor:
    """T x H x D, as `attend_branches`."""

    def capped(score: Tensor, *place: Tensor) -> Tensor:
        return softcap * torch.tanh(score / softcap)

    out = _compiled()(
        q_HTD[None],
        k_GTD[None],
        v_GTD[None],
        score_mod=capped if softcap else None,
        block_mask=block_mask(segments, q_HTD.device),
        scale=scale,
        enable_gqa=len(q_HTD) != len(k_GTD),
    )
    return out[0].transpose(0, 1)


def flex_attention_forward(*args: Any, **kwargs: Any) -> tuple[Tensor, None]:
    """As transformers calls it."""
    return branch_attention(*args, **kwargs, attend=flex_branches)


AttentionInterface.register(FLEX_ATTENTION, flex_attention_forward)
AttentionMaskInterface.register(FLEX_ATTENTION, lambda *_, **__: None)
