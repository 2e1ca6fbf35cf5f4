"""Optional abilities: found where they are and only there, also through wrappers; and the one table of names."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from oracle_fakes import Fixed, Placed
from sparring.evaluation.win_rates import Outcome
from sparring.oracles import abilities
from sparring.oracles.abilities import Described, PositionSensitive, counts_of, nested
from sparring.oracles.build import SHIPPED, build_oracle, find_oracle
from sparring.oracles.cached import Cached
from sparring.oracles.calibrated import Calibrated
from sparring.oracles.duplicate_gate import DuplicateGate
from sparring.oracles.guard import Guard
from sparring.oracles.jury import Jury
from sparring.oracles.length_penalty import LengthPenalty
from sparring.oracles.orders import BothOrders
from sparring.oracles.recorded import Recorded
from sparring.rounds.evaluate import _judgment

PROTOCOLS = [
    p for p in vars(abilities).values() if getattr(p, "_is_protocol", False) and p.__module__ == abilities.__name__
]


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_oracle_says_what_it_is(name: str) -> None:
    make: Any = find_oracle(name)
    assert isinstance(make, Described)
    assert make.about.endswith(".")
    assert make.title == name


def test_identity_and_judge_are_enough() -> None:
    assert len(PROTOCOLS) == 12
    assert [p.__name__ for p in PROTOCOLS if isinstance(Fixed(0.5), p)] == []
    assert counts_of(Fixed(0.5)) == {}


@pytest.mark.parametrize(
    "wrap",
    [
        BothOrders,
        DuplicateGate,
        LengthPenalty,
        lambda oracle: Calibrated(oracle, temperature=2.0),
        lambda oracle: Jury([Fixed(0.5), oracle]),
    ],
)
def test_an_oracle_inside_is_found(wrap) -> None:
    class Counting(Fixed):
        def counts(self):
            return {"asked": 7}

    oracle = wrap(DuplicateGate(inside := Counting(0.9)))
    assert inside in [inner for inner, _ in nested(oracle)]
    assert 7 in counts_of(oracle).values()


def test_what_keeps_verdicts_sees_places_only_where_its_oracle_does(tmp_path) -> None:
    kept = [Cached(oracle, str(tmp_path / "v.jsonl")) for oracle in (Placed(), Fixed(0.5))]
    assert [isinstance(oracle, PositionSensitive) for oracle in kept] == [True, False]
    recorded = Recorded(kept[0], tmp_path / "orders.jsonl")
    assert [inner for inner, _ in nested(recorded)] == [recorded, kept[0], kept[0].oracle]


@pytest.mark.parametrize("declared", [False, True])
def test_what_a_report_calls_an_oracle(declared: bool) -> None:
    guard = Guard(oracle := Fixed(0.5))
    if declared:
        oracle.title, oracle.about = "my judge", "It is undecided."  # type: ignore[attr-defined]
    said = _judgment({"name": "my:Judge"}, False, Outcome([1.0], [0.5], 0), guard)
    expected = ("my judge", "It is undecided.") if declared else ("my:Judge", "fixed(0.5)")
    assert (said["name"], said["about"]) == expected


def test_the_table_of_names_is_all_that_knows_an_oracle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SHIPPED, "fixed", "oracle_fakes:Fixed")
    inside = {"name": "fixed", "answer": 0.7}
    assert build_oracle({"name": "length_penalty", "oracle": inside}, "").identity.startswith(
        "length_penalty(fixed(0.7)"
    )
    with pytest.raises(ValueError, match=r"Did you mean 'fixed'\? Shipped: .*, fixed;"):
        build_oracle({"name": "fixd"}, "")


def test_a_function_needs_no_table_of_names() -> None:
    """function.py and build.py needed each other: whichever was imported first."""
    assert "build" not in vars(sys.modules["sparring.oracles.function"])
