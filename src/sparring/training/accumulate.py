"""Work that is done once between two optimiser steps, where weights stand still and gradients add up.

An embedding's gradient touches the rows of a few hundred tokens, and the head's is made a slice of the vocabulary at
a time. Autograd would fill, sum and add whole vocabulary x hidden tensors for each micro-batch; within `accumulating`
both are added to `weight.grad` by the functions that make them, and the head's bfloat16 copy is made once. Leaves out:
all other weights, whose gradients are made in one piece anyway.

    with accumulating():
        for pack in packs:
            objective(scorer(pack)).backward()
    optimizer.step()

Shape suffixes: V rows of a weight (its vocabulary), H hidden size; `*ids` is the shape of the token ids.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

PLAIN = (Tensor, nn.Parameter, FakeTensor)
"""tensors whose gradient belongs to this process alone, unlike a shard's; planning counts bytes with fake ones"""

_copies: dict[tuple[int, torch.dtype], tuple[Float[Tensor, "V H"], Float[Tensor, "V H"]]] | None = None
"""weights and their casts within `accumulating`; holding the weight keeps its id from being reused; None outside"""


@contextmanager
def accumulating() -> Iterator[None]:
    """A region in which weights do not change and `backward` adds to `.grad`.

    Within it `torch.autograd.grad` and hooks do not see the gradients of embedding and head.
    """
    global _copies
    assert _copies is None, "regions do not nest"
    _copies = {}
    try:
        yield
    finally:
        _copies = None


def cast_once(weight: Float[Tensor, "V H"], dtype: torch.dtype) -> Float[Tensor, "V H"]:
    """V x H: the weight in another dtype, without gradient; within a region made once."""
    if _copies is None or weight.dtype == dtype:
        return weight.detach().to(dtype)
    key = id(weight), dtype
    if key not in _copies:
        _copies[key] = weight, weight.detach().to(dtype)
    return _copies[key][1]


def adds_in_place(weight: Float[Tensor, "V H"]) -> bool:
    """Whether a gradient may go straight to `weight.grad`: a plain trainable leaf, within a region."""
    return _copies is not None and type(weight) in PLAIN and weight.is_leaf and weight.requires_grad


def gradient_of(weight: Float[Tensor, "V H"]) -> Float[Tensor, "V H"]:
    """V x H: `weight.grad`, zeros where there is none yet."""
    if weight.grad is None:
        weight.grad = torch.zeros_like(weight)
    return weight.grad


def embed(ids: Int[Tensor, "*ids"], weight: Float[Tensor, "V H"], padding_idx: int | None) -> Float[Tensor, "*ids H"]:
    """Rows of an embedding; within a region their gradient is added to those rows of `weight.grad` alone."""
    if not adds_in_place(weight):
        return F.embedding(ids, weight, padding_idx)
    return _Embed.apply(weight, ids, padding_idx)  # type: ignore[no-any-return]


class _Embed(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, weight: Float[Tensor, "V H"], ids: Int[Tensor, "*ids"], padding_idx: int | None
    ) -> Float[Tensor, "*ids H"]:
        ctx.weight, ctx.ids, ctx.padding_idx = weight, ids, padding_idx
        return F.embedding(ids, weight)

    @staticmethod
    def backward(ctx: Any, *grads: Float[Tensor, "*ids H"]) -> tuple[None, None, None]:
        rows = grads[0].flatten(0, -2).to(ctx.weight.dtype)
        if ctx.padding_idx is not None:
            rows = rows.masked_fill((ctx.ids == ctx.padding_idx).flatten()[:, None], 0.0)
        gradient_of(ctx.weight).index_add_(0, ctx.ids.flatten(), rows)
        return None, None, None
