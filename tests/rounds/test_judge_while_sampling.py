"""Judging while sampling goes on: verdicts before all samples are there, the same tables, and errors that wait."""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("openai")

from faulty_server import Faulty, completion, serving
from sparring.algorithms.algorithm import DataFacts, Step
from sparring.algorithms.inpo import INPO
from sparring.oracles.build import build_oracle
from sparring.oracles.guard import Guard
from sparring.oracles.on_workers import computed_elsewhere
from sparring.oracles.oracle import Comparison
from sparring.recipe.reading import parse_recipe
from sparring.rounds.collect import load_collection
from sparring.rounds.judge_while_sampling import judging
from sparring.rounds.run import run
from sparring.rounds.sample import SamplesShards
from sparring.rounds.tables import ExampleRow, SampleRow
from sparring.runtime.errors import OracleError
from sparring.runtime.files import read_json
from sparring.runtime.progress import Progress

Plain = dict[str, Any]
TABLES = [f"rounds/{t:03d}/{name}.parquet" for t in (0, 1) for name in ("samples", "verdicts", "pairs")]


@pytest.fixture
def server() -> Iterator[Faulty]:
    with serving() as faulty:
        yield faulty


def texts_of(request: Plain) -> tuple[str, str, str]:
    """What a question shows: the prompt, and the answers A and B."""
    parts = request["messages"][-1]["content"].split(" assistant ")
    return parts[0], parts[1].partition("\n")[2].rpartition("\n")[0], parts[3].partition("\n")[2].rpartition("\n")[0]


def longer(request: Plain) -> Any:
    """Prefers the answer of more bytes by a soft verdict."""
    a, b = (len(text.encode()) + 1 for text in texts_of(request)[1:])
    return completion("A", top={"A": math.log(a / (a + b)), "B": math.log(b / (a + b))})


def served(recipe: Plain, server: Faulty, folder: Path, **changes: Any) -> Plain:
    judge = {"name": "llm_judge", "model": "m", "base_url": server.url, "key_env": None, "attempts": 1}
    held_out = {"prompts": 1, "samples": 1, "oracles": []}
    plain = {**recipe, "evaluation": held_out, "judge_while_sampling": True, **changes}
    return {**plain, "oracle": {**judge, "replies": str(folder / "replies.jsonl")}}


