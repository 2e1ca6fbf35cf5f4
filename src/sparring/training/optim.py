"""Optimiser and learning-rate schedule of one fit. Leaves out: 8-bit states.

optimizer, schedule = make_optimizer(model.parameters(), FitConfig(), steps=100)
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch.optim.lr_scheduler import LambdaLR

from sparring.recipe import FitConfig


def make_optimizer(
    parameters: Iterable[torch.nn.Parameter], config: FitConfig, steps: int
) -> tuple[torch.optim.Optimizer, LambdaLR]:
    """The optimiser over the trainable parameters, and its schedule over `steps` steps."""
    trained = [p for p in parameters if p.requires_grad]
    if config.optimizer == "adamw":
        optimizer: torch.optim.Optimizer = torch.optim.AdamW(
            trained,
            lr=config.learning_rate,
            betas=config.betas,
            weight_decay=config.weight_decay,
            fused=True,
        )
    else:
        optimizer = torch.optim.RMSprop(trained, lr=config.learning_rate, weight_decay=config.weight_decay)
    warm = math.ceil(config.warmup * steps)
    return optimizer, LambdaLR(optimizer, lambda step: rate_factor(step, steps, warm, config.schedule))


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
