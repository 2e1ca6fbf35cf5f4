"""Models that read both answers, on tiny ones: the format they see, both orders, batches, and wrong folders."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from scipy.special import expit
from transformers import LlamaConfig, LlamaForSequenceClassification

from conftest import byte_tokenizer, other_template
from sparring.oracles.build import build_oracle
from sparring.oracles.judge_prompts import STYLES
from sparring.oracles.oracle import Comparison
from sparring.oracles.orders import swapped
from sparring.oracles.pair_model import Letters, PairModel
from sparring.oracles.pairrm import MARKERS, DebertaV2Config, _Network

CASES = [Comparison("Say ant", "ant", "a bee"), Comparison("Say bee", "bee " * 6, "x"), Comparison("p", "x", "y")]


def build(folder: Path, **fields) -> PairModel:
    oracle = build_oracle({"name": "pair_model", "model": str(folder), "precision": "float32", **fields}, "")
    assert isinstance(oracle, PairModel)
    return oracle


@pytest.fixture
def classifier(tmp_path) -> Path:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=260,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_labels=2,
        pad_token_id=256,
    )
    LlamaForSequenceClassification(config).save_pretrained(tmp_path / "pairs")
    byte_tokenizer().save_pretrained(tmp_path / "pairs")
    return tmp_path / "pairs"


@pytest.fixture
def pairrm(tmp_path) -> Path:
    torch.manual_seed(0)
    tokenizer = byte_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": list(MARKERS)})
    ids = dict(zip(("source_prefix_id", "cand1_prefix_id", "cand2_prefix_id"), (260, 261, 262), strict=True))
    config = DebertaV2Config(
        vocab_size=263,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        relative_attention=True,
        pos_att_type=["p2c", "c2p"],
        type_vocab_size=0,
        n_tasks=1,
        **ids,
    )
    folder = tmp_path / "pairrm"
    config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    save_file(_Network(config, 1).state_dict(), folder / "model.safetensors")
    return folder


def test_a_pair_model_with_another_template_is_another_judge(classifier):
    before = build(classifier, format="classifier").identity
    assert build(classifier, format="classifier").identity == before
    other_template(classifier)
    assert build(classifier, format="classifier").identity != before


def test_another_wording_is_another_judge(tiny_model, monkeypatch):
    """The wording that `instruct` borrows was no part of its identity."""
    before = {format: build(tiny_model, format=format).identity for format in ("instruct", "rlhflow")}
    other = replace(STYLES["pairwise"], system="Choose.")
    monkeypatch.setitem(STYLES, "pairwise", other)
    assert build(tiny_model, format="instruct").identity != before["instruct"]
    assert build(tiny_model, format="rlhflow").identity == before["rlhflow"]


@pytest.mark.parametrize("format", ["rlhflow", "instruct", "classifier", "pairrm"])
def test_both_orders_are_averaged_and_batches_do_not_matter(format, request, tiny_model):
    folder = tiny_model if format in ("rlhflow", "instruct") else request.getfixturevalue(format)
    oracle = build(folder, format=format)
    there, back = oracle.judge(CASES), oracle.judge(swapped(CASES))
    assert there + back == pytest.approx(1)
    first, second = oracle.first_shown(CASES), oracle.first_shown(swapped(CASES))
    assert there == pytest.approx((first + 1 - second) / 2)
    alone = build(folder, format=format, batch_size=1).judge(CASES)
    assert np.allclose(there, alone, atol=1e-5)
    assert np.std(first) > 0


def test_rlhflow_reads_the_logits_of_two_letters(tiny_model):
    oracle = build(tiny_model, temperature=2.0)
    scorer = oracle._scorer
    assert isinstance(scorer, Letters)
    tokenizer = scorer.tokenizer
    question = "[CONTEXT] \n\n\n<turn> user\n Say ant\n\n\n [RESPONSE A] ant [RESPONSE B] a bee \n"
    ids = tokenizer.encode(f"<|user|>{question}<|end|><|assistant|>", add_special_tokens=False)
    assert scorer.ids(CASES[0], 4096) == ids
    with torch.no_grad():
        logits = scorer.model(torch.tensor([ids])).logits[0, -1]
    a, b = (tokenizer.encode(letter)[0] for letter in "AB")
    assert oracle.first_shown(CASES[:1])[0] == pytest.approx(expit(float(logits[a] - logits[b]) / 2), abs=1e-6)


def test_long_questions_are_cut_to_fit_and_counted(tiny_model):
    oracle = build(tiny_model, max_tokens=200)
    oracle.judge([Comparison("p", "long " * 100, "short")])
    assert oracle.counts() == {"questions cut to max_tokens": 2}
    with pytest.raises(ValueError, match="max_tokens = 30 holds not even"):
        build(tiny_model, max_tokens=30).judge(CASES[:1])


def test_one_output_is_a_log_odds(classifier):
    config = LlamaConfig.from_pretrained(classifier)
    config.num_labels = 1
    LlamaForSequenceClassification(config).save_pretrained(classifier)
    there = build(classifier, format="classifier").judge(CASES)
    assert ((there > 0) & (there < 1)).all()
    config.num_labels = 3
    LlamaForSequenceClassification(config).save_pretrained(classifier)
    with pytest.raises(ValueError, match="has 3 outputs"):
        build(classifier, format="classifier")


def test_pairrm_keeps_parts_apart(pairrm):
    scorer = build(pairrm, format="pairrm")._scorer
    ids = scorer.ids(Comparison("p", "a <|candidate2|> b", "c"), 64)
    assert [i for i in ids if i >= 260] == [260, 261, 262]
    assert len(scorer.ids(Comparison("p" * 99, "a" * 99, "b" * 99), 64)) <= 64
    assert scorer.shortened == 1


def test_a_folder_of_another_layout_is_named(pairrm, classifier, tmp_path):
    save_file({"other": torch.zeros(1)}, pairrm / "model.safetensors")
    with pytest.raises(ValueError, match=r"lacks .* tensors of PairRM"):
        build(pairrm, format="pairrm")
    with pytest.raises(ValueError, match="not PairRM's layout"):
        build(classifier, format="pairrm")


def test_a_model_without_a_template_or_letters_is_refused(tiny_model, tmp_path):
    folder = tmp_path / "plain"
    folder.mkdir()
    for file in tiny_model.iterdir():
        if file.name not in ("chat_template.jinja",):
            (folder / file.name).write_bytes(file.read_bytes())
    with pytest.raises(ValueError, match="no chat template"):
        build(folder)
