"""Judging while sampling goes on: verdicts before all samples are there, the same tables, and errors that wait."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("openai")

from faulty_server import Faulty, completion, serving
from sparring.algorithms.algorithm import DataFacts
from sparring.algorithms.inpo import INPO
from sparring.oracles.guard import Guard
from sparring.oracles.on_workers import waits_for_others
from sparring.oracles.oracle import Comparison
from sparring.recipe.reading import parse_recipe
from sparring.rounds.meanwhile import judging
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


def longer(request: Plain) -> Any:
    """Prefers the answer of more bytes, and A of two that are as long."""
    parts = request["messages"][-1]["content"].split(" assistant ")
    a, b = (len(part.encode()) for part in (parts[1], parts[3]))
    return completion("A" if a >= b else "B")


def served(recipe: Plain, server: Faulty, folder: Path, **changes: Any) -> Plain:
    judge = {"name": "llm_judge", "model": "m", "base_url": server.url, "key_env": None, "attempts": 1}
    held_out = {"prompts": 1, "samples": 1, "oracles": []}
    return {**recipe, "oracle": {**judge, "replies": str(folder / "replies.jsonl")}, "evaluation": held_out, **changes}


def test_verdicts_are_given_while_responses_are_sampled_and_the_tables_are_the_same(
    tiny_recipe: Plain, tmp_path: Path, server: Faulty, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, early = threading.Event(), list[bool]()
    plain = SamplesShards._sample

    def answer(request: Plain) -> Any:
        user = request["messages"][-1]["content"]
        if "Say " in user:  # none of the first questions
            asked.set()
            early.append(not (tmp_path / "overlapped" / TABLES[0]).exists())
        return longer(request)

    def patient(self: SamplesShards, engine: Any, requests: Any) -> Any:
        if batches:
            assert asked.wait(20)
        batches.append(len(requests))
        return plain(self, engine, requests)

    server.answer = answer
    batches: list[int] = []
    monkeypatch.setattr(SamplesShards, "_sample", patient)
    run(parse_recipe(served(tiny_recipe, server, tmp_path / "1")), tmp_path / "overlapped", Progress(quiet=True))
    assert batches[:3] == [8, 8, 8]
    assert early[0]
    questions = [str(request["messages"]) for request in server.requests]
    assert len(set(questions)) == len(questions)
    after = served(tiny_recipe, server, tmp_path / "2", overlap=False)
    early.clear()
    run(parse_recipe(after), tmp_path / "after", Progress(quiet=True))
    assert sorted(questions) == sorted(str(r["messages"]) for r in server.requests[len(questions) :])
    for table in TABLES:
        assert (tmp_path / "overlapped" / table).read_bytes() == (tmp_path / "after" / table).read_bytes()
    both = [read_json(tmp_path / name / "manifest.json") for name in ("overlapped", "after")]
    facts = [{key: entry["facts"] for key, entry in one.items() if key.endswith("/judge")} for one in both]
    assert facts[0] == facts[1]
    assert facts[0]["rounds/000/judge"]["failed"] == 0


def test_a_judge_that_breaks_while_responses_are_sampled_stops_the_run_at_its_own_stage(
    tiny_recipe: Plain, tmp_path: Path, server: Faulty, capsys: pytest.CaptureFixture[str]
) -> None:
    def answer(request: Plain) -> Any:
        broken = "Say " in request["messages"][-1]["content"]
        return (401, {}, {"error": {"message": "key revoked"}}) if broken else longer(request)

    server.answer = answer
    out, recipe = tmp_path / "run", parse_recipe(served(tiny_recipe, server, tmp_path))
    with pytest.raises(OracleError, match="revoked"):
        run(recipe, out)
    assert (out / TABLES[0]).exists()
    assert "no more verdicts while sampling" in capsys.readouterr().out
    server.answer = longer
    run(recipe, out, Progress(quiet=True))
    assert read_json(out / "manifest.json")["rounds/000/judge"]["facts"]["failed"] == 0


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


def test_a_prompt_is_judged_when_all_its_responses_are_there_and_nothing_after_the_end() -> None:
    (step,) = INPO(step_size=1.0, kl_to_reference=0.1, samples=3, pairing="best_worst").steps(0, DataFacts(2))
    oracle = Vowels()
    guard = Guard(oracle)
    with judging(step, [example("ant"), example("bee")], guard, 0, Progress(quiet=True)) as seen:
        seen(rows("ant", [2, 0]))
        seen(rows("bee", [0]))
        assert not oracle.was_asked.wait(0.1)
        seen(rows("ant", [1]))
        assert oracle.was_asked.wait(20)
    assert oracle.asked == ["ant"]
    assert guard.asked == 3
    threads = threading.active_count()

    def stopped() -> None:
        with judging(step, [example("ant")], guard, 0, Progress(quiet=True)) as seen:
            seen(rows("ant", [0, 1, 2]))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert threading.active_count() == threads


@pytest.mark.parametrize(
    ("section", "waits"),
    [
        ({"name": "llm_judge", "model": "m"}, True),
        ({"name": "both_orders", "oracle": {"name": "llm_judge", "model": "m"}}, True),
        ({"name": "jury", "members": [{"name": "llm_judge", "model": "m"}, {"name": "rules", "data": "d"}]}, True),
        ({"name": "jury", "members": [{"name": "llm_judge", "model": "m"}, {"name": "panel"}]}, False),
        ({"name": "panel"}, False),
        ({"name": "rules", "data": "d"}, False),
        ({"name": "people"}, False),
    ],
)
def test_only_judges_that_others_compute_are_asked_meanwhile(section: Plain, waits: bool) -> None:
    assert waits_for_others(section) is waits
