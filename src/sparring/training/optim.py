"""Optimiser and learning-rate schedule of one fit.

optimizer, schedule = make_optimizer(model.parameters(), FitConfig(), steps=100)
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterable
from typing import Any

import torch
from torch.distributed.tensor import DTensor
from torch.optim.lr_scheduler import LambdaLR

from sparring.recipe.sections import FitConfig
from sparring.runtime import gpus


def make_optimizer(
    parameters: Iterable[torch.nn.Parameter], config: FitConfig, steps: int
) -> tuple[torch.optim.Optimizer, LambdaLR]:
    """The optimiser over the trainable parameters, and its schedule over `steps` steps.

    Raises:
        ValueError: the optimiser needs a GPU or a package that is not here.
    """
    trained = [p for p in parameters if p.requires_grad]
    common: dict[str, Any] = {"lr": config.learning_rate, "eps": config.epsilon, "weight_decay": config.weight_decay}
    if config.optimizer == "adamw":
        optimizer: torch.optim.Optimizer = torch.optim.AdamW(trained, betas=config.betas, **common, fused=True)
    elif config.optimizer == "adamw_8bit":
        check_optimizer(config)
        from bitsandbytes.optim import AdamW8bit  # type: ignore[import-not-found]

        optimizer = AdamW8bit(trained, betas=config.betas, **common)
    else:
        optimizer = torch.optim.RMSprop(trained, **common)
    warm = math.ceil(config.warmup * steps)
    return optimizer, LambdaLR(optimizer, lambda step: rate_factor(step, steps, warm, config.schedule))


def check_optimizer(config: FitConfig) -> None:
    """Raise a ValueError where the optimiser cannot run here."""
    if config.optimizer != "adamw_8bit":
        return
    field = "fit.optimizer = 'adamw_8bit'"
    if not gpus.there():
        raise ValueError(f"{field} needs an NVIDIA GPU, and none is visible. Take adamw, or run where there is one.")
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ValueError(f"{field} needs the package bitsandbytes. Install it with: pip install 'sparring[qlora]'")


def rate_factor(step: int, steps: int, warm: int, schedule: str) -> float:
    """Learning rate as a share of its peak at 0-based `step`; the first step is never zero."""
    if step < warm:
        return (step + 1) / (warm + 1)
    progress = (step - warm) / max(1, steps - warm)
    if schedule == "linear":
        return 1.0 - progress
    if schedule == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * progress))
    return 1.0


DAMPED = 0.25
"""share of a gradient's entries below epsilon from which a fit warns; the recipe `inpo` has up to 7 %"""
PART = 1 << 22
"""entries looked at together: a copy of a whole embedding is gigabytes"""


def damped_share(parameters: Iterable[torch.nn.Parameter], epsilon: float) -> float:
    """Share of this device's gradient entries that are not zero, and smaller than the optimiser's epsilon."""
    small = nonzero = 0
    for parameter in parameters:
        if (gradient := parameter.grad) is None:
            continue
        local = gradient.to_local() if isinstance(gradient, DTensor) else gradient
        for part in local.flatten().split(PART):
            count = int(torch.count_nonzero(part))
            nonzero += count
            # Entries of rows that no token touched are zero: they take no step, and are not damped.
            small += int((part.abs() < epsilon).sum()) - (len(part) - count)
    return small / nonzero if nonzero else 0.0
