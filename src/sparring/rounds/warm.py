"""Models and judges that stay in memory from stage to stage (`warm: true`), for rounds so small that loading shows.

Weights are copied into the model that is there, so that none is built anew: from the model that a fit has just made,
or from the policy's files. Every value is that of a fresh load, and what a stage makes is on disk as ever. Leaves out:
vLLM, adapters (merged anew for every policy), and workers of a cluster, which keep theirs by themselves (`fleet/`).

    warm = Warm(); warm.model("sample", weights_hash, folder, lambda: load_model(folder, torch.bfloat16))
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import nn

from sparring.models.identity import tensor_names
from sparring.oracles.on_workers import computes_here
from sparring.oracles.oracle import Oracle


@dataclass(slots=True)
class _Kept:
    """A model, and what it was when it was loaded."""

    model: Any
    weights: str
    """hash of the weights that it holds; empty where a fit has changed them"""
    forwards: dict[nn.Module, Any]
    """modules that had a forward of their own, before scorers and engines gave them others"""


class Warm:
    """What is in memory, by its use."""

    def __init__(self) -> None:
        self._models: dict[str, _Kept] = {}
        self._oracles: dict[str, Oracle] = {}

    def model(self, use: str, weights: str, folder: Path, load: Callable[[], Any], changes: bool = False) -> Any:
        """What `load` returns, with weights of this hash from `folder`; `changes`: the caller will train it.

        A model of which the folder holds other names or sizes of weights is loaded again.
        """
        kept = self._models.get(use)
        if kept is None or (kept.weights != weights and not self._put(kept.model, weights, folder)):
            self._models.pop(use, None)
            kept = None  # frees it before the next one is loaded
            model = load()
            kept = _Kept(model, weights, {m: vars(m)["forward"] for m in model.modules() if "forward" in vars(m)})
            self._models[use] = kept
        for module in kept.model.modules():
            vars(module).pop("forward", None)
        for module, forward in kept.forwards.items():
            module.forward = forward
        kept.weights = "" if changes else weights
        return kept.model.eval()

    def now_holds(self, use: str, weights: str) -> None:
        """Say which weights a fit has left in the model of this use."""
        if use in self._models:
            self._models[use].weights = weights

    def _put(self, model: nn.Module, weights: str, folder: Path) -> bool:
        """Put weights into a model, from another one that holds them or from the folder; False where they differ."""
        for kept in self._models.values():
            if kept.weights == weights and copy_weights(kept.model, model):
                return True
        return put_weights(model, folder)

    def oracle(self, section: Mapping[str, Any], build: Callable[[], Oracle]) -> Oracle:
        """The oracle of a recipe's section: the one that is there where it asks nobody outside, or a new one."""
        if not computes_here(section):
            return build()
        key = repr(section)
        if key not in self._oracles:
            self._oracles[key] = build()
        return self._oracles[key]


@torch.no_grad()
def copy_weights(source: nn.Module, target: nn.Module) -> bool:
    """Copy all weights of a model into another, each in the other's precision; False where names or sizes differ.

    From float32 alone: what was rounded is not the policy any more.
    """
    given, own = source.state_dict(), target.state_dict()
    fits = given.keys() == own.keys() and all(given[name].shape == own[name].shape for name in own)
    if not fits or any(given[name].dtype != torch.float32 for name in own):
        return False
    for name, value in given.items():
        own[name].copy_(value)
    return True


@torch.no_grad()
def put_weights(model: nn.Module, folder: Path) -> bool:
    """Copy all weights of a folder into a model, each in the model's own precision.

    False, with nothing changed, where the folder has other names or sizes than the model.
    """
    own = model.state_dict()
    files = {name: file for file in sorted(folder.glob("*.safetensors")) for name in tensor_names(file)}
    if not files.keys() <= own.keys():
        return False
    given = {own[name].data_ptr() for name in files}
    if any(tensor.data_ptr() not in given for tensor in own.values()):  # tied weights are stored once
        return False
    stored = {file: safe_open(file, "pt") for file in files.values()}
    if any(stored[file].get_slice(name).get_shape() != list(own[name].shape) for name, file in files.items()):
        return False
    for name, file in files.items():
        own[name].copy_(stored[file].get_tensor(name))
    return True
