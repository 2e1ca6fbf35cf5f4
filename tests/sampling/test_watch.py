"""What is shown while a batch of responses is sampled."""

from __future__ import annotations

import torch
from transformers import LlamaForCausalLM

from conftest import tiny_llama
from sparring.recipe.sections import SamplingConfig
from sparring.sampling.engine import Request
from sparring.sampling.transformers_engine import TransformersEngine, _parts
from sparring.sampling.watch import Watch


def sampled(model: LlamaForCausalLM, most: int, ends: frozenset[int]) -> tuple[list[tuple[int, str]], Watch]:
    """What was told of a batch of 6 responses of at most `most` tokens."""
    settings = SamplingConfig(max_new_tokens=most, batch_size=6)
    told: list[tuple[int, str]] = []
    watch = Watch(6, most, lambda done=1, note="": told.append((done, note)))
    engine = TransformersEngine([(model, 1.0)], settings, ends)
    with watch.over(model):
        engine.sample([Request([1, 2, 3], seed) for seed in range(6)])
    return told, watch


def test_every_token_of_a_batch_is_shown() -> None:
    model = tiny_llama().eval()
    told, watch = sampled(model, 4, frozenset())
    # Four tokens a row: the first comes with the prompts, and each later pass feeds the one before.
    assert [done for done, _ in told] == [0, 1, 2, 1]
    assert watch.shown == 4
    assert [note.partition(",")[0] for _, note in told] == [f"token {n} of at most 4" for n in (1, 2, 3, 4)]
    assert told[0][1] == "token 1 of at most 4"
    assert told[1][1].endswith("tokens/s")
    assert not model._forward_pre_hooks


def test_parts_of_the_prompts_are_no_tokens() -> None:
    """Each part had counted as a token, so that 12 prompts in 4 parts were at token 7 of at most 4."""
    prompts = [[1 + place] * 200 for place in range(12)]
    assert len(_parts(prompts)) == 4
    told: list[tuple[int, str]] = []
    watch = Watch(12, 4, lambda done=1, note="": told.append((done, note)))
    model = tiny_llama().eval()
    with watch.over(model):
        TransformersEngine([(model, 1.0)], SamplingConfig(max_new_tokens=4, batch_size=12), frozenset()).sample(
            [Request(prompt, seed) for seed, prompt in enumerate(prompts)]
        )
    assert [done for done, _ in told] == [0, 3, 3, 3]
    assert [note.partition(",")[0] for _, note in told] == [f"token {n} of at most 4" for n in (1, 2, 3, 4)]
    assert watch._tokens == 3 * 12


def test_rows_that_end_early_are_never_counted_twice() -> None:
    told, watch = sampled(tiny_llama().eval(), 50, frozenset(range(0, 260, 2)))
    assert sum(done for done, _ in told) == watch.shown < 6


def test_the_samples_are_the_same_with_and_without() -> None:
    model = tiny_llama().eval()
    engine = TransformersEngine([(model, 1.0)], SamplingConfig(max_new_tokens=5), frozenset({7}))
    requests = [Request([1, 2], seed) for seed in range(3)]
    plain = engine.sample(requests)
    with torch.inference_mode(), Watch(3, 5, lambda done=1, note="": None).over(model):
        assert engine.sample(requests) == plain
