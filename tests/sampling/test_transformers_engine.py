"""Sampling: seeds, batches, end tokens, mixtures."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, Gemma2Config, GPT2Config, LlamaConfig, LlamaForCausalLM, Phi3Config

from conftest import tiny_llama
from sparring.models.architecture import turns_by_length
from sparring.recipe.sections import SamplingConfig
from sparring.runtime.randomness import noise_seed
from sparring.sampling.attention import decode_attention
from sparring.sampling.choice import inverse_cdf, nucleus
from sparring.sampling.engine import Request
from sparring.sampling.transformers_engine import TransformersEngine, _shared

END = frozenset({256})
PROMPTS = [[1, 2, 3], [4, 5], [6, 7, 8, 9, 10]]


def engine(models=None, **settings_) -> TransformersEngine:
    defaults = {"max_new_tokens": 12, "batch_size": 64, "precision": "float32"}
    return TransformersEngine(models or [(tiny_llama(), 1.0)], SamplingConfig(**{**defaults, **settings_}), END)


def requests(count: int = 4) -> list[Request]:
    return [Request(p, noise_seed(0, i, k)) for i, p in enumerate(PROMPTS) for k in range(count)]


@pytest.mark.parametrize("size", [1, 3, 5, 64])
def test_responses_do_not_depend_on_the_batch(size):
    """Noise belongs to the row; in float32 on this model rounding does not change a token."""
    assert engine(batch_size=size).sample(requests()) == engine().sample(requests())


def test_greedy_agrees_with_transformers():
    model = tiny_llama()
    ours = engine([(model, 1.0)], temperature=0).sample([Request(p, 0) for p in PROMPTS])
    for prompt, response in zip(PROMPTS, ours, strict=True):
        ids = torch.tensor([prompt])
        theirs = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False)
        assert response.token_ids == theirs[0, len(prompt) :].tolist()


def test_samples_follow_the_model():
    """First tokens of many rows have the model's frequencies."""
    model = tiny_llama()
    rows = [Request([1, 2, 3], noise_seed("freq", k)) for k in range(3000)]
    first = [r.token_ids[0] for r in engine([(model, 1.0)], max_new_tokens=1, batch_size=1000).sample(rows)]
    with torch.no_grad():
        probs = model(torch.tensor([[1, 2, 3]])).logits[0, -1].softmax(-1)
    counts = torch.bincount(torch.tensor(first), minlength=len(probs)) / len(first)
    assert float((counts - probs).abs().sum() / 2) < 0.16  # 260 cells, 3000 draws: 0.11 expected


def test_a_response_that_ends_itself_holds_one_end_token():
    model = tiny_llama()
    with torch.no_grad():
        model.get_output_embeddings().weight[256] += 0.3 * model.get_output_embeddings().weight.abs().mean(0)
    found = engine([(model, 1.0)], max_new_tokens=200, batch_size=5).sample(requests(6))
    assert {r.finish_reason for r in found} >= {"stop"}
    for response in found:
        ends = response.token_ids.count(256)
        assert ends == (response.finish_reason == "stop")
        assert not ends or response.token_ids[-1] == 256
        assert response.token_ids


def test_a_mixture_of_a_model_with_itself_is_that_model():
    model = tiny_llama()
    both = engine([(model, 0.3), (tiny_llama(), 0.7)]).sample(requests())
    assert both == engine([(model, 1.0)]).sample(requests())


def test_a_mixture_averages_log_probabilities():
    one, two = tiny_llama(0), tiny_llama(1)
    found = engine([(one, 0.5), (two, 0.5)], temperature=0, max_new_tokens=1).sample([Request([1, 2], 0)])
    with torch.no_grad():
        logps = [m(torch.tensor([[1, 2]])).logits[0, -1].log_softmax(-1) for m in (one, two)]
    assert found[0].token_ids == [int((logps[0] + logps[1]).argmax())]


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.floats(0.05, 0.95))
def test_nucleus_keeps_the_smallest_sufficient_set(seed, top_p):
    torch.manual_seed(seed)
    probs = torch.randn(1, 700).mul(3).softmax(-1)
    token = int(nucleus(probs, torch.rand(1, dtype=torch.float64), top_p))
    order = probs[0].sort(descending=True)
    before = order.values.cumsum(0) - order.values
    assert token in order.indices[before < top_p].tolist()


def test_a_flat_row_does_not_change_its_neighbours():
    sharp, flat = torch.zeros(1, 2000), torch.full((1, 2000), 1 / 2000)
    sharp[0, [3, 7, 9]] = torch.tensor([0.5, 0.3, 0.2])
    uniforms = torch.tensor([0.9, 0.3, 0.99], dtype=torch.float64)
    together = nucleus(torch.cat([sharp, flat, sharp]), uniforms, 0.9)
    alone = [int(nucleus(row, uniforms[i : i + 1], 0.9)) for i, row in enumerate((sharp, flat, sharp))]
    assert together.tolist() == alone


@pytest.mark.parametrize("uniform", [0.0, 0.5, 1.0 - 2.0**-53])
def test_a_token_without_mass_is_never_drawn(uniform):
    """The largest uniform number, rounded to float32, is 1."""
    probs = torch.tensor([[0.0, 0.25, 0.75, 0.0, 0.0]])
    assert int(inverse_cdf(probs, torch.tensor([uniform], dtype=torch.float64))) in (1, 2)


def test_different_rows_never_share_noise():
    seeds = [noise_seed(0, "rounds/000/own", example, k) for example in range(50) for k in range(8)]
    assert len(set(seeds)) == len(seeds)


