"""Prompts and their responses as one token sequence: the prompt once, responses as branches.

Two layouts of the same examples, chosen by one switch:

- `packed`: `[prompt | branch | branch | prompt | branch ...]`, one row, no padding. Positions restart where a branch
  leaves its prompt, and a branch sees itself and its prompt only (`attention.py`), so every log-probability is the one
  that a separate sequence would give. A prompt that begins another one of the pack, as an earlier turn of the same
  dialogue does, is not fed again: its branches leave the longer prompt where their own ends.
- `padded`: one row `prompt + response` per response, right-padded: the plain form, for models whose attention cannot
  be replaced, and the reference that the packed form is tested against.

The last token of a response predicts nothing, so it is never fed. Leaves out: running the model (`scorer.py`).

    packs = plan_rollouts(rollouts, budget=4096, layout="packed")

Shape suffixes: B rows, T tokens of a row, N predicted response tokens, R responses, F all
B * T places in one row.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

Layout = Literal["packed", "padded"]


class Rollout(NamedTuple):
    """A prompt and its responses, as tokens."""

    prompt_ids: Sequence[int]
    responses: Sequence[Sequence[int]]

    def tokens(self, layout: Layout) -> int:
        """Tokens fed to the model in this layout; padded, each response is as long as the longest."""
        fed = [len(response) - 1 for response in self.responses]
        if layout == "packed":
            return len(self.prompt_ids) + sum(fed)
        return len(fed) * (len(self.prompt_ids) + max(fed))


class Branch(NamedTuple):
    """Where a response stands in a packed row, a half-open span, and where the prompt that it sees ends."""

    begin: int
    end: int
    prompt_end: int


class Segment(NamedTuple):
    """Where one prompt, a half-open span, and its branches stand in a packed row."""

    prompt: tuple[int, int]
    branches: tuple[Branch, ...]


@dataclass(frozen=True, slots=True)
class Pack:
    """Some rollouts as model input, and where their response tokens are predicted."""

    input_ids_BT: Int[Tensor, "B T"]
    positions_BT: Int[Tensor, "B T"]
    """place of a token in its own sequence, prompt and branch, from 0"""
    predict_N: Int[Tensor, " N"]
    """index into the flattened B*T hidden states"""
    target_N: Int[Tensor, " N"]
    """the token predicted there"""
    response_N: Int[Tensor, " N"]
    """the response it belongs to, 0..R-1 in rollout order"""
    num_responses: int
    segments: tuple[Segment, ...] | None
    """packed layout; None when padded"""
    mask_BT: Int[Tensor, "B T"] | None
    """padded layout: 1 on tokens, 0 on padding; None when packed"""

    def to(self, device: torch.device) -> Pack:
        """The same pack with its tensors on `device`."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        moved: dict[str, Any] = {name: x.to(device) for name, x in values.items() if isinstance(x, Tensor)}
        return replace(self, **moved)


def families(prompts: Sequence[Sequence[int]], added: Sequence[int] = (), budget: float = math.inf) -> list[list[int]]:
    """Indices of prompts in families, of which the longest prompt begins with each other one.

    A family's tokens, its longest prompt and what is `added` by each member, are at most `budget`, unless it has one
    member. Families are ordered by their smallest index.
    """
    keys = [_key(prompt) for prompt in prompts]
    found: list[list[int]] = []
    size = 0
    # Sorted, a prompt stands directly before those that it begins; in reverse order the longest of them comes first.
    for index in sorted(range(len(keys)), key=keys.__getitem__, reverse=True):
        key, more = keys[index], added[index] if added else 0
        last = keys[found[-1][-1]] if found else None
        if last is not None and last.startswith(key) and size + more <= budget:
            found[-1].append(index)
            size += more
        else:
            found.append([index])
            size = len(prompts[index]) + more
    return sorted(map(sorted, found), key=lambda family: family[0])


def _key(prompt: Sequence[int]) -> bytes:
    """Of the same order and with the same beginnings as the tokens, in less memory."""
    return np.asarray(prompt, ">u4").tobytes()


def dialogues(prompts: Sequence[Sequence[int]]) -> list[list[int]]:
    """As `families`, of different prompts each: the first of all equal prompts are grouped, then the second of each."""
    layers: dict[int, list[int]] = {}
    seen = Counter[bytes]()
    for index, prompt in enumerate(prompts):
        key = _key(prompt)
        layers.setdefault(seen[key], []).append(index)
        seen[key] += 1
    found = [[layer[i] for i in group] for layer in layers.values() for group in families([prompts[i] for i in layer])]
    return sorted(found, key=lambda group: group[0])


