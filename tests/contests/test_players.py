"""The average of a run's policies as a player: whole answers of single policies, chosen by the seed."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from command import sparring
from conftest import recipe_in, write_jsonl
from sparring.contests.players import PolicyPlayer, policy_folder
from sparring.contests.sample_answers import Questions, sample_answers
from sparring.evaluation.answers import Instruction
from sparring.runtime.progress import Progress

PROMPTS = [f"Say {word}" for word in ("ant", "bee", "cat", "dog", "elk", "fox")]
ROUNDS = 3


@pytest.fixture(scope="module")
def trained(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three rounds whose policies differ."""
    folder = tmp_path_factory.mktemp("average")
    recipe = {**recipe_in(folder, tiny_model), "rounds": ROUNDS}
    recipe["fit"] = {**recipe["fit"], "learning_rate": 0.05}
    (folder / "mine.yaml").write_text(json.dumps(recipe))
    outcome = sparring("run", folder / "mine.yaml", "--out", folder / "run")
    assert outcome.code == 0, outcome.err
    return folder / "run"


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return shutil.copytree(trained, tmp_path / "run")


def answers(spec: str, out: Path, seed: int = 0) -> list[dict[str, Any]]:
    questions = Questions([Instruction(p, [{"role": "user", "content": p}]) for p in PROMPTS], {}, seed)
    player = PolicyPlayer(spec, out)
    rows, unanswered = sample_answers(player, questions, 8, "test", out / "answers.parquet", Progress(quiet=True))
    assert not unanswered
    return rows


def test_every_answer_of_an_average_is_one_policys_own(run, tmp_path):
    average = answers(f"{run}:average", tmp_path)
    alone = {f"{t}/play": [row["text"] for row in answers(f"{run}:{t}", tmp_path)] for t in range(1, ROUNDS + 1)}
    assert len({tuple(texts) for texts in alone.values()}) == ROUNDS
    assert [row["text"] for row in average] == [alone[row["policy"]][k] for k, row in enumerate(average)]
    drawn = Counter(row["policy"] for row in average)
    assert drawn.keys() == alone.keys()  # never the start: the theorems' average is over rounds 1 to T
    assert min(drawn.values()) >= 6  # 48 answers, 16 expected of each: less than once in 500 seeds
    # A prompt's answers come from several policies: the choice is for each answer, not for each prompt or call.
    assert any(len({row["policy"] for row in average[k : k + 8]}) > 1 for k in range(0, len(average), 8))


def test_the_seed_chooses_whose_answer_it_is(run, tmp_path):
    first, again, other = (answers(f"{run}:average", tmp_path, seed) for seed in (0, 0, 1))
    assert first == again
    assert [row["policy"] for row in first] != [row["policy"] for row in other]


def test_an_average_meets_its_last_policy(run, tmp_path):
    prompts = write_jsonl(tmp_path / "prompts.jsonl", [{"prompt": prompt} for prompt in PROMPTS])
    words = ("--prompts", prompts, "--oracle", "panel", "--out", tmp_path / "out", "--json")
    outcome = sparring("evaluate", "head-to-head", f"{run}:average", run, *words)
    assert outcome.code == 0, outcome.err
    result = json.loads(outcome.out)
    drawn = result["sides"]["a"]["answers_of"]
    assert sum(drawn.values()) == len(PROMPTS)
    assert drawn.keys() <= {"1/play", "2/play", "3/play"}
    assert "answers_of" not in result["sides"]["b"]
    assert not any("the same weights" in caution for caution in result["cautions"])


def test_all_policies_of_its_run_attack_an_average(run, tmp_path):
    average = PolicyPlayer(f"{run}:average", tmp_path)
    assert average.other_iterates() == [f"{run}:{t}" for t in range(ROUNDS + 1)]
    held_out = average.prompts()
    assert held_out is not None
    assert PolicyPlayer(str(run), tmp_path).stored_answers(held_out) is not None
    assert average.stored_answers(held_out) is None
    outcome = sparring(
        "evaluate", "exploitability", f"{run}:average", "--samples", 2, "--out", tmp_path / "out", "--json"
    )
    assert outcome.code == 0, outcome.err
    players = json.loads(outcome.out)["players"]
    assert [player["source"] for player in players] == [f"{run}:average", *average.other_iterates()]


def test_an_average_is_another_player_than_each_of_its_policies(run, tmp_path):
    specs = [f"{run}:average", *(f"{run}:{t}" for t in range(ROUNDS + 1))]
    assert len({PolicyPlayer(spec, tmp_path).identity for spec in specs}) == len(specs)
    before = PolicyPlayer(specs[0], tmp_path).files
    config = run / "rounds/000/policy/generation_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "top_k": 7}))
    with pytest.raises(ValueError, match=r"rounds/000/policy"):  # the first of the average's policies is checked too
        PolicyPlayer(specs[0], tmp_path)
    assert before != PolicyPlayer(specs[-1], tmp_path).files


def test_an_average_lacks_no_policy(run, tmp_path):
    shutil.rmtree(run / "rounds/000/policy")
    with pytest.raises(ValueError, match=r"policy 1 not on disk, .* keep_iterates: all"):
        PolicyPlayer(f"{run}:average", tmp_path)
    with pytest.raises(ValueError, match=r"is not a run .* Write RUN:ROUND"):
        PolicyPlayer(f"{run / 'rounds'}:average", tmp_path)


@pytest.mark.parametrize("number", ["avg", "Average", "-1", ""])
def test_a_round_that_is_none_is_said_of_the_run(run, tmp_path, number):
    with pytest.raises(ValueError, match=rf"is a run, and '{number}' none of its rounds. Write .*:ROUND or .*:average"):
        PolicyPlayer(f"{run}:{number}", tmp_path)


def test_an_average_has_no_weights_to_score_with(run, tmp_path):
    with pytest.raises(ValueError, match=rf"one of {ROUNDS} policies and is no one model. Name one of them: .*:3"):
        policy_folder(f"{run}:average", tmp_path)


def test_the_average_of_one_round_is_its_policy(tiny_model, tmp_path):
    recipe = {**recipe_in(tmp_path, tiny_model), "rounds": 1}
    (tmp_path / "mine.yaml").write_text(json.dumps(recipe))
    assert sparring("run", tmp_path / "mine.yaml", "--out", tmp_path / "run").code == 0
    average, last = (PolicyPlayer(f"{tmp_path / 'run'}{end}", tmp_path) for end in (":average", ""))
    assert (average.ref, average.identity, average.files) == (last.ref, last.identity, last.files)
