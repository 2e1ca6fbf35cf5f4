"""Attention of a packed row: each prompt causally on itself, each branch on its prompt and on itself.

Only what is visible is computed, a few hundred rows at a time, so no T x T score exists; backward computes a block's
scores again instead of keeping them. On a CPU this form is three times faster than one call of torch's attention per
branch (docs/log.md); on CUDA `flex.py` can take its place. Leaves out: attention dropout (the fit switches it off) and
sinks.

    out_THE = attend_branches(q_HTD, k_GTD, v_GTE, segments, scale=D**-0.5)

Shape suffixes: T tokens of the row, D width of a query or key head, E width of a value head (mostly D), H query heads,
G key heads (H a multiple of G), Q rows of a block, K keys that they see, M = H / G * Q.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from transformers import AttentionInterface

from sparring.training.packing import Segment

BRANCH_ATTENTION = "sparring_branches"
"""name under which `branch_attention` is registered with transformers"""

BLOCK_ROWS = 256
"""Rows per block: so few that the hidden half of its own square costs little and its scores stay in the cache."""


Attend = Callable[
    [Float[Tensor, "H T D"], Float[Tensor, "G T D"], Float[Tensor, "G T E"], tuple[Segment, ...], float, float],
    Float[Tensor, "T H E"],
]
"""`attend_branches`, or another function that computes the same"""


class Block(NamedTuple):
    """Queries [begin, end) of a packed row; they see all keys [prompt, prompt_end), and keys [own, end) causally."""

    prompt: int
    prompt_end: int
    own: int
    begin: int
    end: int


def blocks(segments: tuple[Segment, ...]) -> Iterator[Block]:
    """The blocks that cover every token of the packed row once."""
    for (start, stop), branches in segments:
        yield from _blocks_of(start, start, start, stop)  # a prompt sees itself alone: an empty shared span
        for branch in branches:
            yield from _blocks_of(start, branch.prompt_end, branch.begin, branch.end)


def _blocks_of(prompt: int, prompt_end: int, begin: int, end: int) -> Iterator[Block]:
    for row in range(begin, end, BLOCK_ROWS):
        yield Block(prompt, prompt_end, begin, row, min(end, row + BLOCK_ROWS))


def attend_branches(
    q_HTD: Float[Tensor, "H T D"],
    k_GTD: Float[Tensor, "G T D"],
    v_GTE: Float[Tensor, "G T E"],
    segments: tuple[Segment, ...],
    scale: float,
    softcap: float = 0.0,
) -> Float[Tensor, "T H E"]:
    """T x H x E: softmax(s) v with s = scale * q k over the keys that each token sees. Differentiable.

    Scores are softcap * tanh(s / softcap) where `softcap` is not 0 (Gemma 2).
    """
    return _BranchAttention.apply(q_HTD, k_GTD, v_GTE, segments, scale, softcap)  # type: ignore[no-any-return]


class _BranchAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        q_HTD: Float[Tensor, "H T D"],
        k_GTD: Float[Tensor, "G T D"],
        v_GTE: Float[Tensor, "G T E"],
        segments: tuple[Segment, ...],
        scale: float,
        cap: float,
    ) -> Float[Tensor, "T H E"]:
        q_HTD = q_HTD * scale
        heads, length, _ = q_HTD.shape
        out_THE = q_HTD.new_empty(length, heads, v_GTE.shape[-1])
        for block in blocks(segments):
            p_GMK, _ = _probabilities(_rows(q_HTD, block, len(k_GTD)), _keys(k_GTD, block), block, cap)
            out_GME = p_GMK @ _keys(v_GTE, block)
            out_THE[block.begin : block.end] = out_GME.view(heads, -1, out_GME.shape[-1]).transpose(0, 1)
        ctx.save_for_backward(q_HTD, k_GTD, v_GTE)
        ctx.options = segments, scale, cap
        return out_THE

    @staticmethod
    def backward(ctx: Any, *grads: Float[Tensor, "T H E"]) -> tuple[Float[Tensor, " ..."] | None, ...]:
        q_HTD, k_GTD, v_GTE = ctx.saved_tensors
        segments, scale, cap = ctx.options
        groups, dtype = len(k_GTD), q_HTD.dtype
        d_q = torch.empty_like(q_HTD)
        # A prompt's keys get gradients from all its branches: their sum is made in float32 at least.
        d_k = torch.zeros_like(k_GTD, dtype=torch.promote_types(dtype, torch.float32))
        d_v = torch.zeros_like(v_GTE, dtype=d_k.dtype)
        d_out_HTE = grads[0].transpose(0, 1)
        for block in blocks(segments):
            q, k, v = _rows(q_HTD, block, groups), _keys(k_GTD, block), _keys(v_GTE, block)
            d_out = _rows(d_out_HTE, block, groups)
            p_GMK, slope = _probabilities(q, k, block, cap)
            _add(d_v, block, p_GMK.transpose(1, 2) @ d_out)
            d_s = torch.ops.aten._softmax_backward_data(d_out @ v.transpose(1, 2), p_GMK, -1, dtype)
            if slope is not None:
                d_s *= slope
            d_q[:, block.begin : block.end] = (d_s @ k).view(len(q_HTD), -1, q.shape[-1])
            _add(d_k, block, d_s.transpose(1, 2) @ q)
        return d_q.mul_(scale), d_k.to(dtype), d_v.to(dtype), None, None, None


def _rows(x_HTD: Float[Tensor, "H T D"], block: Block, groups: int) -> Float[Tensor, "G M D"]:
    """G x M x D: a block's queries, the H / G heads that share a key head one below the other."""
    return x_HTD[:, block.begin : block.end].reshape(groups, -1, x_HTD.shape[-1])


