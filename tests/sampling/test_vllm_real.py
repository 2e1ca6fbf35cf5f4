"""The real vLLM, in the environment that `make test-vllm` makes; skipped by name where there is none."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from conftest import byte_tokenizer
from sparring.recipe.reading import parse_recipe
from sparring.recipe.sections import SamplingConfig, VllmConfig
from sparring.rounds.engines import prompt_logps
from sparring.rounds.run import run
from sparring.runtime.files import read_table
from sparring.runtime.progress import Progress
from sparring.sampling.engine import Request, Response
from sparring.sampling.transformers_engine import TransformersEngine
from sparring.sampling.vllm_child import fingerprint
from sparring.sampling.vllm_engine import ServedPolicy, VllmEngine, end_kept
from sparring.sampling.vllm_process import check_vllm

PYTHON = os.environ.get("SPARRING_VLLM_PYTHON")
pytestmark = pytest.mark.skipif(PYTHON is None, reason="needs vLLM: make test-vllm")
END = frozenset({256})
PROMPTS = [list(range(65 + i, 90 + i)) for i in range(4)]
REQUESTS = [Request(p, 1000 * i + k) for i, p in enumerate(PROMPTS) for k in range(3)]


def wide_llama() -> LlamaForCausalLM:
    """Heads of 32, the least that vLLM has kernels for; sharp enough that rounding changes no greedy token."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=260,
        hidden_size=128,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=256,
        initializer_range=0.1,
    )
    return LlamaForCausalLM(config).eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("wide")
    wide_llama().save_pretrained(str(path))
    byte_tokenizer().save_pretrained(str(path))
    return path


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter that moves the model a lot."""
    path = tmp_path_factory.mktemp("adapter")
    config = peft.LoraConfig(
        r=4, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False
    )
    peft.get_peft_model(wide_llama(), config).save_pretrained(str(path))
    return path


def served(
    folder: Path, model: Any, log: Path, adapter: Path | None = None, keep: bool = False, **changes: Any
) -> VllmEngine:
    policy = ServedPolicy(
        name="1/play",
        start=log.parent,
        folder=folder,
        adapter=adapter,
        adapter_hash="" if adapter is None else adapter.name,
        adapter_rank=0 if adapter is None else 4,
        trust_remote_code=False,
        vocabulary=260,
        window=256,
        probe_ids=PROMPTS,
        probe_logps=[prompt_logps(model, ids) for ids in PROMPTS],
        fingerprint=fingerprint(model.parameters()) if keep and adapter is None else None,
    )
    vllm = VllmConfig(python=PYTHON, **{"kv_cache_gib": 0.25, **changes.pop("vllm", {})})
    settings = SamplingConfig(
        **{"engine": "vllm", "precision": "float32", "max_new_tokens": 24, **changes, "vllm": vllm}
    )
    return VllmEngine(policy, settings, END, log, keep)


def drawn(engine: VllmEngine, requests: list[Request]) -> list[Response]:
    with engine:
        found = dict(engine.stream(requests))
    return [found[place] for place in range(len(found))]


def test_check() -> None:
    assert check_vllm(VllmConfig(python=PYTHON))[0].isdigit()


def test_greedy_tokens_are_those_of_transformers(folder: Path, tmp_path: Path) -> None:
    engine = served(folder, wide_llama(), tmp_path / "log", temperature=0)
    requests = [Request(p, 0) for p in PROMPTS]
    settings = engine.settings.model_copy(update={"engine": "transformers"})
    assert drawn(engine, requests) == TransformersEngine([(wide_llama(), 1.0)], settings, END).sample(requests)


def test_a_response_belongs_to_its_seed_and_holds_its_end_token(folder: Path, tmp_path: Path) -> None:
    model = wide_llama()
    found = drawn(served(folder, model, tmp_path / "log", max_new_tokens=200), REQUESTS)
    apart = [request for k in range(3) for request in REQUESTS[k::3]]
    split = served(folder, model, tmp_path / "log", max_new_tokens=200, vllm={"data_parallel": 2})
    other = drawn(split, apart)
    assert [other[4 * (place % 3) + place // 3] for place in range(12)] == found
    assert len({tuple(r.token_ids) for r in found}) == 12
    assert {r.finish_reason for r in found} >= {"stop"}
    for response in found:
        assert response.token_ids.count(256) == (response.finish_reason == "stop")
        assert response.finish_reason == "length" or response.token_ids[-1] == 256


def test_greedy_answers_of_a_prompt_are_drawn_once_and_given_to_all(folder: Path, tmp_path: Path) -> None:
    found = drawn(served(folder, wide_llama(), tmp_path / "log", temperature=0), REQUESTS)
    assert len(found) == len(REQUESTS)
    for begin in range(0, len(REQUESTS), 3):
        assert found[begin] == found[begin + 1] == found[begin + 2]


def test_top_p_keeps_the_nucleus(folder: Path, tmp_path: Path) -> None:
    model = wide_llama()
    requests = [Request(PROMPTS[0], k) for k in range(400)]
    engine = served(folder, model, tmp_path / "log", max_new_tokens=1, top_p=0.6, temperature=1.3)
    first = torch.tensor([r.token_ids[0] for r in drawn(engine, requests)])
    with torch.no_grad():
        probs = (model(torch.tensor([PROMPTS[0]])).logits[0, -1] / 1.3).softmax(-1)
    mass, order = probs.sort(descending=True)
    kept = order[mass.cumsum(0) - mass < 0.6]
    assert set(first.tolist()) <= set(kept.tolist())
    share = torch.bincount(first, minlength=260) / 400
    expected = torch.zeros(260).index_put((kept,), probs[kept] / probs[kept].sum())
    assert float((share - expected).abs().sum() / 2) < 0.25


def test_an_adapter_is_served_over_its_base(folder: Path, adapter: Path, tmp_path: Path) -> None:
    base: Any = wide_llama()
    merged = peft.PeftModel.from_pretrained(wide_llama(), str(adapter)).merge_and_unload()  # type: ignore[operator]
    engine = served(folder, merged, tmp_path / "log", adapter, temperature=0)
    found = drawn(engine, REQUESTS[::3])
    settings = engine.settings.model_copy(update={"engine": "transformers"})
    assert found == TransformersEngine([(merged, 1.0)], settings, END).sample(REQUESTS[::3])
    with pytest.raises(ValueError, match=r"does not serve policy 1/play"):
        drawn(served(folder, base, tmp_path / "log", adapter), REQUESTS)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_next_policy_is_read_into_the_living_engine(precision: str, folder: Path, tmp_path: Path) -> None:
    """Its matrices too, which a CPU's kernels have packed; tied embeddings serve as the last layer as well."""
    log = tmp_path / "log"
    config = wide_llama().config
    for seed in (1, 2):
        torch.manual_seed(seed)
        other = LlamaForCausalLM(config).eval().to(getattr(torch, precision))
        other.save_pretrained(str(tmp_path / f"{seed}"))
        byte_tokenizer().save_pretrained(str(tmp_path / f"{seed}"))
    models: list[Any] = [
        LlamaForCausalLM.from_pretrained(str(path), dtype=getattr(torch, precision)).eval()
        for path in (folder, tmp_path / "1", tmp_path / "2")
    ]
    for model, path in zip(models, (folder, tmp_path / "1", tmp_path / "2"), strict=True):
        engine = served(path, model, log, keep=True, temperature=0, precision=precision)
        found = drawn(engine, REQUESTS[::3])
        assert engine.note.endswith("every weight the policy's")
        if precision == "float32":
            settings = engine.settings.model_copy(update={"engine": "transformers"})
            assert found == TransformersEngine([(model, 1.0)], settings, END).sample(REQUESTS[::3])
    end_kept()
    text = log.read_text()
    assert "started anew" not in text
    assert text.count("Initializing a V1 LLM engine") == 1


def test_too_small_a_cache_names_the_field(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"did not start.*kv_cache_gib"):
        drawn(served(folder, wide_llama(), tmp_path / "log", vllm={"kv_cache_gib": 1e-6}), REQUESTS)


def test_a_round(folder: Path, tiny_recipe: dict[str, Any], tmp_path: Path) -> None:
    sampling = {**tiny_recipe["sampling"], "engine": "vllm", "vllm": {"python": PYTHON, "kv_cache_gib": 0.25}}
    evaluation = {"samples": 1, "bootstrap": 100}
    plain = {**tiny_recipe, "model": {"path": str(folder)}, "sampling": sampling, "evaluation": evaluation, "rounds": 1}
    run(parse_recipe(plain), tmp_path / "run", Progress(quiet=True))
    assert len(read_table(tmp_path / "run/rounds/000/samples.parquet")) == 24
    log = (tmp_path / "run/logs/vllm.log").read_text()
    assert log.count("of the trainer's") == 3
