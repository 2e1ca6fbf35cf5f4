"""Exported policies: plain folders that load without Sparring, with a card that says what is known and no more."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from peft import AutoPeftModelForCausalLM
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from command import sparring
from conftest import tiny_llama
from sparring.models.chat import Chat
from sparring.models.identity import hash_weights
from sparring.models.weights import load_tokenizer
from sparring.recipe.reading import parse_recipe
from sparring.rounds.model_card import public
from sparring.rounds.run import run
from sparring.runtime.progress import Progress


@pytest.fixture(scope="module")
def made() -> dict[str, Path]:
    return {}


@pytest.fixture
def finished(
    made: dict[str, Path], tiny_recipe: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """Two finished runs, with all weights and with an adapter."""
    if not made:
        for name, lora in (("full", None), ("lora", {"rank": 2})):
            model = {**tiny_recipe["model"], "lora": lora}
            plain = {**tiny_recipe, "model": model, "rounds": 2 if name == "full" else 1}
            made[name] = tmp_path_factory.mktemp("export") / name
            run(parse_recipe(plain), made[name], Progress(quiet=True))
    return made


def head(card: str) -> dict[str, Any]:
    return yaml.safe_load(card.split("---")[1])


def test_a_run_s_last_policy(finished: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "mine"
    code, printed, err = sparring("export", finished["full"], "--out", out, "--dtype", "float32", "--licence", "mit")
    assert (code, err) == (0, "")
    assert printed.startswith(str(out))
    policy = finished["full"] / "rounds/001/policy"
    assert hash_weights(out) == hash_weights(policy)
    assert AutoTokenizer.from_pretrained(out).chat_template == AutoTokenizer.from_pretrained(policy).chat_template
    card = (out / "README.md").read_text()
    assert head(card)["license"] == "mit"
    assert head(card)["tags"] == ["sparring", "self-play", "inpo"]
    summary = json.loads((finished["full"] / "evaluation/summary.json").read_text())
    win = summary["judgments"][0]["win_rate"]
    assert f"{win['value']:.1%} | {win['low']:.1%} to {win['high']:.1%}" in card
    assert "2 rounds of INPO" in card
    assert "3 held-out prompts" in card
    assert "train: `train.jsonl`, 6 usable examples" in card
    assert hash_weights(policy) in card
    assert not list(tmp_path.glob(".*"))


def test_bfloat16_is_the_default_and_json_is_json_alone(finished: dict[str, Path], tmp_path: Path) -> None:
    facts = json.loads(sparring("export", finished["full"], "--out", tmp_path / "x", "--json").out)
    assert facts["dtype"] == "bfloat16"
    kinds = {tensor.dtype for tensor in load_file(tmp_path / "x/model.safetensors").values()}
    assert kinds == {torch.bfloat16}
    assert facts["weights"] == hash_weights(tmp_path / "x")
    assert facts["parameters"] == AutoModelForCausalLM.from_pretrained(tmp_path / "x").num_parameters()


@pytest.mark.parametrize("source", ["run", "folder"])
def test_an_adapter_is_merged(finished: dict[str, Path], tmp_path: Path, source: str) -> None:
    adapter = finished["lora"] / "rounds/000/policy"
    given = finished["lora"] if source == "run" else adapter
    assert sparring("export", given, "--out", tmp_path / "x", "--dtype", "float32").code == 0
    assert not (tmp_path / "x/adapter_config.json").exists()
    ids = torch.arange(8)[None]
    with torch.inference_mode():
        merged = AutoModelForCausalLM.from_pretrained(tmp_path / "x")(ids).logits
        beside = AutoPeftModelForCausalLM.from_pretrained(adapter)(ids).logits
    torch.testing.assert_close(merged, beside, rtol=1e-5, atol=1e-5)
    assert json.loads((tmp_path / "x/export.json").read_text())["merged_adapter"] is True


def test_an_adapter_whose_base_moved(finished: dict[str, Path], tiny_model: Path, tmp_path: Path) -> None:
    adapter = finished["lora"] / "rounds/000/policy"
    moved = tmp_path / "adapter"
    moved.mkdir()
    for file in adapter.iterdir():
        (moved / file.name).write_bytes(file.read_bytes())
    config = json.loads((moved / "adapter_config.json").read_text())
    (moved / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": "/gone/base"}))
    code, _, err = sparring("export", moved, "--out", tmp_path / "x")
    assert code == 2
    assert "'/gone/base' is not a folder" in err
    assert sparring("export", moved, "--out", tmp_path / "x", "--base", tiny_model).code == 0


def test_an_earlier_round_has_no_results_of_a_later_one(finished: dict[str, Path], tmp_path: Path) -> None:
    assert sparring("export", finished["full"], "--round", 1, "--out", tmp_path / "x").code == 0
    card = (tmp_path / "x/README.md").read_text()
    assert "1 round of" in card
    assert "not evaluated" in card


def test_a_policy_whose_fit_did_not_finish_is_none(finished: dict[str, Path], tmp_path: Path) -> None:
    """A kill between the policy and its manifest entry ended in a KeyError."""
    run = tmp_path / "run"
    shutil.copytree(finished["full"], run)
    manifest = json.loads((run / "manifest.json").read_text())
    (run / "manifest.json").write_text(json.dumps({k: v for k, v in manifest.items() if k != "rounds/001/fit"}))
    outcome = sparring("export", run, "--out", tmp_path / "e")
    assert outcome.code == 2
    assert "no policy after 2 rounds: it has those after 1 rounds; choose with --round" in outcome.err


def test_a_plain_folder(tiny_model: Path, tmp_path: Path) -> None:
    assert sparring("export", tiny_model, "--out", tmp_path / "x").code == 0
    card = (tmp_path / "x/README.md").read_text()
    assert "not recorded" in card
    assert "license" not in head(card)


def test_licences_are_passed_on_and_never_guessed(finished: dict[str, Path], tiny_model: Path, tmp_path: Path) -> None:
    card = tiny_model / "README.md"
    sparring("export", finished["full"], "--out", tmp_path / "a")
    assert "start model" in (text := (tmp_path / "a/README.md").read_text())
    assert "license" not in head(text)
    assert text.count("not stated") >= 3
    card.write_text("---\nlicense: llama3\n---\n# Base\n")
    try:
        sparring("export", finished["full"], "--out", tmp_path / "b")
    finally:
        card.unlink()
    assert head((tmp_path / "b/README.md").read_text())["license"] == "llama3"


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["{run}", "--round", "3"], "no policy after 3 rounds: it has those after 1, 2"),
        (["{run}", "--base", "x"], "--base is for adapter folders"),
        (["{model}", "--round", "1"], "is not a run"),
        (["{tmp}/nothing"], "neither a run nor a model folder"),
        (["{tmp}"], "holds no config.json"),
        (["{run}", "--out", "{run}"], "exists and is not an empty folder"),
        (["{run}", "--push", "org/name"], "--push needs a token"),
        (["{run}", "--push", "a/b/c"], "--push 'a/b/c'"),
    ],
)
def test_bad_input(
    finished: dict[str, Path],
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    reason: str,
) -> None:
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    monkeypatch.chdir(tmp_path)
    places = {"run": finished["full"], "model": tiny_model, "tmp": tmp_path}
    code, out, err = sparring("export", *(word.format(**places) for word in words))
    assert (code, out) == (2, "")
    assert reason in err
    assert not (tmp_path / "exported").exists()


def test_push_uploads_what_was_written(
    finished: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[str, dict[str, Any]]] = []

    def api(token: str) -> Any:
        assert token == "secret"
        return SimpleNamespace(
            create_repo=lambda name, **more: calls.append((name, more)),
            upload_folder=lambda **more: calls.append((more["repo_id"], more)),
        )

    monkeypatch.setattr("huggingface_hub.get_token", lambda: "secret")
    monkeypatch.setattr("huggingface_hub.HfApi", api)
    words = ("--out", tmp_path / "x", "--push", "org/mine", "--private")
    code, out, _ = sparring("export", finished["full"], *words)
    assert code == 0
    assert out.splitlines()[-1] == "https://huggingface.co/org/mine"
    assert [name for name, _ in calls] == ["org/mine", "org/mine"]
    assert calls[0][1] == {"private": True, "exist_ok": True}
    assert calls[1][1]["folder_path"] == tmp_path / "x"


def test_a_refused_push_keeps_the_folder(
    finished: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(name: str, **more: Any) -> None:
        raise RuntimeError("403 Forbidden")

    monkeypatch.setattr("huggingface_hub.get_token", lambda: "secret")
    monkeypatch.setattr("huggingface_hub.HfApi", lambda token: SimpleNamespace(create_repo=refuse))
    code, _, err = sparring("export", finished["full"], "--out", tmp_path / "x", "--push", "org/mine")
    assert code == 2
    assert "403 Forbidden" in err
    assert f"hf upload org/mine {tmp_path / 'x'}" in " ".join(err.split())
    assert (tmp_path / "x/README.md").is_file()


@pytest.mark.parametrize("kind", ["full", "lora"])
def test_generation_ends_where_training_did(finished: dict[str, Path], tmp_path: Path, kind: str) -> None:
    assert sparring("export", finished[kind], "--out", tmp_path / "x").code == 0
    ends = json.loads((tmp_path / "x/generation_config.json").read_text())["eos_token_id"]
    tokenizer = load_tokenizer(tmp_path / "x")
    assert Chat(tokenizer).end_id in ends


def test_a_base_of_a_smaller_vocabulary_is_refused(finished: dict[str, Path], tmp_path: Path) -> None:
    small = tiny_llama()
    small.resize_token_embeddings(64)
    small.config.pad_token_id = small.generation_config.pad_token_id = 0
    small.save_pretrained(tmp_path / "small")
    load_tokenizer(finished["full"] / "rounds/000/policy").save_pretrained(tmp_path / "small")
    code, _, err = sparring("export", tmp_path / "small", "--out", tmp_path / "x")
    assert code == 2
    assert "the model embeds 64" in err


def test_a_card_shows_no_address_password_or_folder() -> None:
    shown = public(
        {
            "model": {"path": "/home/me/models/mine"},
            "oracle": {"name": "llm_judge", "base_url": "http://10.0.0.7/v1", "model": "judge"},
            "data": {"train": {"path": "https://me:hunter2@host/x.jsonl"}, "held_out": {"path": "org/set"}},
            "trackers": [{"name": "mlflow", "destination": "postgresql://me:hunter2@db"}],
            "rounds": 3,
        }
    )
    assert shown == {
        "model": {"path": "mine"},
        "oracle": {"name": "llm_judge", "model": "judge"},
        "data": {"train": {"path": "https://host/x.jsonl"}, "held_out": {"path": "org/set"}},
        "rounds": 3,
    }
