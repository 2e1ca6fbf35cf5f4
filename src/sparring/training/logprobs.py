"""Log-probabilities of response tokens without a logits tensor.

The vocabulary projection is done for a few hundred response positions at a time, log-softmax
accumulates in float32, and backward recomputes the chunk instead of keeping it: peak memory is
one chunk x vocabulary however long the batch. Leaves out: entropy and other whole-distribution
quantities.

    logps_N = token_logps(hidden_NH, head.weight, targets_N)

Shape suffixes: N positions, H hidden size, V vocabulary, C positions of a chunk.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

CHUNK = 512
"""Positions per chunk: 512 x 49,152 float32 is 100 MB; larger chunks were not faster on CPU."""


def reference_token_logps(
    hidden_NH: Float[Tensor, "N H"],
    weight_VH: Float[Tensor, "V H"],
    targets_N: Int[Tensor, " N"],
    bias_V: Float[Tensor, " V"] | None = None,
    softcap: float = 0.0,
) -> Float[Tensor, " N"]:
    """N: what `token_logps` computes, in the six obvious lines. The tests compare the two."""
    logits_NV = _at_least_float32(hidden_NH @ weight_VH.T)
    if bias_V is not None:
        logits_NV = logits_NV + bias_V
    if softcap:
        logits_NV = softcap * torch.tanh(logits_NV / softcap)
    return logits_NV.log_softmax(-1).gather(1, targets_N[:, None])[:, 0]


def token_logps(
    hidden_NH: Float[Tensor, "N H"],
    weight_VH: Float[Tensor, "V H"],
    targets_N: Int[Tensor, " N"],
    bias_V: Float[Tensor, " V"] | None = None,
    softcap: float = 0.0,
    chunk: int = CHUNK,
) -> Float[Tensor, " N"]:
    """N: float32 log-probability of each target. Gradients flow to hidden states, weight and bias.

    Matrix products run in the hidden states' dtype, or in autocast's where that is on.
    """
    if torch.is_autocast_enabled(hidden_NH.device.type):
        dtype = torch.get_autocast_dtype(hidden_NH.device.type)
    else:
        dtype = hidden_NH.dtype
    return _TokenLogps.apply(hidden_NH, weight_VH, targets_N, bias_V, softcap, chunk, dtype)


def _at_least_float32(values: Tensor) -> Tensor:
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _logits(
    hidden_CH: Tensor, weight_VH: Tensor, bias_V: Tensor | None, softcap: float
) -> tuple[Tensor, Tensor | None]:
    """Logits of a chunk, float32 at least, and tanh of the uncapped ones where there is a cap."""
    logits_CV = _at_least_float32(hidden_CH @ weight_VH.T)
    if bias_V is not None:
        logits_CV += bias_V
    if not softcap:
        return logits_CV, None
    tanh_CV = torch.tanh(logits_CV / softcap)
    return softcap * tanh_CV, tanh_CV


class _TokenLogps(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden_NH: Tensor,
        weight_VH: Tensor,
        targets_N: Tensor,
        bias_V: Tensor | None,
        softcap: float,
        chunk: int,
        dtype: torch.dtype,
    ) -> Tensor:
        hidden, weight = hidden_NH.to(dtype), weight_VH.to(dtype)
        logps_N = torch.empty(len(targets_N), dtype=torch.promote_types(torch.float32, dtype), device=hidden.device)
        lse_N = torch.empty_like(logps_N)
        for begin in range(0, len(targets_N), chunk):
            span = slice(begin, begin + chunk)
            logits_CV, _ = _logits(hidden[span], weight, bias_V, softcap)
            lse_N[span] = logits_CV.logsumexp(-1)
            logps_N[span] = logits_CV.gather(1, targets_N[span, None])[:, 0] - lse_N[span]
        ctx.save_for_backward(hidden_NH, weight_VH, targets_N, bias_V, lse_N)
        ctx.options = softcap, chunk, dtype
        return logps_N

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        hidden_NH, weight_VH, targets_N, bias_V, lse_N = ctx.saved_tensors
        softcap, chunk, dtype = ctx.options
        hidden, weight = hidden_NH.to(dtype), weight_VH.to(dtype)
        d_hidden = torch.empty_like(hidden_NH) if ctx.needs_input_grad[0] else None
        d_weight = torch.zeros_like(weight_VH) if ctx.needs_input_grad[1] else None
        d_bias = torch.zeros_like(bias_V) if bias_V is not None and ctx.needs_input_grad[3] else None
        for begin in range(0, len(targets_N), chunk):
            span = slice(begin, begin + chunk)
            logits_CV, tanh_CV = _logits(hidden[span], weight, bias_V, softcap)
            d_CV = logits_CV.sub_(lse_N[span, None]).exp_().neg_()
            d_CV.scatter_add_(1, targets_N[span, None], torch.ones_like(d_CV[:, :1]))
            d_CV.mul_(grads[0][span, None])
            if tanh_CV is not None:
                d_CV.mul_(1.0 - tanh_CV**2)
            if d_bias is not None:
                d_bias += d_CV.sum(0).to(d_bias.dtype)
            d_low = d_CV.to(dtype)
            if d_hidden is not None:
                d_hidden[span] = (d_low @ weight).to(d_hidden.dtype)
            if d_weight is not None:
                d_weight += d_low.T @ hidden[span]
        return d_hidden, d_weight, None, d_bias, None, None, None
