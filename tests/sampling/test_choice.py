"""Choices follow the distribution: against the plain running sum, and in their frequencies."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from sparring.recipe.sections import SamplingConfig
from sparring.sampling.choice import BLOCK, choose, inverse_cdf


@settings(max_examples=60)
@given(st.integers(0, 10_000), st.sampled_from([1, 7, BLOCK, BLOCK + 1, 3 * BLOCK, 1000]), st.floats(0.1, 12.0))
def test_blocks_find_the_token_of_the_whole_running_sum(seed: int, size: int, spread: float) -> None:
    torch.manual_seed(seed)
    probs = torch.randn(8, size).mul(spread).softmax(-1)
    probs[probs < 1e-6] = 0.0
    uniforms = torch.rand(8, dtype=torch.float64)
    mass = probs.double().cumsum(-1)
    chosen = inverse_cdf(probs, uniforms)[:, None]
    wanted = uniforms[:, None] * mass[:, -1:]
    assert bool((mass.gather(1, chosen) > wanted - 1e-6).all())
    assert bool((mass.gather(1, chosen) - probs.double().gather(1, chosen) <= wanted + 1e-6).all())
    assert bool((probs.gather(1, chosen) > 0).all())


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.7, 1.0), (0.7, 0.8)])
def test_frequencies_are_those_of_the_softmax(temperature: float, top_p: float) -> None:
    """20,000 draws over 600 tokens, of which the rare ones are counted together."""
    torch.manual_seed(0)
    logits = torch.randn(600).mul(2.0)
    probs = (logits / temperature).double().softmax(-1)
    if top_p < 1:
        sorted_probs, order = probs.sort(descending=True)
        probs[order[sorted_probs.cumsum(0) - sorted_probs >= top_p]] = 0.0
        probs /= probs.sum()
    uniforms = torch.rand(20_000, dtype=torch.float64)
    chosen = choose(logits.repeat(20_000, 1), uniforms, SamplingConfig(temperature=temperature, top_p=top_p))
    counts = torch.bincount(chosen, minlength=600)
    assert not counts[probs == 0].any()
    common = probs > 5 / 20_000
    observed = [*counts[common].tolist(), int(counts[~common].sum())]
    expected = [*(20_000 * probs[common]).tolist(), float(20_000 * probs[~common].sum())]
    if expected[-1] == 0:
        observed, expected = observed[:-1], expected[:-1]
    assert chisquare(observed, expected).pvalue > 1e-3
