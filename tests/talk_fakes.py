"""Policies that answer at once, or when they are told to, for conversations without a model."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import yaml

from sparring.runtime import layout
from sparring.runtime.files import write_json
from sparring.serve.generating import Answer, Question, Tell

Say = Callable[[Question], str]


def by_name(question: Question) -> str:
    """Says which policy it is, to what, after how many messages."""
    who = "start" if question.iterate.round == 0 else "final"
    return f"I am {who}: {question.messages[-1]['content']}, {len(question.messages)}"


class FakeSampler:
    """Answers with `say`; while `held` it waits, and tells how far it is as a sampler does before every token."""

    def __init__(self, say: Say = by_name) -> None:
        self.say, self.asked = say, list[Question]()
        self.free = threading.Event()
        self.free.set()
        self.forgot = 0

    def answer(self, question: Question, tell: Tell) -> Answer:
        self.asked.append(question)
        tell("reading")
        token = 0
        while not self.free.is_set():
            token += 1
            tell(f"token {token} of at most 64")
            time.sleep(0.01)
        return Answer(self.say(question), cut=False)

    def forget(self) -> None:
        self.forgot += 1


def fake_run(folder: Path) -> Path:
    """A finished run of one round as far as its names go: two policies whose weights are empty files."""
    step, model = layout.round_folder(0), folder.parent / "model"
    for place in (model, folder / step.policy):
        place.mkdir(parents=True)
        (place / "model.safetensors").touch()
    recipe = {"model": {"path": str(model)}, "rounds": 1, "algorithm": {"name": "inpo"}, "fit": {}}
    (folder / layout.RECIPE).write_text(yaml.safe_dump(recipe))
    write_json(folder / layout.LOCK, {"weights": {"0/play": "aa" * 32}})
    entry = {"inputs": {}, "outputs": {step.policy: "bb" * 32}, "facts": {}, "seconds": 1.0}
    write_json(folder / layout.MANIFEST, {step.stage("fit"): entry})
    return folder
