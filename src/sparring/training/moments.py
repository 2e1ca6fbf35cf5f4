"""The optimiser's moments handed from one fit to the next, as a file of tensors by the parameter's name and the slot's.

A fit of two steps with fresh moments is little more than the sign of a gradient: with `fit.keep_optimizer` Adam's
averages go on over the rounds. The schedule and all settings are those of the new fit. Leaves out: checkpoints inside
a fit (`checkpoint.py`).

    save_moments(Path("optimizer/moments.safetensors"), model, optimizer); load_moments(path, model, optimizer)

Shape suffixes: none; a slot has its parameter's shape, or none (a count of steps).
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Shaped
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from sparring.runtime import devices
from sparring.runtime.files import folder_beside
from sparring.training.sharding import shard_state, unshard

SEPARATOR = "/"
"""between a parameter's name, which never holds it, and the slot's"""


@dataclass(frozen=True, slots=True)
class Moments:
    """Where a fit finds the moments that it begins with, and where it leaves those that it ends with."""

    before: Path | None
    """None: it begins anew"""
    before_hash: str
    """of that file; empty where it begins anew"""
    after: Path


def save_moments(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Write the optimiser's slots, in a folder of their own; all ranks call it, and rank 0 writes."""
    state = unshard(optimizer.state_dict()["state"])
    if devices.rank() > 0:
        return
    names = _trained(model)
    slots = {
        f"{names[index]}{SEPARATOR}{slot}": value.detach().cpu().contiguous()
        for index, values in state.items()
        for slot, value in values.items()
    }
    with folder_beside(path.parent) as partial:  # as policies: not flushed, for the manifest's hash shows a power cut
        partial.mkdir(parents=True)
        save_file(slots, partial / path.name)
        shutil.rmtree(path.parent, ignore_errors=True)


def load_moments(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Give the optimiser the slots of a file; its settings stay. All ranks call it.

    Raises:
        ValueError: the file is of an optimiser of another kind, or of other parameters.
    """
    slots: dict[str, dict[str, Shaped[Tensor, " ..."]]] = {}
    for key, value in load_file(path).items():
        name, _, slot = key.rpartition(SEPARATOR)
        slots.setdefault(name, {})[slot] = value
    names = _trained(model)
    own = optimizer.state_dict()
    if slots.keys() - set(names):
        raise ValueError(
            f"{path} holds moments of {sorted(slots.keys() - set(names))[:3]}, which are not trained here. Set "
            "fit.keep_optimizer: false."
        )
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state = {index: slots[name] for index, name in enumerate(names) if name in slots}
    optimizer.load_state_dict(shard_state({**own, "state": state}, parameters))


def _trained(model: nn.Module) -> list[str]:
    """Names of the trained parameters, in the optimiser's order."""
    return [name for name, parameter in model.named_parameters() if parameter.requires_grad]