def plan_rollouts(rollouts: Sequence[Rollout], budget: int, layout: Layout) -> list[list[int]]:
    """Indices grouped by `plan_packs`; packed, families stay together as far as the budget allows.

    A family counts every response's last token too, though it is not fed: else any number of one-token responses to
    one prompt would be a single pack.
    """
    sizes = [rollout.tokens(layout) for rollout in rollouts]
    if layout == "padded":
        return plan_packs(sizes, budget, layout)
    prompts = [rollout.prompt_ids for rollout in rollouts]
    added = [sum(map(len, rollout.responses)) for rollout in rollouts]
    found = families(prompts, added, budget)
    fed = [
        max(len(prompts[i]) for i in family) + sum(added[i] for i in family) if family[1:] else sizes[family[0]]
        for family in found
    ]
    return [[i for place in pack for i in found[place]] for pack in plan_packs(fed, budget, layout)]


def plan_packs(sizes: Sequence[int], budget: int, layout: Layout = "packed") -> list[list[int]]:
    """Indices grouped so that each group's sizes add up to at most `budget`, longest first (a peak shows at once).

    Packed, each goes into the first group with room for it (first fit decreasing, at most 11/9 of the fewest groups);
    padded, groups are made of neighbours in length. A single item above the budget is a group of its own.
    """
    packs: list[list[int]] = []
    rooms: list[int] = []
    for index in sorted(range(len(sizes)), key=lambda i: (-sizes[i], i)):
        open_from = 0 if layout == "packed" else max(0, len(packs) - 1)
        for at in range(open_from, len(packs)):
            if sizes[index] <= rooms[at]:
                break
        else:
            at = len(packs)
            packs.append([])
            rooms.append(budget)
        packs[at].append(index)
        rooms[at] -= sizes[index]
    return packs


def make_pack(rollouts: Sequence[Rollout], layout: Layout, pad_id: int = 0) -> Pack:
    """The rollouts as one pack, on the CPU; `pad_id` fills up rows of the padded layout.

    Raises:
        ValueError: a prompt or a response is empty.
    """
    for rollout in rollouts:
        if not rollout.prompt_ids or not all(rollout.responses):
            raise ValueError("a prompt and every response need at least one token")
    return _packed(rollouts) if layout == "packed" else _padded(rollouts, pad_id)


def _packed(rollouts: Sequence[Rollout]) -> Pack:
    ids: list[int] = []
    positions: list[int] = []
    predict: list[list[int]] = [[] for _ in rollouts]
    segments: list[Segment] = []
    for family in families([rollout.prompt_ids for rollout in rollouts]):
        start = len(ids)
        longest = max((rollouts[i].prompt_ids for i in family), key=len)
        ids += longest
        positions += range(len(longest))
        branches: list[Branch] = []
        for index in family:
            length = len(rollouts[index].prompt_ids)
            for response in rollouts[index].responses:
                begin = len(ids)
                ids += response[:-1]
                positions += range(length, length + len(response) - 1)
                predict[index] += [start + length - 1, *range(begin, len(ids))]
                branches.append(Branch(begin, len(ids), start + length))
        segments.append(Segment((start, start + len(longest)), tuple(branches)))
    places = [place for own in predict for place in own]
    row = torch.tensor([ids]), torch.tensor([positions]), torch.tensor(places)
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


def seeing(pack: Pack, place: int) -> Bool[Tensor, " F"]:
    """F: which of the pack's B*T places may depend on the token at flattened `place`."""
    places_F = torch.arange(pack.input_ids_BT.numel())
    if pack.segments is None:
        width = pack.input_ids_BT.shape[1]
        return (places_F >= place) & (places_F // width == place // width)
    seen_F = torch.zeros_like(places_F, dtype=torch.bool)
    for (start, stop), branches in pack.segments:
        if start <= place < stop:
            seen_F[place:stop] = True
            for branch in branches:
                seen_F[branch.begin : branch.end] = place < branch.prompt_end
        for branch in branches:
            if branch.begin <= place < branch.end:
                seen_F[place : branch.end] = True
    return seen_F


def _targets(rollouts: Sequence[Rollout]) -> tuple[Int[Tensor, " N"], Int[Tensor, " N"], int]:
    """N: every response's tokens, and the response each belongs to; and R, the number of responses."""
    responses = [response for rollout in rollouts for response in rollout.responses]
    lengths_R = torch.tensor([len(response) for response in responses])
    response_N = torch.repeat_interleave(torch.arange(len(responses)), lengths_R)
    return torch.tensor([token for response in responses for token in response]), response_N, len(responses)
