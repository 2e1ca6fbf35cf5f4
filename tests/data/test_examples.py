"""Users' data: every kind of file, plain and conversational, and what cannot be used is counted."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from conftest import load_examples, write_jsonl
from sparring.algorithms.algorithm import DataFacts, build_algorithm
from sparring.data import checks
from sparring.data.examples import TAKERS, Example, stream_examples
from sparring.data.rows import read_rows
from sparring.models.messages import turns
from sparring.oracles.labelled import read_labelled
from sparring.recipe.datasets import ColumnsConfig, DatasetConfig

PAIRS = [
    {"prompt": "Say ant", "chosen": "ant!", "rejected": "no"},
    {"prompt": "Say bée", "chosen": "line\u2028bée", "rejected": "no,\nno"},
]
USER = [{"role": "user", "content": "Say ant"}]


def reply(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(exist_ok=True)
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows), encoding="utf-8")
    elif path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        with path.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, rows[0])
            writer.writeheader()
            writer.writerows(rows)
    return path


def load(path: Path | str, *roles: str, **options: Any) -> tuple[list[Example], Counter[str]]:
    return load_examples(DatasetConfig(path=str(path), **options), roles)


@pytest.mark.parametrize("ending", [".jsonl", ".json", ".parquet", ".csv"])
def test_every_kind_of_file_gives_the_same_examples(ending: str, tmp_path: Path) -> None:
    examples, dropped = load(write(tmp_path / f"rows{ending}", PAIRS), "chosen", "rejected")
    assert [e.messages[0]["content"] for e in examples] == ["Say ant", "Say bée"]
    assert [e.responses for e in examples] == [{k: r[k] for k in ("chosen", "rejected")} for r in PAIRS]
    assert not dropped
    again, _ = load(write(tmp_path / "again.jsonl", PAIRS), "chosen", "rejected")
    assert [e.id for e in again] == [e.id for e in examples]


@pytest.mark.parametrize("ending", [".jsonl", ".json", ".csv"])
def test_a_byte_order_mark_is_no_part_of_the_data(ending: str, tmp_path: Path) -> None:
    path = write(tmp_path / f"rows{ending}", PAIRS)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert len(load(path, "chosen", "rejected")[0]) == 2


@pytest.mark.parametrize("ending", [".jsonl", ".json", ".parquet"])
def test_conversational_columns(ending: str, tmp_path: Path) -> None:
    plain = {"prompt": USER, "chosen": reply("ant!"), "rejected": reply("no")}
    implicit = {"chosen": USER + reply("ant!"), "rejected": USER + reply("no")}
    found = []
    for row in (PAIRS[0], plain, implicit):
        (example,), dropped = load(write(tmp_path / f"r{ending}", [row]), "chosen", "rejected")
        assert not dropped
        found.append(example)
    assert found[0] == found[1] == found[2]


def test_several_turns_are_kept(tmp_path: Path) -> None:
    talk = [
        {"role": "system", "content": "S"},
        *USER,
        *reply("ant"),
        {"role": "user", "content": "Again"},
    ]
    (example,), _ = load(write_jsonl(tmp_path / "r.jsonl", [{"gold": talk + reply("ant ant")}]), "gold")
    assert example.messages == talk
    assert example.responses == {"gold": "ant ant"}


def test_columns_are_mapped(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "r.jsonl", [{"question": "Q", "best": "A", "rule": {"rule": "one_word"}}])
    columns = ColumnsConfig(prompt="question", gold="best", check="rule")
    (example,), _ = load(path, "gold", columns=columns)
    assert (example.messages[0]["content"], example.responses) == ("Q", {"gold": "A"})
    assert example.check == {"rule": "one_word"}


@pytest.mark.parametrize("ending", [".jsonl", ".json", ".parquet", ".csv"])
def test_checks_survive_every_kind_of_file(ending: str, tmp_path: Path) -> None:
    """A Parquet column fills in the other rules' arguments with nulls; a CSV cell is JSON text."""
    checks: list[dict[str, Any] | None] = [{"rule": "max_words", "count": 3}, {"rule": "lowercase"}, None]
    text = ending == ".csv"
    rows = [{"prompt": f"{i}", "check": c and (json.dumps(c) if text else c)} for i, c in enumerate(checks)]
    assert [e.check for e in load(write(tmp_path / f"r{ending}", rows))[0]] == checks


def test_an_unknown_check_refuses_the_data(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "r.jsonl", [{"prompt": "p", "check": {"rule": "max_word", "count": 3}}])
    with pytest.raises(ValueError, match="unknown rule 'max_word'"):
        load(path)


def test_split_and_limit(tmp_path: Path) -> None:
    rows = [{"prompt": f"{i}", "split": "test" if i % 3 else "train"} for i in range(9)]
    path = write_jsonl(tmp_path / "r.jsonl", [*rows, {"prompt": "no split"}])
    assert [e.messages[0]["content"] for e in load(path, split="train")[0]] == ["0", "3", "6"]
    assert [e.messages[0]["content"] for e in load(path, split="test", limit=2)[0]] == ["1", "2"]
    with pytest.raises(ValueError, match=r"no row of split 'tran'; it has train, test"):
        load(path, split="tran")
    with pytest.raises(ValueError, match="no column 'split'"):
        load(write_jsonl(tmp_path / "s.jsonl", [{"prompt": "a"}]), split="train")


