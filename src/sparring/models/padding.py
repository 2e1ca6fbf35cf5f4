"""Rows of tokens as one batch of a model's inputs.

model(**left_padded([[1, 2], [3]], pad=0, device=model.device))

Shape suffixes: B rows, T tokens of the longest.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor

Inputs = dict[str, Int[Tensor, "B T"]]


def right_padded(rows: Sequence[list[int]], pad: int | None, device: torch.device) -> Inputs:
    """`input_ids` and `attention_mask` of rows that begin in the first column; `pad` may be None for equal lengths."""
    longest = max(map(len, rows))
    ids_BT = torch.tensor([row + [pad] * (longest - len(row)) for row in rows], device=device)
    mask_BT = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows], device=device)
    return {"input_ids": ids_BT, "attention_mask": mask_BT}


def left_padded(rows: Sequence[list[int]], pad: int, device: torch.device) -> Inputs:
    """`input_ids`, `attention_mask` and `position_ids` of rows that end in the last column, where a model goes on."""
    backwards = right_padded([row[::-1] for row in rows], pad, device)
    inputs = {name: values_BT.flip(1) for name, values_BT in backwards.items()}
    return {**inputs, "position_ids": (inputs["attention_mask"].cumsum(1) - 1).clamp(min=0)}
