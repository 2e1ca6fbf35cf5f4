"""Training preference models: they learn what was planted, their folders are oracles, and a kill costs nothing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from command import sparring
from conftest import tiny_llama, write_jsonl
from sparring.evaluation.oracle_quality import correct
from sparring.models.messages import PromptText, prompt_text, turns
from sparring.oracles import train as training
from sparring.oracles.build import build_oracle
from sparring.oracles.labelled import Labelled, read_labelled
from sparring.oracles.oracle import Comparison
from sparring.oracles.orders import swapped
from sparring.oracles.preference_head import fit_head
from sparring.oracles.train import TrainConfig, train_oracle
from sparring.oracles.trained import Trained
from sparring.runtime.progress import Progress

QUIET = Progress(quiet=True)
WORDS = ("ant", "bee", "cat", "dog", "elk", "fox", "gnu", "hen")


@pytest.fixture
def pairs(tmp_path) -> str:
    """The answer with z wins."""
    rows = [
        {"prompt": f"Say {word} {i}", "a": f"{word} zzz", "b": f"{word} ooo", "label": "a"}
        if i % 2
        else {"prompt": f"Say {word} {i}", "a": f"{word} ooo", "b": f"{word} zzz", "label": "b"}
        for i in range(10)
        for word in WORDS
    ]
    return str(write_jsonl(tmp_path / "pairs.jsonl", rows))


def accuracy(oracle, pairs) -> float:
    answers = oracle.judge([pair.comparison for pair in pairs])
    return float(correct(answers, np.array([pair.preference for pair in pairs])).mean())


def test_a_head_finds_a_planted_direction():
    rng = np.random.default_rng(0)
    rows = {f"t{i}": rng.normal(size=8).astype(np.float32) for i in range(400)}
    cases = [Comparison(f"t{i}", f"t{i + 100}", f"t{i + 200}") for i in range(100)]
    labels = np.array([float(rows[c.a][0] > rows[c.b][0]) for c in cases])
    head = fit_head("bradley_terry", cases, labels, rows)
    assert head.left.numel() == 0
    assert int(head.linear.abs().argmax()) == 0


def test_a_pairwise_head_can_prefer_in_circles_and_is_symmetric():
    rng = np.random.default_rng(0)
    rows = {name: row.astype(np.float32) for name, row in zip("rps", np.eye(3), strict=True)}
    prompts = [f"p{i}" for i in range(30)]
    rows |= {prompt: np.ones(3, np.float32) + 0.01 * rng.normal(size=3).astype(np.float32) for prompt in prompts}
    cases = [Comparison(p, *sides) for p in prompts for sides in ("rs", "sp", "pr")]
    head = fit_head("pairwise", cases, np.ones(len(cases)), rows)
    from sparring.oracles.preference_head import features

    odds = head.log_odds(*features(cases, rows))
    assert (odds > 0.5).all()
    assert torch.allclose(odds, -head.log_odds(*features(swapped(cases), rows)))
    reward = fit_head("bradley_terry", cases, np.ones(len(cases)), rows)
    assert reward.log_odds(*features(cases, rows)).abs().max() < 0.1


def test_a_head_is_an_oracle_that_learned_and_is_trained_once(pairs, tiny_model, tmp_path, monkeypatch):
    config = TrainConfig(data=[pairs], base=str(tiny_model))
    test = train_oracle(config, tmp_path / "out", QUIET)
    oracle = build_oracle({"name": "trained", "folder": str(tmp_path / "out")}, "")
    assert isinstance(oracle, Trained)
    assert accuracy(oracle, test) > 0.9
    assert not oracle.train_prompts & {training.digest(pair.comparison.prompt) for pair in test}
    assert len((tmp_path / "out" / "held_out.jsonl").read_text().splitlines()) == len(test)
    monkeypatch.setattr(training, "_train_head", None)
    assert train_oracle(config, tmp_path / "out", QUIET) == test
    with pytest.raises(ValueError, match="other data, from another base or with other fields"):
        train_oracle(TrainConfig(data=[pairs], base=str(tiny_model), seed=1), tmp_path / "out", QUIET)


def test_embeddings_of_a_killed_training_are_kept(pairs, tiny_model, tmp_path, monkeypatch):
    config = TrainConfig(data=[pairs], base=str(tiny_model))
    monkeypatch.setattr(training, "TEXTS", 50)

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(training, "fit_head", killed)
        with pytest.raises(KeyboardInterrupt):
            train_oracle(config, tmp_path / "out", QUIET)

    def never(*_):
        raise AssertionError("embedded again")

    monkeypatch.setattr(training.SentenceEmbedder, "embed", never)
    train_oracle(config, tmp_path / "out", QUIET)
    assert not (tmp_path / "out" / "training.partial").exists()


def test_a_killed_trainings_embeddings_are_for_its_base_only(pairs, tiny_model, tmp_path, monkeypatch):
    """They were named by the texts alone, and another base took them for its own."""
    other = tmp_path / "other"
    shutil.copytree(tiny_model, other)
    tiny_llama(seed=7).save_pretrained(other)
    second = TrainConfig(data=[pairs], base=str(other))
    train_oracle(second, tmp_path / "whole", QUIET)
    with monkeypatch.context() as patch:
        patch.setattr(training, "fit_head", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train_oracle(TrainConfig(data=[pairs], base=str(tiny_model)), tmp_path / "out", QUIET)
    train_oracle(second, tmp_path / "out", QUIET)
    one, two = (load_file(tmp_path / name / "head.safetensors") for name in ("out", "whole"))
    assert all(torch.equal(one[name], two[name]) for name in two)


MODELS = [
    ("bradley_terry", "full", True),
    ("bradley_terry", "lora", True),
    ("pairwise", "full", True),
    ("pairwise", "lora", True),
    ("pairwise", "full", False),
]


@pytest.mark.parametrize(("kind", "method", "template"), MODELS)
def test_models_learn_and_their_folders_are_oracles(kind, method, template, pairs, tiny_model, tmp_path):
    base = tmp_path / "base"
    shutil.copytree(tiny_model, base)
    if not template:
        (base / "chat_template.jinja").unlink()
    fields = {"kind": kind, "method": method, "learning_rate": 1e-2, "batch_size": 8, "epochs": 6, "max_tokens": 200}
    config = TrainConfig.model_validate({"data": [pairs], "base": str(base), **fields})
    test = train_oracle(config, tmp_path / "out", QUIET)
    assert accuracy(Trained(str(tmp_path / "out")), test) > 0.9
    card = json.loads((tmp_path / "out" / "oracle.json").read_text())
    expected = "reward_model" if kind == "bradley_terry" else "pair_model"
    assert card["oracle"]["name"] == expected
    if kind == "pairwise":
        assert card["oracle"]["format"] == ("rlhflow" if template else "classifier")


@pytest.mark.parametrize("method", [{"method": "full"}, {"method": "lora", "lora": {"dropout": 0.3}}])
def test_a_killed_fit_goes_on_to_the_same_weights(method, pairs, tiny_model, tmp_path, monkeypatch):
    """Dropout drew from what was left of the process's noise."""
    fields = {**method, "learning_rate": 1e-3, "batch_size": 16, "checkpoint_minutes": 0}
    config = TrainConfig.model_validate({"data": [pairs], "base": str(tiny_model), **fields})
    train_oracle(config, tmp_path / "whole", QUIET)
    step, left = training._step, [3]

    def dies(*given):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return step(*given)

    with monkeypatch.context() as patch:
        patch.setattr(training, "_step", dies)
        with pytest.raises(KeyboardInterrupt):
            train_oracle(config, tmp_path / "killed", QUIET)
    train_oracle(config, tmp_path / "killed", QUIET)
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "killed"))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_a_held_out_pair_of_several_turns_is_read_back_with_them(tmp_path):
    """Its prompt was written as one text, which an audit took for one turn."""
    talk = [{"role": role, "content": text} for role, text in (("user", "Hi"), ("assistant", "Ho"), ("user", "Why?"))]
    pair = Labelled(Comparison(PromptText(talk), "a", "b"), 1.0, "")
    write_jsonl(tmp_path / "held_out.jsonl", [training._row(pair), training._row(pair._replace(preference=0.5))])
    again, _ = read_labelled(str(tmp_path / "held_out.jsonl"))
    assert again[0] == pair
    assert turns(again[1].comparison.prompt) == talk


