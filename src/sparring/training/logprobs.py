"""Log-probabilities of response tokens without a logits tensor.

The vocabulary projection is done for some response positions at a time, log-softmax accumulates in float32, and
backward recomputes all chunks but the last: peak memory is two chunks x vocabulary however long the batch. Leaves out:
entropy and other whole-distribution quantities.

    logps_N = token_logps(hidden_NH, head.weight, targets_N)

Shape suffixes: N positions, H hidden size, V vocabulary, C positions of a chunk.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sparring.training.accumulate import adds_in_place, cast_once, gradient_of

CHUNK_LOGITS = 512 * 49_152
"""Logits of a chunk: two bfloat16 buffers of them are 100 MB whatever the vocabulary; larger was hardly faster."""

FEWEST_ROWS = 64
"""Positions of a chunk at least: products of fewer rows are slow."""

VOCABULARY_SLICE = 8192
"""Rows of the weight's gradient made at once: 8192 x 576 bfloat16 are 9 MB."""

CACHED_ROWS = 16
"""Rows made float32 at once on a CPU: 16 x 49,152 x 4 bytes are 3 MB."""


def token_logps(
    hidden_NH: Float[Tensor, "N H"],
    weight_VH: Float[Tensor, "V H"],
    targets_N: Int[Tensor, " N"],
    bias_V: Float[Tensor, " V"] | None = None,
    softcap: float = 0.0,
    chunk: int | None = None,
) -> Float[Tensor, " N"]:
    """N: float32 log-probability of each target. Gradients flow to hidden states, weight and bias.

    Matrix products run in the hidden states' dtype, or in autocast's where that is on. `chunk` positions are
    projected at a time; `chunk_rows` if None.
    """
    device = hidden_NH.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden_NH.dtype
    rows = chunk or chunk_rows(len(weight_VH))
    return _TokenLogps.apply(hidden_NH, weight_VH, targets_N, bias_V, softcap, rows, dtype)


