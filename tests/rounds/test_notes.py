"""Notes that an environment keeps from round to round: what they hold, who sees them, and a run killed in between."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from environment_fakes import play_out
from sparring.environments.document_questions import DocumentQuestions
from sparring.environments.environment import Task
from sparring.recipe.reading import parse_recipe
from sparring.rounds.pair import make_pairs
from sparring.rounds.run import run
from sparring.runtime.files import read_table
from sparring.runtime.progress import Progress


@pytest.fixture
def recipe(tiny_recipe: dict[str, Any]) -> dict[str, Any]:
    plain = {**tiny_recipe, "environment": {"name": "environment_fakes:Remembering"}, "rounds": 3}
    plain["algorithm"] = {**plain["algorithm"], "pairing": "all", "target": "soft"}
    plain["evaluation"] = {"samples": 1}
    del plain["oracle"]
    return plain


class Killed(Exception):
    """Stands for a kill in the second round's pair stage."""


def files(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.glob("rounds/*/*.parquet"))}


def test_notes_go_from_round_to_round_and_a_killed_run_ends_with_the_same_bytes(
    recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(parse_recipe(recipe), tmp_path / "whole", Progress(quiet=True))
    kept = [read_table(tmp_path / f"whole/rounds/{t:03d}/notes.parquet") for t in range(3)]
    assert [len(row["notes"]) for row in kept[0]] == [1] * len(kept[0])
    assert all(len(row["notes"]) == 2 for row in kept[2])
    earlier = {row["task"]: row["notes"] for row in kept[1]}
    assert all(row["notes"][0] == earlier[row["task"]][-1] for row in kept[2])
    for t in range(3):
        prompts = {row["prompt"] for row in read_table(tmp_path / f"whole/rounds/{t:03d}/prompts.parquet")}
        assert all(prompt.endswith(f" {min(t, 2)}") for prompt in prompts)
    held_out = {row["prompt"] for row in read_table(tmp_path / "whole/evaluation/prompts-3.parquet")}
    assert all(prompt.endswith(" 0") for prompt in held_out)
    inputs = json.loads((tmp_path / "whole/manifest.json").read_text())["rounds/001/sample"]["inputs"]
    assert "notes" in inputs
    made: list[int] = []

    def dying(*args: Any, **more: Any) -> Any:
        made.append(1)
        if len(made) == 2:
            raise Killed
        return make_pairs(*args, **more)

    with monkeypatch.context() as patch:
        patch.setattr("sparring.rounds.step.make_pairs", dying)
        with pytest.raises(Killed):
            run(parse_recipe(recipe), tmp_path / "killed", Progress(quiet=True))
    run(parse_recipe(recipe), tmp_path / "killed", Progress(quiet=True))
    assert files(tmp_path / "killed") == files(tmp_path / "whole")


def test_the_questioner_is_shown_the_last_solved_questions_on_its_document() -> None:
    environment = DocumentQuestions(documents="made", memory=2)
    assert environment.remembers == 2
    task = Task("a", "", notes=("What did Ada buy? (maps)",))
    asks, _, _ = play_out(environment, lambda ask, k: "?", task=task, seed=1)
    assert "What did Ada buy? (maps)" in asks[0].messages[-1]["content"]
    again, _, _ = play_out(environment, lambda ask, k: "?", task=Task("a", ""), seed=2)
    ledger = again[0].messages[-1]["content"].split("\n\nWrite")[0]
    assert ledger in asks[0].messages[-1]["content"]
    line = '{"question": "Who?", "answer": "Ada"}'
    episode = [("questioner", line, 1.0, ""), ("questioner", line, 0.0, ""), ("questioner", "?", -1.0, "unreadable")]
    assert environment.note(episode) == ["Who? (Ada)"]


def test_without_memory_the_questions_are_those_of_before() -> None:
    asks, _, _ = play_out(DocumentQuestions(documents="made"), lambda ask, k: "?", task=Task("a", ""), seed=1)
    assert "asked before" not in asks[0].messages[-1]["content"]
