"""Training examples, and how some of them become one `Batch` for an objective.

Leaves out: reading them from a run's files (`rounds/fit.py`).

Shape suffixes: R responses, P pairs, 2 the winner and loser of a pair.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from sparring.objectives.pairs import Batch, Pair
from sparring.training.packing import Rollout


@dataclass(frozen=True, slots=True)
class TrainingExample:
    """One prompt's responses, their anchor log-probabilities, and the pairs among them."""

    id: str
    rollout: Rollout
    roles: tuple[str, ...]
    win_rates: tuple[float, ...]
    anchors: Mapping[str, Sequence[float]]
    """by anchor name, a log-probability per response"""
    pairs: tuple[Pair, ...]


def make_batch(examples: Sequence[TrainingExample], logps_R: Float[Tensor, " R"]) -> Batch:
    """The examples as tensors beside the trained log-probabilities, on the same device.

    `logps_R` holds the log-probabilities (nats) of all examples' responses, in their order.
    """
    offsets = [0]
    for example in examples:
        offsets.append(offsets[-1] + len(example.roles))

    def tensor(values: Sequence[float], dtype: torch.dtype = logps_R.dtype) -> Shaped[Tensor, " _"]:
        return torch.tensor(values, dtype=dtype, device=logps_R.device)

    pairs = [(offset, pair) for offset, e in zip(offsets, examples, strict=False) for pair in e.pairs]
    indices = [(offset + pair.winner, offset + pair.loser) for offset, pair in pairs]
    names = examples[0].anchors.keys()
    return Batch(
        logps_R=logps_R,
        anchor_logps={name: tensor([v for e in examples for v in e.anchors[name]]) for name in names},
        lengths_R=tensor([len(r) for e in examples for r in e.rollout.responses], torch.long),
        example_R=tensor([i for i, e in enumerate(examples) for _ in e.roles], torch.long),
        roles=tuple(role for e in examples for role in e.roles),
        win_rates_R=tensor([rate for e in examples for rate in e.win_rates]),
        pairs_P2=torch.tensor(indices, dtype=torch.long, device=logps_R.device).reshape(-1, 2),
        preference_P=tensor([pair.preference for _, pair in pairs]),
        weight_P=tensor([pair.weight for _, pair in pairs]),
        term_P=tensor([pair.term for _, pair in pairs], torch.long),
    )
