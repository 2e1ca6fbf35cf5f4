"""`sparring init` writes recipes that are valid, commented, and say what was answered."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from command import sparring
from conftest import load_examples, write_jsonl
from sparring.cli.main import app
from sparring.models.messages import prompt_text
from sparring.planning.starter import GOALS
from sparring.recipe.reading import load_recipe


@pytest.mark.parametrize("goal", GOALS)
@pytest.mark.parametrize("lora", ["--lora", "--no-lora"])
def test_every_choice_gives_a_valid_commented_recipe(goal: str, lora: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    words = ("--goal", goal, "--data", "org/set", "--model", "org/name", lora, "--yes")
    code, out, err = sparring("init", file, *words)
    assert (code, err) == (0, "")
    assert f"sparring run {file}" in out
    recipe = load_recipe(file)
    assert recipe.model.path == "org/name"
    assert (recipe.model.lora is not None) == (lora == "--lora")
    assert recipe.data.train.path == "org/set"
    assert recipe.columns() == {"judge": (), "pairs": ("chosen", "rejected"), "gold": ("gold",)}[goal]
    assert file.read_text().count(" # ") > 10


def test_what_the_files_lack_is_said(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "mine.jsonl", [{"question": "Why?", "chosen": "a", "rejected": "b"}])
    words = ("--goal", "pairs", "--data", tmp_path / "mine.jsonl", "--model", tmp_path / "none", "--yes")
    code, out, err = sparring("init", tmp_path / "r.yaml", *words)
    assert code == 0
    assert "r.yaml written. It cannot run yet." in out
    assert "Next" not in out
    said = " ".join(err.split())
    assert "none' holds no config.json" in said
    assert "has no column 'prompt', and no prompt stands in 'chosen' or 'rejected'" in said
    assert "Name the prompt's column under columns: {prompt: ...}; it has 'question'" in said
    (tmp_path / "empty.jsonl").touch()
    words = ("--data", tmp_path / "empty.jsonl", "--held-out", "sparring:nothing", "--model", "models/of/mine", "--yes")
    said = " ".join(sparring("init", tmp_path / "s.yaml", *words).err.split())
    assert "empty.jsonl' is empty" in said
    assert "no shipped set 'sparring:nothing'" in said
    assert "'models/of/mine' holds no config.json" in said


@pytest.mark.parametrize(
    ("oracle", "expected"),
    [
        ("panel", {"name": "panel"}),
        ("org/reward", {"name": "reward_model", "model": "org/reward"}),
        ("./reward", {"name": "reward_model", "model": "./reward"}),
        ("mine.judge:longer", {"name": "function", "path": "mine.judge:longer"}),
    ],
)
def test_oracles(oracle: str, expected: dict[str, str], tmp_path: Path) -> None:
    assert sparring("init", tmp_path / "r.yaml", "--oracle", oracle, "--yes").code == 0
    assert load_recipe(tmp_path / "r.yaml").oracle == expected


@pytest.mark.parametrize("goal", ["judge", "gold"])
def test_the_recipe_of_all_defaults_can_start(goal: str, tmp_path: Path) -> None:
    """On our own prompts training and held-out rows are apart; the small model gets what suits it."""
    assert sparring("init", tmp_path / "r.yaml", "--goal", goal, "--yes").code == 0
    recipe = load_recipe(tmp_path / "r.yaml")
    train, _ = load_examples(recipe.data.train, roles=recipe.columns())
    held_out, _ = load_examples(recipe.data.held_out, roles=())
    texts = [{prompt_text(example.messages) for example in examples} for examples in (train, held_out)]
    assert all(texts)
    assert not texts[0] & texts[1]
    assert (recipe.sampling.temperature, recipe.fit.learning_rate) == (0.7, 4e-5)


def test_questions_have_defaults_and_take_answers(tmp_path: Path) -> None:
    file = tmp_path / "r.yaml"
    answers = ["my: model", "gold", "", "held.csv", "", "y", "5"]
    result = CliRunner().invoke(app, ["init", str(file)], input="\n".join(answers) + "\n")
    assert result.exit_code == 0, result.output
    recipe = load_recipe(file)
    assert recipe.model.path == "my: model"
    assert recipe.model.lora is not None
    assert recipe.algorithm["name"] == "spin"
    assert (recipe.data.train.path, recipe.data.held_out.path) == ("sparring:gold", "held.csv")
    assert recipe.rounds == 5


def test_bad_input(tmp_path: Path) -> None:
    file = tmp_path / "r.yaml"
    outcome = sparring("init", file, "--goal", "pairs", "--yes")
    assert outcome.code == 2
    assert "--data: missing; pairs have no default" in outcome.err
    assert not file.exists()
    file.write_text("kept")
    outcome = sparring("init", file, "--yes")
    assert outcome.code == 2
    assert "exists. Give another name" in outcome.err
    assert file.read_text() == "kept"
    assert sparring("init", tmp_path / "x.yaml", "--goal", "wish").code == 2


def test_the_sizes_suit_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def sizes(accelerator: bool) -> tuple[int | None, int, int, int]:
        monkeypatch.setattr("torch.cuda.is_available", lambda: accelerator)
        file = tmp_path / f"{accelerator}.yaml"
        assert sparring("init", file, "--yes").code == 0
        recipe = load_recipe(file)
        assert [oracle["name"] for oracle in recipe.evaluation.oracles] == ["mutual_information"]
        one = recipe.data.prompts_per_round, recipe.sampling.max_new_tokens, recipe.fit.batch_size
        return (*one, recipe.fit.micro_batch_tokens)

    demo = load_recipe("inpo")
    assert sizes(False) == (96, 96, demo.fit.batch_size, demo.fit.micro_batch_tokens)
    assert sizes(True) == (None, 512, 64, 4096)
