"""IFEval's prompts are known without being shipped, and no run trains on them."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from conftest import write_jsonl
from sparring.data import evaluation_only
from sparring.data.evaluation_only import is_evaluation_only, refuse_evaluation_only
from sparring.models.chat import Chat
from sparring.models.weights import load_tokenizer
from sparring.recipe.reading import parse_recipe
from sparring.rounds.prepare import Preparation
from sparring.rounds.store import Store
from sparring.runtime.progress import Progress


def test_the_digests_are_those_of_the_prompts():
    path = Path(os.environ.get("SPARRING_EVALUATION_DATA", "no folder"), "ifeval", "input_data.jsonl")
    if not path.is_file():
        pytest.skip("SPARRING_EVALUATION_DATA names no folder with ifeval/input_data.jsonl")
    prompts = [json.loads(line)["prompt"] for line in path.read_text(encoding="utf-8").splitlines()]
    assert len(evaluation_only._digests()) == len(prompts) == 541
    assert all(map(is_evaluation_only, prompts))


def test_a_prompt_is_named_with_its_field():
    known = frozenset({hashlib.sha256(b"Say this.").hexdigest()[:16]})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation_only, "_digests", lambda: known)
        refuse_evaluation_only(["Say that."], "data.train")
        with pytest.raises(ValueError, match=r"data.train: the prompt 'Say this.' is one of IFEval's"):
            refuse_evaluation_only(["Say that.", "Say this."], "data.train")


def test_a_run_refuses_to_train_on_them_and_may_hold_them_out(tiny_recipe, tiny_model, tmp_path, monkeypatch):
    known = frozenset({hashlib.sha256(b"Say ant").hexdigest()[:16]})
    monkeypatch.setattr(evaluation_only, "_digests", lambda: known)
    chat, quiet = Chat(load_tokenizer(tiny_model)), Progress(quiet=True)
    other = write_jsonl(tmp_path / "other.jsonl", [{"prompt": "Say owl", "chosen": "o", "rejected": "w"}])
    ant = write_jsonl(tmp_path / "ant.jsonl", [{"prompt": "Say ant", "chosen": "a", "rejected": "n"}])

    def prepare(train: Path, held_out: Path) -> dict[str, object]:
        data = {**tiny_recipe["data"], "train": {"path": str(train)}, "held_out": {"path": str(held_out)}}
        recipe = parse_recipe({**tiny_recipe, "data": data, "algorithm": {"name": "dpo"}})
        return dict(Preparation(Store(tmp_path / train.stem), recipe, chat, {}, 256, None, quiet).run().counts)

    with pytest.raises(ValueError, match="'Say ant' is one of IFEval's"):
        prepare(ant, other)
    assert prepare(other, ant)["held_out"] == 1
