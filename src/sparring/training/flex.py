"""Attention of a packed row by torch's FlexAttention: one compiled kernel for CUDA instead of a few calls per block.

The same function as `attention.py`, chosen by `fit.attention: flex`. Tests compare its uncompiled form with the dense
definition; the compiled one was not run by us, without a GPU. Leaves out: other devices, and all models that
`attention.py` refuses.

    out_THE = flex_branches(q_HTD, k_GTD, v_GTE, segments, scale=D**-0.5)

Shape suffixes: as in `attention.py` (T tokens, H query heads, G key heads, D and E head widths), and N blocks of
`BLOCK` tokens.
"""

from __future__ import annotations

from functools import lru_cache, partial
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, flex_attention
from transformers import AttentionInterface, AttentionMaskInterface

from sparring.training.attention import branch_attention
from sparring.training.packing import Segment

FLEX_ATTENTION = "sparring_flex"
"""name under which it is registered with transformers"""
BLOCK = 128
"""tokens of a block of queries or keys, which the kernel computes or skips as a whole"""


def check_flex(device: torch.device) -> None:
    """Raise ValueError where FlexAttention cannot train."""
    if device.type != "cuda":
        raise ValueError(
            f"fit.attention = 'flex' needs a CUDA device, and this is {device.type}. Set fit.attention: blocks."
        )


def spans(
    segments: tuple[Segment, ...], device: torch.device
) -> tuple[Int[Tensor, " T"], Int[Tensor, " T"], Int[Tensor, " T"]]:
    """Each T: where a token's own span begins, and where its prompt begins and ends."""
    places = [(start, stop, start, stop) for (start, stop), _ in segments]
    places += [(b.begin, b.end, start, b.prompt_end) for (start, _), branches in segments for b in branches]
    limits_3T = torch.zeros(3, max(end for _, end, *_ in places), dtype=torch.int32)
    for begin, end, prompt, prompt_end in places:
        limits_3T[:, begin:end] = torch.tensor([[begin], [prompt], [prompt_end]])
    own_T, start_T, stop_T = limits_3T.to(device)
    return own_T, start_T, stop_T


@lru_cache(maxsize=2)
def block_mask(segments: tuple[Segment, ...], device: torch.device) -> BlockMask:
    """The blocks that the kernel computes, for all layers of a pack. Made BLOCK x T at a time, never T x T."""
    own_T, start_T, stop_T = spans(segments, device)

    # Places of tokens: scalars when the kernel calls it, Q x 1 and 1 x T below.
    def sees(
        batch: Int[Tensor, ""], head: Int[Tensor, ""], query: Int[Tensor, " ..."], key: Int[Tensor, " ..."]
    ) -> Bool[Tensor, " ..."]:
        shared = (key >= start_T[query]) & (key < stop_T[query])
        return (key <= query) & ((key >= own_T[query]) | shared)

    length = len(own_T)
    count = -(-length // BLOCK)
    keys_T, zero = torch.arange(length, device=device), torch.zeros((), dtype=torch.int32, device=device)
    some_NN = torch.zeros(count, count, dtype=torch.bool, device=device)
    all_NN = torch.zeros_like(some_NN)
    for n in range(count):
        rows = torch.arange(n * BLOCK, min((n + 1) * BLOCK, length), device=device)
        seen = sees(zero, zero, rows[:, None], keys_T[None, :])
        blocks = torch.nn.functional.pad(seen, (0, count * BLOCK - length)).view(len(rows), count, BLOCK)
        some_NN[n], all_NN[n] = blocks.any(2).any(0), blocks.all(2).all(0) & (len(rows) == BLOCK)
    part_NN = some_NN & ~all_NN
    return BlockMask.from_kv_blocks(
        *_listed(part_NN), *_listed(all_NN), BLOCK_SIZE=BLOCK, mask_mod=sees, seq_lengths=(length, length)
    )


def _listed(blocks_NN: Bool[Tensor, "N N"]) -> tuple[Int[Tensor, "1 1 N"], Int[Tensor, "1 1 N N"]]:
    """1 x 1 x N counts of the key blocks of every query block, and 1 x 1 x N x N their numbers, those first."""
    order = blocks_NN.int().argsort(dim=1, descending=True, stable=True)
    return blocks_NN.sum(1).int()[None, None], order.int()[None, None]


@lru_cache(maxsize=1)
def _compiled() -> Any:
    # Without fullgraph, torch would run further packs uncompiled without a word, with all T x T scores in memory.
    return torch.compile(flex_attention, dynamic=True, fullgraph=True)


def flex_branches(
    q_HTD: Float[Tensor, "H T D"],
    k_GTD: Float[Tensor, "G T D"],
    v_GTE: Float[Tensor, "G T E"],
    segments: tuple[Segment, ...],
    scale: float,
    softcap: float = 0.0,
) -> Float[Tensor, "T H E"]:
    """T x H x E, as `attend_branches`."""
    cap = torch.tensor(softcap or 1.0, device=q_HTD.device)

    def capped(score: Float[Tensor, " ..."], *place: Int[Tensor, " ..."]) -> Float[Tensor, " ..."]:
        return cap * torch.tanh(score / cap)

    out_HTE = _compiled()(
        q_HTD[None],
        k_GTD[None],
        v_GTE[None],
        score_mod=capped if softcap else None,
        block_mask=block_mask(segments, q_HTD.device),
        scale=scale,
        enable_gqa=len(q_HTD) != len(k_GTD),
    )[0]
    return out_HTE.transpose(0, 1)


AttentionInterface.register(FLEX_ATTENTION, partial(branch_attention, attend=flex_branches))
AttentionMaskInterface.register(FLEX_ATTENTION, lambda *_, **__: None)
