"""ALOE's published files, read as they are; what cannot be used is counted."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from sparring.data.aloe import UnusableRow, plain_rows
from sparring.data.examples import stream_examples
from sparring.recipe.sections import DatasetConfig


def turn(user: str, chosen: str = "preferred", **more: Any) -> dict[str, Any]:
    return {
        "user": user,
        "assistant": {"preferred": f"good {user}", "rejected": f"bad {user}"},
        "chosen": chosen,
        **more,
    }


def write(path: Path, lines: list[str]) -> str:
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return str(path)


def test_every_turn_of_a_dialogue_is_a_pair_under_the_dialogue_so_far(tmp_path: Path) -> None:
    row = {
        "profile": "She is a baker.",
        "personality": "She is calm.",
        "conversations": [turn("a", "rejected", inferred_profile="None"), turn("b"), turn("c")],
    }
    path = write(tmp_path / "conversations.jsonl", [json.dumps(row)])
    dropped: Counter[str] = Counter()
    examples = list(stream_examples(DatasetConfig(path=path), ("chosen", "rejected"), dropped))
    assert [[m["content"] for m in example.messages] for example in examples] == [
        ["a"],
        ["a", "bad a", "b"],
        ["a", "bad a", "b", "good b", "c"],
    ]
    assert examples[1].responses == {"chosen": "good b", "rejected": "bad b"}
    assert not dropped


@pytest.mark.parametrize(
    ("second", "says"),
    [
        ({"user": "b"}, "has no answers"),
        ({**turn("b"), "assistant": {"preferred": "x", "rejected": ""}}, "has no rejected answer"),
        ({**turn("b"), "user": None}, "has no user"),
    ],
)
def test_a_broken_turn_ends_its_dialogue_and_is_counted(second: dict[str, Any], says: str, tmp_path: Path) -> None:
    path = write(tmp_path / "c.jsonl", [json.dumps({"conversations": [turn("a"), second, turn("c")]})])
    dropped: Counter[str] = Counter()
    assert len(list(stream_examples(DatasetConfig(path=path), ("chosen", "rejected"), dropped))) == 1
    ((reason, count),) = dropped.items()
    assert says in reason
    assert count == 1


def test_one_of_several_rejected_answers_is_taken_and_an_unknown_path_is_not_followed() -> None:
    several = {**turn("a"), "assistant": {"preferred": "p", "rejected": ["r", "s"]}}
    rows = list(plain_rows({"conversations": [several, turn("b")]}))
    assert rows[0]["rejected"] in ("r", "s")
    assert len(rows) == 2
    with pytest.raises(UnusableRow, match="one of several rejected answers"):
        list(plain_rows({"conversations": [{**several, "chosen": "rejected"}, turn("b")]}))


def test_persona_rows_are_prompts_and_incomplete_ones_are_counted(tmp_path: Path) -> None:
    rows = [{"profile": "She bakes."}, {"profile": "She bakes.", "personality": "She is calm."}, {"personality": "x"}]
    dropped: Counter[str] = Counter()
    path = write(tmp_path / "personas.jsonl", [json.dumps(row) for row in rows])
    (example,) = stream_examples(DatasetConfig(path=path), (), dropped)
    assert example.messages[0]["content"] == "Profile: She bakes.\nPersonality: She is calm."
    assert dropped == {"the persona has no personality": 1, "the persona has no profile": 1}


def test_a_profile_beside_other_columns_is_no_persona() -> None:
    row = {"profile": "id-7", "chosen": "a", "rejected": "b"}
    assert list(plain_rows(row)) == [row]


def test_a_file_of_strings_holds_prompts_also_where_a_line_holds_two(tmp_path: Path) -> None:
    path = write(tmp_path / "profile.jsonl", ['"She bakes."', '"He sails.""He sings.\\n"', ""])
    examples = list(stream_examples(DatasetConfig(path=path), (), Counter()))
    assert [example.messages[0]["content"] for example in examples] == ["She bakes.", "He sails.", "He sings."]
    broken = write(tmp_path / "broken.jsonl", ['"She bakes."', '"He sails." 3'])
    with pytest.raises(ValueError, match="line 2: not valid JSON"):
        list(stream_examples(DatasetConfig(path=broken), (), Counter()))


def test_the_shipped_personas_of_the_splits_share_nothing_but_traits() -> None:
    facts: dict[str, set[str]] = {}
    for split in ("train", "held_out"):
        examples = stream_examples(DatasetConfig(path="sparring:personas", split=split), (), Counter())
        profiles = [e.messages[0]["content"].partition("\n")[0].removeprefix("Profile: ") for e in examples]
        assert all(profile.count(".") == 5 for profile in profiles)
        sentences = {part.partition(" ")[2] for profile in profiles for part in profile.split(". ")[1:]}
        facts[split] = {sentence.rstrip(".") for sentence in sentences}
    assert facts["train"]
    assert not facts["train"] & facts["held_out"]
