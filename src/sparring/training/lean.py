"""Norms, gated MLPs and embeddings with fewer copies, for the same values.

Under autocast a float32 norm output is made bfloat16 once for each linear layer that reads it, and every copy is kept
for backward; `silu(gate) * up` keeps a tensor that two others give. Here a norm rounds its output once, and backward
computes the gate's activation again. Values are the same up to the order of rounding. A module for which they are not
keeps its own forward. Leaves out: attention (`attention.py`) and the head (`logprobs.py`).

    make_lean(model)   # in place; returns how many modules of each kind it took

Shape suffixes: H width of a norm or of an MLP's input, I width inside an MLP; `*rows` are all dimensions before it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

from sparring.training.accumulate import embed

Forward = Callable[[Shaped[Tensor, "..."]], Float[Tensor, "..."]]


def make_lean(model: nn.Module) -> dict[str, int]:
    """Give every RMS norm, SiLU-gated MLP and embedding its lean forward; the first two where it agrees on a probe."""
    taken = {"norms": 0, "mlps": 0, "embeddings": 0}
    for module in model.modules():
        if _is_plain_embedding(module):
            module.forward = _lean_embedding(module)  # type: ignore[method-assign]
            taken["embeddings"] += 1
            continue
        kind, lean, width = _lean_form(module)
        if lean is not None and _agrees(module, lean, width):
            module.forward = lean  # type: ignore[method-assign]
            taken[kind] += 1
    return taken


def _is_plain_embedding(module: Any) -> bool:
    return type(module) is nn.Embedding and not (module.sparse or module.scale_grad_by_freq or module.max_norm)


def _lean_embedding(module: Any) -> Forward:
    return lambda ids: embed(ids, module.weight, module.padding_idx)


def _lean_form(module: Any) -> tuple[str, Forward | None, int]:
    """Kind, lean forward and input width of a module; the forward is None for all others."""
    if type(module).__name__.endswith("RMSNorm") and isinstance(getattr(module, "weight", None), Tensor):
        epsilon = getattr(module, "variance_epsilon", getattr(module, "eps", None))
        if isinstance(epsilon, float):
            return "norms", _lean_norm(module, epsilon), len(module.weight)
    width = getattr(getattr(module, "gate_proj", None), "in_features", None)
    if isinstance(width, int) and hasattr(module, "up_proj") and hasattr(module, "down_proj"):
        return "mlps", _lean_mlp(module), width
    return "", None, 0


@torch.no_grad()
def _agrees(module: nn.Module, lean: Forward, width: int) -> bool:
    weight = next(module.parameters(), None)
    if weight is None:
        return False
    if isinstance(weight, FakeTensor) or weight.is_meta:  # no values: planning counts bytes
        return True
    probe = torch.linspace(-2.0, 3.0, 2 * width, device=weight.device).reshape(1, 2, width)
    dtype = weight.dtype if weight.dtype.is_floating_point else torch.float32
    modes = {part: part.training for part in module.modules()}
    module.eval()  # an adapter's dropout would make two equal forwards differ
    plain, leaner = module(probe.to(dtype)), lean(probe.to(dtype))
    for part, mode in modes.items():
        part.training = mode
    return plain.dtype == leaner.dtype and torch.allclose(plain, leaner, rtol=2e-2 if dtype == torch.bfloat16 else 1e-5)


def _lean_norm(module: Any, epsilon: float) -> Forward:
    def forward(hidden_states: Float[Tensor, "*rows H"]) -> Float[Tensor, "*rows H"]:
        device = hidden_states.device.type
        low = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden_states.dtype
        with torch.autocast(device, enabled=False):
            return _RMSNorm.apply(hidden_states, module.weight, epsilon, low)  # type: ignore[no-any-return]

    return forward


def _lean_mlp(module: Any) -> Forward:
    def forward(x: Float[Tensor, "*rows H"]) -> Float[Tensor, "*rows H"]:
        return module.down_proj(_GatedSilu.apply(module.gate_proj(x), module.up_proj(x)))

    return forward


class _RMSNorm(torch.autograd.Function):
    """y = w x r with r = 1 / rms(x); dx = r (w dy) - x r^3 mean(w dy x)."""

    @staticmethod
    def forward(
        ctx: Any, x: Float[Tensor, "*rows H"], weight: Float[Tensor, " H"], epsilon: float, dtype: torch.dtype
    ) -> Float[Tensor, "*rows H"]:
        high = x.to(torch.promote_types(x.dtype, torch.float32))
        inverse = (torch.linalg.vector_norm(high, dim=-1, keepdim=True).square_() / x.shape[-1] + epsilon).rsqrt_()
        ctx.save_for_backward(x, weight, inverse)
        return (high * inverse).mul_(weight).to(dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Float[Tensor, "*rows H"]) -> tuple[Float[Tensor, " ..."] | None, ...]:
        x, weight, inverse = ctx.saved_tensors
        d_y, high = grads[0].to(inverse.dtype), x.to(inverse.dtype)
        scaled = high * inverse
        d_weight = (d_y * scaled).flatten(0, -2).sum(0).to(weight.dtype) if ctx.needs_input_grad[1] else None
        d_scaled = d_y * weight
        along = torch.linalg.vecdot(d_scaled, scaled).unsqueeze_(-1) / x.shape[-1]
        d_x = d_scaled.sub_(scaled.mul_(along)).mul_(inverse)
        return d_x.to(x.dtype), d_weight, None, None


class _GatedSilu(torch.autograd.Function):
    """silu(gate) * up, keeping only its two inputs."""

    @staticmethod
    def forward(ctx: Any, gate: Float[Tensor, "*rows I"], up: Float[Tensor, "*rows I"]) -> Float[Tensor, "*rows I"]:
        ctx.save_for_backward(gate, up)
        return F.silu(gate).mul_(up)

    @staticmethod
    def backward(
        ctx: Any, *grads: Float[Tensor, "*rows I"]
    ) -> tuple[Float[Tensor, "*rows I"], Float[Tensor, "*rows I"]]:
        gate, up = ctx.saved_tensors
        d_gate = torch.ops.aten.silu_backward(grads[0] * up, gate)
        return d_gate, F.silu(gate).mul_(grads[0])
