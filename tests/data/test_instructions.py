"""The shipped set of instructions: what its script writes, golds that obey, and held-out parts that are disjoint."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from sparring.data.checks import passes

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    file = Path(__file__).parents[2] / "src/sparring/data/instructions.jsonl"
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def of(rows: list[dict[str, Any]], group: str) -> list[dict[str, Any]]:
    return [row for row in rows if row["group"] == group]


def test_the_script_writes_the_shipped_file(rows: list[dict[str, Any]]) -> None:
    spec = importlib.util.spec_from_file_location("make_instructions", DOCS / "make_instructions.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert [json.loads(line) for line in module.text().splitlines()] == rows, "run: python docs/make_instructions.py"


def test_sizes_and_distinct_prompts(rows: list[dict[str, Any]]) -> None:
    sizes = {group: len(of(rows, group)) for group in dict.fromkeys(row["group"] for row in rows)}
    assert sizes == {
        "train": 1400,
        "unseen topics": 210,
        "unseen wordings": 210,
        "unseen kinds": 540,
        "two instructions": 240,
        "validation": 140,
    }
    assert len({row["prompt"] for row in rows}) == len(rows)


def test_held_out_topics_kinds_and_wordings_are_disjoint_from_training(rows: list[dict[str, Any]]) -> None:
    train, held = of(rows, "train"), [row for row in rows if row["split"] == "held_out"]
    assert not {row["topic"] for row in train} & {row["topic"] for row in held}
    kinds = {row["kind"] for row in train}
    assert {row["kind"] for row in of(rows, "unseen topics")} == kinds
    assert not {row["kind"] for row in of(rows, "unseen kinds")} & kinds
    assert all(set(row["kind"].split(" + ")) <= kinds for row in of(rows, "two instructions"))
    same = {(row["topic"], row["kind"]): row["check"] for row in of(rows, "unseen topics")}
    assert all(same[row["topic"], row["kind"]] == row["check"] for row in of(rows, "unseen wordings"))


def test_what_may_choose_a_setting_is_of_no_other_part(rows: list[dict[str, Any]]) -> None:
    chooses, others = of(rows, "validation"), [row for row in rows if row["group"] != "validation"]
    assert not {row["topic"] for row in chooses} & {row["topic"] for row in others}
    assert {row["kind"] for row in chooses} == {row["kind"] for row in of(rows, "train")}
    assert {row["split"] for row in chooses} == {"validation"}


def test_every_gold_answer_obeys_and_no_silence_does(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        for check in row["check"]:
            assert not passes(check, "")
            assert "gold" not in row or passes(check, row["gold"]), row


def test_any_prefix_is_a_mixture(rows: list[dict[str, Any]]) -> None:
    assert len({row["kind"] for row in of(rows, "train")[:7]}) == 7
    held = [row["group"] for row in rows if row["split"] == "held_out"][:160]
    assert [
        held.count(group) for group in ("unseen topics", "unseen wordings", "unseen kinds", "two instructions")
    ] == [
        80,
        40,
        20,
        20,
    ]
