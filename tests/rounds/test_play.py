"""A run whose policy plays the roles of an environment: what is stored, counted and refused."""

from __future__ import annotations

import contextlib
import json
import math
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import oracle_fakes
from environment_fakes import WriterReader, worth
from oracle_fakes import more_vowels
from sparring import rounds
from sparring.cli.run import episode_rows
from sparring.environments.environment import (
    SHIPPED,
    Ask,
    Environment,
    Line,
    Reply,
    Task,
    build_environment,
    check_declared,
)
from sparring.environments.kuhn_poker import KuhnPoker
from sparring.evaluation.intervals import Interval
from sparring.recipe.reading import parse_recipe
from sparring.report.summary import PolicyEpisodes
from sparring.rounds import play
from sparring.rounds.environment_identity import environment_identity
from sparring.rounds.evaluate_play import measures_of
from sparring.rounds.policies import Policies
from sparring.rounds.price import episode_comparisons
from sparring.rounds.rewards import Rewards
from sparring.rounds.run import run
from sparring.rounds.status import read_status
from sparring.rounds.tables import TurnRow
from sparring.runtime.files import read_table
from sparring.runtime.progress import Progress

Plain = dict[str, Any]


@pytest.fixture
def roles_recipe(tiny_recipe: Plain) -> Plain:
    """The tiny recipe with writer and reader instead of an oracle."""
    plain = {**tiny_recipe, "environment": {"name": "environment_fakes:WriterReader"}, "rounds": 1}
    plain["algorithm"] = {**plain["algorithm"], "pairing": "all", "target": "soft"}
    plain["evaluation"] = {"samples": 2}
    del plain["oracle"]
    return plain


def go(plain: Plain, out: Path) -> Any:
    return run(parse_recipe(plain), out, Progress(quiet=True))


def test_rewards_of_siblings_become_pairs_of_every_role(roles_recipe: Plain, tmp_path: Path) -> None:
    out = tmp_path / "run"
    summary = go(roles_recipe, out)
    folder = out / "rounds/000"
    turns = read_table(folder / "turns.parquet")
    samples = {(row["example"], row["index"]): row for row in read_table(folder / "samples.parquet")}
    prompts = {row["example"]: row for row in read_table(folder / "prompts.parquet")}
    assert {turn["role"] for turn in turns} == {"writer", "reader"}
    for turn in turns:
        if turn["kind"]:
            assert (turn["kind"], turn["reward"], turn["example"]) == ("vowel", None, None)
        else:
            assert turn["reward"] == worth(turn["text"])
            assert samples[turn["example"], turn["index"]]["text"] == turn["text"]
            assert prompts[turn["example"]]["group"] == turn["role"]
    rewards = {(turn["example"], turn["index"]): turn["reward"] for turn in turns}
    texts: defaultdict[str, dict[str, float]] = defaultdict(dict)
    for (example, index), row in samples.items():
        texts[example][row["text"]] = rewards[example, index]
    pairs = read_table(folder / "pairs.parquet")
    assert {row["example"].split("-")[0] for row in pairs} == {"writer", "reader"}
    for row in pairs:
        for pair in row["pairs"]:
            winner, loser = (texts[row["example"]][row["responses"][pair[s]]["text"]] for s in ("winner", "loser"))
            assert pair["preference"] == pytest.approx(0.5 + (winner - loser) / 4)
    facts = json.loads((out / "manifest.json").read_text())["rounds/000/sample"]["facts"]
    assert (facts["turns"], facts["trained"]) == (len(turns), len(samples))
    (line,) = (one.numbers for one in read_status(out).stages if one.name == "rounds/000/sample")
    assert line.startswith(f"{len(turns)} replies, ")
    assert line.endswith(f" cut off, {len(samples)} to train on")
    assert facts["tasks"] == 6
    assert facts["kinds"] == {
        f"{role}: vowel": sum(t["role"] == role and t["kind"] != "" for t in turns)
        for role in ("writer", "reader")
        if any(t["role"] == role and t["kind"] for t in turns)
    }
    assert [j["name"] for j in summary["judgments"]] == ["in each role by itself", "as writer", "as reader"]
    assert [one["round"] for one in summary["episodes"]] == [0, 1]
    assert "Roles in held-out self-play" in (out / "report.html").read_text()


