"""Weights cut over the devices (FSDP2): for models whose weights, gradients and optimiser state do not fit on one.

Every device keeps a slice of each weight. A layer is put together on all of them when it runs, and its gradient is
summed and cut again, so all ranks must run the same number of passes. Leaves out: sampling, which wants a whole copy on
each device, or vLLM's tensor parallelism.

    scorer, _ = make_scorer(lambda: load(...), config); ...; state = whole(scorer.model.state_dict(keep_vars=True))
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sparring.recipe.sections import FitConfig
from sparring.runtime import devices
from sparring.runtime.devices import on_device
from sparring.training.scorer import PolicyScorer


def make_scorer(load: Callable[[], nn.Module], config: FitConfig) -> tuple[PolicyScorer, float]:
    """A scorer, cut where the recipe says so, and how far it was from the model's own logits before.

    `load` gives it on the CPU. Ranks load one that is to be cut one after the other, so that main memory holds one.
    """
    if not config.shard_weights:
        scorer = PolicyScorer(on_device(load()), config.layout, config.attention).eval()
        return scorer, scorer.verify()
    from torch.distributed.device_mesh import init_device_mesh

    mesh = init_device_mesh("cuda" if torch.cuda.is_available() else "cpu", (devices.count(),))
    with devices.one_at_a_time():
        scorer = PolicyScorer(load(), config.layout, config.attention).eval()
        verified = scorer.verify()
        cut(scorer, mesh, config.precision)
    return scorer, verified


def cut(scorer: PolicyScorer, mesh: Any, precision: str) -> None:
    """Cut a scorer's weights over the mesh's devices, layer by layer, in place.

    Raises:
        ValueError: the architecture does not say what its layers are.
    """
    from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

    names = scorer.causal._no_split_modules or ()
    layers = [module for module in scorer.modules() if type(module).__name__ in names]
    if not layers:
        raise ValueError(
            f"fit.shard_weights = true: {type(scorer.causal).__name__} does not say what its layers are. Set it false."
        )
    # Layers come together in bfloat16: of float32 ones autocast would keep a whole copy for backward on every device.
    # Embedding and head stay float32, as under autocast, so that the residual stream does.
    low = torch.bfloat16 if precision == "bfloat16" else None
    policy = MixedPrecisionPolicy(param_dtype=low, reduce_dtype=torch.float32, cast_forward_inputs=False)
    for layer in layers:
        fully_shard(layer, mesh=mesh, mp_policy=policy)
    fully_shard(scorer, mesh=mesh)
    for module in scorer.modules():
        if isinstance(module, FSDPModule):  # losses are divided by the whole batch already: sums, not means
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)


def whole(value: Any) -> Any:
    """Nested data with every cut tensor put together, on rank 0's CPU; the others get empty tensors in their place.

    A tensor that occurs twice (tied weights) stays one.
    """
    made: dict[int, Tensor] = {}

    def visit(item: Any) -> Any:
        if isinstance(item, Mapping):
            return {key: visit(part) for key, part in item.items()}
        if isinstance(item, Tensor) and _is_cut(item):
            if id(item) not in made:
                full = together(item.detach())
                made[id(item)] = full.cpu() if devices.rank() == 0 else full.new_empty(0)
            return made[id(item)]
        return item

    return visit(value)


def together(tensor: Tensor) -> Tensor:
    """A cut tensor put together, on every rank's device."""
    return tensor.full_tensor() if _is_cut(tensor) else tensor  # type: ignore[attr-defined]


def whole_weights(model: nn.Module) -> dict[str, Tensor]:
    """What `save_pretrained` wants as `state_dict`; of a model with an adapter only that."""
    state = model.state_dict(keep_vars=True)
    adapter = hasattr(model, "peft_config")
    return whole({name: tensor for name, tensor in state.items() if tensor.requires_grad or not adapter})


def cut_like(value: Tensor, parameter: Tensor) -> Tensor:
    """This rank's slice of a whole tensor, cut as `parameter` is; the tensor itself where that is not cut."""
    if not _is_cut(parameter) or value.shape != parameter.shape:
        return value
    from torch.distributed.tensor import distribute_tensor

    place: Any = parameter
    return distribute_tensor(value.to(parameter.device), place.device_mesh, place.placements, src_data_rank=None)


def cut_state(state: Mapping[str, Any], parameters: Sequence[Tensor]) -> dict[str, Any]:
    """An optimiser's whole state, cut as its parameters are."""
    slots = {
        index: {name: cut_like(value, parameters[index]) for name, value in slot.items()}
        for index, slot in state["state"].items()
    }
    return {**state, "state": slots}


def _is_cut(tensor: Tensor) -> bool:
    return hasattr(tensor, "full_tensor")
