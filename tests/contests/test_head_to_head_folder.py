"""Head to head, and AlpacaEval judged here: files and tiny policies, stopped, resumed, recomputed offline."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

import oracle_fakes
from command import sparring
from conftest import byte_tokenizer, other_template, write_jsonl
from sparring.contests.head_to_head_folder import HeadToHeadFolder
from sparring.contests.players import PolicyPlayer, find_player, same_policy
from sparring.models.messages import prompt_text, turns
from sparring.oracles.oracle import Comparison
from sparring.oracles.orders import swapped
from sparring.rounds.export import export, find_source
from sparring.runtime.progress import Progress

WORDS = ("ant", "bee", "cat", "dog", "elk", "fox", "gnu", "hen", "ibex", "jay")
PROMPTS = [f"Say {word} {number}" for number in (1, 2, 3) for word in WORDS]
TALK = [
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello. Yes?"},
    {"role": "user", "content": "Why?"},
]
JUDGE = "name: function\npath: oracle_fakes:moody\n"


def write_answers(path: Path, generator: str, text: Any, prompts: list[str] = PROMPTS) -> Path:
    rows = [{"instruction": prompt, "output": text(prompt), "generator": generator} for prompt in prompts]
    path.write_text(json.dumps(rows))
    return path


@pytest.fixture
def judge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A judge that counts vowels, and whose mood tests can change."""
    monkeypatch.setattr(oracle_fakes, "answer", oracle_fakes.more_vowels)
    path = tmp_path / "judge.yaml"
    path.write_text(JUDGE)
    return path


@pytest.fixture
def sides(tmp_path: Path) -> tuple[Path, Path]:
    mine = write_answers(tmp_path / "mine.json", "mine", lambda p: f"aaa {p}")
    base = write_answers(tmp_path / "base.json", "base", lambda p: p if "cat" not in p else f"aeiouaeiou {p}")
    return mine, base


def versus(*words: object) -> dict[str, Any]:
    outcome = sparring("evaluate", "head-to-head", *words, "--json")
    assert outcome.code == 0, outcome.err
    return json.loads(outcome.out)


def test_files_meet_and_everything_comes_out_again_from_what_is_stored(tmp_path, judge, sides):
    out = tmp_path / "out"
    result = versus(*sides, "--oracle", judge, "--out", out)
    assert (result["wins"], result["losses"], result["ties"]) == (27, 3, 0)
    assert result["win_rate"]["value"] == pytest.approx(0.9)
    assert result["win_rate"]["low"] < 0.9 < result["win_rate"]["high"]
    assert "mine is better than base" in result["verdict"]
    assert "oracle_fakes:moody" in result["judge"]
    assert result["sides"]["a"]["inputs"]["from"] != result["sides"]["b"]["inputs"]["from"]
    (out / "result.json").unlink()
    (out / "index.html").unlink()
    oracle_fakes.answer = oracle_fakes.raises  # nobody may be asked again
    assert versus("--from-stored", out) == result
    page = (out / "index.html").read_text()
    assert page.count('<article class="sample"') == len(PROMPTS)
    assert "http" not in page.replace("http-equiv", "")
    numbers, made = page.split('<section id="made">')
    assert "Of 30 prompts A wins 27, 0 are ties, B wins 3" in numbers
    assert re.findall(r'<span class="(\w+)" style="flex-grow:(\d+)">', numbers) == [("win", "27"), ("loss", "3")]
    assert ("sha256 " in numbers, result["judge"] in numbers) == (False, False)
    assert "sha256 " in made
    assert result["judge"] in html.unescape(made)


def test_a_comparison_that_is_refused_leaves_its_folder_empty(tmp_path, judge, sides):
    folder = HeadToHeadFolder(tmp_path / "out", Progress(quiet=True))
    with pytest.raises(ValueError, match="unknown oracle"):
        folder.play(*map(str, sides), None, {"name": "nosuch"}, {})
    assert list((tmp_path / "out").iterdir()) == []
    folder.play(*map(str, sides), None, {"name": "function", "path": "oracle_fakes:moody"}, {})
    stored = sorted((tmp_path / "out").rglob("*"))
    with pytest.raises(ValueError, match="unknown oracle"):
        folder.play(*map(str, sides), None, {"name": "nosuch"}, {})
    assert sorted((tmp_path / "out").rglob("*")) == stored