def test_drops_are_counted_by_reason(tmp_path: Path) -> None:
    good = {"prompt": "p", "chosen": "c", "rejected": "r"}
    rows = [
        good,
        good,
        {**good, "prompt": None},
        {**good, "prompt": ""},
        {**good, "prompt": "  \n"},
        {**good, "chosen": None},
        {**good, "rejected": " "},
        {**good, "rejected": "c"},
        {**good, "rejected": "a cut \ud83d"},
        {**good, "prompt": "\udc00 another"},
    ]
    examples, dropped = load(write_jsonl(tmp_path / "r.jsonl", rows), "chosen", "rejected")
    assert len(examples) == 1
    assert dropped == {
        "duplicate": 1,
        "the prompt is null": 1,
        "the prompt is empty": 2,
        "the chosen response is null": 1,
        "the response is empty": 1,
        "chosen and rejected are identical": 1,
        "half a character (a lone surrogate, as a cut emoji leaves)": 2,
    }


def test_the_shipped_sets() -> None:
    train, dropped = load("sparring:prompts", split="train")
    held, held_dropped = load("sparring:prompts", split="held_out")
    assert not dropped
    assert not held_dropped
    assert len(train) > 100
    assert len(held) >= 64
    prompts = [{e.messages[0]["content"] for e in part} for part in (train, held)]
    assert not prompts[0] & prompts[1]
    assert any(e.check for e in held)
    gold, dropped = load("sparring:gold", "gold")
    assert not dropped
    assert len(gold) > 50
    assert all(e.responses["gold"].strip() for e in gold)
    with pytest.raises(ValueError, match=r"'sparring:golden'.*Shipped: prompts, gold"):
        load("sparring:golden")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("r.jsonl", b'{"prompt": "a"}\n\n{"prompt": "b"\n', r"line 3: not valid JSON"),
        ("r.jsonl", b'{"prompt": "a"}\n[1]\n', r"line 2: expected an object"),
        ("r.jsonl", b'{"prompt": "\xff"}\n', r"not UTF-8 \(byte 12\)"),
        ("r.csv", b"prompt\nn\xe4\n", r"not UTF-8 \(byte 8\)"),
        ("r.csv", b'prompt\n"open', r"cannot be read: unexpected end of data"),
        ("r.json", b'{"prompt": "a"}', r"list of objects"),
        ("r.json", b"[1, 2", r"cannot be read"),
        ("r.parquet", b"PAR1 no", r"cannot be read"),
        ("r.txt", b"hello", r"unknown ending.*\.jsonl"),
        ("r.jsonl", b"", r"r.jsonl' is empty"),
        ("r.csv", b"prompt\n", r"it has no rows"),
        ("r.jsonl", b'{"prompt": ""}\n', r"no usable example: 1 x the prompt is empty"),
        (
            "r.jsonl",
            b'{"text": "a", "id": 1}\n',
            r"no column 'prompt'; it has 'text', 'id'.*columns:",
        ),
    ],
)
def test_files_that_cannot_be_read_are_named(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        load(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("path", ["none.jsonl", "./none", "/none/rows.csv"])
def test_a_missing_file(path: str) -> None:
    with pytest.raises(ValueError, match=r"is not a file\. Give a \.jsonl"):
        load(path)


def test_a_folder_or_pattern_without_data(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("data")
    with pytest.raises(ValueError, match=r"the folder '.*' holds no data file"):
        load(tmp_path)
    with pytest.raises(ValueError, match=r"no file matches '.*\*\.jsonl'"):
        load(tmp_path / "*.jsonl")


def test_shards_are_one_set(tmp_path: Path) -> None:
    rows = [{"prompt": f"{i}"} for i in range(7)]
    for index, part in enumerate((rows[:2], rows[2:3], rows[3:])):
        write(tmp_path / f"sub/part-{index}.parquet", part)
        write(tmp_path / f"part-{index}.jsonl", part)
    for path in (tmp_path / "sub", tmp_path / "*.jsonl", tmp_path / "s*/**/*.parquet"):
        assert [e.messages[0]["content"] for e in load(path)[0]] == list("0123456")
    assert len(load(tmp_path / "sub", limit=4)[0]) == 4


def test_a_folder_with_splits(tmp_path: Path) -> None:
    """As fetched from the hub: data/SPLIT-00000-of-00002.parquet."""
    for split in ("train", "test"):
        for index in range(2):
            rows = [{"prompt": f"{split} {index}"}]
            write(tmp_path / f"data/{split}-0000{index}-of-00002.parquet", rows)
    assert [e.messages[0]["content"] for e in load(tmp_path)[0]] == ["train 0", "train 1"]
    assert [e.messages[0]["content"] for e in load(tmp_path, split="test")[0]] == ["test 0", "test 1"]
    with pytest.raises(ValueError, match=r"holds 'test', 'train' and no split 'tests'\. Say which"):
        load(tmp_path, split="tests")


def test_what_datasets_saved(tmp_path: Path) -> None:
    import datasets

    parts = {split: datasets.Dataset.from_list([{"prompt": f"{split} {i}"} for i in range(600)]) for split in "ab"}
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "both")
    parts["a"].save_to_disk(tmp_path / "one", num_shards=2)
    assert load(tmp_path / "both", split="b")[0][599].messages[0]["content"] == "b 599"
    assert [e.messages[0]["content"] for e in load(tmp_path / "one")[0]] == [f"a {i}" for i in range(600)]
    with pytest.raises(ValueError, match="holds 'a', 'b'"):
        load(tmp_path / "both")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rejected": 5}, "row 2, field 'rejected': a number, but text or messages in the rows before it"),
        ({"prompt": {"text": "p"}}, "row 2, field 'prompt': an object, but text or messages"),
        (None, r"row 2, field 'chosen': no such column, but text or .*has 'prompt', 'better'"),
    ],
)
def test_a_form_that_changes_half_way_is_refused(change: Any, message: str, tmp_path: Path) -> None:
    other = {**PAIRS[1], **change} if change else {"prompt": "p", "better": "b"}
    write_jsonl(tmp_path / "a.jsonl", [*PAIRS, {**PAIRS[0], "chosen": None}])
    second = write_jsonl(tmp_path / "b.jsonl", [{**PAIRS[0], "prompt": "again"}, other])
    with pytest.raises(ValueError, match=message) as caught:
        load(tmp_path / "*.jsonl", "chosen", "rejected")
    assert repr(str(second)) in str(caught.value)