def test_verdicts_are_given_while_responses_are_sampled_and_the_tables_are_the_same(
    tiny_recipe: Plain, tmp_path: Path, server: Faulty, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.answer = longer
    run(parse_recipe(served(tiny_recipe, server, tmp_path / "0", rounds=1)), tmp_path / "first", Progress(quiet=True))
    bad = {*min(texts_of(request) for request in server.requests if "Say bee" in str(request))[1:]}
    asked, early = threading.Event(), list[bool]()
    plain = SamplesShards._sample

    def answer(request: Plain) -> Any:
        if "Say " in request["messages"][-1]["content"]:  # none of the first questions
            asked.set()
            early.append(not (tmp_path / "meanwhile" / TABLES[0]).exists())
        refused = bad == {*texts_of(request)[1:]}
        return (400, {}, {"error": {"message": "content policy"}}) if refused else longer(request)

    def patient(self: SamplesShards, engine: Any, requests: Any) -> Any:
        if batches:
            assert asked.wait(20)
        batches.append(len(requests))
        return plain(self, engine, requests)

    server.answer = answer
    server.requests.clear()
    batches: list[int] = []
    monkeypatch.setattr(SamplesShards, "_sample", patient)
    run(parse_recipe(served(tiny_recipe, server, tmp_path / "1")), tmp_path / "meanwhile", Progress(quiet=True))
    assert batches[:3] == [8, 8, 8]
    assert early[0]
    questions = [str(request["messages"]) for request in server.requests]
    after = served(tiny_recipe, server, tmp_path / "2", judge_while_sampling=False)
    run(parse_recipe(after), tmp_path / "after", Progress(quiet=True))
    assert sorted(questions) == sorted(str(r["messages"]) for r in server.requests[len(questions) :])
    for table in TABLES:
        assert (tmp_path / "meanwhile" / table).read_bytes() == (tmp_path / "after" / table).read_bytes()
    both = [read_json(tmp_path / name / "manifest.json") for name in ("meanwhile", "after")]
    facts = [{key: entry["facts"] for key, entry in one.items() if key.endswith("/judge")} for one in both]
    assert facts[0] == facts[1]
    assert facts[0]["rounds/000/judge"]["failed"] == 1
    assert both[0]["rounds/000/sample"]["facts"]["seconds_judging"] > 0
    assert "seconds_judging" not in both[1]["rounds/000/sample"]["facts"]


def test_a_judge_that_breaks_while_responses_are_sampled_stops_the_run_at_its_own_stage(
    tiny_recipe: Plain, tmp_path: Path, server: Faulty
) -> None:
    def answer(request: Plain) -> Any:
        broken = "Say " in request["messages"][-1]["content"]
        return (401, {}, {"error": {"message": "key revoked"}}) if broken else longer(request)

    server.answer = answer
    out, recipe = tmp_path / "run", parse_recipe(served(tiny_recipe, server, tmp_path))
    with pytest.raises(OracleError, match="revoked"):
        run(recipe, out, Progress(quiet=True))
    assert (out / TABLES[0]).exists()
    server.answer = longer
    run(recipe, out, Progress(quiet=True))
    assert read_json(out / "manifest.json")["rounds/000/judge"]["facts"]["comparisons"] == 36


def test_a_run_that_stops_asks_nothing_more(tmp_path: Path, server: Faulty) -> None:
    begun = threading.Event()

    def slow(request: Plain) -> Any:
        begun.set()
        time.sleep(0.2)
        return longer(request)

    server.answer = slow
    section = {"name": "llm_judge", "model": "m", "base_url": server.url, "key_env": None, "concurrency": 2}
    oracle = build_oracle({**section, "replies": str(tmp_path / "replies.jsonl")}, "")
    names = [f"Say {number}" for number in range(8)]

    def stopped() -> None:
        with judging(step_of(4), [example(name) for name in names], Guard(oracle), 0, Progress(quiet=True)) as judged:
            judged.on_rows([row for name in names for row in rows(name, range(4))])
            assert begun.wait(20)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert len(server.requests) <= 4  # of 96
    with pytest.raises(OracleError, match="asked nothing more, since the run stops"):
        oracle.judge([Comparison("p", "a", "b")])


class Vowels:
    """Prefers more vowels; notes the prompts that it was asked about, in the order of the questions."""

    identity = "vowels"

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.was_asked = threading.Event()

    def judge(self, comparisons: Sequence[Comparison]) -> Any:
        self.asked += dict.fromkeys(one.prompt for one in comparisons)
        self.was_asked.set()
        counts = [[sum(c in "aeiou" for c in text) for text in (one.a, one.b)] for one in comparisons]
        return np.array([0.5 + 0.1 * np.sign(a - b) for a, b in counts])


def rows(name: str, indices: Sequence[int]) -> list[SampleRow]:
    row = {"example": name, "role": "own", "token_ids": [1], "finish_reason": "stop", "policy": "", "seed": 0}
    made: Any = [{**row, "index": index, "text": "a" * index, "weights": ""} for index in indices]
    return made


def example(name: str) -> ExampleRow:
    row: Any = {"example": name, "messages": [{"role": "user", "content": name}], "prompt": name, "responses": []}
    return row


def step_of(samples: int) -> Step:
    (step,) = INPO(step_size=1.0, kl_to_reference=0.1, samples=samples, pairing="best_worst").steps(0, DataFacts(2))
    return step


def test_a_prompt_is_judged_when_all_its_responses_are_there_and_none_after_the_end() -> None:
    oracle = Vowels()
    guard = Guard(oracle)
    with judging(step_of(3), [example("ant"), example("bee")], guard, 0, Progress(quiet=True)) as judged:
        judged.on_rows(rows("ant", [2, 0]))
        judged.on_rows(rows("bee", [0]))
        assert not oracle.was_asked.wait(0.1)
        judged.on_rows(rows("ant", [1]))
        assert oracle.was_asked.wait(20)
    assert oracle.asked == ["ant"]
    assert guard.asked == 3
    assert judged.seconds > 0


def test_a_judge_that_breaks_is_noted_and_sampling_goes_on() -> None:
    said = threading.Event()
    notes: list[str] = []

    class Broken(Vowels):
        def judge(self, comparisons: Sequence[Comparison]) -> Any:
            raise OracleError("the key is refused.")

    class Noting(Progress):
        def say(self, text: str) -> None:
            notes.append(text)
            said.set()

    with judging(step_of(3), [example("ant")], Guard(Broken()), 0, Noting(quiet=True)) as judged:
        judged.on_rows(rows("ant", range(3)))
        assert said.wait(20)
    assert notes == ["note  no verdicts are asked for any more while sampling goes on: the key is refused."]


FAR = {"name": "llm_judge", "model": "m", "base_url": "https://judge.example/v1"}
NEAR = {**FAR, "base_url": "http://127.0.0.1:8000/v1"}


@pytest.mark.parametrize(
    ("section", "elsewhere"),
    [
        (FAR, True),
        ({"name": "llm_judge", "model": "m"}, True),
        ({"name": "both_orders", "oracle": FAR}, True),
        ({"name": "jury", "members": [FAR, {"name": "cached", "path": "p", "oracle": FAR}]}, True),
        ({"name": "jury", "members": [FAR, NEAR]}, False),
        (NEAR, False),
        ({**FAR, "base_url": "http://localhost:8000/v1"}, False),
        ({**FAR, "base_url": "http://[::1]:8000/v1"}, False),
        ({"name": "jury", "members": [FAR, {"name": "rules", "data": "d"}]}, False),
        ({"name": "jury", "members": [FAR, {"name": "panel"}]}, False),
        ({"name": "both_orders", "oracle": {"name": "panel"}}, False),
        ({"name": "people"}, False),
    ],
)
def test_only_judges_on_other_machines_are_asked_meanwhile(section: Plain, elsewhere: bool) -> None:
    assert computed_elsewhere(section) is elsewhere
    assert not computed_elsewhere(section, False)


def test_a_recipe_may_have_a_judge_on_this_machine_asked_meanwhile() -> None:
    assert computed_elsewhere(NEAR, True)
    assert not computed_elsewhere({"name": "panel"}, True)


def test_the_address_of_the_environment_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://localhost:8000/v1")
    assert not computed_elsewhere({"name": "llm_judge", "model": "m"})


def test_a_collection_takes_the_field(tiny_recipe: Plain, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(json.dumps({**tiny_recipe, "judge_while_sampling": False}))
    assert load_collection(tmp_path / "c.yaml").judge_while_sampling is False
