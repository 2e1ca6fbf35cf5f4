"""Answer files: what cannot be used says what it looks like; every prompt that is left out is counted once."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparring.evaluation.answers import Answers, align, read_answers

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
    outputs += [("t", "\ud83d bad"), ("u \ud83d", "b")]
    (tmp_path / "a.json").write_text(json.dumps([{"instruction": i, "output": o} for i, o in outputs]))
    found = read_answers(tmp_path / "a.json")
    assert found.unanswered == {
        "q": "answer missing",
        "r": "answer is a list, not text",
        "s": "answer is an object, not text",
        "t": "answer with half a character (a lone surrogate, as a cut emoji leaves)",
    }
    assert found.unusable == {"repeated rows": 2, "half a character (a lone surrogate, as a cut emoji leaves)": 1}


def test_answers_and_instructions_may_be_messages(tmp_path: Path):
    user, said = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}
    called = {**said, "tool_calls": [{"name": "f"}]}
    rows = [
        {"prompt": json.dumps([user]), "response": [user, said]},
        {"prompt": "\n\nHuman: Why?\n\nAssistant:", "response": json.dumps([said])},
        {"prompt": [user, called, user], "response": "x"},
        {"prompt": "a", "response": [called]},
        {"prompt": "b", "response": "c", "tools": [{"name": "f"}]},
    ]
    (tmp_path / "a.json").write_text(json.dumps(rows))
    found = read_answers(tmp_path / "a.json")
    tools = 'tools: [{"type": "function", "function": {"name": "f"}}]\n\nuser: b'
    assert [text for text in found.texts if text.startswith("user: Hi\n\ntool_calls: ")] == [[*found.texts][2]]
    assert [*found.texts.values()] == ["Ho", "Ho", "x", "c"]
    assert found.texts[tools] == "c"
    assert found.messages["Why?"] == [{"role": "user", "content": "Why?"}]
    assert found.unanswered == {"a": "answer is a list, not text"}
    assert found.unusable == {}


def side(name: str, texts: str, unanswered: dict[str, str]) -> Answers:
    return Answers(name, dict.fromkeys(texts, "text"), unanswered, Counter({"repeated rows": 1}))


def test_a_prompt_that_neither_answered_lowers_its_own_reason_and_no_other():
    mine = side("mine", "pq", {"r": "answer missing", "s": "answer is a list, not text"})
    base = side("base", "pr", {"s": "answer missing"})
    assert align(mine, base, "pqrstu").left_out == {
        "no answer by base": 1,
        "answer missing (mine)": 1,
        "answered by neither": 3,
        "repeated rows (mine)": 1,
        "repeated rows (base)": 1,
    }


@given(st.lists(st.tuples(*[st.sampled_from(["text", "answer missing", "too long", ""])] * 2), min_size=1, max_size=8))
def test_every_prompt_that_was_asked_is_shared_or_left_out_once(states: list[tuple[str, str]]):
    sides = []
    for name, column in zip(("mine", "base"), zip(*states, ("text", "text"), strict=True), strict=True):
        found = {str(number): state for number, state in enumerate(column)}
        unanswered = {prompt: state for prompt, state in found.items() if state not in ("text", "")}
        sides.append(Answers(name, {p: p for p, state in found.items() if state == "text"}, unanswered, Counter()))
    pairs = align(*sides, [str(number) for number in range(len(states))])
    assert len(pairs.instructions) + pairs.left_out.total() == len(states) + 1
    assert pairs.left_out["too long (mine)"] == sum(state == ("too long", "text") for state in states)