def chunk_rows(vocabulary: int) -> int:
    """Positions projected at a time: as many as keep the memory of a chunk the same for every vocabulary."""
    return max(FEWEST_ROWS, CHUNK_LOGITS // vocabulary)


def _at_least_float32(values: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    return values.to(torch.promote_types(values.dtype, torch.float32))


class _TokenLogps(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden_NH: Float[Tensor, "N H"],
        weight_VH: Float[Tensor, "V H"],
        targets_N: Int[Tensor, " N"],
        bias_V: Float[Tensor, " V"] | None,
        softcap: float,
        chunk: int,
        dtype: torch.dtype,
    ) -> Float[Tensor, " N"]:
        logits = _Logits(hidden_NH.to(dtype), cast_once(weight_VH, dtype), bias_V, softcap, chunk)
        logps_N = torch.empty(len(targets_N), dtype=torch.promote_types(torch.float32, dtype), device=hidden_NH.device)
        for span in _spans(len(targets_N), chunk):
            logps_N[span] = _target_logps(logits(span)[0], targets_N[span])
        ctx.save_for_backward(hidden_NH, weight_VH, targets_N, bias_V, logps_N)
        ctx.logits, ctx.chunk, ctx.in_place = logits, chunk, adds_in_place(weight_VH)
        return logps_N

    @staticmethod
    def backward(ctx: Any, *grads: Float[Tensor, " N"]) -> tuple[Float[Tensor, " ..."] | None, ...]:
        """d logp / d logits = onehot - p, the target's own 1 - p kept apart: it would be lost in bfloat16.

        The products with weight and hidden states take p without the target's entry; the upstream gradient scales
        the small side of each product, so nothing of size C x V is touched besides the softmax.
        """
        hidden_NH, weight_VH, targets_N, bias_V, logps_N = ctx.saved_tensors
        logits: _Logits = ctx.logits
        hidden, weight = logits.hidden, logits.weight
        d_hidden = torch.empty_like(hidden_NH) if ctx.needs_input_grad[0] else None
        d_weight = None
        if ctx.needs_input_grad[1]:
            d_weight = gradient_of(weight_VH) if ctx.in_place else torch.zeros_like(weight_VH)
        d_bias = torch.zeros_like(bias_V) if bias_V is not None and ctx.needs_input_grad[3] else None
        rest_CV = torch.empty_like(logits.buffer_CV)
        for span in reversed(_spans(len(targets_N), ctx.chunk)):
            targets, upstream_C1 = targets_N[span, None], grads[0][span, None]
            logits_CV, slope_CV = logits(span)
            others_CV = torch.ops.aten._softmax.out(logits_CV, -1, False, out=rest_CV[: len(targets)])
            others_CV[torch.arange(len(targets), device=targets.device), targets[:, 0]] = 0.0
            own_C1 = -torch.expm1(logps_N[span, None])
            if slope_CV is not None:
                others_CV.mul_(slope_CV)
                own_C1 = own_C1 * slope_CV.gather(1, targets)
            own_C1 = own_C1 * upstream_C1
            if d_hidden is not None:
                away = (others_CV @ weight).to(own_C1.dtype) * upstream_C1
                d_hidden[span] = (own_C1 * weight_VH[targets[:, 0]] - away).to(d_hidden.dtype)
            if d_weight is not None:
                _add_product(d_weight, others_CV, (hidden[span] * -upstream_C1).to(hidden.dtype))
                d_weight.index_add_(0, targets[:, 0], (own_C1 * hidden[span]).to(d_weight.dtype))
            if d_bias is not None:
                d_bias -= (others_CV.T @ upstream_C1.to(hidden.dtype))[:, 0].to(d_bias.dtype)
                d_bias.index_add_(0, targets[:, 0], own_C1[:, 0].to(d_bias.dtype))
        return d_hidden, None if ctx.in_place else d_weight, None, d_bias, None, None, None


def _spans(count: int, chunk: int) -> list[slice]:
    """Chunks of positions, the shorter one first: backward begins with the last, whose logits are in the buffer."""
    cuts = [0, *range(count % chunk or chunk, count + 1, chunk)] if count else [0]
    return [slice(a, b) for a, b in pairwise(cuts)]


class _Logits:
    """Logits of a chunk in one buffer for all chunks: fresh pages for every chunk would cost a tenth of the time."""

    def __init__(
        self,
        hidden: Float[Tensor, "N H"],
        weight: Float[Tensor, "V H"],
        bias: Float[Tensor, " V"] | None,
        softcap: float,
        chunk: int,
    ) -> None:
        self.hidden, self.weight, self.bias, self.softcap = hidden, weight, bias, softcap
        self.buffer_CV = hidden.new_empty(min(chunk, len(hidden)), len(weight))
        self.span = slice(0, 0)

    def __call__(self, span: slice) -> tuple[Float[Tensor, "C V"], Float[Tensor, "C V"] | None]:
        """C x V: logits in the product's dtype, and the cap's derivative where there is a cap."""
        rows = self.hidden[span]
        logits_CV = self.buffer_CV[: len(rows)]
        if span != self.span:
            torch.mm(rows, self.weight.T, out=logits_CV)
            if self.bias is not None:
                logits_CV += self.bias
            self.span = span
        if not self.softcap:
            return logits_CV, None
        tanh_CV = torch.tanh(_at_least_float32(logits_CV) / self.softcap)
        return (self.softcap * tanh_CV).to(logits_CV.dtype), (1.0 - tanh_CV**2).to(logits_CV.dtype)


def _add_product(
    d_weight_VH: Float[Tensor, "V H"], others_CV: Float[Tensor, "C V"], scaled_CH: Float[Tensor, "C H"]
) -> None:
    """d_weight += others^T scaled, a slice of the vocabulary at a time: the products stay in the cache."""
    for begin in range(0, len(d_weight_VH), VOCABULARY_SLICE):
        span = slice(begin, begin + VOCABULARY_SLICE)
        d_weight_VH[span] += (others_CV[:, span].T @ scaled_CH).to(d_weight_VH.dtype)


def _target_logps(logits_CV: Float[Tensor, "C V"], targets_C: Int[Tensor, " C"]) -> Float[Tensor, " C"]:
    """C: log-probabilities of the targets in float32, a few rows at a time so that the copies stay in the cache."""
    step = CACHED_ROWS if logits_CV.device.type == "cpu" else len(logits_CV)
    dtype = torch.promote_types(logits_CV.dtype, torch.float32)
    parts = [
        logits_CV[row : row + step].log_softmax(-1, dtype=dtype).gather(1, targets_C[row : row + step, None])
        for row in range(0, len(logits_CV), step)
    ]
    return torch.cat(parts)[:, 0]
