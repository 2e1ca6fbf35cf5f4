"""Answer files that cannot be used: the message says what they look like and what to do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sparring.evaluation.answers import read_answers

ROW = '{"instruction": "p", "output": "a"}\n'


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.json", ROW * 2, "looks like JSON Lines: name it .jsonl"),
        ("a.json", "", "is empty"),
        ("a.json", " \n", "is empty"),
        ("a.json", '[{"instruction": "p"', "cannot be read"),
        ("a.jsonl", "", "is empty"),
        ("a.csv", "", "is empty"),
        (
            "a.csv",
            "instruction;output\np;a, b\n",
            r"'instruction;output'. Is it separated by semicolons\?",
        ),
        ("a.csv", "instruction\toutput\np\ta\n", "separated by tabs"),
        ("a.json", json.dumps([{"instruction": p, "output": ["a"]} for p in "pq"]), r"\(2 rows: answer is a list, not"),
        ("a.json", json.dumps([{"instruction": "p", "output": 7}]), r"1 rows: answer is a number, not text\). Give ev"),
    ],
)
def test_files_that_cannot_be_used_say_what_they_look_like(tmp_path: Path, name: str, text: str, message: str):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        read_answers(tmp_path / name)


def test_prompts_without_an_answer_are_counted_once_by_reason(tmp_path: Path):
    outputs = [("p", "a"), ("p", None), ("q", None), ("q", None), ("r", ["a"]), ("s", {"text": "a"})]
    (tmp_path / "a.json").write_text(json.dumps([{"instruction": i, "output": o} for i, o in outputs]))
    found = read_answers(tmp_path / "a.json")
    assert found.dropped == {
        "answer missing": 1,
        "answer is a list, not text": 1,
        "answer is an object, not text": 1,
        "repeated rows": 2,
    }
    assert found.explained == {"q", "r", "s"}