def test_only_the_pages_own_script_may_run(tmp_path, judge, sides):
    attack = "</script><script>alert(1)</script>"
    mine = write_answers(tmp_path / "attack.json", attack, lambda p: f"{attack} {p}", PROMPTS)
    versus(mine, sides[1], "--oracle", judge, "--out", tmp_path / "out")
    page = (tmp_path / "out" / "index.html").read_text()
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.S)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in html.unescape(page)
    assert "alert(1)" not in script


def test_order_and_repeated_rows_do_not_matter(tmp_path, judge, sides):
    mine, base = sides
    rows = json.loads(mine.read_text())
    (tmp_path / "moved.json").write_text(json.dumps([*rows[::-1], rows[4]]))
    found = versus(tmp_path / "moved.json", base, "--oracle", judge, "--out", tmp_path / "moved")
    told = versus(mine, base, "--oracle", judge, "--out", tmp_path / "told")
    assert found["win_rate"] == told["win_rate"]
    assert found["left_out"] == {"repeated rows (mine)": 1}


def test_missing_answers_are_counted_and_empty_ones_lose(tmp_path, judge, sides):
    mine = write_answers(tmp_path / "some.json", "mine", lambda p: "" if "Say ant" in p else f"aaa {p}", PROMPTS[:25])
    rows = json.loads(mine.read_text())
    rows[1]["output"] = None
    mine.write_text(json.dumps(rows))
    result = versus(mine, sides[1], "--oracle", judge, "--out", tmp_path / "out")
    assert result["left_out"] == {"no answer by mine": 5, "answer missing (mine)": 1}
    assert result["decided_by_rule"] == {"empty answer": 3}
    assert result["judged"] == 24
    assert result["losses"] == 3 + 3
    assert any("left out" in caution for caution in result["cautions"])


def test_answers_that_are_blank_in_their_own_ways_tie(tmp_path, judge):
    mine, base = (
        write_answers(tmp_path / f"{name}.json", name, lambda p, blank=blank: blank if "1" in p else f"{p} {blank}.")
        for name, blank in (("mine", " "), ("base", "\n\n"))
    )
    result = versus(mine, base, "--oracle", judge, "--out", tmp_path / "out")
    assert result["decided_by_rule"] == {"equal answers": 10}
    assert result["ties"] == 10


def test_a_file_cut_short_counts_alike_on_either_side(tmp_path, judge, sides):
    rows = [*json.loads(sides[1].read_text())[:20], {"instruction": "Say ox", "output": None, "generator": "base"}]
    sides[1].write_text(json.dumps(rows))
    there = versus(*sides, "--oracle", judge, "--out", tmp_path / "there")
    back = versus(*sides[::-1], "--oracle", judge, "--out", tmp_path / "back")
    for found in (there, back):
        assert (found["judged"], found["left_out"]) == (20, {"no answer by base": 10, "answered by neither": 1})
        assert "11 of 31 rows or prompts were left out." in found["cautions"]
    assert there["win_rate"]["value"] == pytest.approx(1 - back["win_rate"]["value"])


@pytest.mark.parametrize("order", [1, -1])
def test_a_policy_answers_only_what_the_file_answers(tmp_path, judge, tiny_model, order):
    base = write_answers(tmp_path / "base.json", "base", lambda p: None if "ant" in p else "zzz", PROMPTS[:4])
    settings = ("--sampling", "max_new_tokens=4", "--sampling", "precision=float32")
    words = [tiny_model, base][::order]
    found = versus(*words, "--oracle", judge, "--out", tmp_path / "out", *settings)
    assert (found["judged"], found["left_out"]) == (3, {"answer missing (base)": 1})
    assert [found["sides"][side]["answers"] for side in "ab"] == [3, 3]


