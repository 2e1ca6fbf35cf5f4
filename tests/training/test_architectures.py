"""Models of many kinds: scored and sampled exactly, or refused by name, whatever their weights are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from command import sparring
from model_zoo import ZOO, folder_of, tiny
from sparring.models.architecture import revealed
from sparring.recipe.reading import parse_recipe
from sparring.recipe.sections import SamplingConfig
from sparring.rounds.run import run
from sparring.runtime.progress import Progress
from sparring.sampling.check import check_sampling
from sparring.sampling.engine import Request
from sparring.sampling.transformers_engine import TransformersEngine
from sparring.training import scorer as scorers
from sparring.training.packing import Rollout, make_pack, seeing
from sparring.training.scorer import PolicyScorer, scorer_of

STATES = ["lfm2", "jamba", "falcon_h1", "qwen3_next", "mamba2"]
MORE_STATES = ["bamba", "qwen3_5", "olmo_hybrid", "granite_hybrid", "nemotron_h", "zamba2", "mamba", "falcon_mamba"]
NEITHER = ["recurrent_gemma", "rwkv", "xlstm"]
SCALED = ["granite", "cohere", "granite_moe"]
UNPACKED = ["gpt_oss", "bloom", "mpt", "falcon_alibi"]
EXCLUDED = [*STATES, *MORE_STATES, *NEITHER, *UNPACKED, "llama4", "bert"]
PACKED = [name for name in ZOO if name not in EXCLUDED]


def some(few: list[str], more: list[str]) -> list[Any]:
    return [*few, *(pytest.param(name, marks=pytest.mark.more) for name in more)]


def bits(model: torch.nn.Module) -> list[torch.Tensor]:
    return [weight.clone() for weight in model.parameters()]


@pytest.mark.parametrize("name", some(STATES, [*MORE_STATES, *NEITHER]))
def test_layers_that_hand_on_a_state_are_not_packed(name: str) -> None:
    """By their structure: near a random start their leak is smaller than any tolerance."""
    with pytest.raises(ValueError, match=r"fit\.layout = 'packed': .* hands states .*Use fit\.layout: padded"):
        PolicyScorer(tiny(name, spread=0.1))


@pytest.mark.parametrize("name", some(STATES[:3], [*STATES[3:], *MORE_STATES]))
@pytest.mark.parametrize("spread", [0.3, 5.0])
def test_a_leak_shows_whatever_the_weights_are(name: str, spread: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scorers, "state_layers", lambda model: "")
    scorer = PolicyScorer(tiny(name, spread)).eval()
    with pytest.raises(ValueError, match=r"fit\.layout = 'packed'.*Use fit\.layout: padded"):
        scorer.check_sight()


@pytest.mark.parametrize("name", some([*STATES, "granite"], [*MORE_STATES, *SCALED[1:], *UNPACKED, *PACKED]))
@pytest.mark.parametrize("spread", [0.3, 10.0])
def test_what_can_be_trained_is_scored_as_by_itself(name: str, spread: float) -> None:
    model = tiny(name, spread)
    before, noise = bits(model), torch.get_rng_state()
    check_sampling(model)
    scorer = PolicyScorer(model, "packed" if name in PACKED else "padded").eval()
    assert scorer.verify() < 1e-4
    scorer.check_sight()
    assert all(map(torch.equal, before, bits(model)))
    assert torch.equal(noise, torch.get_rng_state())


@pytest.mark.parametrize("name", some(["lfm2", "falcon_h1", "mamba"], [*STATES, *MORE_STATES[:6], "gpt_oss"]))
def test_rows_of_a_batch_are_sampled_as_alone(name: str) -> None:
    """Prompts of several lengths, repeated and left out as they end, against transformers' own greedy decoding."""
    model: Any = tiny(name, 4.0)
    prompts = [[5, 6, 7, 8, 9, 10, 11], [20, 21, 22], [30]]
    settings = SamplingConfig(max_new_tokens=8, temperature=0.0, precision="float32")
    requests = [Request(prompt, 0) for prompt in prompts for _ in range(2)]
    found = TransformersEngine([(model, 1.0)], settings, frozenset(range(0, 260, 9))).sample(requests)
    for request, response in zip(requests, found, strict=True):
        ids = torch.tensor([list(request.prompt_ids)])
        theirs = model.generate(ids, max_new_tokens=len(response.token_ids), do_sample=False, eos_token_id=None)
        assert response.token_ids == theirs[0, ids.shape[1] :].tolist()


@pytest.mark.parametrize("name", NEITHER)
def test_what_cannot_be_sampled_is_refused_by_name(name: str) -> None:
    model = tiny(name)
    with pytest.raises(ValueError, match=f"model: {type(model).__name__} .*sampling.engine: vllm"):
        check_sampling(model)


