"""Prompts and their responses as one token sequence: the prompt once, responses as branches.

Two layouts of the same examples, chosen by one switch:

- `packed`: `[prompt | branch | branch | prompt | branch ...]`, one row, no padding. Positions restart where a
  branch leaves its prompt, and a branch sees itself and its prompt only (`branch_attention`), so
  every log-probability is the one that a separate sequence would give.
- `padded`: one row `prompt + response` per response, right-padded: the plain form, for models whose
  attention cannot be replaced, and the reference that the packed form is tested against.

The last token of a response predicts nothing that is needed, so it is never fed. Leaves out: running
the model (`scorer.py`).

    packs = plan_packs([Rollout(prompt_ids, [response_ids, ...])], budget=4096)

Shape suffixes: B rows, T tokens of a row, N predicted response tokens, R responses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

Layout = Literal["packed", "padded"]

BRANCH_ATTENTION = "sparring_branches"
"""name under which `branch_attention` is registered with transformers"""


class Rollout(NamedTuple):
    """A prompt and its responses, as tokens."""

    prompt_ids: Sequence[int]
    responses: Sequence[Sequence[int]]

    def tokens(self, layout: Layout) -> int:
        """Tokens fed to the model in this layout, padding not counted."""
        fed = sum(len(response) - 1 for response in self.responses)
        shared = 1 if layout == "packed" else len(self.responses)
        return len(self.prompt_ids) * shared + fed


class Segment(NamedTuple):
    """Where one prompt and its branches stand in a packed row: half-open spans."""

    prompt: tuple[int, int]
    branches: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Pack:
    """Some rollouts as model input, and where their response tokens are predicted."""

    input_ids_BT: Tensor
    positions_BT: Tensor
    predict_N: Tensor
    """index into the flattened B*T hidden states"""
    target_N: Tensor
    """the token predicted there"""
    response_N: Tensor
    """the response it belongs to, 0..R-1 in rollout order"""
    num_responses: int
    segments: tuple[Segment, ...] | None
    """packed layout; None when padded"""
    mask_BT: Tensor | None
    """padded layout: 1 on tokens, 0 on padding; None when packed"""

    def to(self, device: torch.device) -> Pack:
        """The same pack with its tensors on `device`."""
        names = ("input_ids_BT", "positions_BT", "predict_N", "target_N", "response_N")
        moved: dict[str, Any] = {name: getattr(self, name).to(device) for name in names}
        moved["mask_BT"] = None if self.mask_BT is None else self.mask_BT.to(device)
        return replace(self, **moved)


def plan_packs(sizes: Sequence[int], budget: int) -> list[list[int]]:
    """Indices grouped so that each group's sizes add up to at most `budget`, in order of size.

    Groups are made of neighbours in length, longest first (a peak shows at once), and a single
    item above the budget is a group of its own.
    """
    order = sorted(range(len(sizes)), key=lambda i: (-sizes[i], i))
    packs: list[list[int]] = []
    room = 0
    for index in order:
        if not packs or sizes[index] > room:
            packs.append([])
            room = budget
        packs[-1].append(index)
        room -= sizes[index]
    return packs


def make_pack(rollouts: Sequence[Rollout], layout: Layout, pad_id: int = 0) -> Pack:
    """The rollouts as one pack. Raises ValueError for an empty prompt or response."""
    for rollout in rollouts:
        if not rollout.prompt_ids or not all(rollout.responses):
            raise ValueError("a prompt and every response need at least one token")
    return _packed(rollouts) if layout == "packed" else _padded(rollouts, pad_id)


def _packed(rollouts: Sequence[Rollout]) -> Pack:
    ids: list[int] = []
    positions: list[int] = []
    predict: list[int] = []
    segments: list[Segment] = []
    for prompt_ids, responses in rollouts:
        start, length = len(ids), len(prompt_ids)
        ids += prompt_ids
        positions += range(length)
        branches: list[tuple[int, int]] = []
        for response in responses:
            begin = len(ids)
            ids += response[:-1]
            positions += range(length, length + len(response) - 1)
            predict += [start + length - 1, *range(begin, len(ids))]
            branches.append((begin, len(ids)))
        segments.append(Segment((start, start + length), tuple(branches)))
    row = torch.tensor([ids]), torch.tensor([positions]), torch.tensor(predict)
    return Pack(*row, *_targets(rollouts), segments=tuple(segments), mask_BT=None)


def _padded(rollouts: Sequence[Rollout], pad_id: int) -> Pack:
    rows = [[*r.prompt_ids, *response[:-1]] for r in rollouts for response in r.responses]
    starts = [len(r.prompt_ids) for r in rollouts for _ in r.responses]
    width = max(map(len, rows))
    ids = torch.full((len(rows), width), pad_id)
    mask = torch.zeros((len(rows), width), dtype=torch.long)
    predict: list[int] = []
    for index, (row, start) in enumerate(zip(rows, starts, strict=True)):
        ids[index, : len(row)] = torch.tensor(row)
        mask[index, : len(row)] = 1
        predict += range(index * width + start - 1, index * width + len(row))
    positions = (mask.cumsum(1) - 1).clamp_min(0)
    return Pack(ids, positions, torch.tensor(predict), *_targets(rollouts), segments=None, mask_BT=mask)


def _targets(rollouts: Sequence[Rollout]) -> tuple[Tensor, Tensor, int]:
    responses = [response for rollout in rollouts for response in rollout.responses]
    owner = torch.repeat_interleave(
        torch.arange(len(responses)), torch.tensor([len(response) for response in responses])
    )
    return (
        torch.tensor([token for response in responses for token in response]),
        owner,
        len(responses),
    )


def branch_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    segments: tuple[Segment, ...] = (),
    **extra: Any,
) -> tuple[Tensor, None]:
    """Attention of a packed row: each prompt causally on itself, each branch on its prompt and itself.

    Computes only what is visible: no T x T score is formed. Shapes: query 1 x H x T x D, key and
    value 1 x G x T x D (G key heads, H a multiple of G). Returns 1 x T x H x D, as transformers expects.
    """
    assert segments, "packed attention was called without segments; use PolicyScorer"
    _refuse_unsupported(module, segments, extra)
    pieces: list[Tensor] = []
    grouped = query.shape[1] != key.shape[1]
    for (start, end), branches in segments:
        q, k, v = (x[:, :, start:end] for x in (query, key, value))
        pieces.append(_attend(q, k, v, None, scaling, grouped))
        for begin, stop in branches:
            if begin == stop:
                continue
            keys = torch.cat([k, key[:, :, begin:stop]], dim=2)
            values = torch.cat([v, value[:, :, begin:stop]], dim=2)
            mask = _branch_mask(end - start, stop - begin, query.device)
            pieces.append(_attend(query[:, :, begin:stop], keys, values, mask, scaling, grouped))
    return torch.cat(pieces, dim=2).transpose(1, 2).contiguous(), None


def _refuse_unsupported(module: torch.nn.Module, segments: tuple[Segment, ...], extra: dict[str, Any]) -> None:
    """Raise ValueError where plain softmax attention over prompt and branch is not what the model means."""
    unusual = [name for name in ("softcap", "s_aux", "position_bias") if extra.get(name) is not None]
    window = extra.get("sliding_window")
    longest = max(e - s + max((b - a for a, b in branches), default=0) for (s, e), branches in segments)
    if window is not None and longest > window:
        unusual.append(f"sliding_window = {window} with a sequence of {longest} tokens")
    if unusual:
        raise ValueError(
            f"fit.layout = 'packed': {type(module).__name__} uses {', '.join(unusual)}, which the packed layout does "
            "not support. Use fit.layout: padded."
        )


def _attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scaling: float | None, grouped: bool) -> Tensor:
    return F.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, is_causal=mask is None, scale=scaling, enable_gqa=grouped
    )


def _branch_mask(prompt: int, branch: int, device: torch.device) -> Tensor:
    """branch x (prompt + branch): everything of the prompt, and the branch causally."""
    mask = torch.ones(branch, prompt + branch, dtype=torch.bool, device=device)
    return mask.tril_(prompt)