@pytest.mark.parametrize("plain", ["neither", "mine", "base"])
def test_a_prompts_turns_reach_the_judge_as_turns(tmp_path, judge, plain):
    """Also where one file holds the conversation, and the other its text."""
    seen = set()

    def listening(prompt: str, a: str, b: str) -> float:
        seen.add(json.dumps(turns(prompt)))
        return oracle_fakes.more_vowels(prompt, a, b)

    oracle_fakes.answer = listening
    paths = []
    for name in ("mine", "base"):
        asked = prompt_text(TALK) if name == plain else TALK
        paths.append(write_jsonl(tmp_path / f"{name}.jsonl", [{"prompt": asked, "response": f"Ho {name}"}]))
    assert versus(*paths, "--oracle", judge, "--out", tmp_path / "out")["judged"] == 1
    assert json.dumps(TALK) in seen
    assert not any(prompt_text(TALK) in json.loads(talk)[0]["content"] for talk in seen)
    rows = json.loads((tmp_path / "out/annotations.json").read_text())
    assert [row["instruction"] for row in rows] == [prompt_text(TALK)]


def test_a_policy_answers_a_files_turns_as_turns(tmp_path):
    file = write_jsonl(tmp_path / "mine.jsonl", [{"prompt": TALK, "response": "Ho"}, {"prompt": "Hi", "response": "!"}])
    spoken = find_player(str(file), tmp_path).prompts()
    assert [prompt.messages for prompt in spoken or []] == [TALK, [{"role": "user", "content": "Hi"}]]


def test_prompts_that_neither_side_answered_are_counted_once(tmp_path, judge):
    mine = write_answers(tmp_path / "mine.json", "mine", lambda p: f"aaa {p}", PROMPTS[:20])
    base = write_answers(tmp_path / "base.json", "base", lambda p: p, PROMPTS[:25])
    rows = json.loads(base.read_text())
    base.write_text(json.dumps([*rows, {"instruction": PROMPTS[26], "output": None, "generator": "base"}]))
    prompts = write_jsonl(tmp_path / "prompts.jsonl", [{"prompt": prompt} for prompt in PROMPTS])
    words = (mine, base, "--oracle", judge, "--out", tmp_path / "out", "--prompts")
    assert versus(*words, prompts)["left_out"] == {"no answer by mine": 5, "answered by neither": 5}
    write_jsonl(prompts, [{"prompt": prompt} for prompt in [*PROMPTS, "Say nothing"]])
    assert versus(*words, prompts)["left_out"]["answered by neither"] == 6


def test_answers_that_are_null_on_both_sides_are_one_prompt_each(tmp_path, judge):
    mine = write_answers(tmp_path / "mine.json", "mine", lambda p: None if "1" in p else f"aaa {p}")
    base = write_answers(tmp_path / "base.json", "base", lambda p: None if "ant" in p or "bee 1" in p else p)
    result = versus(mine, base, "--oracle", judge, "--out", tmp_path / "out")
    assert result["left_out"] == {
        "answered by neither": 2,
        "answer missing (mine)": 8,
        "answer missing (base)": 2,
    }
    assert result["judged"] + sum(result["left_out"].values()) == len(PROMPTS)


def test_the_command_shows_the_contest(tmp_path, judge, sides):
    words = ("evaluate", "head-to-head", *sides, "--oracle", judge, "--out", tmp_path / "out")
    write_answers(sides[1], "base", lambda p: None if "ant" in p else p)
    outcome = sparring(*words)
    assert outcome.code == 0, outcome.err
    for text in ("win rate", "27 wins, 0 losses, 0 ties of 27 judged", "3 answer missing (base)", "index.html"):
        assert text in outcome.out


def test_files_without_a_common_prompt_show_one_of_each(tmp_path, judge, sides):
    words = ("--oracle", judge, "--out", tmp_path / "out")
    spaced = write_answers(tmp_path / "spaced.json", "s", lambda p: p, [f"{p}\n" for p in PROMPTS])
    told = sparring("evaluate", "head-to-head", spaced, sides[1], *words).err
    assert "'Say ant 1\\n', the other 'Say ant 1': they differ in surrounding space" in told
    other = write_answers(tmp_path / "other.json", "o", lambda p: p, ["Sing"])
    told = sparring("evaluate", "head-to-head", other, sides[1], *words).err
    assert "One side has 'Sing', the other 'Say ant 1'. Give answers to the same prompts" in told