TALK = "\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: Say\nant\n\nAssistant:"
TURNS = [
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello"},
    {"role": "user", "content": "Say\nant"},
]


@pytest.mark.parametrize(
    "row",
    [
        pytest.param({"chosen": f"{TALK} ant!", "rejected": f"{TALK} no"}, id="hh-rlhf"),
        pytest.param(
            {"prompt": TALK, "answers": [{"answer": a, "rank": r} for a, r in (("no", 7.0), ("eh", 2), ("ant!", 1))]},
            id="nectar",
        ),
        pytest.param({"prompt": TURNS, "answers": ["ant!", "eh", "no"]}, id="best first"),
        pytest.param(
            {"prompt": "Hi", "chosen": TURNS + reply("ant!"), "rejected": TURNS + reply("no")}, id="binarised"
        ),
    ],
)
def test_public_forms_of_preferences(row: dict[str, Any], tmp_path: Path) -> None:
    (example,), dropped = load(write(tmp_path / "r.parquet", [row]), "chosen", "rejected")
    assert not dropped
    assert example.messages == TURNS
    assert example.responses == {"chosen": "ant!", "rejected": "no"}


@pytest.mark.parametrize(
    "row", [{"messages": TURNS + reply("ant")}, {"prompt": "Hi", "messages": TURNS + reply("ant")}]
)
def test_messages_hold_a_gold_answer_and_a_prompt(row: dict[str, Any], tmp_path: Path) -> None:
    path = write(tmp_path / "r.jsonl", [row])
    (example,), _ = load(path, "gold")
    assert (example.messages, example.responses) == (TURNS, {"gold": "ant"})
    (held_out,), _ = load(path)
    assert held_out.messages == (TURNS if "prompt" not in row else TURNS[:1])


def test_transcripts_hold_held_out_prompts(tmp_path: Path) -> None:
    (example,), _ = load(write(tmp_path / "r.jsonl", [{"chosen": f"{TALK} ant!", "rejected": f"{TALK} no"}]))
    assert (example.messages, example.responses) == (TURNS, {})


def test_conversations_that_do_not_fit_together_are_counted(tmp_path: Path) -> None:
    good = {"prompt": "Hi", "chosen": TURNS + reply("ant!"), "rejected": TURNS + reply("no")}
    rows = [good, {**good, "rejected": TURNS[:1] + reply("no")}, {**good, "prompt": "Ho"}]
    examples, dropped = load(write(tmp_path / "r.jsonl", rows), "chosen", "rejected")
    assert len(examples) == 1
    assert dropped == {"the responses answer different prompts": 1, "the conversation does not hold the prompt": 1}
    ranked = [["a", "b"], ["a"], None, [{"answer": "a", "rank": 1}, {"answer": "b", "rank": 1}], [{"answer": "a"}] * 2]
    rows = [{"prompt": f"{i}", "answers": answers} for i, answers in enumerate(ranked)]
    examples, dropped = load(write(tmp_path / "l.jsonl", rows), "chosen", "rejected")
    assert [e.responses for e in examples] == [{"chosen": "a", "rejected": "b"}]
    assert dropped == {
        "fewer than two ranked answers": 2,
        "all answers have one rank": 1,
        "a ranked answer needs 'answer', and 'rank' or a score": 1,
    }