def test_turns_are_part_of_what_a_fit_is_known_by():
    """Prompts of one text whose turns lie elsewhere are other tokens."""
    talk = [{"role": role, "content": text} for role, text in (("user", "Hi"), ("assistant", "Ho"), ("user", "Why?"))]
    flat = prompt_text(talk)

    def content(prompt: str) -> object:
        return training._content(Labelled(Comparison(prompt, "a", "b"), 1.0, "x"))

    assert content(flat) == content(PromptText([{"role": "user", "content": flat}])) == [[flat, "a", "b"], 1.0, "x"]
    assert content(PromptText(talk)) == [[talk, "a", "b"], 1.0, "x"]


def test_bad_folders_and_too_little_data(pairs, tiny_model, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("x")
    with pytest.raises(ValueError, match=r"thesis\.txt"):
        train_oracle(TrainConfig(data=[pairs], base=str(tiny_model)), tmp_path / "full", QUIET)
    with pytest.raises(ValueError, match="at least 10 of each"):
        train_oracle(TrainConfig(data=[pairs], base=str(tiny_model), held_out=0.01), tmp_path / "few", QUIET)
    with pytest.raises(ValueError, match=r"holds no oracle\.json"):
        Trained(str(tmp_path))
    assert Path(pairs).exists()


def test_the_command_prints_what_the_folder_reaches(pairs, tiny_model, tmp_path):
    given = ["oracle", "train", pairs, "--base", tiny_model, "--out", tmp_path / "out"]
    result = sparring(*given, "--json")
    assert result.code == 0, result.err
    found = json.loads(result.out)
    assert found["oracles"]["out"]["accuracy"]["value"] > 0.9
    assert found["oracles"]["out"]["trained_on"] == 0
    again = sparring(*given)
    assert "is trained already" in again.out
    assert "{name: trained, folder:" in again.out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--set", "learning_rat=1"], "learning_rat: unknown key. Did you mean 'learning_rate'?"),
        (["--set", "epochs=0"], "epochs = 0"),
        (["--kind", "ranking"], "kind = 'ranking'"),
        (["--held-out", "1.5"], "held_out = 1.5"),
    ],
)
def test_bad_fields_of_the_command(pairs, tmp_path, words, message):
    result = sparring("oracle", "train", pairs, "--out", tmp_path / "out", *words)
    assert result.code == 2
    assert message in result.err