def test_a_policys_prompt_that_does_not_fit_is_counted_once(tmp_path, judge, tiny_model):
    asked = [*PROMPTS[:3], "Say all " * 400]
    prompts = write_jsonl(tmp_path / "prompts.jsonl", [{"prompt": prompt} for prompt in asked])
    base = write_answers(tmp_path / "base.json", "base", lambda p: "zzz", asked)
    words = (tiny_model, base, "--prompts", prompts, "--oracle", judge, "--sampling", "max_new_tokens=8")
    found = versus(*words, "--sampling", "precision=float32", "--out", tmp_path / "out")
    assert list(found["left_out"].values()) == [1]
    assert "prompt longer than" in next(iter(found["left_out"]))


def test_a_prompt_of_which_a_policys_template_leaves_something_out_is_counted(tmp_path, judge, tiny_model):
    """It stopped the whole comparison where the template refused it, and was asked in part where it did not."""
    model = tmp_path / "model"
    shutil.copytree(tiny_model, model)
    words = byte_tokenizer()
    words.chat_template = str(words.chat_template).replace("in messages %}", "in messages if m.role != 'developer' %}")
    words.save_pretrained(model)
    turns = [{"role": "developer", "content": "Loud."}, {"role": "user", "content": "Say ox"}]
    prompts = write_jsonl(tmp_path / "prompts.jsonl", [*({"prompt": p} for p in PROMPTS[:3]), {"prompt": turns}])
    base = write_answers(tmp_path / "base.json", "base", lambda p: "zzz", [*PROMPTS[:3], prompt_text(turns)])
    sampling = ("--sampling", "max_new_tokens=4", "--sampling", "precision=float32")
    found = versus(model, base, "--prompts", prompts, "--oracle", judge, *sampling, "--out", tmp_path / "out")
    assert list(found["left_out"].values()) == [1]
    assert next(iter(found["left_out"])).startswith("the template leaves out the developer message (")


def test_rows_that_lack_a_field_are_counted(tmp_path, judge, sides):
    mine = write_jsonl(tmp_path / "mine.jsonl", [{"instruction": p, "output": f"aaa {p}"} for p in PROMPTS])
    with mine.open("a") as stream:
        stream.write('{"instruction": "Say ox"}\n{"output": "ox"}\n')
    result = versus(mine, sides[1], "--oracle", judge, "--out", tmp_path / "out")
    assert result["left_out"] == {"answered by neither": 1, "instruction missing or empty (mine)": 1}
    prompts = write_jsonl(tmp_path / "prompts.jsonl", [*({"prompt": p} for p in PROMPTS[:4]), {"id": 1}])
    words = (mine, sides[1], "--oracle", judge, "--out", tmp_path / "few", "--prompts", prompts, "--json")
    outcome = sparring("evaluate", "head-to-head", *words)
    assert json.loads(outcome.out)["judged"] == 4
    assert "prompts.jsonl: 1 instruction missing or empty, left out" in outcome.err


def test_verdicts_that_fail_are_left_out_and_too_many_stop(tmp_path, judge, sides):
    def moody(prompt: str, a: str, b: str) -> float:
        return float("nan") if prompt == "Say ant 1" else oracle_fakes.more_vowels(prompt, a, b)

    oracle_fakes.answer = moody
    result = versus(*sides, "--oracle", judge, "--out", tmp_path / "out")
    assert result["left_out"] == {"without a verdict": 1}
    assert (result["judged"], result["wins"]) == (29, 26)
    oracle_fakes.answer = oracle_fakes.raises
    stopped = sparring("evaluate", "head-to-head", *sides, "--oracle", judge, "--out", tmp_path / "down")
    assert stopped.code == 3
    assert "failed on a first question" in stopped.err


def test_a_stopped_judge_is_not_paid_twice(tmp_path, judge, sides):
    asked: list[str] = []

    def mortal(prompt: str, a: str, b: str) -> float:
        if len(asked) > 60:
            raise KeyboardInterrupt
        asked.append(prompt)
        return oracle_fakes.more_vowels(prompt, a, b)

    many = [f"Tell {number}" for number in range(80)]
    mine = write_answers(tmp_path / "a.json", "a", lambda p: f"aa {p}", many)
    base = write_answers(tmp_path / "b.json", "b", lambda p: p, many)
    oracle_fakes.answer = mortal
    words = (mine, base, "--oracle", judge, "--out", tmp_path / "out")
    assert sparring("evaluate", "head-to-head", *words).code == 130
    asked.clear()
    assert versus(*words)["judged"] == 80
    assert len(asked) == 80 - 32 + 4  # the first wave of 32 was kept; 4 are first questions