def test_episodes_are_played_again_from_their_stored_replies(roles_recipe: Plain, tmp_path: Path) -> None:
    """The generator is a pure function of task, seed and replies: rewards can be computed from turns.parquet."""
    go(roles_recipe, tmp_path / "run")
    turns: list[TurnRow] = read_table(tmp_path / "run/rounds/000/turns.parquet")
    prompts = {row["example"]: row["prompt"] for row in read_table(tmp_path / "run/data/train.parquet")}
    by_task: defaultdict[str, dict[int, list[TurnRow]]] = defaultdict(lambda: defaultdict(list))
    for turn in turns:
        by_task[turn["task"]][turn["turn"]].append(turn)
    assert len(by_task) == 6
    for task, questions in by_task.items():
        play = WriterReader().play(Task(task, prompts[task]), 0)
        wave, place = next(play), 0
        outcomes = None
        while outcomes is None:
            assert all(isinstance(ask, Ask) for ask in wave)
            rows = [questions[place + i] for i in range(len(wave))]
            place += len(wave)
            try:
                wave = play.send([[Reply(row["text"], True) for row in group] for group in rows])
            except StopIteration as stop:
                outcomes = stop.value
        stored = [[row["reward"] for row in questions[i]] for i in range(place)]
        assert [[outcome.reward for outcome in group] for group in outcomes] == stored


def test_a_partner_is_played_by_the_start_and_not_trained(roles_recipe: Plain, tmp_path: Path) -> None:
    summary = go({**roles_recipe, "partners": {"writer": "start"}, "rounds": 2}, tmp_path / "run")
    turns = read_table(tmp_path / "run/rounds/001/turns.parquet")
    assert {(turn["role"], turn["policy"]) for turn in turns} == {("writer", "0/play"), ("reader", "1/play")}
    assert {turn["role"] for turn in turns if turn["example"]} == {"reader"}
    assert [j["name"] for j in summary["judgments"]] == ["as reader"]


