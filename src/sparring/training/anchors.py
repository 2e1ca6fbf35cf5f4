"""The anchor pass: log-probabilities of responses under a frozen policy, without gradients.

Runs in the same layout and precision as the fit, so that a policy that has not moved has log-ratios of
zero, up to rounding in bfloat16. Leaves out: which policies are needed (`rounds/anchor.py`).

    logps = rollout_logps(PolicyScorer(model), rollouts, budget=8192, precision="bfloat16")
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from sparring.training.packing import Rollout, plan_packs
from sparring.training.scorer import PolicyScorer


@torch.inference_mode()
def rollout_logps(
    scorer: PolicyScorer,
    rollouts: Sequence[Rollout],
    budget: int,
    precision: str = "bfloat16",
    advance: Callable[..., None] | None = None,
) -> list[list[float]]:
    """Per rollout, the summed log-probability of each response; `budget` is tokens run at once."""
    scorer.eval()
    found: list[list[float]] = [[] for _ in rollouts]
    sizes = [rollout.tokens(scorer.layout) for rollout in rollouts]
    for group in plan_packs(sizes, budget):
        pack = scorer.pack([rollouts[i] for i in group])
        with torch.autocast(pack.input_ids_BT.device.type, torch.bfloat16, enabled=precision == "bfloat16"):
            flat = scorer(pack).tolist()
        for index in group:
            count = len(rollouts[index].responses)
            found[index], flat = flat[:count], flat[count:]
        if advance is not None:
            advance(len(group))
    return found