def test_odd_lists_are_counted(tmp_path: Path) -> None:
    def ranked(rank: Any) -> list[Any]:
        return [{"answer": "a", "rank": rank}, {"answer": "b", "rank": 2}]

    odd = ["words", *map(ranked, ([1], "nan", "1e999"))]
    rows = [{"prompt": str(i), "answers": answers} for i, answers in enumerate([["a", "b"], *odd])]
    examples, dropped = load(write(tmp_path / "r.jsonl", rows), "chosen", "rejected")
    assert [e.responses for e in examples] == [{"chosen": "a", "rejected": "b"}]
    assert dropped == {
        "the ranked answers are text, but not a JSON list": 1,
        "the rank of an answer is no number (first: row 3, 'rank' = [1])": 3,
    }
    with pytest.raises(ValueError, match="1 x the ranked answers are no list"):
        load(write(tmp_path / "five.jsonl", [{"prompt": "1", "answers": 5}]), "chosen", "rejected")
    with pytest.raises(ValueError, match="a message needs 'role' and 'content'"):
        load(write(tmp_path / "m.jsonl", [{"messages": ["a"]}]))


def test_ranked_answers_in_a_csv_cell(tmp_path: Path) -> None:
    path = write(tmp_path / "r.csv", [{"prompt": "Say ant", "answers": json.dumps(["ant!", "an ant", "no"])}])
    (example,), _ = load(path, "chosen", "rejected")
    assert example.responses == {"chosen": "ant!", "rejected": "no"}