def test_a_policy_is_loaded_once_for_all_waves_of_a_stage(
    roles_recipe: Plain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A search asks in hundreds of waves, each of which loaded it."""
    loads: list[str] = []
    by_stage: list[list[str]] = []
    load, held_engines = Policies.load, play.held_engines

    def counted_load(self: Policies, ref: Any, *args: Any, **options: Any) -> Any:
        loads.append(str(ref))
        return load(self, ref, *args, **options)

    @contextlib.contextmanager
    def counted(policies: Policies) -> Iterator[None]:
        loads.clear()
        with held_engines(policies):
            yield
        by_stage.append([*loads])

    monkeypatch.setattr(Policies, "load", counted_load)
    monkeypatch.setattr(play, "held_engines", counted)
    go(roles_recipe, tmp_path / "held")
    assert by_stage[0] == ["0/play"]  # training, writers and then readers
    assert ["1/play"] in by_stage  # held-out episodes of the final policy with itself
    assert ["1/play", "0/play"] in by_stage  # as writer, with the start as reader
    monkeypatch.setattr(play, "held_engines", lambda policies: contextlib.nullcontext())
    go(roles_recipe, tmp_path / "anew")
    tables = [path.relative_to(tmp_path / "held") for path in (tmp_path / "held").rglob("*.parquet")]
    assert {"turns.parquet", "pairs.parquet"} <= {path.name for path in tables}
    for path in tables:
        assert (tmp_path / "held" / path).read_bytes() == (tmp_path / "anew" / path).read_bytes()


@pytest.mark.parametrize("algorithm", [{"name": "grpo"}, {"name": "grpo", "baseline": "role"}, {"name": "sppo"}])
def test_other_losses_train_roles_too(roles_recipe: Plain, tmp_path: Path, algorithm: Plain) -> None:
    go({**roles_recipe, "algorithm": {**algorithm, "samples": 4}, "rounds": 2}, tmp_path / "run")
    manifest = json.loads((tmp_path / "run/manifest.json").read_text())
    baselines = [manifest[f"rounds/00{t}/pair"]["facts"]["baselines"] for t in (0, 1)]
    if algorithm.get("baseline") == "role":
        assert baselines[0].keys() == {"writer", "reader"}
        assert baselines[0] != baselines[1]
        assert manifest["rounds/001/pair"]["inputs"]["baselines"] == repr(sorted(baselines[0].items()))
    else:
        assert baselines == [{}, {}]


def turn(task: str, role: str, reward: float | None, example: str | None = None, index: int = 0) -> TurnRow:
    return {
        **{"task": task, "turn": 0, "reply": 0, "role": role, "policy": "0/play", "text": "", "kind": ""},
        **{"reward": reward, "example": example, "index": index if example else None},
    }  # type: ignore[typeddict-item]


def test_a_reply_meets_its_roles_mean_before_its_own_task() -> None:
    turns = [
        turn("a", "first", 1.0, "x", 0),
        turn("a", "second", -1.0, "y", 0),
        turn("a", "first", 0.0, "x", 1),
        turn("b", "first", None),
        turn("b", "second", 1.0, "y", 1),
        turn("c", "first", -1.0, "z", 0),
    ]
    rewards = Rewards.of(turns, (-1.0, 1.0), {"first": 0.4}, decay=0.5)
    assert rewards.judge("x", [(0, -1), (1, -1), (0, 1)]) == pytest.approx([0.65, 0.4, 0.75])
    assert rewards.judge("y", [(0, -1), (1, -1)]) == pytest.approx([0.25, 0.875])  # against 0, then against -1/2
    assert rewards.judge("z", [(0, -1)]) == pytest.approx([0.5 + (-1.0 - 0.45) / 4])
    assert rewards.after == pytest.approx({"first": 0.5 * 0.45 - 0.5, "second": 0.25})


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("raises", "environment_fakes.py:105: "),
        ("raises", "KeyError('lost')"),
        ("count", "it asked for 0 replies"),
        ("text", "it asked a text. Give messages"),
        ("type", "is not a number or None, with a kind as text"),
        ("role", "it asked the role 'judge', and its roles are"),
        ("endless", "still asked after 3 waves"),
        ("nan", "gets a reward of nan, outside -1 to 1"),
        ("range", "gets a reward of 2.0, outside -1 to 1"),
        ("sum", "do not add up to 0"),
        ("missing", "it gave [1] outcomes for [1, 1] replies"),
        ("number", "its result is not a list of lists of Outcome"),
    ],
)
def test_a_faulty_environment_is_named_with_the_task(
    roles_recipe: Plain, tmp_path: Path, fault: str, says: str
) -> None:
    plain = {**roles_recipe, "environment": {"name": "environment_fakes:Faulty", "fault": fault}}
    with pytest.raises(ValueError, match="environment Faulty, task") as caught:
        go(plain, tmp_path / "run")
    assert says in str(caught.value)


class WithoutYield(WriterReader):
    """Its play is a plain function."""

    def play(self, task: Task, seed: int) -> Any:
        return [[Ask("writer", [{"role": "user", "content": task.prompt}])]]


def test_a_play_without_yield_is_told_so(roles_recipe: Plain, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"environment WithoutYield, task .*: its play has no yield"):
        go({**roles_recipe, "environment": {"name": f"{__name__}:WithoutYield"}}, tmp_path / "run")


@pytest.mark.parametrize("name", sorted(SHIPPED))
def test_wrong_fields_of_an_environment_are_named(name: str, roles_recipe: Plain) -> None:
    """A misspelt field ended in a traceback, and a wrong value had no name."""
    with pytest.raises(ValueError, match=r"environment\.exmples: unknown key\."):
        parse_recipe({**roles_recipe, "environment": {"name": name, "exmples": 2}})


def test_a_wrong_value_of_an_environment_is_named(roles_recipe: Plain) -> None:
    section = {"name": "kuhn_poker", "examples": "two", "rulse": True}
    with pytest.raises(ValueError, match=r"environment\.examples = 'two': input should be a valid integer") as caught:
        parse_recipe({**roles_recipe, "environment": section})
    assert "environment.rulse: unknown key. Did you mean 'rules'?" in str(caught.value)


def test_an_episode_that_asks_too_long_a_question_is_left_out_and_counted(roles_recipe: Plain, tmp_path: Path) -> None:
    plain = {**roles_recipe, "environment": {"name": "environment_fakes:Wordy"}}
    go({**plain, "data": {**plain["data"], "max_prompt_tokens": 20}}, tmp_path / "run")
    facts = json.loads((tmp_path / "run/manifest.json").read_text())["rounds/000/sample"]["facts"]
    assert facts["dropped_tasks"] == {"a question longer than 20 tokens": 2}  # ant and cat
    assert facts["tasks"] == 4
    assert {turn["task"] for turn in read_table(tmp_path / "run/rounds/000/turns.parquet")} == {
        row["example"] for row in read_table(tmp_path / "run/data/train.parquet") if not row["prompt"].endswith("t")
    }


def compared(recipe: Plain, **fields: bool) -> Plain:
    oracle = {"name": "function", "path": "oracle_fakes:more_vowels"}
    return {**recipe, "environment": {"name": "environment_fakes:Compared", **fields}, "oracle": oracle}


def test_an_oracle_compares_in_episodes_and_its_verdicts_are_kept(
    roles_recipe: Plain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, plain = tmp_path / "run", compared(roles_recipe)
    go(plain, out)
    turns = read_table(out / "rounds/000/turns.parquet")
    prompts = {row["example"]: row["prompt"] for row in read_table(out / "data/train.parquet")}
    assert {turn["role"] for turn in turns} == {"writer"}
    for turn in turns:
        chance = more_vowels(prompts[turn["task"]], turn["text"], "aei")
        assert turn["reward"] == pytest.approx(2 * chance - 1)
    facts = json.loads((out / "manifest.json").read_text())["rounds/000/sample"]["facts"]
    assert facts["comparisons"] == len(turns)
    assert facts["failed"] == 0
    assert "more_vowels" in facts["oracle"]
    monkeypatch.setattr(oracle_fakes, "more_vowels", oracle_fakes.lopsided)
    with pytest.raises(ValueError, match="verdicts of two judges do not go into one run"):
        go({**plain, "rounds": 2}, out)


def test_a_comparison_that_fails_is_no_reward_and_counted(
    roles_recipe: Plain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed: list[str] = []

    def answer(prompt: str, a: str, b: str) -> float:
        if b == "aei" and (a in failed or not failed):
            failed.append(a)
            return math.nan
        return more_vowels(prompt, a, b)

    monkeypatch.setattr(oracle_fakes, "answer", answer)
    plain = compared(roles_recipe)
    go({**plain, "oracle": {"name": "function", "path": "oracle_fakes:moody"}}, tmp_path / "run")
    turns = read_table(tmp_path / "run/rounds/000/turns.parquet")
    lost = [turn for turn in turns if turn["text"] == failed[0]]
    assert lost
    assert all((turn["reward"], turn["kind"], turn["example"]) == (None, "no verdict", None) for turn in lost)
    facts = json.loads((tmp_path / "run/manifest.json").read_text())["rounds/000/sample"]["facts"]
    assert facts["failed"] == len(lost)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"mixes": True}, "it asked a role and the oracle in one wave"),
        ({"promises": False}, "it asked the oracle. Let"),
    ],
)
def test_comparisons_come_alone_and_are_announced(
    roles_recipe: Plain, tmp_path: Path, fields: Plain, says: str
) -> None:
    plain = compared(roles_recipe, **fields)
    if "promises" in fields:
        del plain["oracle"]
    with pytest.raises(ValueError, match="environment Compared, task") as caught:
        go(plain, tmp_path / "run")
    assert says in str(caught.value)


def test_an_environment_that_asks_an_oracle_needs_one(roles_recipe: Plain) -> None:
    plain = compared(roles_recipe)
    assert parse_recipe(plain).trained_roles() == ("writer",)
    del plain["oracle"]
    with pytest.raises(ValueError, match="oracle: missing, but the environment asks one"):
        parse_recipe(plain)


def test_the_price_of_a_judge_in_an_environment_is_that_of_the_tried_episode(roles_recipe: Plain) -> None:
    recipe = parse_recipe({**compared(roles_recipe), "rounds": 2})
    samples = recipe.algorithm["samples"]
    assert episode_comparisons(recipe, (samples, 2), 6, 4) == (2 * 6 * samples, 4 * 3 * 2)  # start and two rounds


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"oracle": {"name": "panel"}}, "environment with an oracle"),
        ({"partners": {"judge": "start"}}, "partners: ['judge'] are no roles of the environment"),
        ({"partners": {"writer": "start", "reader": "start"}}, "every role has one, so none is trained"),
        ({"algorithm": {"name": "spin"}}, "environment with algorithm 'spin'"),
        ({"algorithm": {"name": "xpo"}}, "environment with algorithm 'xpo'"),
        ({"algorithm": {"name": "inpo"}}, "'knockout' with an environment"),
        ({"environment": None, "partners": {"writer": "start"}}, "only an environment has roles"),
        ({"environment": None, "algorithm": {"name": "grpo"}}, "oracle: missing"),
    ],
)
def test_what_does_not_go_with_an_environment_is_refused(roles_recipe: Plain, change: Plain, says: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        parse_recipe({**roles_recipe, **change})
    assert says in str(caught.value)


def test_a_baseline_by_role_needs_roles(tiny_recipe: Plain) -> None:
    with pytest.raises(ValueError, match="baseline = 'role' without an environment"):
        parse_recipe({**tiny_recipe, "algorithm": {"name": "grpo", "baseline": "role"}})


def variant(**namespace: Any) -> type[Environment]:
    """A subclass of one name, whatever is in it."""
    return type("Variant", (WriterReader,), {"__module__": __name__, "__qualname__": "Variant", **namespace})


def other_play(self: Any, task: Task, seed: int) -> Any:
    return (yield [Ask("writer", [{"role": "user", "content": "x"}])])


@pytest.mark.parametrize(
    ("namespace", "same"),
    [
        ({}, True),
        ({"play": other_play}, False),
        ({"rewards": (-2.0, 2.0)}, False),
        ({"helper": staticmethod(lambda text: text + "!")}, False),
        ({"question": property(lambda self: "What?")}, False),
        ({"measure": lambda self, episodes: {"many": 1.0}}, True),
        ({"about": "another sentence"}, True),
    ],
)
def test_what_decides_an_episode_is_an_environments_identity(namespace: dict[str, Any], same: bool) -> None:
    assert (environment_identity(variant(**namespace)()) == environment_identity(variant()())) == same


def test_an_identity_is_the_same_in_every_process(tmp_path: Path) -> None:
    """Sets and objects are written in another order, or with an address, by every process."""
    (tmp_path / "own_games.py").write_text(
        "from typing import ClassVar\n"
        "from sparring.environments.environment import Environment\n"
        "from sparring.rounds.environment_identity import environment_identity\n"
        "class Plain:\n    size = 3\n"
        "class Own(Environment):\n"
        "    about, roles = 'own', ('a', 'b')\n"
        "    words: ClassVar = frozenset('abcdefgh')\n"
        "    kind: ClassVar = Plain()\n"
        "if __name__ == '__main__':\n    print(environment_identity(Own()))\n"
    )
    seen = {
        subprocess.run(
            [sys.executable, tmp_path / "own_games.py"],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(seen) == 1


def test_what_an_environment_plays_within_is_its_identity_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two versions of one's own game, searched by a shipped environment."""
    monkeypatch.syspath_prepend(tmp_path)
    identities = []
    for version in ("one", "another"):
        (tmp_path / f"{version}_game.py").write_text(
            "from sparring.environments.tic_tac_toe import TicTacToe\n"
            "class Own(TicTacToe):\n"
            f"    def legal(self, state):\n        return [*super().legal(state), {version!r}]\n"
        )
        section = {"name": "searched_position", "game": {"name": f"{version}_game:Own"}}
        identities.append(environment_identity(build_environment(section)).replace(f"{version}_game", "game"))
    assert identities[0] != identities[1]


def test_fields_are_identity_and_defaults_are_not_spelt_out() -> None:
    plain, one = ({"name": "step_critic", **fields} for fields in ({}, {"steps": 3}))
    assert environment_identity(build_environment(plain)) == "StepCritic({}, edition 2)"
    assert environment_identity(build_environment(one)) == 'StepCritic({"steps":3}, edition 2)'
    assert environment_identity(build_environment({"name": "arithmetic_duel"})) == "ArithmeticDuel({}, edition 2)"


def test_another_environment_is_refused_and_nothing_is_played_again(roles_recipe: Plain, tmp_path: Path) -> None:
    go(roles_recipe, tmp_path / "run")
    before = (tmp_path / "run/manifest.json").read_bytes()
    WriterReader.mark = "changed"  # type: ignore[attr-defined]
    try:
        with pytest.raises(ValueError, match="episodes of two environments do not go into one run"):
            go({**roles_recipe, "rounds": 2}, tmp_path / "run")
    finally:
        del WriterReader.mark  # type: ignore[attr-defined]
    assert (tmp_path / "run/manifest.json").read_bytes() == before


def test_an_environments_own_measures_have_intervals_over_tasks() -> None:
    won, lost = [("first", "bet", 1.0, ""), ("second", "pass", -1.0, "")], [("first", "pass", -1.0, "")]
    notes: list[str] = []
    measures = measures_of(KuhnPoker(), [won] * 12 + [lost] * 36, notes.append)
    first = measures["games won by first"]
    assert isinstance(first, Interval)
    assert first.value == 0.25
    assert (first.low, first.high) == pytest.approx(
        (0.25 - 1.96 / 16, 0.25 + 1.96 / 16), abs=0.02
    )  # sqrt(.75 / 4 / 48)
    assert measures["games ended by an illegal reply"] == 0.0  # in no draw of the tasks: its error is not known
    assert measures_of(KuhnPoker(), [], notes.append) == {}
    assert not notes


def test_measures_that_raise_on_tasks_drawn_again_have_no_interval_and_a_note() -> None:
    class Won(KuhnPoker):
        def measure(self, episodes: Sequence[Sequence[Line]]) -> dict[str, float]:
            lost = sum(episode[0][2] == -1.0 for episode in episodes)  # a draw of two tasks may hold none
            return {"won for each lost": (len(episodes) - lost) / lost}

    notes: list[str] = []
    episodes: list[list[Line]] = [[("first", "bet", 1.0, "")], [("first", "pass", -1.0, "")]]
    assert measures_of(Won(), episodes, notes.append) == {"won for each lost": 1.0}
    (note,) = notes
    assert note.startswith("no intervals of its measures")
    assert "ZeroDivisionError" in note


def test_the_terminal_shows_what_self_play_measures() -> None:
    start: PolicyEpisodes = {
        "round": 0,
        "rewards": {"first": Interval(-0.0, -0.25, 0.25)},
        "kinds": {},
        "replies": {"first": 4},
        "measures": {"games won by first": Interval(0.25, 0.125, 0.5), "illegal": 0.0},
    }
    final: PolicyEpisodes = {**start, "rewards": {}, "measures": {"illegal": 0.5}}
    assert episode_rows(start, final) == [
        ("reward of first", "+0.00 (-0.25 to +0.25)", "-"),
        ("games won by first", "0.25 (0.12 to 0.50)", "-"),
        ("illegal", "0.00", "0.50"),
    ]


def test_rounds_know_no_game_by_its_name() -> None:
    stages = {
        file.name: file.read_text(encoding="utf-8").casefold() for file in Path(rounds.__file__).parent.glob("*.py")
    }
    assert stages
    assert not [(game, file) for game in SHIPPED for file, text in stages.items() if game in text]


def test_a_wave_without_questions_gets_no_replies(roles_recipe: Plain, tmp_path: Path) -> None:
    go({**roles_recipe, "environment": {"name": "environment_fakes:Pausing"}}, tmp_path / "run")


def test_against_a_baseline_every_reply_is_a_prompt_of_its_own(roles_recipe: Plain, tmp_path: Path) -> None:
    algorithm = {"name": "grpo", "baseline": "none", "samples": 4}
    go({**roles_recipe, "algorithm": algorithm}, tmp_path / "run")
    rows = read_table(tmp_path / "run/rounds/000/pairs.parquet")
    assert {len(row["responses"]) for row in rows} == {1}


@pytest.mark.parametrize(
    ("declared", "says"),
    [
        ({"roles": ()}, "roles = (). Give a tuple"),
        ({"roles": "ab"}, "roles = 'ab'. Give a tuple"),
        ({"roles": ("a/b", "c")}, "Give a tuple of names of letters"),
        ({"roles": ("a", "a")}, "are not all different"),
        ({"rewards": (0.0, 0.0)}, "Give the lowest and the highest reward"),
        ({"rewards": (0.0, float("inf"))}, "Give the lowest and the highest reward"),
        ({"rewards": 3}, "Give the lowest and the highest reward"),
    ],
)
def test_what_a_class_declares_is_checked(declared: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match="environment Variant") as caught:
        check_declared(variant(**declared))
    assert says in str(caught.value)


def test_episodes_are_evaluated_after_every_round(roles_recipe: Plain, tmp_path: Path) -> None:
    plain = {**roles_recipe, "rounds": 2, "evaluation": {"samples": 1, "every": 1}}
    summary = go(plain, tmp_path / "run")
    assert [one["round"] for one in summary["evaluated"]] == [1, 2]
    assert [one["round"] for one in summary["episodes"]] == [0, 1, 2]
