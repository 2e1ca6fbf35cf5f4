"""Exploitability on disk: a run attacked by its iterates, answer files, other judges, what is stored."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import Any

import pytest

import oracle_fakes
from command import sparring
from conftest import write_jsonl
from sparring.chat import turns
from sparring.rounds.siege import WAVE

PROMPTS = [f"Say {number}" for number in range(20)]


def answers(path: Path, word: str) -> Path:
    return write_jsonl(path, [{"instruction": p, "output": f"{word} {p}"} for p in PROMPTS])


@pytest.fixture
def judge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(oracle_fakes, "answer", oracle_fakes.more_vowels)
    path = tmp_path / "judge.yaml"
    path.write_text("name: function\npath: oracle_fakes:moody\n")
    return path


def besieged(*words: object) -> dict[str, Any]:
    outcome = sparring("evaluate", "exploitability", *words, "--json")
    assert outcome.code == 0, outcome.err
    return json.loads(outcome.out)


def test_answer_files_attack_and_everything_comes_out_again(tmp_path, judge):
    mine, weak, strong = (answers(tmp_path / f"{w}.jsonl", w) for w in ("bab", "b", "baobab"))
    words = [mine, "--attacker", weak, "--attacker", strong, "--oracle", judge, "--out", tmp_path / "out"]
    found = besieged(*words)
    assert found["strongest"] == [str(strong)]
    assert found["gap"]["low"] > 0.4
    assert f"can be beaten: its exploitability is at least {found['gap']['low']:.3f} (estimate" in found["verdict"]
    assert "oracle_fakes:moody" in found["judge"]
    oracle_fakes.answer = oracle_fakes.raises  # nobody may be asked again
    assert besieged(*words) == besieged("--from-stored", tmp_path / "out") == found


@pytest.mark.parametrize("count", [1, 2, 9])
def test_few_prompts_conclude_nothing(tmp_path, judge, count):
    weak, strong = (answers(tmp_path / f"{w}.jsonl", w) for w in ("b", "baobab"))
    prompts = write_jsonl(tmp_path / "prompts.jsonl", [{"prompt": p} for p in PROMPTS[:count]])
    words = [weak, "--attacker", strong, "--oracle", judge, "--prompts", prompts, "--out", tmp_path / "out"]
    assert f"Too few prompts to say whether {weak} can be beaten ({count}, at" in besieged(*words)["verdict"]


def test_every_prompt_that_somebody_did_not_answer_is_counted(tmp_path, judge):
    """Also where the players lack different ones, or all lack the same."""
    mine, other = answers(tmp_path / "mine.jsonl", "bab"), answers(tmp_path / "other.jsonl", "b")
    mine.write_text("".join(mine.read_text().splitlines(keepends=True)[:-2]))
    other.write_text("".join(other.read_text().splitlines(keepends=True)[3:]))
    prompts = write_jsonl(tmp_path / "prompts.jsonl", [{"prompt": p} for p in [*PROMPTS, "Say nothing"]])
    words = [mine, "--attacker", other, "--oracle", judge, "--prompts", prompts, "--out", tmp_path / "out"]
    found = besieged(*words)
    assert (found["judged"], found["left_out"]) == (15, 6)


def test_a_prompts_turns_reach_the_judge_as_turns(tmp_path, judge):
    talk = [{"role": who, "content": text} for who, text in (("user", "Hi"), ("assistant", "Yes?"), ("user", "Why?"))]
    seen = []

    def listening(prompt: str, a: str, b: str) -> float:
        seen.append(turns(prompt))
        return oracle_fakes.more_vowels(prompt, a, b)

    oracle_fakes.answer = listening
    files = [write_jsonl(tmp_path / f"{w}.jsonl", [{"prompt": talk, "response": w}]) for w in ("bab", "baobab")]
    words = [files[0], "--attacker", files[1], "--oracle", judge, "--out", tmp_path / "out"]
    assert besieged(*words)["judged"] == 1
    assert talk in seen


def test_a_runs_iterates_attack_with_the_answers_it_stored(tmp_path, tiny_recipe):
    tiny_recipe["evaluation"]["prompts"] = 2
    (tmp_path / "mine.yaml").write_text(json.dumps(tiny_recipe))
    run = tmp_path / "run"
    assert sparring("run", tmp_path / "mine.yaml", "--out", run).code == 0
    found = besieged(run, "--out", tmp_path / "stored")
    assert [player["stored"] for player in found["players"]] == [True, True, True]
    assert {row["attacker"] for row in found["attackers"]} >= {f"{run}:0", f"{run}:1", f"{run}:0, best of 2"}
    assert (found["judged"], found["left_out"], found["not_asked"]) == (2, 0, 1)
    shown = sparring("evaluate", "exploitability", "--from-stored", tmp_path / "stored")
    assert "1 held-out prompts not asked" in shown.out
    assert "left out" not in shown.out
    fresh = besieged(
        f"{run}:1", "--samples", 3, "--limit", 2, "--prompts", tmp_path / "held.jsonl", "--out", tmp_path / "f"
    )
    assert [player["samples"] for player in fresh["players"]] == [3, 3, 3]
    assert {row["attacker"] for row in fresh["attackers"]} >= {f"{run}:1, best of 2", f"{run}:2, best of 3"}
    assert fresh["comparisons"] == 2 * (3 + 2 * 9)
    given = [json.loads((tmp_path / f"f/answers/{k}.json").read_text()) for k in range(3)]
    for row in json.loads((tmp_path / "f/verdicts.json").read_text())["prompts"]:
        prompt = row["instruction"]
        for k, table in enumerate(row["tables"]):
            for (i, ours), (j, theirs) in product(enumerate(given[k][prompt]), enumerate(given[0][prompt])):
                expected = None if k == 0 and i == j else oracle_fakes.more_vowels(prompt, ours, theirs)
                assert table[i][j] == pytest.approx(expected)


def test_attackers_that_were_sampled_in_other_ways_get_a_caution(tmp_path, judge, tiny_recipe):
    prompts = write_jsonl(tmp_path / "prompts.jsonl", [{"prompt": prompt} for prompt in PROMPTS[:4]])
    for run, temperature in (("warm", 1.0), ("cool", 0.5)):
        recipe = {**tiny_recipe, "sampling": {**tiny_recipe.get("sampling", {}), "temperature": temperature}}
        (tmp_path / run).mkdir()
        (tmp_path / run / "recipe.yaml").write_text(json.dumps(recipe))
    (warm, cool), file = (f"{tmp_path / run}:0" for run in ("warm", "cool")), answers(tmp_path / "file.jsonl", "a")
    words = [warm, "--attacker", cool, "--attacker", file, "--oracle", judge, "--prompts", prompts]
    few = ["--samples", 1, "--sampling", "max_new_tokens=4"]
    told = besieged(*words, *few, "--out", tmp_path / "out")["cautions"]
    assert told == [
        f"{warm} and {cool} were sampled with other settings (temperature 1.0 and 0.5): "
        "part of the difference is theirs."
    ]
    assert besieged(*words, *few, "--sampling", "temperature=0.7", "--out", tmp_path / "same")["cautions"] == []


def test_another_seed_gives_other_answers(tmp_path, judge, tiny_model):
    weak = answers(tmp_path / "weak.jsonl", "b")
    words, found = [tiny_model, "--attacker", weak, "--oracle", judge, "--samples", 1], []
    prompts = write_jsonl(tmp_path / "prompts.jsonl", [{"prompt": prompt} for prompt in PROMPTS[:2]])
    for seed in (0, 0, 1):
        settings = ["--sampling", "max_new_tokens=4", "--sampling", "precision=float32", "--seed", seed]
        besieged(*words, "--prompts", prompts, *settings, "--out", tmp_path / "out")
        found.append((tmp_path / "out/answers/0.json").read_text())
    assert found[0] == found[1] != found[2]


def test_attackers_go_by_the_names_they_are_given(tmp_path, judge):
    """Also where a file of the same answers attacked before."""
    mine = answers(tmp_path / "mine.jsonl", "b")
    for name in ("one", "two"):
        strong = answers(tmp_path / f"{name}.jsonl", "baobab")
        found = besieged(mine, "--attacker", strong, "--oracle", judge, "--out", tmp_path / "out")
        assert found["strongest"] == [str(strong)]


def test_a_stopped_judge_is_not_paid_twice(tmp_path, judge):
    asked: list[str] = []

    def mortal(prompt: str, a: str, b: str) -> float:
        if len(asked) > WAVE + 10:
            raise KeyboardInterrupt
        asked.append(prompt)
        return oracle_fakes.more_vowels(prompt, a, b)

    words = [answers(tmp_path / "mine.jsonl", "bab")]
    for word in ("b", "baobab", "aa", "oo"):
        words += ["--attacker", answers(tmp_path / f"{word}.jsonl", word)]
    words += ["--oracle", judge, "--out", tmp_path / "out"]
    oracle_fakes.answer = mortal
    assert sparring("evaluate", "exploitability", *words).code == 130
    asked.clear()
    assert besieged(*words)["comparisons"] == 80
    assert len(asked) == 80 - WAVE + 4  # the first wave was kept; 4 are first questions


def test_what_cannot_be_measured_is_an_error(tmp_path, judge):
    mine, other = answers(tmp_path / "mine.jsonl", "bab"), answers(tmp_path / "other.jsonl", "b")
    alone = sparring("evaluate", "exploitability", mine, "--oracle", judge, "--out", tmp_path / "alone")
    assert (alone.code, "has no attacker" in alone.err) == (2, True)
    twice = ["evaluate", "exploitability", mine, "--attacker", mine, "--oracle", judge, "--out", tmp_path / "twice"]
    assert "there twice" in sparring(*twice).err
    words = ["evaluate", "exploitability", mine, "--attacker", other, "--out", tmp_path / "out"]
    assert "--oracle: missing" in sparring(*words).err
    assert sparring(*words, "--oracle", judge).code == 0
    assert "different judges cannot be compared" in sparring(*words, "--oracle", "panel").err
    (tmp_path / "out" / "verdicts.json").write_text("{}")
    assert "was altered" in sparring("evaluate", "exploitability", "--from-stored", tmp_path / "out").err


def test_verdicts_on_answers_that_were_replaced_are_not_shown(tmp_path, judge):
    files = {word: answers(tmp_path / f"{word}.jsonl", word) for word in ("bab", "b")}
    besieged(files["bab"], "--attacker", files["b"], "--oracle", judge, "--out", tmp_path / "out")
    talk = write_jsonl(tmp_path / "talk.jsonl", [{"instruction": "Who?", "output": "I"}])
    words = [files["bab"], "--attacker", talk, "--oracle", judge, "--out", tmp_path / "out"]
    prompts = write_jsonl(tmp_path / "prompts.jsonl", [{"prompt": p} for p in (PROMPTS[0], "Who?")])
    for more in ([], ["--prompts", prompts]):
        assert sparring("evaluate", "exploitability", *words, *more).code == 2
        stored = sparring("evaluate", "exploitability", "--from-stored", tmp_path / "out")
        assert (stored.code, "no finished siege: verdicts.json is on other answers" in stored.err) == (2, True)


def test_empty_answers_lose_without_the_judge(tmp_path, judge):
    oracle_fakes.answer = lambda prompt, a, b: 1.0 - oracle_fakes.more_vowels(prompt, a, b)  # it likes short answers
    mine = answers(tmp_path / "mine.jsonl", "bab")
    empty = write_jsonl(tmp_path / "empty.jsonl", [{"instruction": p, "output": " "} for p in PROMPTS])
    words = [mine, "--attacker", empty, "--oracle", judge, "--out", tmp_path / "out"]
    found = besieged(*words)
    assert found["attackers"][0]["preference"]["value"] == 0.0
    assert found["decided_by_rule"] == {"empty answer": 20}
    assert "No attacker here" in found["verdict"]
    shown = sparring("evaluate", "exploitability", "--from-stored", tmp_path / "out")
    assert "20 comparisons decided without the judge: empty answer" in shown.out


def test_a_file_that_answers_no_prompt_is_refused_before_a_policy_answers(tmp_path, judge, tiny_model):
    other = write_jsonl(tmp_path / "other.jsonl", [{"instruction": "Who?", "output": "I"}])
    prompts = write_jsonl(tmp_path / "prompts.jsonl", [{"prompt": p} for p in PROMPTS])
    words = [tiny_model, "--attacker", other, "--prompts", prompts, "--oracle", judge, "--out", tmp_path / "out"]
    assert "answers none of the" in sparring("evaluate", "exploitability", *words).err
    assert not list((tmp_path / "out").rglob("*.json"))