@pytest.mark.parametrize("name", some(["gpt_oss"], UNPACKED[1:]))
def test_other_attention_is_not_packed(name: str, caplog: pytest.LogCaptureFixture) -> None:
    for spread in (0.3, 10.0):
        scorer = PolicyScorer(tiny(name, spread)).eval()
        with pytest.raises(ValueError, match=r"fit\.layout = 'packed': .*Use fit\.layout: padded"):
            scorer.check_sight()
    model = tiny(name)
    assert scorer_of(model).layout == "padded"
    assert "since not packed: fit.layout = 'packed': " in caplog.text
    assert not any("forward" in vars(module) for module in model.modules())


def test_a_head_with_small_logits_is_compared_too() -> None:
    """A factor on logits near zero changes no log-probability by more than the tolerance."""
    model: Any = tiny("llama", 0.01)
    model.get_output_embeddings().register_forward_hook(lambda module, args, output: 1.5 * output)
    scorer = PolicyScorer(model).eval()
    scorer.verify()
    with pytest.raises(ValueError, match=r"where logits are large"):
        scorer.check_sight()


def test_a_model_that_sees_the_future_is_refused() -> None:
    with pytest.raises(ValueError, match=r"a token changes places that do not see it.*not supported"):
        PolicyScorer(tiny("bert"), "padded").eval().check_sight()


def test_a_window_in_the_mask_alone_is_kept_to() -> None:
    """Some models do not tell their attention of it."""
    scorer = PolicyScorer(tiny("phimoe"))
    with pytest.raises(ValueError, match="sliding_window = 8 with a sequence of 9 tokens"):
        scorer.pack([Rollout([1, 2, 3, 4], [[5, 6], [1, 2, 3, 4, 5, 6]])])


def test_routers_add_no_noise() -> None:
    scorer = PolicyScorer(tiny("mixtral", 10.0)).train()
    pack = scorer.pack([Rollout([1, 2, 3], [[4, 5], [6, 7, 8]])])
    assert torch.equal(scorer(pack), scorer(pack))


def test_places_that_see_a_token() -> None:
    rollouts = [Rollout([1, 2], [[3, 4, 5], [6, 7]]), Rollout([8], [[9, 9]])]
    packed = make_pack(rollouts, "packed")  # 1 2 | 3 4 | 6 | 8 | 9
    assert seeing(packed, 0).nonzero()[:, 0].tolist() == [0, 1, 2, 3, 4]
    assert seeing(packed, 2).nonzero()[:, 0].tolist() == [2, 3]
    assert seeing(packed, 5).nonzero()[:, 0].tolist() == [5, 6]
    nested = make_pack([Rollout([1, 2], [[3, 4]]), Rollout([1], [[5, 6], [7, 8]])], "packed")  # 1 2 | 3 | 5 | 7
    assert seeing(nested, 0).nonzero()[:, 0].tolist() == [0, 1, 2, 3, 4]
    assert seeing(nested, 1).nonzero()[:, 0].tolist() == [1, 2]
    assert seeing(make_pack(rollouts, "padded"), 5).nonzero()[:, 0].tolist() == [5, 6, 7]  # rows of 4


def test_enlarged_weights_are_put_back() -> None:
    model, seen = tiny("llama"), []
    before, matrix = bits(model), model.get_parameter("model.layers.0.mlp.up_proj.weight")
    with revealed(model, lambda: float(matrix.detach().abs().max()), 3.0) as effect:
        seen.append(effect)
        assert not torch.equal(before[1], bits(model)[1])
    assert seen[0] >= 3.0
    assert all(map(torch.equal, before, bits(model)))


@pytest.mark.parametrize(
    "name", some(["lfm2", "granite_hybrid"], ["jamba", "nemotron_h", "mamba", "gpt_oss", "mixtral"])
)
def test_a_run_from_plan_to_policy(name: str, tiny_recipe: dict[str, Any], tmp_path: Path) -> None:
    folder = folder_of(tiny(name), tmp_path / "model")
    plain = {**tiny_recipe, "model": {"path": str(folder)}, "rounds": 1}
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(plain))
    if name != "mixtral":
        for words in (("plan", path), ("run", path, "--out", tmp_path / "refused")):
            code, _, err = sparring(*words)
            assert (code, err.count("\n")) == (2, 1)
            assert "Use fit.layout: padded" in err
        assert not (tmp_path / "refused/data").exists()
        plain["fit"] = {**plain["fit"], "layout": "padded"}
        path.write_text(yaml.safe_dump(plain))
    assert sparring("plan", path).code == 0
    summary = run(parse_recipe(plain), tmp_path / "run", Progress(quiet=True))
    assert summary["judgments"]
    assert (tmp_path / "run/rounds/000/policy/model.safetensors").exists()


def test_sequences_beyond_the_window_are_refused_before_sampling(tiny_recipe: dict[str, Any], tmp_path: Path) -> None:
    """The first long response would have stopped the run after all sampling."""
    folder = folder_of(tiny("phimoe", sliding_window=15), tmp_path / "model")
    plain = {**tiny_recipe, "model": {"path": str(folder)}, "rounds": 1}
    with pytest.raises(ValueError, match=r"sliding_window is 15 tokens, and sequences of 18 may come"):
        run(parse_recipe(plain), tmp_path / "run", Progress(quiet=True))
    assert not (tmp_path / "run/rounds").exists()