def test_another_judge_in_the_same_folder_is_refused(tmp_path, judge, sides):
    out = tmp_path / "out"
    versus(*sides, "--oracle", judge, "--out", out)
    judge.write_text("name: function\npath: oracle_fakes:more_vowels\n")
    refused = sparring("evaluate", "head-to-head", *sides, "--oracle", judge, "--out", out)
    assert refused.code == 2
    assert "different judges cannot be compared" in refused.err


def test_both_orders_of_a_judge_that_sees_places_are_kept(tmp_path, sides):
    result = versus(*sides, "--oracle", "oracle_fakes:Placed", "--out", tmp_path / "out")
    assert result["orders"]["first_bias"] > 0.05
    assert 0 < result["orders"]["change"] < 0.6
    assert result["win_rate"]["value"] == pytest.approx(0.9)
    rows = json.loads((tmp_path / "out/annotations.json").read_text())
    for row in rows:
        there = Comparison(row["instruction"], row["output_2"], row["output_1"])
        first, back = oracle_fakes.Placed().first_shown([there, *swapped([there])])
        assert row["orders"] == pytest.approx([first, 1 - back])
        assert row["preference"] == pytest.approx(1 + sum(row["orders"]) / 2)
    assert len({tuple(row["orders"]) for row in rows}) > 1


def test_policies_answer_by_themselves_and_are_sampled_once(tmp_path, judge, tiny_model):
    prompts = write_jsonl(tmp_path / "prompts.jsonl", [{"prompt": prompt} for prompt in PROMPTS])
    base = write_answers(tmp_path / "base.json", "base", lambda p: "zzz")
    out = tmp_path / "out"
    settings = ("--sampling", "max_new_tokens=8", "--sampling", "precision=float32")
    words = (tiny_model, base, "--prompts", prompts, "--oracle", judge, "--out", out, *settings)
    result = versus(*words)
    assert result["judged"] == 30
    assert str(tiny_model) in result["a"]
    answers = (out / "answers/a.json").read_bytes()
    stamp = (out / "answers/a.json").stat().st_mtime_ns
    assert versus(*words) == result
    assert (out / "answers/a.json").stat().st_mtime_ns == stamp
    versus(*words[:-5], tmp_path / "again", *settings)
    assert (tmp_path / "again/answers/a.json").read_bytes() == answers
    assert {"instruction", "output", "generator"} <= json.loads(answers)[0].keys()


def test_another_seed_gives_other_answers(tmp_path, judge, tiny_model):
    base = write_answers(tmp_path / "base.json", "base", lambda p: "zzz", PROMPTS[:4])
    settings = ("--sampling", "max_new_tokens=4", "--sampling", "precision=float32")
    words, found = (tiny_model, base, "--oracle", judge, "--out", tmp_path / "out", *settings), []
    for seed in (0, 0, 1):
        versus(*words, "--seed", seed)
        found.append((tmp_path / "out/answers/a.json").read_text())
    assert found[0] == found[1] != found[2]


def test_more_prompts_are_answered_in_the_same_folder(tmp_path, judge, sides):
    for count in (4, 6):
        prompts = write_jsonl(tmp_path / "prompts.jsonl", [{"prompt": prompt} for prompt in PROMPTS[:count]])
        found = versus(*sides, "--oracle", judge, "--prompts", prompts, "--out", tmp_path / "out")
        assert (found["judged"], found["left_out"]) == (count, {})


def test_a_model_whose_template_changed_is_asked_again(tmp_path, judge, tiny_model):
    shutil.copytree(tiny_model, tmp_path / "model")
    base = write_answers(tmp_path / "base.json", "base", lambda p: "zzz", PROMPTS[:4])
    words = (tmp_path / "model", base, "--oracle", judge, "--out", tmp_path / "out")
    settings = ("--sampling", "max_new_tokens=4", "--sampling", "precision=float32")
    before, same = (versus(*words, *settings) for _ in range(2))
    other_template(tmp_path / "model")
    assert same["a"] == before["a"] != versus(*words, *settings)["a"]