def test_blank_csv_rows_and_trailing_commas_are_nothing(tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    path.write_text("prompt,gold\nHi,a,\n  \n,\nHo,b\n", encoding="utf-8")
    examples, dropped = load(path, "gold")
    assert [e.responses["gold"] for e in examples] == ["a", "b"]
    assert not dropped


@pytest.mark.parametrize("row", ["Hi", "Hi,a,b,c"])
def test_csv_rows_of_another_width_are_refused(row: str, tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    path.write_text(f"prompt,chosen,rejected\nHi,a,b\n{row}\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"r\.csv', line 3: [14] fields, but the header names 3"):
        load(path, "chosen", "rejected")


def test_an_unknown_check_names_its_place(tmp_path: Path) -> None:
    path = write(tmp_path / "r.jsonl", [{"prompt": "a"}, {"prompt": "b", "check": {"name": "nothing"}}])
    with pytest.raises(ValueError, match=r"r\.jsonl', row 2, field 'check': the check .* cannot be used"):
        load(path)


def test_a_hub_name_that_cannot_be_fetched() -> None:
    with pytest.raises(ValueError, match=r"'nobody/no-set-v1\.0' is neither a file nor a data set.*spelling"):
        load("nobody/no-set-v1.0")


def said(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "content": text}


SYSTEM, RATE = said("system", "Be brief."), said("user", "Rate it")


@pytest.mark.parametrize(
    ("prompt", "before", "messages"),
    [
        pytest.param([SYSTEM, *USER], USER, [SYSTEM, *USER], id="begins after the system message"),
        pytest.param([*TURNS], [TURNS[2]], TURNS, id="holds the last turn only"),
        pytest.param([SYSTEM, TURNS[0]], TURNS, [SYSTEM, *TURNS], id="begins with the end and goes on"),
        pytest.param([SYSTEM], USER, [SYSTEM, *USER], id="follows the system message"),
        pytest.param(TURNS[:2], [TURNS[2]], TURNS, id="follows an earlier answer"),
        pytest.param("Say ant", [SYSTEM, *USER], [SYSTEM, *USER], id="repeats it after a system message"),
        pytest.param([SYSTEM, *USER], [], [SYSTEM, *USER], id="is the answer alone"),
    ],
)
def test_a_prompt_beside_conversations_keeps_every_turn_once(
    prompt: Any, before: list[Any], messages: list[Any], tmp_path: Path
) -> None:
    row = {"prompt": prompt, "chosen": before + reply("ant"), "rejected": before + reply("no")}
    (example,), dropped = load(write(tmp_path / "r.jsonl", [row]), "chosen", "rejected")
    assert (example.messages, example.responses, dropped) == (messages, {"chosen": "ant", "rejected": "no"}, {})
    (pair,), _ = read_labelled(str(tmp_path / "r.jsonl"))
    assert turns(pair.comparison.prompt) == messages


def test_conversations_that_answer_something_else_than_the_prompt_are_counted(tmp_path: Path) -> None:
    other = [said("user", "Say bee")]
    rows = [
        {"prompt": USER, "chosen": reply("ant"), "rejected": reply("no")},
        {"prompt": TURNS, "chosen": TURNS[:1] + reply("ant"), "rejected": TURNS[:1] + reply("no")},
        {"prompt": [SYSTEM, *USER], "chosen": [said("system", "Be long."), *USER, *reply("a")], "rejected": reply("b")},
        {"prompt": USER, "chosen": USER + reply("ant"), "rejected": other + reply("no")},
        {"prompt": TURNS, "chosen": reply("ant"), "rejected": TURNS[:1] + TURNS + reply("no")},
    ]
    examples, dropped = load(write(tmp_path / "r.jsonl", rows), "chosen", "rejected")
    assert len(examples) == 1
    assert dropped == {"the conversation does not hold the prompt": 3, "the responses answer different prompts": 1}
    assert read_labelled(str(tmp_path / "r.jsonl"))[1] == dropped


SAYS_MORE = {
    "the assistant message holds 'function_call' beside its text": {"function_call": {"name": "weather"}},
    "the assistant message holds 'reasoning_content' beside its text": {"reasoning_content": "Two and two."},
    "the assistant message holds 'thinking' beside its text": {"thinking": "Hm."},
    "the assistant message holds 'images' beside its text": {"images": ["a.png"]},
    "the assistant message has a part that is no text (image_url)": {
        "content": [{"type": "text", "text": "See"}, {"type": "image_url", "image_url": {"url": "a.png"}}]
    },
    "the assistant message has a part that is no text (thinking)": {
        "content": [{"type": "thinking", "thinking": "Hm."}, {"type": "text", "text": "4"}]
    },
    "the assistant message has no text": {"content": None},
}


@pytest.mark.parametrize("place", ["answer", "prompt"])
def test_what_messages_say_beside_their_text_is_counted_and_never_left_out(place: str, tmp_path: Path) -> None:
    good = {"chosen": USER + reply("ant"), "rejected": USER + reply("no")}
    rows: list[dict[str, Any]] = [good]
    for more in SAYS_MORE.values():
        odd = {**said("assistant", "Let me look."), **more}
        before = [*USER, odd, RATE] if place == "prompt" else USER
        rows.append(
            {"chosen": [*before, *(reply("ant") if place == "prompt" else [odd])], "rejected": before + reply("no")}
        )
    path = write(tmp_path / "r.jsonl", rows)
    for examples, dropped in (load(path, "chosen", "rejected"), read_labelled(str(path))):
        assert len(examples) == 1
        assert dropped == dict.fromkeys(SAYS_MORE, 1)
    golds = [{"messages": row["chosen"]} for row in rows]
    assert load(write(tmp_path / "m.jsonl", golds), "gold")[1] == dict.fromkeys(SAYS_MORE, 1)


def test_empty_fields_and_parts_of_text_are_text(tmp_path: Path) -> None:
    nothing = {"tool_calls": None, "reasoning_content": "", "images": [], "function_call": {"name": None}, "weight": 1}
    parts = [{"type": "text", "text": "an", "image_url": None}, {"type": "text", "text": "t", "image_url": None}]
    chosen = [{**USER[0], **nothing}, {"role": "assistant", "content": parts, **nothing}]
    row = {"tools": "[]", "images": None, "chosen": chosen, "rejected": USER + reply("no")}
    (example,), dropped = load(write(tmp_path / "r.jsonl", [row]), "chosen", "rejected")
    assert (example.messages, example.responses["chosen"], dropped) == (USER, "ant", {})


@pytest.mark.parametrize("column", ["images", "image", "functions"])
def test_rows_with_functions_or_images_beside_the_prompt_are_counted(column: str, tmp_path: Path) -> None:
    rows = [{**PAIRS[0], column: None}, {**PAIRS[1], column: [{"name": "weather"}]}]
    path = write(tmp_path / "r.jsonl", rows)
    for found, dropped in (load(path, "chosen", "rejected"), load(path), read_labelled(str(path))):
        assert len(found) == 1
        assert dropped == {f"the row has {column!r} beside its prompt": 1}


TALKS = {"prompt": [SYSTEM, *USER], "chosen": reply("ant"), "rejected": reply("no")}


def test_json_text_of_messages_is_read_as_messages(tmp_path: Path) -> None:
    text = {name: json.dumps(value) for name, value in TALKS.items()}
    whole = {name: json.dumps([SYSTEM, *USER, *TALKS[name]]) for name in ("chosen", "rejected")}
    for name, row in (("r.csv", text), ("w.csv", whole), ("r.jsonl", text), ("w.parquet", whole)):
        (example,), dropped = load(write(tmp_path / name, [row]), "chosen", "rejected")
        assert (example.messages, example.responses, dropped) == (
            TALKS["prompt"],
            {"chosen": "ant", "rejected": "no"},
            {},
        )
        (pair,), _ = read_labelled(str(tmp_path / name))
        assert turns(pair.comparison.prompt) == TALKS["prompt"]
    python = {name: str(value) for name, value in TALKS.items()}
    examples, dropped = load(write(tmp_path / "p.csv", [text, python]), "chosen", "rejected")
    assert (len(examples), dropped) == (1, {"text that looks like messages, but is not JSON": 1})
    code = {"prompt": "Write JSON.", "chosen": '[{"name": "ant"}]', "rejected": '{"role": "user", "content": "x"}'}
    (example,), _ = load(write(tmp_path / "c.jsonl", [code]), "chosen", "rejected")
    assert example.responses == {"chosen": code["chosen"], "rejected": code["rejected"]}


def test_columns_that_datasets_stores_as_json_are_decoded(tmp_path: Path) -> None:
    import datasets

    rows = [{**TALKS, "parts": reply("x")}, {**TALKS, "prompt": USER, "parts": None}]
    features = {name: datasets.Json() for name in TALKS} | {"parts": datasets.List(datasets.Json())}
    made = datasets.Dataset.from_list(rows, features=datasets.Features(features))
    made.save_to_disk(tmp_path / "saved")
    made.to_parquet(tmp_path / "r.parquet")
    for path in (tmp_path / "saved", tmp_path / "r.parquet"):
        assert read_rows(DatasetConfig(path=str(path))) == rows
        assert [e.messages for e in load(path, "chosen", "rejected")[0]] == [TALKS["prompt"], USER]


def test_transcripts_beside_their_prompt_are_conversations(tmp_path: Path) -> None:
    rows = [
        {"prompt": prompt, "chosen": f"{TALK} ant!", "rejected": f"{TALK} no"} for prompt in (TALK, "Say\nant", "Play")
    ]
    examples, _ = load(write(tmp_path / "r.jsonl", rows), "chosen", "rejected")
    assert [e.responses["chosen"] for e in examples] == ["ant!", f"{TALK} ant!"]  # the first two are one example
    assert examples[0].messages == TURNS


def test_nan_is_nothing(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text('{"prompt": "a", "gold": "b"}\n{"prompt": "c", "gold": NaN}\n{"prompt": NaN, "gold": "d"}\n')
    assert load(path, "gold")[1] == {"the gold response is null": 1, "the prompt is null": 1}


def test_a_name_chooses_the_folder_of_a_configuration(tmp_path: Path) -> None:
    for name in ("preference", "feedback"):
        write(tmp_path / name / "train.jsonl", [{"prompt": name}])
        write(tmp_path / name / "test.jsonl", [{"prompt": f"{name} test"}])
    assert [e.messages[0]["content"] for e in load(tmp_path, name="preference")[0]] == ["preference"]
    assert [e.messages[0]["content"] for e in load(tmp_path, name="feedback", split="test")[0]] == ["feedback test"]
    with pytest.raises(ValueError, match=r"several configurations: 'feedback', 'preference'\. Say which under name:"):
        load(tmp_path)
    with pytest.raises(ValueError, match=r"name = 'other', but the folder .* holds 'feedback', 'preference'"):
        load(tmp_path, name="other")
    with pytest.raises(ValueError, match=r"name = '\.\.', but the folder"):
        load(tmp_path / "feedback", name="..")


@pytest.mark.parametrize("field", ["name", "revision"])
def test_fields_of_hub_sets_are_refused_where_they_would_choose_nothing(field: str, tmp_path: Path) -> None:
    file = write(tmp_path / "train.jsonl", PAIRS)
    for path in (file, tmp_path / "*.jsonl", "sparring:prompts"):
        with pytest.raises(ValueError, match=rf"{field} = 'x' with .*it would choose nothing"):
            load(path, **{field: "x"})
    with pytest.raises(ValueError, match=r"revision = 'x' with .* which is a folder"):
        load(tmp_path, revision="x")


def test_shards_that_cannot_be_read_are_not_left_out(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", PAIRS)
    (tmp_path / "b.jsonl.zst").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"files that cannot be read here: b\.jsonl\.zst"):
        load(tmp_path)


def test_long_csv_fields_are_read_and_errors_name_the_line(tmp_path: Path) -> None:
    rows = [{"prompt": "Say ant", "gold": "ant"}, {"prompt": "word " * 30000, "gold": "b"}]
    assert len(load(write(tmp_path / "r.csv", rows), "gold")[0]) == 2
    (tmp_path / "b.csv").write_text('prompt,gold\na,b\n"c\nc",d\n"e"f,g\n')
    with pytest.raises(ValueError, match=r"b\.csv', line 5: cannot be read"):
        load(tmp_path / "b.csv", "gold")
    (tmp_path / "d.csv").write_text("prompt,gold,gold\na,b,c\n")
    with pytest.raises(ValueError, match=r"d\.csv' has two columns 'gold'"):
        load(tmp_path / "d.csv", "gold")


def test_what_is_not_read_is_counted(tmp_path: Path) -> None:
    rows = [
        {"prompt": "a", "gold": "b", "system": "Be brief.", "source": "x"},
        {"prompt": [{**USER[0], "name": "Ann"}], "gold": "c", "system": ""},
        {"prompt": "d", "gold": [{**reply("e")[0], "weight": 0}], "system": None},
    ]
    dropped, unread = Counter[str](), Counter[str]()
    config = DatasetConfig(path=str(write_jsonl(tmp_path / "r.jsonl", rows)))
    assert len(list(stream_examples(config, ("gold",), dropped, unread))) == 2
    assert unread == {"'system'": 1, "the messages' field 'name'": 1}
    assert dropped == {"the response has weight 0: it is not to be learned from": 1}


def test_ifevals_columns_are_a_check_and_kinds_of_other_sets_are_told(tmp_path):
    names = ["punctuation:no_comma", "count:unheard_of"]
    rows = [{"prompt": name, "instruction_id_list": [name], "kwargs": [{}]} for name in names]
    config = DatasetConfig(path=str(write_jsonl(tmp_path / "rows.jsonl", rows)))
    unread: Counter[str] = Counter()
    examples = list(stream_examples(config, (), Counter(), unread))
    assert [example.check for example in examples] == [[{"rule": names[0]}], None]
    assert unread == {"'instruction_id_list'": 1}


def test_a_check_whose_package_is_missing_is_never_dropped(tmp_path, monkeypatch):
    """It had counted as a kind of another set, so that its prompts went without a check."""
    monkeypatch.setattr(checks, "missing", lambda needs: next(iter(needs), None))
    row = {"instruction_id_list": ["language:response_language"], "kwargs": [{"language": "de"}]}
    config = DatasetConfig(path=str(write_jsonl(tmp_path / "rows.jsonl", [{"prompt": "Say ant", **row}])))
    message = r"row 1, field 'instruction_id_list': .* needs the package 'langdetect', which is not installed: pip"
    with pytest.raises(ValueError, match=message):
        list(stream_examples(config, (), Counter()))


# ---------------------------------------------------------------- unpaired answers

LABELLED = [
    {"prompt": "Say ant", "completion": "ant!", "label": True},
    {"prompt": "Say ant", "completion": "no", "label": False},
    {"prompt": "Say bee", "completion": "bee!", "label": True},
    {"prompt": "Say bee", "completion": "what?", "label": False},
    {"prompt": "Say ant", "completion": "an ant", "label": True},
]
UNPAIRED = ("desirable", "undesirable", "mismatched")


@pytest.mark.parametrize("ending", [".jsonl", ".parquet", ".csv"])
def test_unpaired_answers_have_the_role_of_their_label(ending: str, tmp_path: Path) -> None:
    examples, dropped = load(write(tmp_path / f"rows{ending}", LABELLED), *UNPAIRED[:2])
    assert [e.responses for e in examples] == [
        {"desirable" if row["label"] else "undesirable": row["completion"]} for row in LABELLED
    ]
    assert not dropped


def test_the_mismatched_answer_is_the_last_to_another_prompt(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", LABELLED)
    examples, _ = load(path, *UNPAIRED)
    assert [e.responses.get("mismatched") for e in examples] == [None, None, "no", "no", "what?"]
    assert [e.id for e in examples] == [e.id for e in load(path, *UNPAIRED[:2])[0]]


def test_labels_that_are_none_are_counted(tmp_path: Path) -> None:
    rows = [{**LABELLED[0], "label": label} for label in (1, 0, None)]
    examples, dropped = load(write(tmp_path / "rows.jsonl", rows), *UNPAIRED[:2])
    assert [list(e.responses) for e in examples] == [["desirable"], ["undesirable"]]
    assert dropped == {"the label is neither true nor false (first: row 3, 'label' = None)": 1}
    rows = [{**LABELLED[0], "label": label} for label in ("TRUE", "maybe")]
    _, dropped = load(write(tmp_path / "text.csv", rows), *UNPAIRED[:2])
    assert dropped == {"the label is neither true nor false (first: row 2, 'label' = 'maybe')": 1}


def test_conversations_with_a_label(tmp_path: Path) -> None:
    row = {"prompt": USER, "completion": reply("ant!"), "label": False}
    (example,), _ = load(write(tmp_path / "rows.jsonl", [row]), *UNPAIRED)
    assert (example.messages, example.responses) == (USER, {"undesirable": "ant!"})


BOTH, GOLD = ("chosen", "rejected"), ("gold",)
ANSWERED = [*USER, {"role": "assistant", "content": "ant"}]
TAKEN = [
    ({"prompt": "a", "chosen": "x", "rejected": "y"}, GOLD, "pairs, which dpo, simpo, orpo and others take"),
    (
        {"prompt": "a", "answers": ["x", "y"]},
        GOLD,
        "lists of answers, whose best and worst dpo, simpo, orpo and others",
    ),
    ({"prompt": "a", "completion": "x", "label": True}, BOTH, "unpaired answers with a label, which kto takes"),
    ({"prompt": "a", "completion": "x", "score": 3}, GOLD, "rated answers, which kto takes with a threshold, and dpo"),
    ({"prompt": "a", "gold": "x"}, BOTH, "gold answers, which spin, space, t_spin and tpaw take"),
    ({"messages": ANSWERED, "label": True}, BOTH, "conversations with a label, which kto takes"),
    ({"conversations": ANSWERED}, BOTH, "conversations, whose last answers spin, space, t_spin and tpaw take"),
    ({"messages": ANSWERED}, UNPAIRED, "conversations, whose last answers spin, space, t_spin and tpaw take"),
    ({"prompt": "a"}, UNPAIRED, "prompts alone, which inpo, sppo and others take with an oracle"),
]


@pytest.mark.parametrize(("row", "roles", "kind"), TAKEN)
def test_rows_of_another_kind_say_which_methods_take_them(
    row: dict[str, Any], roles: tuple[str, ...], kind: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=rf"has no column .*These rows are {kind}.*Or name yours under columns"):
        load(write(tmp_path / "rows.jsonl", [row]), *roles)


@pytest.mark.parametrize(
    ("kind", "roles"),
    [("pairs", BOTH), ("rated", BOTH), ("labels", UNPAIRED), ("gold", GOLD), ("oracle", ())],
)
def test_methods_that_messages_name_take_such_data(kind: str, roles: tuple[str, ...]) -> None:
    assert len(TAKERS) == 5
    for name in TAKERS[kind].replace(" and ", ", ").split(", "):
        steps = build_algorithm({"name": name}).steps(0, DataFacts(100))
        assert {role for step in steps for role in step.columns()} == set(roles), name


@pytest.mark.parametrize(
    "row",
    [
        {"chosen": "The sky is blue", "rejected": "The sky is red"},
        {"conversations": USER, "chosen": reply("a")[0], "rejected": reply("b")[0]},
    ],
)
def test_pairs_without_a_prompt_say_that_it_is_missing(row: dict[str, Any], tmp_path: Path) -> None:
    message = r"no column 'prompt', and no prompt stands in 'chosen' or 'rejected'.*Name the prompt's column under"
    with pytest.raises(ValueError, match=message) as caught:
        load(write(tmp_path / "rows.jsonl", [row]), *BOTH)
    assert "These rows are" not in str(caught.value)


SHAREGPT = [{"from": "system", "value": "Be brief."}, {"from": "human", "value": "Say ant"}]
SPOKEN = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Say ant"}]


def test_turns_of_sharegpt_are_messages(tmp_path: Path) -> None:
    row = {"conversations": [*SHAREGPT, {"from": "gpt", "value": "ant!"}]}
    (example,), dropped = load(write(tmp_path / "rows.jsonl", [row]), *GOLD)
    assert (example.messages, example.responses) == (SPOKEN, {"gold": "ant!"})
    assert not dropped
    (example,), _ = load(tmp_path / "rows.jsonl")
    assert example.messages == SPOKEN
    other = {"conversations": [*SHAREGPT, {"from": "function_call", "value": "{}"}, row["conversations"][-1]]}
    _, dropped = load(write(tmp_path / "tools.jsonl", [row, other]), *GOLD)
    assert dropped == {"a turn is from 'function_call', which is none of human, gpt, system, user, assistant": 1}
    pair = {"conversations": SHAREGPT, "chosen": row["conversations"][-1], "rejected": {"from": "gpt", "value": "no"}}
    columns = ColumnsConfig(prompt="conversations")
    (example,), _ = load(write(tmp_path / "pairs.jsonl", [pair]), *BOTH, columns=columns)
    assert (example.messages, example.responses) == (SPOKEN, {"chosen": "ant!", "rejected": "no"})


def test_a_text_beside_a_conversation_has_a_reason_of_its_own(tmp_path: Path) -> None:
    row = {"chosen": ANSWERED, "rejected": "no"}
    with pytest.raises(ValueError, match="1 x one response is a conversation with its prompt, another text"):
        load(write(tmp_path / "rows.jsonl", [row]), *BOTH)
    assert load(write(tmp_path / "beside.jsonl", [{"prompt": USER, **row}]), *BOTH)[0][0].responses["rejected"] == "no"


def test_whole_conversations_with_a_label(tmp_path: Path) -> None:
    rows = [{"messages": ANSWERED, "label": False}]
    (example,), _ = load(write(tmp_path / "rows.jsonl", rows), *UNPAIRED)
    assert (example.messages, example.responses) == (USER, {"undesirable": "ant"})


def test_unpaired_rows_and_pairs_are_told_apart(tmp_path: Path) -> None:
    labelled, pairs = write(tmp_path / "labelled.jsonl", LABELLED), write(tmp_path / "pairs.jsonl", PAIRS)
    with pytest.raises(ValueError, match=r"no column 'chosen'.*unpaired answers with a label, which kto takes"):
        load(labelled, "chosen", "rejected")
    with pytest.raises(ValueError, match=r"no column 'completion'.*These rows are pairs, which dpo"):
        load(pairs, *UNPAIRED)
    with pytest.raises(ValueError, match=r"no column 'label'.*columns: \{prompt: ..., completion: ..., label: ...\}"):
        load(write(tmp_path / "bare.jsonl", [{"prompt": "Say ant", "completion": "ant"}]), *UNPAIRED)
    columns = ColumnsConfig(completion="text", label="good")
    rows = [{"prompt": row["prompt"], "text": row["completion"], "good": row["label"]} for row in LABELLED]
    assert len(load(write(tmp_path / "named.jsonl", rows), *UNPAIRED, columns=columns)[0]) == len(rows)
