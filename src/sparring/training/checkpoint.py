"""Checkpoints inside a fit: trainable weights, optimiser, schedule and step; noise is seeded step by step.

There is one checkpoint at a time; it is written beside its target and renamed, so a kill at any moment leaves a
complete one. It names its fit, and no other fit loads it; a damaged one (the checksums that torch writes into the file
do not fit) is not used either. Rank 0 writes, all ranks read, and their number may change in between. Leaves out:
finished policies (`rounds/policies.py`).
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sparring.runtime import devices
from sparring.runtime.files import beside
from sparring.training.sharding import shard_like, unshard

CHECKPOINT = "checkpoint.pt"
"""the file in a fit's folder"""


def save_checkpoint(folder: Path, model: nn.Module, state: dict[str, Any]) -> None:
    """Write `folder/checkpoint.pt` with the trainable weights and `state`; all ranks call it.

    `state` holds "fit_id" and all else that the fit continues from: plain values, and tensors in nested mappings.
    """
    weights = unshard({name: p for name, p in model.named_parameters() if p.requires_grad})
    state = unshard(state)
    if devices.rank() > 0:
        return
    weights = {name: p.detach().cpu() for name, p in weights.items()}
    # Through a file of our own: torch's writer reports a full disk as an internal error.
    with beside(folder / CHECKPOINT) as partial, partial.open("wb", buffering=0) as stream:
        torch.save({"weights": weights, **state}, stream)


def load_checkpoint(
    folder: Path, model: nn.Module, fit_id: str, say: Callable[[str], None] = lambda _: None
) -> dict[str, Any] | None:
    """Load the checkpoint's weights into the model and return its state; None where there is no whole one of this fit.

    All ranks call it; `say` gets the reason why a checkpoint is not used.
    """
    path = folder / CHECKPOINT
    if not path.exists():
        return None
    if not devices.broadcast(devices.rank() > 0 or _whole(path)):  # rank 0 decides for all
        say(f"note  {path} is damaged (its checksums do not fit) and is not used. This fit starts over")
        return None
    state = torch.load(path, map_location="cpu", weights_only=True)
    if state["fit_id"] != fit_id:
        say(f"note  {path} is not used: its fit had other examples, settings or seed. This fit starts over")
        return None
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, value in state.pop("weights").items():
            parameters[name].copy_(shard_like(value, parameters[name]))
    return state


def _whole(path: Path) -> bool:
    """Whether every record has the checksum that it was written with."""
    try:
        with zipfile.ZipFile(path) as records:
            return records.testzip() is None
    except Exception:  # its errors have no common class: damage may lie in any field
        return False