def test_a_policy_against_itself_is_said_first(tmp_path, judge, tiny_recipe):
    prompts = write_jsonl(tmp_path / "prompts.jsonl", [{"prompt": prompt} for prompt in PROMPTS[:4]])
    for run, temperature in (("warm", 1.0), ("cool", 0.5)):
        recipe = {**tiny_recipe, "sampling": {**tiny_recipe.get("sampling", {}), "temperature": temperature}}
        (tmp_path / run).mkdir()
        (tmp_path / run / "recipe.yaml").write_text(json.dumps(recipe))
    words = (f"{tmp_path / 'warm'}:0", f"{tmp_path / 'cool'}:0", "--oracle", judge, "--prompts", prompts)
    told = versus(*words, "--sampling", "max_new_tokens=4", "--out", tmp_path / "out")["cautions"]
    assert told[0] == (
        "A and B are the same weights: only sampling differs (temperature 1.0 and 0.5). To sample both alike, give "
        "--sampling temperature=0.5 and another --out."
    )
    same = versus(*words, "--sampling", "max_new_tokens=4", "--sampling", "temperature=0.7", "--out", tmp_path / "same")
    assert same["cautions"][0] == "A and B are the same weights, sampled alike: what else differs is chance."


def test_an_export_is_known_as_the_policy_that_it_was_made_from(tmp_path, tiny_model):
    export(find_source(tiny_model), tmp_path / "exported", "bfloat16")
    one, two = (PolicyPlayer(str(folder), tmp_path).sampled_from() for folder in (tiny_model, tmp_path / "exported"))
    assert one == two
    assert same_policy(one, two, ("{}", "{}"))
    other_template(tmp_path / "exported")
    three = PolicyPlayer(str(tmp_path / "exported"), tmp_path).sampled_from()
    assert "the same weights, asked in other forms" in (same_policy(one, three, ("{}", "{}")) or "")
    assert same_policy(one, {**two, "weights": "other"}, ("{}", "{}")) is None
    assert same_policy({}, {}, ("", "")) is None


def test_alpaca_eval_judges_here_and_writes_its_own_formats(tmp_path, judge, sides):
    words = ("--formula", "length_controlled_minimal", "--leaderboard", tmp_path / "board.csv")
    made = ("--baseline", sides[1], "--oracle", judge, "--out", tmp_path / "out")
    shown = sparring("evaluate", "alpaca-eval", sides[0], *made, *words)
    assert shown.code == 0, shown.err
    assert (tmp_path / "board.csv").read_text().splitlines()[1].startswith("mine,")
    result = json.loads((tmp_path / "out/result.json").read_text())
    assert (result["leaderboard"]["n_wins"], result["leaderboard"]["n_wins_base"]) == (27, 3)
    again = sparring("evaluate", "alpaca-eval", "--from-stored", tmp_path / "out", *words[:2], "--json")
    assert json.loads(again.out) == result
    rows = json.loads((tmp_path / "out/annotations.json").read_text())
    assert {"instruction", "output_1", "generator_1", "output_2", "generator_2", "annotator", "preference"} <= set(
        rows[0]
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.replace("mine.json", "none.json"), "is not a file"),
        (lambda t: t.replace("judge.yaml", "no.yaml"), "does not exist"),
        (lambda t: t.replace("judge.yaml", "start.yaml"), "oracle.model = 'start': there is no start model here."),
        (lambda t: t + " --sampling heat=1", "unknown key"),
        (lambda t: t + " --sampling temperature=-1", "temperature"),
        (lambda t: t + " --limit 3", "choose among --prompts"),
        (lambda t: t.replace("--oracle", "--prompts"), "needs A, B, --oracle and --out"),
        (lambda t: t.replace("mine.json", "folder:3"), "is not a run"),
        (lambda t: t.replace("/out", "/judge.yaml/o"), "judge.yaml/o cannot be made: Not a directory. Give another"),
    ],
)
def test_bad_requests_are_refused(tmp_path, judge, sides, change, message):
    (tmp_path / "folder").mkdir()
    (tmp_path / "start.yaml").write_text("name: mutual_information")
    words = f"{sides[0]} {sides[1]} --oracle {judge} --out {tmp_path / 'out'}"
    outcome = sparring("evaluate", "head-to-head", *change(words).split())
    assert outcome.code == 2
    assert message in outcome.err


