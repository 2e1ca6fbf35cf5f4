"""The evaluation's verdicts are given before it asks for them, by workers where there are some: the same ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from sparring.evaluation.duality_gap import play_pool
from sparring.evaluation.win_rates import head_to_head
from sparring.fleet.work import Shards, Work, using
from sparring.oracles.build import build_oracle
from sparring.oracles.guard import Guard
from sparring.oracles.oracle import Comparison
from sparring.rounds import judge
from sparring.rounds.judge import JudgeShards, Noting, judge_ahead
from sparring.rounds.policies import Policies
from sparring.runtime.progress import QUIET

SECTION = {"name": "mutual_information"}
PROMPTS = [f"What is {number}?" for number in range(5)]
TEXTS = {
    "start": [[f"It is {n}.", "I do not know."] for n in range(5)],
    "1": [[f"{n} is a number, and a good one.", ""] for n in range(5)],
}


class Start:
    """As much of a run's policies as a worker needs to build an oracle."""

    def __init__(self, base: Path) -> None:
        self.base = base

    def folders(self, refs: Sequence[Any]) -> dict[str, Path]:
        return {}

    def at(self, places: Any) -> Start:
        return self


class Workers:
    """A fleet that makes shards from the last to the first."""

    shares, ranks = True, 1

    def __init__(self) -> None:
        self.made: list[int] = []

    def results(self, work: Work, shards: Shards) -> Iterator[tuple[int, Any]]:
        with work.open({}) as make:
            for index in reversed(shards.indices):
                self.made.append(index)
                yield index, make(shards.payload(index))


@pytest.fixture
def policies(tiny_model: Path) -> Policies:
    return cast(Policies, Start(tiny_model))


def ask(guard: Guard) -> tuple[Any, Any]:
    return head_to_head(PROMPTS, TEXTS["1"], TEXTS["start"], guard), play_pool(PROMPTS, TEXTS, guard)


def test_workers_and_one_process_give_the_same_verdicts_once(
    policies: Policies, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judge, "SHARD", 2)
    outcomes, workers = [], Workers()
    for name in ("here", "there"):
        guard = Guard(build_oracle(SECTION, str(policies.base)), tmp_path / f"{name}.jsonl")
        if name == "here":
            judge_ahead(guard, ask, SECTION, policies, QUIET)
        else:
            with using(cast(Any, workers)):
                judge_ahead(guard, ask, SECTION, policies, QUIET)
        asked = guard.asked
        assert asked > 0
        monkeypatch.setattr(guard.oracle, "judge", lambda comparisons: pytest.fail(f"asked again: {comparisons}"))
        outcomes.append(ask(guard))
        assert guard.asked == asked
    assert workers.made == [2, 1, 0]  # five prompts, two at a time
    (here, pool_here), (there, pool_there) = outcomes
    assert here == there
    assert pool_here.matrix() == pool_there.matrix()


def test_an_oracle_that_workers_cannot_build_is_left_to_the_controller(policies: Policies) -> None:
    judge_ahead(cast(Guard, None), lambda guard: pytest.fail("asked"), {"name": "llm_judge"}, policies, QUIET)


def test_each_comparison_is_noted_once_whichever_way_round() -> None:
    noting = Noting()
    there, back, equal = Comparison("p", "a", "b"), Comparison("p", "b", "a"), Comparison("p", "a", "a")
    assert noting.judge([there, equal, back, Comparison("q", "a", "b")]).tolist() == [0.5] * 4
    assert noting.by_prompt == {"p": [there], "q": [Comparison("q", "a", "b")]}


def test_another_oracle_under_the_same_name_on_a_machine_is_refused(policies: Policies) -> None:
    shards = JudgeShards(SECTION, policies, "another(0123)")
    with pytest.raises(ValueError, match=r"oracle: it is .* on this machine and another\(0123\) where the run is"):
        shards({}).__enter__()
