"""Chunked log-probabilities against six obvious lines, and packed against padded."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    GemmaConfig,
    GPT2Config,
    MistralConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen3Config,
    StableLmConfig,
)

from conftest import tiny_llama
from sparring.training.attention import attend_branches
from sparring.training.logprobs import CHUNK_LOGITS, chunk_rows, token_logps
from sparring.training.packing import (
    Branch,
    Rollout,
    Segment,
    dialogues,
    families,
    make_pack,
    plan_packs,
    plan_rollouts,
)
from sparring.training.scorer import PolicyScorer

SIZES = {
    "vocab_size": 90,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
}
FAMILIES = {
    "llama": lambda: tiny_llama(),
    "qwen2": lambda: _model(Qwen2Config(**SIZES, tie_word_embeddings=False)),
    "mistral": lambda: _model(MistralConfig(**SIZES, sliding_window=64, head_dim=8)),
    "gemma": lambda: _model(GemmaConfig(**SIZES, head_dim=8)),
    "gemma2": lambda: _model(Gemma2Config(**SIZES, head_dim=8, sliding_window=64, attn_logit_softcapping=2.0)),
    "qwen3": lambda: _model(Qwen3Config(**SIZES, head_dim=8)),
    "gpt2": lambda: _model(GPT2Config(vocab_size=90, n_embd=32, n_layer=2, n_head=4, n_positions=128)),
}


def _model(config) -> PreTrainedModel:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config).eval()


def rollouts(seed: int = 0, count: int = 4, responses: int = 3) -> list[Rollout]:
    draw = random.Random(seed)
    ids = lambda n: [draw.randrange(1, 90) for _ in range(n)]  # noqa: E731
    return [
        Rollout(ids(draw.randint(1, 12)), [ids(draw.randint(1, 10)) for _ in range(responses)]) for _ in range(count)
    ]


def reference_token_logps(hidden_NH, weight_VH, targets_N, bias_V, softcap):
    """What `token_logps` computes, in the obvious lines."""
    logits_NV = hidden_NH @ weight_VH.T + bias_V
    if softcap:
        logits_NV = softcap * torch.tanh(logits_NV / softcap)
    return logits_NV.log_softmax(-1).gather(1, targets_N[:, None])[:, 0]


@pytest.mark.parametrize("softcap", [0.0, 5.0])
@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_chunked_equals_reference_with_gradients(chunk, softcap):
    torch.manual_seed(0)
    hidden, weight, bias = torch.randn(20, 8), torch.randn(33, 8), torch.randn(33)
    targets, upstream = torch.randint(33, (20,)), torch.randn(20)
    values = []
    for function in (lambda *a: token_logps(*a, chunk=chunk), reference_token_logps):
        leaves = [x.clone().requires_grad_() for x in (hidden, weight, bias)]
        logps = function(leaves[0], leaves[1], targets, leaves[2], softcap)
        (logps * upstream).sum().backward()
        values.append([logps.detach(), *(leaf.grad for leaf in leaves)])
    for fast, plain in zip(*values, strict=True):
        assert torch.allclose(fast, plain, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("vocabulary", [300, 32_000, 49_152, 128_256, 262_144])
def test_a_chunk_takes_the_same_memory_for_every_vocabulary(vocabulary: int):
    assert 0.9 * CHUNK_LOGITS < chunk_rows(vocabulary) * vocabulary <= CHUNK_LOGITS


def test_chunked_log_probabilities_pass_gradcheck():
    torch.manual_seed(0)
    leaves = [torch.randn(*shape, dtype=torch.float64, requires_grad=True) for shape in ((6, 4), (9, 4))]
    targets = torch.randint(9, (6,))
    assert torch.autograd.gradcheck(lambda h, w: token_logps(h, w, targets, None, 3.0, 4), leaves)


def test_float32_whatever_the_hidden_dtype():
    hidden, weight = torch.randn(3, 4).bfloat16(), torch.randn(5, 4).bfloat16()
    assert token_logps(hidden, weight, torch.tensor([0, 1, 2])).dtype == torch.float32


@pytest.mark.parametrize("family", FAMILIES)
def test_packed_equals_padded(family):
    """Per-token log-probabilities to 1e-5 and gradients to 1e-4 relative, float32."""
    model = FAMILIES[family]()
    found = []
    for layout in ("packed", "padded"):
        scorer = PolicyScorer(model, layout)
        model.zero_grad()
        logps_N = scorer.token_logps(scorer.pack(rollouts()))
        (logps_N * torch.linspace(-1, 1, len(logps_N))).sum().backward()
        grads = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
        found.append((logps_N.detach(), grads))
    (packed, packed_grad), (padded, padded_grad) = found
    assert (packed - padded).abs().max() < 1e-5
    assert (packed_grad - padded_grad).norm() < 1e-4 * padded_grad.norm()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("layout", ["packed", "padded"])
def test_verify_accepts_what_is_right(family, layout):
    scorer = PolicyScorer(_sharpened(FAMILIES[family]()), layout)
    assert scorer.verify() < 1e-4
    before = scorer.token_logps(scorer.pack(rollouts()))
    assert scorer.verify() < 1e-4
    assert torch.equal(scorer.token_logps(scorer.pack(rollouts())), before)  # its own attention is back


def _sharpened(model: PreTrainedModel) -> PreTrainedModel:
    """Weights ten times those of the start: a near-uniform model hides mistakes."""
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() > 1 and "embed" not in name:
                weight *= 10.0
    return model


def test_verify_refuses_another_head_in_low_precision_too():
    model = _sharpened(tiny_llama()).bfloat16()
    assert PolicyScorer(model).verify() < 0.5
    model.get_output_embeddings().register_forward_hook(lambda module, args, output: 8.0 * output)
    with pytest.raises(ValueError, match="LlamaForCausalLM gives other log-probabilities"):
        PolicyScorer(model).verify()


def test_layers_that_lose_the_branches_are_refused_by_name():
    model = _model(StableLmConfig(**SIZES))
    with pytest.raises(ValueError, match=r"fit\.layout = 'packed': StableLm.*Use fit\.layout: padded"):
        PolicyScorer(model).verify()
    assert PolicyScorer(_model(StableLmConfig(**SIZES)), "padded").verify() < 1e-4


def test_values_of_another_width_than_queries():
    q, k, v = torch.randn(4, 9, 6), torch.randn(2, 9, 6), torch.randn(2, 9, 5)
    leaves = [x.double().requires_grad_() for x in (q, k, v)]
    segments = (Segment((0, 3), (Branch(3, 6, 3), Branch(6, 9, 2))),)
    assert attend_branches(*leaves, segments, 0.5).shape == (9, 4, 5)
    assert torch.autograd.gradcheck(lambda *x: attend_branches(*x, segments, 0.5), leaves)


def test_padded_tokens_count_the_padding():
    rollout = Rollout([1] * 10, [[1] * 5, [1] * 90])
    assert rollout.tokens("packed") == 10 + 4 + 89
    assert rollout.tokens("padded") == make_pack([rollout], "padded").input_ids_BT.numel()


def test_verify_refuses_an_unusual_head():
    model = tiny_llama()
    head = model.get_output_embeddings()
    head.register_forward_hook(lambda module, args, output: 2.0 * output)
    with pytest.raises(ValueError, match="LlamaForCausalLM gives other log-probabilities"):
        PolicyScorer(model).verify()


def test_a_window_shorter_than_a_sequence_is_refused_when_packed():
    model = _model(MistralConfig(**SIZES, sliding_window=6, head_dim=8))
    with pytest.raises(ValueError, match=r"sliding_window = 6 .*fit\.layout: padded"):
        PolicyScorer(model).verify()


@settings(max_examples=15)
@given(st.integers(0, 1000), st.permutations(range(4)))
def test_log_probabilities_do_not_depend_on_the_company(seed, order):
    """Alone, together, or in another order: the same numbers."""
    scorer = PolicyScorer(tiny_llama())
    given_rollouts = rollouts(seed)
    with torch.no_grad():
        together = scorer(scorer.pack([given_rollouts[i] for i in order])).split(3)
        for place, index in enumerate(order):
            alone = scorer(scorer.pack([given_rollouts[index]]))
            assert torch.allclose(together[place], alone, atol=1e-4)


def test_packed_feeds_each_prompt_once():
    one = Rollout([1, 2, 3, 4], [[5, 6], [7, 8, 9]])
    assert make_pack([one], "packed").input_ids_BT.tolist() == [[1, 2, 3, 4, 5, 7, 8]]
    assert make_pack([one], "packed").positions_BT.tolist() == [[0, 1, 2, 3, 4, 4, 5]]
    assert one.tokens("packed") == 7
    assert one.tokens("padded") == 12  # the shorter one is filled up


DIALOGUE = [
    Rollout([1, 2, 3], [[4, 5], [6, 7, 8]]),  # a turn's two answers, the first of which was said
    Rollout([9, 9], [[1]]),
    Rollout([1, 2, 3, 4, 5, 7], [[8], [3, 3]]),
    Rollout([1, 2, 3, 4, 5, 7, 8, 2], [[6, 6, 6]]),
    Rollout([1, 2, 3], [[5]]),
]


def test_turns_of_a_dialogue_are_fed_once():
    pack = make_pack(DIALOGUE, "packed")
    assert pack.input_ids_BT.tolist() == [[1, 2, 3, 4, 5, 7, 8, 2, 4, 6, 7, 3, 6, 6, 9, 9]]
    assert pack.positions_BT.tolist() == [[0, 1, 2, 3, 4, 5, 6, 7, 3, 3, 4, 6, 8, 9, 0, 1]]
    assert pack.input_ids_BT[0, pack.predict_N].tolist() == [3, 4, 3, 6, 7, 9, 7, 7, 3, 2, 6, 6, 3]
    assert pack.target_N.tolist() == [4, 5, 6, 7, 8, 1, 8, 3, 3, 6, 6, 6, 5]


@pytest.mark.parametrize("family", FAMILIES)
def test_turns_of_a_dialogue_score_as_separate_sequences_with_gradients(family):
    model = FAMILIES[family]()
    found = []
    for layout in ("packed", "padded"):
        model.zero_grad()
        scorer = PolicyScorer(model, layout)
        logps_R = scorer(scorer.pack(DIALOGUE))
        (logps_R * torch.arange(1.0, 8.0)).sum().backward()
        found.append((logps_R.detach(), torch.cat([p.grad.flatten() for p in model.parameters()])))
    (packed, packed_grad), (padded, padded_grad) = found
    assert torch.allclose(packed, padded, atol=1e-4)
    assert (packed_grad - padded_grad).norm() < 1e-4 * padded_grad.norm()


def test_families_are_prompts_that_begin_one_another():
    prompts = [rollout.prompt_ids for rollout in DIALOGUE]
    assert families(prompts) == [[0, 2, 3, 4], [1]]
    assert dialogues(prompts) == [[0, 2, 3], [1], [4]]
    assert dialogues([[5], [5, 6], [5], [5, 6], [5]]) == [[0, 1], [2, 3], [4]]  # two dialogues, and half of a third
    assert families(prompts, added=[3, 0, 1, 2, 0], budget=11) == [[0, 4], [1], [2, 3]]
    assert families([[5, 1], [5, 2], [5]]) == [[0, 2], [1]]
    assert families([]) == []


prompts = st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=6), min_size=1, max_size=12)


@given(prompts, st.integers(1, 20))
def test_a_family_shares_its_longest_prompt_within_the_budget(prompts, budget):
    found = families(prompts, [1] * len(prompts), budget)
    assert sorted(i for family in found for i in family) == list(range(len(prompts)))
    for family in found:
        own = [prompts[i] for i in family]
        longest = max(own, key=len)
        assert all(longest[: len(prompt)] == prompt for prompt in own)
        assert len(family) == 1 or len(longest) + len(family) <= budget


@given(prompts, st.integers(1, 30))
def test_planned_packs_are_fed_within_the_budget(prompts, budget):
    rollouts = [Rollout(prompt, [[1, 2, 3], [4]]) for prompt in prompts]
    packs = plan_rollouts(rollouts, budget, "packed")
    assert sorted(i for pack in packs for i in pack) == list(range(len(rollouts)))
    for pack in packs:
        fed = make_pack([rollouts[i] for i in pack], "packed").input_ids_BT.numel()
        assert fed <= budget or len(pack) == 1


@given(prompts)
def test_the_turns_of_a_dialogue_are_different_prompts(prompts):
    found = dialogues(prompts)
    assert sorted(i for group in found for i in group) == list(range(len(prompts)))
    for group in found:
        own = sorted((prompts[i] for i in group), key=len)
        assert all(len(a) < len(b) and b[: len(a)] == a for a, b in pairwise(own))


def test_responses_of_one_token_do_not_all_go_into_one_pack():
    """They feed nothing but their prompt."""
    assert len(plan_rollouts([Rollout([1, 2], [[3]])] * 100, 12, "packed")) == 10


def test_different_prompts_are_planned_as_before_they_shared():
    given_rollouts = rollouts(count=12)
    sizes = [rollout.tokens("packed") for rollout in given_rollouts]
    assert plan_rollouts(given_rollouts, 80, "packed") == plan_packs(sizes, 80, "packed")


def test_only_response_tokens_are_scored():
    pack = make_pack([Rollout([1, 2, 3], [[5, 6]]), Rollout([4], [[7]])], "packed")
    assert pack.target_N.tolist() == [5, 6, 7]
    assert pack.response_N.tolist() == [0, 0, 1]
    assert pack.input_ids_BT[0, pack.predict_N].tolist() == [3, 5, 4]


def test_a_sequence_beyond_the_sliding_window_is_refused():
    model = _model(MistralConfig(**SIZES, sliding_window=6, head_dim=8))
    scorer = PolicyScorer(model)
    scorer(scorer.pack([Rollout([1, 2, 3], [[4, 5, 6, 7]])]))
    with pytest.raises(ValueError, match="sliding_window = 6 with a sequence of 7 tokens"):
        scorer(scorer.pack([Rollout([1, 2, 3], [[4, 5, 6, 7, 8]])]))


def test_empty_responses_are_impossible():
    with pytest.raises(ValueError, match="at least one token"):
        make_pack([Rollout([1], [[]])], "packed")


@given(
    st.lists(st.integers(1, 50), min_size=1, max_size=40), st.integers(1, 120), st.sampled_from(["packed", "padded"])
)
def test_plans_cover_everything_once_within_the_budget(sizes, budget, layout):
    packs = plan_packs(sizes, budget, layout)
    assert sorted(i for pack in packs for i in pack) == list(range(len(sizes)))
    assert all(sum(sizes[i] for i in pack) <= budget or len(pack) == 1 for pack in packs)


def test_packed_groups_fill_their_room_and_padded_ones_keep_neighbours():
    sizes = [429, 345, 603, 392, 420, 571, 515, 583]
    by_size = [[sizes[i] for i in pack] for pack in plan_packs(sizes, 1024, "packed")]
    assert by_size == [[603, 420], [583, 429], [571, 392], [515, 345]]
    padded = [[sizes[i] for i in pack] for pack in plan_packs(sizes, 1024, "padded")]
    assert padded == [[603], [583], [571], [515, 429], [420, 392], [345]]


@given(st.lists(st.integers(1, 100), min_size=1, max_size=40))
def test_at_most_one_packed_group_is_half_empty(sizes):
    totals = [sum(sizes[i] for i in pack) for pack in plan_packs(sizes, 100)]
    assert sum(total <= 50 for total in totals) <= 1
