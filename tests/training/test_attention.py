"""Block attention against one dense softmax with the visibility written out."""

from __future__ import annotations

import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, Gemma2Config

from conftest import tiny_llama
from sparring.recipe.sections import FitConfig
from sparring.training import attention, flex
from sparring.training.attention import attend_branches, blocks
from sparring.training.packing import Rollout, Segment, make_pack
from sparring.training.scorer import PolicyScorer

GEMMA = {
    **{"vocab_size": 60, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "head_dim": 8},
    **{"num_attention_heads": 4, "num_key_value_heads": 2, "attn_logit_softcapping": 1.0, "sliding_window": 64},
}


def segments_of(*rollouts: tuple[int, tuple[int, ...]], nested: bool = False) -> tuple[Segment, ...]:
    """Segments of rollouts given as prompt length and response lengths; `nested`: shorter prompts begin longer ones."""
    prompts = [[0 if nested else i, *[1] * (length - 1)] for i, (length, _) in enumerate(rollouts)]
    responses = [[[2] * length for length in lengths] for _, lengths in rollouts]
    pack = make_pack([Rollout(*both) for both in zip(prompts, responses, strict=True)], "packed")
    assert pack.segments is not None
    return pack.segments


def dense(q, k, v, segments, scale, softcap):
    """The definition: every token sees its prompt, and its own branch up to itself."""
    length = q.shape[1]
    visible = torch.zeros(length, length, dtype=torch.bool)
    for (start, end), branches in segments:
        visible[start:end, start:end] = torch.ones(end - start, end - start).tril().bool()
        for begin, stop, prompt_end in branches:
            visible[begin:stop, start:prompt_end] = True
            visible[begin:stop, begin:stop] = torch.ones(stop - begin, stop - begin).tril().bool()
    repeat = len(q) // len(k)
    scores = scale * q @ k.repeat_interleave(repeat, 0).transpose(1, 2)
    if softcap:
        scores = softcap * torch.tanh(scores / softcap)
    weights = scores.masked_fill(~visible, float("-inf")).softmax(-1)
    return (weights @ v.repeat_interleave(repeat, 0)).transpose(0, 1)


rollout = st.tuples(st.integers(1, 9), st.lists(st.integers(1, 9), min_size=1, max_size=3).map(tuple))


@settings(max_examples=25)
@given(
    st.lists(rollout, min_size=1, max_size=3), st.booleans(), st.sampled_from([0.0, 2.0]), st.sampled_from([1, 3, 256])
)
def test_equals_the_dense_definition_with_gradients(rollouts, nested, softcap, rows):
    segments = segments_of(*rollouts, nested=nested)
    length = max(stop for segment in segments for stop in (segment.prompt[1], *(b.end for b in segment.branches)))
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
    nested = segments_of((700, (300, 40)), (5, (1, 2)), nested=True)  # the 5 are not fed again
    assert [row for block in blocks(nested) for row in range(block.begin, block.end)] == list(range(700 + 299 + 39 + 1))
    computed = sum((b.end - b.begin) * (b.prompt_end - b.prompt + b.end - b.own) for b in blocks(segments))
    needed = sum(b.prompt_end - b.prompt + row + 1 - b.own for b in blocks(segments) for row in range(b.begin, b.end))
    assert needed < computed < 1.25 * needed


@settings(max_examples=15)
@given(st.lists(rollout, min_size=1, max_size=3), st.booleans(), st.sampled_from([0.0, 2.0]))
def test_flex_equals_the_dense_definition(rollouts, nested, softcap):
    """Uncompiled: its kernel is for CUDA."""
    segments = segments_of(*rollouts, nested=nested)
    length = max(stop for segment in segments for stop in (segment.prompt[1], *(b.end for b in segment.branches)))
    torch.manual_seed(0)
    leaves = [torch.randn(n, length, 4) for n in (4, 2, 2)]
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch advises to compile
        patch.setattr(flex, "_compiled", lambda: flex.flex_attention)
        ours = flex.flex_branches(*leaves, segments, 0.5, softcap)
    assert torch.allclose(ours, dense(*leaves, segments, 0.5, softcap), atol=1e-5)


@settings(max_examples=25)
@given(st.lists(rollout, min_size=1, max_size=3), st.booleans(), st.sampled_from([1, 3, 8]))
def test_flex_computes_every_block_that_is_seen_and_masks_none_that_is_whole(rollouts, nested, size):
    segments = segments_of(*rollouts, nested=nested)
    own, start, stop = flex.spans(segments, torch.device("cpu"))
    at = torch.arange(len(own))
    seen = (at <= at[:, None]) & ((at >= own[:, None]) | ((at >= start[:, None]) & (at < stop[:, None])))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flex, "BLOCK", size)
        mask = flex.block_mask.__wrapped__(segments, torch.device("cpu"))
    for row in range(mask.kv_indices.shape[2]):
        kinds = []
        for counts, numbers in ((mask.kv_num_blocks, mask.kv_indices), (mask.full_kv_num_blocks, mask.full_kv_indices)):
            kinds.append(set(numbers[0, 0, row, : int(counts[0, 0, row])].tolist()))
        part, whole = kinds
        for column in range(mask.kv_indices.shape[3]):
            block = seen[row * size : (row + 1) * size, column * size : (column + 1) * size]
            assert (column in part | whole) == bool(block.any())
            assert (column in whole) == (block.numel() == size * size and bool(block.all()))


@pytest.mark.parametrize("config", [tiny_llama().config, Gemma2Config(**GEMMA)])
def test_a_model_scores_the_same_through_flex(config, monkeypatch):
    """Registered with transformers, without a mask of its own, soft caps handed on; forward only."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    rollouts = [Rollout([3, 4, 5], [[6, 7, 8], [9, 10]]), Rollout([11], [[12, 13]])]
    monkeypatch.setattr("sparring.training.scorer.check_flex", lambda device: None)
    monkeypatch.setattr(flex, "_compiled", lambda: flex.flex_attention)
    found = []
    for attention_ in ("blocks", "flex"):
        scorer = PolicyScorer(model, "packed", attention_).eval()
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found.append(scorer.token_logps(scorer.pack(rollouts)))
    assert torch.allclose(*found, atol=1e-5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("softcap", [0.0, 2.0])
@pytest.mark.parametrize("rollouts", [((300, (200, 40)), (5, (130, 2))), ((9, (8, 7)),)])
def test_flex_trains_as_blocks_do_on_cuda(rollouts, softcap):
    segments = segments_of(*rollouts)
    length = segments[-1].branches[-1].end
    torch.manual_seed(0)
    leaves = [torch.randn(n, length, 64, device="cuda", requires_grad=True) for n in (9, 3, 3)]
    found = []
    for function in (flex.flex_branches, attend_branches):
        out = function(*leaves, segments, 0.125, softcap)
        found.append([out, *torch.autograd.grad(out.sin().sum(), leaves)])
    for ours, theirs in zip(*found, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-3)


def test_flex_is_refused_where_it_cannot_train():
    with pytest.raises(ValueError, match=r"fit\.attention = 'flex' needs a CUDA device, and this is cpu"):
        PolicyScorer(tiny_llama(), "packed", "flex")
    for other in ({"layout": "padded"}, {"shard_weights": True}):
        with pytest.raises(ValueError, match="attention: flex does not go with"):
            FitConfig(attention="flex", **other)
