"""Block attention against one dense softmax with the visibility written out."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sparring.training import attention
from sparring.training.attention import attend_branches, blocks
from sparring.training.packing import Rollout, Segment, make_pack


def segments_of(*rollouts: tuple[int, tuple[int, ...]]) -> tuple[Segment, ...]:
    """Segments of rollouts given as prompt length and response lengths."""
    pack = make_pack([Rollout([1] * p, [[2] * r for r in responses]) for p, responses in rollouts], "packed")
    assert pack.segments is not None
    return pack.segments


def dense(q, k, v, segments, scale, softcap):
    """The definition: every token sees its prompt, and its own branch up to itself."""
    length = q.shape[1]
    visible = torch.zeros(length, length, dtype=torch.bool)
    for (start, end), branches in segments:
        visible[start:end, start:end] = torch.ones(end - start, end - start).tril().bool()
        for begin, stop in branches:
            visible[begin:stop, start:end] = True
            visible[begin:stop, begin:stop] = torch.ones(stop - begin, stop - begin).tril().bool()
    repeat = len(q) // len(k)
    scores = scale * q @ k.repeat_interleave(repeat, 0).transpose(1, 2)
    if softcap:
        scores = softcap * torch.tanh(scores / softcap)
    weights = scores.masked_fill(~visible, float("-inf")).softmax(-1)
    return (weights @ v.repeat_interleave(repeat, 0)).transpose(0, 1)


rollout = st.tuples(st.integers(1, 9), st.lists(st.integers(1, 9), min_size=1, max_size=3).map(tuple))


@settings(max_examples=25, deadline=None)
@given(st.lists(rollout, min_size=1, max_size=3), st.sampled_from([0.0, 2.0]), st.sampled_from([1, 3, 256]))
def test_equals_the_dense_definition_with_gradients(rollouts, softcap, rows):
    segments = segments_of(*rollouts)
    length = max(stop for segment in segments for stop in (segment.prompt[1], *(b for _, b in segment.branches)))
    torch.manual_seed(0)
    leaves = [torch.randn(n, length, 4, dtype=torch.float64, requires_grad=True) for n in (4, 2, 2)]
    found = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention, "BLOCK_ROWS", rows)
        for function in (attend_branches, dense):
            out = function(*leaves, segments, 0.5, softcap)
            found.append([out, *torch.autograd.grad(out.sin().sum(), leaves)])
    for ours, theirs in zip(*found, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-12)


def test_blocks_cover_every_token_once_and_compute_little_in_vain():
    segments = segments_of((700, (300, 40)), (5, (1, 2)))
    rows = [row for block in blocks(segments) for row in range(block.begin, block.end)]
    assert rows == list(range(700 + 299 + 39 + 5 + 1))
    computed = sum((b.end - b.begin) * (b.prompt_end - b.prompt + b.end - b.own) for b in blocks(segments))
    needed = sum(b.prompt_end - b.prompt + row + 1 - b.own for b in blocks(segments) for row in range(b.begin, b.end))
    assert needed < computed < 1.25 * needed