def test_soft_caps_are_sampled_as_they_are_trained():
    """transformers' sdpa drops them: samples would come from another policy."""
    torch.manual_seed(0)
    sizes = {"vocab_size": 60, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "head_dim": 8}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    model: Any = AutoModelForCausalLM.from_config(
        Gemma2Config(**sizes, **heads, attn_logit_softcapping=1.0, sliding_window=64)
    ).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight *= 8.0
    found = engine([(model, 1.0)], temperature=0, max_new_tokens=6).sample([Request([3, 4, 5], k) for k in range(3)])
    model.set_attn_implementation("eager")
    ids = [3, 4, 5]
    with torch.no_grad():
        for _ in range(6):
            ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
    assert found[0].token_ids == ids[3 : 3 + len(found[0].token_ids)]


def test_a_model_without_sdpa_is_sampled_eagerly(monkeypatch):
    model = tiny_llama()
    monkeypatch.setattr(type(model), "_supports_sdpa", False)
    assert len(engine([(model, 1.0)]).sample(requests(1))) == len(PROMPTS)
    assert model.config._attn_implementation == "eager"


def test_what_decode_attention_would_leave_out_is_refused():
    q, kv = torch.zeros(1, 2, 1, 4), torch.zeros(1, 1, 3, 4)
    with pytest.raises(ValueError, match=r"Module uses softcap, which sampling with sdpa leaves out"):
        decode_attention(torch.nn.Module(), q, kv, kv, None, softcap=30.0)


def test_prompts_that_are_run_in_parts_are_answered_as_they_are_together(monkeypatch):
    whole = engine().sample(requests())
    monkeypatch.setattr("sparring.sampling.transformers_engine.PREFILL_TOKENS", 1)
    assert engine().sample(requests()) == whole


ALIKE = [[1, 2, 3, *rest] for rest in ([4], [5, 6, 7], [5, 8], [5, 8, 9, 10, 11])]


@pytest.mark.parametrize("at_once", [1, 5, 512])
@pytest.mark.parametrize("mixed", [False, True])
def test_a_common_beginning_is_run_once_and_changes_no_response(at_once, mixed, monkeypatch):
    path = "sparring.sampling.transformers_engine"
    monkeypatch.setattr(f"{path}.PREFILL_TOKENS", at_once)
    models = [(tiny_llama(), 0.5), (tiny_llama(seed=1), 0.5)] if mixed else [(tiny_llama(), 1.0)]
    rows = [Request(prompt, noise_seed(0, i, k)) for i, prompt in enumerate(ALIKE) for k in range(3)]
    read: list[int] = []
    hook = lambda module, args, given: read.append(given["input_ids"].numel())  # noqa: E731
    models[0][0].register_forward_pre_hook(hook, with_kwargs=True)
    whole = engine(models).sample(rows)
    plain = sum(read[:-11])  # without the tokens that were sampled
    read.clear()
    monkeypatch.setattr(f"{path}.SHARED_TOKENS", 9)  # three tokens of four prompts, which saves nine
    assert engine(models).sample(rows) == whole
    assert read[0] == 3
    saved = plain - sum(read[:-11])
    assert saved == {1: 9, 5: 8, 512: 9}[at_once]  # padding differs with the parts


def test_where_keys_turn_by_the_length_of_a_row_nothing_is_run_apart(monkeypatch):
    """Keys of a short beginning would be wrong in a long row."""
    angles = {"rope_type": "dynamic", "rope_theta": 10_000.0, "factor": 8.0}
    config = tiny_llama().config.to_dict() | {"rope_parameters": angles, "max_position_embeddings": 8}
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**config)).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(8.0)
    prompts = [[*range(1, 8), *range(20, 20 + n)] for n in range(3, 9)]
    monkeypatch.setattr("sparring.sampling.transformers_engine.PREFILL_TOKENS", 1)  # each prompt by itself
    monkeypatch.setattr("sparring.sampling.transformers_engine.SHARED_TOKENS", 1)
    batch = engine([(model, 1.0)])._prefill([Request(prompt, 0) for prompt in prompts])
    with torch.no_grad():
        alone = torch.stack([model(torch.tensor([prompt])).logits[0, -1] for prompt in prompts])
    torch.testing.assert_close(batch.logps_BV, alone, rtol=1e-4, atol=1e-4)
    assert turns_by_length(Phi3Config(rope_parameters={"full_attention": {"rope_type": "longrope"}}))
    assert not turns_by_length(tiny_llama().config)
    assert not turns_by_length(GPT2Config())


@pytest.mark.parametrize(
    ("prompts", "shared"),
    [
        (ALIKE, 3),
        ([[1, 2, 3]] * 4, 2),  # each has a token of its own
        ([[1, 2], [1, 2, 3, 4], [1, 2, 3, 5]], 1),
        ([[1, 2], [3, 2]], 0),
        ([[1, 2, 3]], 0),
    ],
)
def test_what_prompts_share(prompts, shared, monkeypatch):
    monkeypatch.setattr("sparring.sampling.transformers_engine.SHARED_TOKENS", 1)
    assert _shared(prompts) == shared


def test_weights_are_packed_where_it_is_repaid(monkeypatch):
    packed: list[int] = []
    path = "sparring.sampling.transformers_engine.packed"
    monkeypatch.setattr(path, lambda *models: packed.append(len(models)) or contextlib.nullcontext())
    for rows, tokens in ((6, 16), (6, 2), (1, 16)):
        engine(max_new_tokens=tokens).sample(requests(rows))
    assert packed == [1, 0, 0]
