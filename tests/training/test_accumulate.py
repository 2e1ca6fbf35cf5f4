"""Gradients added where they are kept, against autograd's own."""

from __future__ import annotations

import pytest
import torch

from conftest import tiny_llama
from sparring.training.accumulate import accumulating, cast_once
from sparring.training.logprobs import token_logps
from sparring.training.packing import Rollout
from sparring.training.scorer import PolicyScorer

ROLLOUTS = [Rollout([5, 6, 7], [[8, 9, 8, 1], [3, 5]]), Rollout([4, 4], [[2, 256, 7], [9]])]


def gradients(scorer: PolicyScorer, low: bool) -> dict[str, torch.Tensor]:
    for rollout in ROLLOUTS:
        with torch.autocast("cpu", torch.bfloat16, enabled=low):
            scorer(scorer.pack([rollout])).square().sum().backward()
    found = {name: p.grad.clone() for name, p in scorer.named_parameters() if p.grad is not None}
    scorer.zero_grad()
    return found


@pytest.mark.parametrize("low", [False, True])
@pytest.mark.parametrize("tied", [False, True])
def test_a_region_changes_no_gradient(tied: bool, low: bool):
    model = tiny_llama(tie_word_embeddings=tied)
    assert model.get_input_embeddings().padding_idx == 256, "which ROLLOUTS has"
    scorer = PolicyScorer(model)
    plain = gradients(scorer, low)
    with accumulating():
        ours = gradients(scorer, low)
    assert plain.keys() == ours.keys()
    for name, expected in plain.items():
        assert torch.allclose(ours[name], expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max())), name


def test_a_frozen_embedding_gets_no_gradient():
    model = tiny_llama()
    model.get_input_embeddings().weight.requires_grad_(False)
    with accumulating():
        found = gradients(PolicyScorer(model), low=False)
    assert not any("embed_tokens" in name for name in found)


def test_the_head_is_cast_once_in_a_region_and_again_after_it():
    weight = torch.nn.Parameter(torch.ones(3, 2))
    with accumulating():
        first = cast_once(weight, torch.bfloat16)
        assert cast_once(weight, torch.bfloat16) is first
    with torch.no_grad():
        weight.fill_(2.0)
    with accumulating():
        assert float(cast_once(weight, torch.bfloat16)[0, 0]) == 2.0


def test_a_weight_made_from_others_passes_its_gradient_on():
    """As an adapter on the head would: only a leaf's gradient may go straight to `.grad`."""
    base = torch.randn(9, 4, requires_grad=True)
    hidden, targets = torch.randn(5, 4), torch.randint(9, (5,))
    with accumulating():
        token_logps(hidden, base * 2.0, targets).sum().backward()
    assert base.grad is not None
    assert float(base.grad.abs().sum()) > 0


@pytest.mark.parametrize("count", [0, 3, 4, 9])
def test_backward_twice_through_a_kept_graph(count: int):
    """The last chunk is found computed the first time, and computed again the second time."""
    hidden, weight = torch.randn(count, 4, requires_grad=True), torch.randn(9, 4, requires_grad=True)
    total = token_logps(hidden, weight, torch.randint(9, (count,)), chunk=4).sum()
    once = torch.autograd.grad(total, (hidden, weight), retain_graph=True)
    again = torch.autograd.grad(total, (hidden, weight))
    assert all(torch.equal(a, b) for a, b in zip(once, again, strict=True))
