"""Small hand-made batches for objective tests."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from sparring.objectives.pairs import Batch


def two_pairs(
    logps: Sequence[float],
    pairs: Sequence[tuple[int, int]] = ((0, 1),),
    weights: Sequence[float] | None = None,
    terms: Sequence[int] | None = None,
    preference: float = float("nan"),
    win_rates: Sequence[float] | None = None,
    **anchors: Sequence[float],
) -> Batch:
    """A float64 batch with one weight-1 pair (0 beats 1) unless told otherwise; anchors by name."""
    count = len(pairs)
    return Batch(
        logps_R=torch.tensor(logps, dtype=torch.float64, requires_grad=True),
        anchor_logps={name: torch.tensor(values, dtype=torch.float64) for name, values in anchors.items()},
        lengths_R=torch.ones(len(logps), dtype=torch.long),
        example_R=torch.zeros(len(logps), dtype=torch.long),
        roles=("own",) * len(logps),
        win_rates_R=torch.tensor(win_rates or [float("nan")] * len(logps), dtype=torch.float64),
        pairs_P2=torch.tensor(pairs, dtype=torch.long).reshape(-1, 2),
        preference_P=torch.full((count,), preference, dtype=torch.float64),
        weight_P=torch.tensor([1.0] * count if weights is None else weights, dtype=torch.float64),
        term_P=torch.tensor([0] * count if terms is None else terms, dtype=torch.long),
    )
