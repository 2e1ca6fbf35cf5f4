"""Fakes that drive everything in milliseconds: a 2-layer Llama, a byte-level tokenizer, tiny data."""

from __future__ import annotations

import gc
import json
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# Small matrices: BLAS threads that wait for each other cost a hundred times the work on a busy machine.
for threads in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(threads, "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from jaxtyping import install_import_hook

# Shapes in annotations are checked at run time where policies are trained and sampled, in the tests only. Left out:
# `training.flex`, whose kernels torch cannot compile with the checker in them.
CHECKED = [
    "sparring.objectives",
    "sparring.training.accumulate",
    "sparring.training.attention",
    "sparring.training.batches",
    "sparring.training.lean",
    "sparring.training.logprobs",
    "sparring.training.metrics",
    "sparring.training.packing",
    "sparring.training.scorer",
    "sparring.sampling.attention",
    "sparring.sampling.choice",
    "sparring.sampling.packed",
    "sparring.sampling.room",
    "sparring.sampling.transformers_engine",
]
install_import_hook(CHECKED, "shape_checker.check").__enter__()

import pytest
import torch
from hypothesis import settings
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from sparring.data.examples import Example, stream_examples
from sparring.recipe.sections import DatasetConfig

torch.set_num_threads(1)

# The same examples in every run, however slow the machine: a suite that fails by chance is trusted by nobody.
# `pytest --hypothesis-profile=default` looks for new ones.
settings.register_profile("same", derandomize=True, deadline=None)
settings.load_profile("same")


def pytest_collection_finish() -> None:
    """Imports stay out of garbage collections: a run makes many, and going through all modules was most of its time."""
    import pandas  # noqa: F401 - pyarrow's first table would import it later

    gc.collect()
    gc.freeze()


TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SPECIAL = ["<|end|>", "<|user|>", "<|assistant|>", "<|system|>"]


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """256 bytes and four special tokens; pad = eos, as in many real models."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({c: i for i, c in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(SPECIAL)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>", pad_token="<|end|>")
    fast.add_special_tokens({"additional_special_tokens": SPECIAL[1:]})
    fast.chat_template = TEMPLATE
    return fast


def tiny_llama(seed: int = 0, tie_word_embeddings: bool = True) -> LlamaForCausalLM:
    """Two layers, grouped heads, tied embeddings unless told."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=260,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        tie_word_embeddings=tie_word_embeddings,
        bos_token_id=None,
        eos_token_id=256,
        pad_token_id=256,
    )
    return LlamaForCausalLM(config).eval()


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Hugging Face folder with the tiny model and its tokenizer."""
    folder = tmp_path_factory.mktemp("tiny-model")
    tiny_llama().save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


def other_template(folder: Path) -> None:
    """Give a model's tokenizer another chat template; its weights stay."""
    changed = byte_tokenizer()
    changed.chat_template = f"Now: {changed.chat_template}"
    changed.save_pretrained(folder)


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerFast:
    return byte_tokenizer()


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def load_examples(config: DatasetConfig, roles: Sequence[str]) -> tuple[list[Example], Counter[str]]:
    """All examples that hold every role, and the dropped rows counted by reason."""
    dropped: Counter[str] = Counter()
    return list(stream_examples(config, roles, dropped)), dropped


@pytest.fixture
def tiny_recipe(tiny_model: Path, tmp_path: Path) -> dict[str, Any]:
    """A recipe that runs in a second or two; the data hold every role."""
    return recipe_in(tmp_path, tiny_model)


def recipe_in(tmp_path: Path, tiny_model: Path) -> dict[str, Any]:
    """As `tiny_recipe`, with its data in a folder."""
    rows = [
        {
            "prompt": f"Say {word}",
            "chosen": f"{word}!",
            "rejected": f"not {word}",
            "gold": f"{word} {word}",
            "completion": f"A {word}.",
            "label": len(set(word)) == 3,
        }
        for word in ("ant", "bee", "cat", "dog", "elk", "fox")
    ]
    train = write_jsonl(tmp_path / "train.jsonl", rows)
    held = write_jsonl(
        tmp_path / "held.jsonl",
        [
            {"prompt": "Say yak", "check": {"rule": "max_words", "count": 3}},
            {"prompt": "Say gnu"},
            {"prompt": "Say hen"},
        ],
    )
    return {
        "model": {"path": str(tiny_model)},
        "data": {"train": {"path": str(train)}, "held_out": {"path": str(held)}},
        "algorithm": {
            "name": "inpo",
            "samples": 4,
            "step_size": 2.0,
            "kl_to_reference": 0.1,
            "pairing": "best_worst",
        },
        "oracle": {"name": "function", "path": "oracle_fakes:more_vowels"},
        "rounds": 2,
        "sampling": {"max_new_tokens": 8, "batch_size": 8, "precision": "float32"},
        "fit": {
            "learning_rate": 1e-3,
            "batch_size": 4,
            "precision": "float32",
            "tripwires": {"repetition": None},
        },
        "evaluation": {"bootstrap": 100},
    }
