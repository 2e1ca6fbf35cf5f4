"""A judge whose template writes today's date: every day is the same day to it, and its identity says which."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForSequenceClassification

from conftest import TEMPLATE, byte_tokenizer
from sparring.endpoints.local import LocalChat
from sparring.models.template import FIXED_DAY
from sparring.oracles.mutual_information import MutualInformation
from sparring.oracles.oracle import Comparison
from sparring.oracles.pair_model import PairModel
from sparring.oracles.reward_model import RewardModel, conversation_ids

DATED = "On {{ strftime_now('%Y-%m-%d') }}. " + TEMPLATE


def give_template(folder: Path, template: str) -> Path:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def causal(tiny_model: Path, tmp_path: Path) -> Path:
    return give_template(Path(shutil.copytree(tiny_model, tmp_path / "causal")), DATED)


@pytest.fixture
def reward(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = LlamaConfig(vocab_size=260, pad_token_id=256, num_labels=1, **sizes)
    LlamaForSequenceClassification(config).save_pretrained(tmp_path / "reward")
    return give_template(tmp_path / "reward", DATED)


def text_of(tokenizer, ids: list[int]) -> str:
    return str(tokenizer.decode(ids))


def test_a_reward_model_reads_the_same_day_on_every_day(reward: Path) -> None:
    oracle = RewardModel(str(reward))
    assert text_of(oracle.tokenizer, conversation_ids(oracle.template, "p", "x")).startswith(f"On {FIXED_DAY}.")
    assert oracle.identity.endswith(f";day={FIXED_DAY})")
    assert "day" not in RewardModel(str(give_template(reward, TEMPLATE))).identity


def test_a_pair_model_reads_the_same_day_on_every_day(causal: Path) -> None:
    oracle = PairModel(str(causal), format="instruct")
    ids = oracle._scorer.ids(Comparison("p", "x", "y"), 4096)
    assert text_of(oracle._scorer.tokenizer, ids).startswith(f"On {FIXED_DAY}.")
    assert oracle.identity.endswith(f";day={FIXED_DAY})")
    assert "day" not in PairModel(str(give_template(causal, TEMPLATE)), format="instruct").identity


def test_a_local_judge_reads_the_same_day_on_every_day(causal: Path, tmp_path: Path) -> None:
    chat = LocalChat(str(causal), str(tmp_path / "replies.jsonl"))
    ids = chat._ids({"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1})
    assert isinstance(ids, list)
    assert text_of(chat.chat.tokenizer, ids).startswith(f"On {FIXED_DAY}.")
    assert chat.digest.endswith(f" on {FIXED_DAY}")


def test_mutual_information_reads_the_same_day_on_every_day(causal: Path) -> None:
    oracle = MutualInformation(str(causal))
    asked = oracle.chat.prompt_ids([{"role": "user", "content": "Hi"}])
    assert text_of(oracle.chat.tokenizer, asked).startswith(f"On {FIXED_DAY}.")
    assert oracle.identity.endswith(f";day={FIXED_DAY})")
