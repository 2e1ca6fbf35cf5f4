"""The folders of policies, as the workers of a cluster have them."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any, Literal

import pytest

from sparring.algorithms.algorithm import REFERENCE, PolicyRef
from sparring.recipe.sections import ModelConfig
from sparring.rounds.policies import Policies
from sparring.rounds.store import Store


def test_relative_paths_mean_the_same_in_the_folder_of_a_worker(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    base = Path(os.path.relpath(tiny_model, tmp_path))
    policies = Policies(Store(Path("runs/mine")), ModelConfig(path=str(base)))
    trained = tmp_path / "runs/mine/rounds/000/policy"
    trained.mkdir(parents=True)
    (trained / "model.safetensors").write_bytes(b"weights")
    monkeypatch.setattr(Policies, "hash", lambda self, ref: f"weights of {ref.round}")
    folders = policies.folders([REFERENCE, PolicyRef(1)])
    assert list(folders.values()) == [tmp_path / base, trained]

    (tmp_path / "worker").mkdir()
    monkeypatch.chdir(tmp_path / "worker")
    sent = pickle.loads(pickle.dumps(policies))
    places = {origin: tmp_path / "received" / key for key, origin in folders.items()}
    received = sent.at(places)
    assert received.base == places[tmp_path / base]
    assert received.places["rounds/000/policy"] == places[trained]
    shared = sent.at({})  # a worker that sees the controller's disk
    assert (shared.base, shared.folder(PolicyRef(1))) == (tmp_path / base, trained)
    assert sent.at({}, tmp_path / "made").store.root == tmp_path / "made"


def test_a_worker_keeps_no_model_for_another_template_or_a_base_in_4_bits(tiny_model: Path, tmp_path: Path) -> None:
    def key(precision: Literal["bfloat16", "float32"] = "bfloat16", **model: Any) -> str:
        policies = Policies(Store(tmp_path), ModelConfig(path=str(tiny_model), **model), precision)
        return policies.worker_key([REFERENCE], "settings")

    assert key() == key()
    others = {key(chat_template="plain"), key(lora={"quantize": "nf4"}), key(system="Be short."), key("float32")}
    assert len({key(), *others}) == 5
