"""One token a row from probabilities and a uniform number each: the inverse of the cumulative distribution.

Leaves out: where uniform numbers come from (`transformers_engine.py`).

    choose(logits_BV, uniforms_B, SamplingConfig(temperature=0.7))

Shape suffixes: B rows, V vocabulary, K likeliest tokens, N blocks of the vocabulary, W tokens of a block.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from sparring.recipe.sections import SamplingConfig

NUCLEUS = 512
"""Tokens looked at first for top_p; the whole vocabulary is sorted only when they hold less mass than that."""
BLOCK = 256
"""Tokens whose mass is added up before the search: a running sum over a whole vocabulary costs more than its softmax"""


def choose(
    logits_BV: Float[Tensor, "B V"], uniforms_B: Float[Tensor, " B"], settings: SamplingConfig
) -> Int[Tensor, " B"]:
    """B: a token per row; temperature 0 is greedy. Float32 logits (or log-probabilities), which are overwritten."""
    if settings.temperature == 0:
        return logits_BV.argmax(-1)
    if settings.temperature != 1:
        logits_BV.div_(settings.temperature)
    probs_BV = logits_BV.softmax(-1)
    if settings.top_p < 1:
        return nucleus(probs_BV, uniforms_B, settings.top_p)
    return inverse_cdf(probs_BV, uniforms_B)


def inverse_cdf(probs_BV: Float[Tensor, "B V"], uniforms_B: Float[Tensor, " B"]) -> Int[Tensor, " B"]:
    """B: the first index whose cumulative mass exceeds the uniform number times the total mass.

    The block is found first, then the token in it; sums of blocks are float32, running sums float64.
    """
    size = probs_BV.shape[-1]
    whole = size // BLOCK
    parts = [probs_BV[:, : whole * BLOCK].unflatten(1, (whole, BLOCK)).sum(-1)]
    if whole * BLOCK < size:
        parts.append(probs_BV[:, whole * BLOCK :].sum(-1, keepdim=True))
    mass_BN = torch.cat(parts, dim=1).double().cumsum(-1)
    wanted_B = uniforms_B * mass_BN[:, -1]
    block_B = _first_above(mass_BN, wanted_B)
    before_B = F.pad(mass_BN, (1, 0)).gather(1, block_B[:, None])[:, 0]
    token_BW = block_B[:, None] * BLOCK + torch.arange(BLOCK, device=probs_BV.device)
    inside_BW = probs_BV.gather(1, token_BW.clamp_max(size - 1)).double().masked_fill_(token_BW >= size, 0.0)
    return block_B * BLOCK + _first_above(inside_BW.cumsum(-1), (wanted_B - before_B).clamp_min_(0.0))


def _first_above(mass_BN: Float[Tensor, "B N"], wanted_B: Float[Tensor, " B"]) -> Int[Tensor, " B"]:
    """B: the first place whose running mass is above the wanted one, or that reaches the total."""
    # Rounding may lift a number to the total mass, and the search would then return the last place, which may have no
    # mass at all.
    total_B1 = mass_BN[:, -1:]
    below_B1 = torch.nextafter(total_B1, torch.zeros_like(total_B1))
    return torch.searchsorted(mass_BN, torch.minimum(wanted_B[:, None], below_B1), right=True)[:, 0]


def nucleus(probs_BV: Float[Tensor, "B V"], uniforms_B: Float[Tensor, " B"], top_p: float) -> Int[Tensor, " B"]:
    """B: a token from the smallest set of likeliest tokens whose mass reaches top_p."""
    top_BK, token_BK = probs_BV.topk(min(NUCLEUS, probs_BV.shape[-1]), dim=-1)
    chosen_B = _within(top_BK, token_BK, uniforms_B, top_p)
    flat = (top_BK.sum(-1) < top_p).nonzero()[:, 0]
    if len(flat):  # sorting a vocabulary is slow: only in the rows whose K likeliest tokens hold too little mass
        top_BK, token_BK = probs_BV[flat].sort(dim=-1, descending=True, stable=True)
        chosen_B[flat] = _within(top_BK, token_BK, uniforms_B[flat], top_p)
    return chosen_B


def _within(
    top_BK: Float[Tensor, "B K"], token_BK: Int[Tensor, "B K"], uniforms_B: Float[Tensor, " B"], top_p: float
) -> Int[Tensor, " B"]:
    """B: a token of the nucleus, from probabilities in falling order and the tokens that have them."""
    before_BK = top_BK.cumsum(-1) - top_BK  # the first token that reaches top_p still belongs to the nucleus
    nucleus_BK = torch.where(before_BK < top_p, top_BK, 0.0)
    return token_BK.gather(1, inverse_cdf(nucleus_BK, uniforms_B)[:, None])[:, 0]
