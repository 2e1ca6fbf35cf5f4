"""Weights sharded over the devices (FSDP2): for models whose weights, gradients and optimiser state do not fit on one.

Every device keeps a slice of each weight. All devices gather a layer's full weights when it runs, and sum and shard its
gradient afterwards, so all ranks must run the same number of passes. Leaves out: sampling, which needs a full copy on
each device, or vLLM's tensor parallelism.

    scorer, _ = make_scorer(lambda: load(...), config); ...; state = unsharded_weights(scorer.model)

Shape suffixes: none; `...` is the full shape of a weight or of a slot of the optimiser, and a shard (`DTensor`) has it
too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from sparring.recipe.sections import FitConfig
from sparring.runtime import devices, gpus
from sparring.runtime.devices import on_device
from sparring.runtime.precision import computed
from sparring.training.scorer import PolicyScorer


def make_scorer(load: Callable[[], nn.Module], config: FitConfig) -> tuple[PolicyScorer, float]:
    """A scorer of the model that `load` returns on the CPU, sharded with `fit.shard_weights`.

    The second value is its largest difference to the model's own logits in nats per token, measured before sharding.
    Ranks load a model to be sharded one after the other, so that main memory holds one copy.

    Raises:
        ValueError: the scorer differs from the model, or the model does not say what its layers are.
    """
    if not config.shard_weights:
        scorer = PolicyScorer(on_device(load()), config.layout, config.attention).eval()
        return scorer, scorer.verify()
    from torch.distributed.device_mesh import init_device_mesh

    mesh = init_device_mesh(gpus.device_type(), (devices.count(),))
    with devices.one_at_a_time():
        scorer = PolicyScorer(load(), config.layout, config.attention).eval()
        verified = scorer.verify()
        shard(scorer, mesh, config.precision)
    return scorer, verified


def shard(scorer: PolicyScorer, mesh: Any, precision: str) -> None:
    """Shard a scorer's weights over the mesh's devices, layer by layer, in place.

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
    # Layers are gathered in bfloat16: autocast would keep a full copy of float32 ones for backward on every device.
    # Embedding and head stay float32, as under autocast, so that the residual stream does.
    low = computed(precision, mesh.device_type)
    policy = MixedPrecisionPolicy(param_dtype=low, reduce_dtype=torch.float32, cast_forward_inputs=False)
    for layer in layers:
        fully_shard(layer, mesh=mesh, mp_policy=policy)
    fully_shard(scorer, mesh=mesh)
    for module in scorer.modules():
        if isinstance(module, FSDPModule):  # losses are divided by the whole batch already: sums, not means
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)


def unshard(value: Any) -> Any:
    """Nested mappings with full tensors, on rank 0's CPU, for shards; on other ranks empty tensors take their place.

    All ranks call it. A tensor that occurs twice (tied weights) stays one.
    """
    full_by_id: dict[int, Float[Tensor, " ..."]] = {}

    def visit(item: Any) -> Any:
        if isinstance(item, Mapping):
            return {key: visit(part) for key, part in item.items()}
        if isinstance(item, Tensor) and _is_sharded(item):
            if id(item) not in full_by_id:
                full = full_tensor(item.detach())
                full_by_id[id(item)] = full.cpu() if devices.rank() == 0 else full.new_empty(0)
            return full_by_id[id(item)]
        return item

    return visit(value)


def full_tensor(tensor: Float[Tensor, " ..."]) -> Float[Tensor, " ..."]:
    """The full tensor of a shard, on every rank's device; any other tensor as it is. All ranks call it."""
    return tensor.full_tensor() if _is_sharded(tensor) else tensor  # type: ignore[attr-defined]


def unsharded_weights(model: nn.Module) -> dict[str, Float[Tensor, " ..."]]:
    """Full weights by name, as `save_pretrained` takes them for `state_dict`; with an adapter the adapter's alone."""
    state = model.state_dict(keep_vars=True)
    adapter = hasattr(model, "peft_config")
    return unshard({name: tensor for name, tensor in state.items() if tensor.requires_grad or not adapter})


def shard_like(value: Shaped[Tensor, " ..."], parameter: Float[Tensor, " ..."]) -> Shaped[Tensor, " ..."]:
    """This rank's shard of a full tensor, placed as `parameter` is.

    The tensor itself where the parameter is not sharded, or has another shape (an optimiser's step count).
    """
    if not _is_sharded(parameter) or value.shape != parameter.shape:
        return value
    from torch.distributed.tensor import distribute_tensor

    place: Any = parameter
    return distribute_tensor(value.to(parameter.device), place.device_mesh, place.placements, src_data_rank=None)


def shard_state(state: Mapping[str, Any], parameters: Sequence[Float[Tensor, " ..."]]) -> dict[str, Any]:
    """An optimiser's full state, sharded as its parameters are."""
    slots = {
        index: {name: shard_like(value, parameters[index]) for name, value in slot.items()}
        for index, slot in state["state"].items()
    }
    return {**state, "state": slots}


def _is_sharded(tensor: Shaped[Tensor, " ..."]) -> bool:
    return hasattr(tensor, "full_tensor")