def test_a_round_that_the_run_does_not_have_is_named(tmp_path, tiny_recipe):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/recipe.yaml").write_text(yaml.safe_dump({**tiny_recipe, "rounds": 2}))
    with pytest.raises(ValueError, match="run:7': the run has rounds 1 to 2, and 0 for its start"):
        PolicyPlayer(f"{tmp_path / 'run'}:7", tmp_path)


def test_damaged_folders_and_files_are_refused(tmp_path, judge, sides):
    out = tmp_path / "out"
    assert "no finished contest" in sparring("evaluate", "head-to-head", "--from-stored", tmp_path).err
    versus(*sides, "--oracle", judge, "--out", out)
    with (out / "annotations.json").open("a") as stream:
        stream.write(" ")
    assert "was altered" in sparring("evaluate", "head-to-head", "--from-stored", out).err
    two = [{"instruction": "a", "output": "x"}, {"instruction": "a", "output": "y"}]
    (tmp_path / "two.json").write_text(json.dumps(two))
    refused = sparring(
        "evaluate", "head-to-head", tmp_path / "two.json", sides[1], "--oracle", judge, "--out", tmp_path / "o"
    )
    assert "two different answers" in refused.err
    (tmp_path / "other.json").write_text(json.dumps([{"instruction": "a", "output": "x"}]))
    words = (tmp_path / "other.json", sides[1], "--oracle", judge, "--out", tmp_path / "new")
    assert "share no instruction" in sparring("evaluate", "head-to-head", *words).err
    prompts = write_jsonl(tmp_path / "prompts.jsonl", [{"prompt": prompt} for prompt in PROMPTS])
    assert "answers none of the" in sparring("evaluate", "head-to-head", *words, "--prompts", prompts).err
    whole = sides[0].read_text()
    sides[0].write_text(whole[:200])
    words = (*sides, "--oracle", judge, "--out", tmp_path / "cut")
    assert "cannot be read" in sparring("evaluate", "head-to-head", *words).err


def test_verdicts_on_answers_that_were_replaced_are_not_shown(tmp_path, judge, sides):
    """Whether the new answers share no instruction, or none could be put there."""
    out = tmp_path / "out"
    versus(*sides, "--oracle", judge, "--out", out)
    other = write_answers(tmp_path / "other.json", "other", lambda p: "zzz", ["Who?"])
    assert (
        "share no instruction"
        in sparring("evaluate", "head-to-head", other, sides[1], "--oracle", judge, "--out", out).err
    )
    stored = sparring("evaluate", "head-to-head", "--from-stored", out)
    assert (stored.code, "no finished contest: annotations.json is on other answers" in stored.err) == (2, True)
    prompts = write_jsonl(tmp_path / "prompts.jsonl", [{"prompt": "Say yak"}])
    words = (*sides, "--prompts", prompts, "--oracle", judge, "--out", out)
    assert "answers none of the" in sparring("evaluate", "head-to-head", *words).err
    stored = sparring("evaluate", "head-to-head", "--from-stored", out)
    assert (stored.code, "no finished contest" in stored.err) == (2, True)


def test_a_file_that_answers_no_prompt_is_refused_before_a_policy_answers(tmp_path, judge, tiny_model):
    base = write_answers(tmp_path / "base.json", "base", lambda p: "zzz", ["Who?"])
    prompts = write_jsonl(tmp_path / "prompts.jsonl", [{"prompt": prompt} for prompt in PROMPTS])
    words = (tiny_model, base, "--prompts", prompts, "--oracle", judge, "--out", tmp_path / "out")
    assert "answers none of the" in sparring("evaluate", "head-to-head", *words).err
    assert not list((tmp_path / "out").rglob("*.json"))