def _keys(x_GTD: Float[Tensor, "G T D"], block: Block) -> Float[Tensor, "G K D"]:
    """G x K x D: the keys (or values) that a block sees, the prompt's first."""
    own = x_GTD[:, block.own : block.end]
    return own if block.prompt == block.prompt_end else torch.cat([x_GTD[:, block.prompt : block.prompt_end], own], 1)


def _add(d_GTD: Float[Tensor, "G T D"], block: Block, d_GKD: Float[Tensor, "G K D"]) -> None:
    """Add the gradient of the keys that a block sees at their places in the packed row."""
    shared = block.prompt_end - block.prompt
    d_GKD = d_GKD.to(d_GTD.dtype)
    d_GTD[:, block.prompt : block.prompt_end] += d_GKD[:, :shared]
    d_GTD[:, block.own : block.end] += d_GKD[:, shared:]


def _probabilities(
    q_GMD: Float[Tensor, "G M D"], k_GKD: Float[Tensor, "G K D"], block: Block, cap: float
) -> tuple[Float[Tensor, "G M K"], Float[Tensor, "G M K"] | None]:
    """G x M x K softmax (accumulated in float32) of scaled queries, and the cap's derivative where there is a cap."""
    s_GMK = q_GMD @ k_GKD.transpose(1, 2)
    slope = None
    if cap:
        tanh_GMK = torch.tanh(s_GMK / cap)
        s_GMK, slope = tanh_GMK * cap, 1.0 - tanh_GMK**2
    rows = block.end - block.begin
    # Only a block's last columns, its own rows, can lie in the future of a query; one triangle serves every head.
    hidden = torch.ones(rows, rows, dtype=torch.bool, device=s_GMK.device).triu_(1)
    s_GMK.view(-1, rows, s_GMK.shape[-1])[..., -rows:].masked_fill_(hidden, float("-inf"))
    return s_GMK.softmax(-1), slope


def branch_attention(
    module: torch.nn.Module,
    query: Float[Tensor, "1 H T D"],
    key: Float[Tensor, "1 G T D"],
    value: Float[Tensor, "1 G T E"],
    attention_mask: Shaped[Tensor, " ..."] | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    segments: tuple[Segment, ...] = (),
    softcap: float | None = None,
    attend: Attend = attend_branches,
    **extra: Any,
) -> tuple[Float[Tensor, "1 T H E"], None]:
    """1 x T x H x E, and no attention weights: `attend_branches` as transformers calls it.

    Raises:
        ValueError: the model computes anything but softmax attention over prompt and branch.
    """
    if not segments or attention_mask is not None:
        what = "does not hand on which tokens are branches" if not segments else "brings a mask of its own"
        raise ValueError(f"fit.layout = 'packed': {type(module).__name__} {what}. Use fit.layout: padded.")
    assert dropout == 0.0, "PolicyScorer switches the base model's dropout off"
    _refuse_unsupported(module, segments, extra)
    device = query.device.type
    if torch.is_autocast_enabled(device):
        query, key, value = (x.to(torch.get_autocast_dtype(device)) for x in (query, key, value))
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    with torch.autocast(device, enabled=False):
        return attend(query[0], key[0], value[0], segments, scale, softcap or 0.0)[None], None


def _refuse_unsupported(module: torch.nn.Module, segments: tuple[Segment, ...], extra: dict[str, Any]) -> None:
    """Raise ValueError where plain softmax attention over prompt and branch is not what the model means."""
    unusual = [name for name in ("s_aux", "position_bias") if extra.get(name) is not None]
    window = extra.get("sliding_window")
    ends = [(s, e) for (s, e), _ in segments]
    ends += [(s, b.prompt_end + b.end - b.begin) for (s, _), branches in segments for b in branches]
    longest = max(end - start for start, end in ends)
    if window is not None and longest > window:
        unusual.append(f"sliding_window = {window} with a sequence of {longest} tokens")
    if unusual:
        raise ValueError(
            f"fit.layout = 'packed': {type(module).__name__} uses {', '.join(unusual)}, which the packed layout does "
            "not support. Use fit.layout: padded."
        )


AttentionInterface.register(BRANCH_ATTENTION, branch_attention)
# No entry in transformers' table of masks: for an attention that has none it makes no mask (`branch_attention` reads
# the segments). With one it would first ask the device whether positions start again, which waits for a GPU.
