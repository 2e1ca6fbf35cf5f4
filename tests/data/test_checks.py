"""The rule checks on passing, failing and adversarial texts, and the embedded prompt files."""

import json
import re
from collections import Counter
from importlib import resources

import pytest

from sparring.data.checks import passes
from sparring.data.instructions.plain import PLAIN, count_sentences, count_words

CASES: list[tuple[dict[str, object], list[str], list[str]]] = [
    (
        {"rule": "one_word"},
        ["Blue", " blue.\n", "**Blue**", "well-known", "7"],
        ["It is blue", "blue/green", "blue,green", "...", "- "],
    ),
    (
        {"rule": "yes_or_no", "answer": "no"},
        ["No", "no.", " NO! "],
        ["Yes", "No, it is not", "not", "nope", "yes or no", "no no"],
    ),
    (
        {"rule": "max_words", "count": 3},
        ["one two three", "Don't stop now.", "- a - b - c"],
        ["one two three four", "one,two,three,four", "one/two/three/four", "!!!"],
    ),
    (
        {"rule": "min_words", "count": 3},
        ["one two three", "- one\n- two\n- three"],
        ["one two", "one - two", "one . . . ."],
    ),
    (
        {"rule": "max_sentences", "count": 2},
        [
            "One. Two.",
            "It costs 3.50 today. Fine",
            "No full stop at all",
            'He said "Stop!" Then he left.',
        ],
        ["One. Two. Three.", "Really? Yes! Good.", "...", "1. 2."],
    ),
    (
        {"rule": "min_sentences", "count": 2},
        ["One. Two.", "Why? Because", "One.\nTwo."],
        ["One.", "1. One", "Wait...", "See example.com for 3.5 more"],
    ),
    (
        {"rule": "list_items", "count": 2},
        ["- a\n- b", "1. a\n2. b", "Sure:\n\n1) a\n2) b", "  * a\n  * b\nDone.", "• a\n• b"],
        [
            "- a",
            "- a\n- b\n- c",
            "- a\n- a",
            "- a\n-",
            "a, b",
            "- a - b",
            "1.5 a\n2.5 b",
            "---\n***",
        ],
    ),
    (
        {"rule": "comma_list", "count": 3},
        ["red, blue, green", "Red, blue, and ice cream.", '"red,blue,green"\n'],
        [
            "red, blue",
            "red, blue, green, pink",
            "red, red, red",
            "red, , blue",
            "Here you are: red, blue, green",
            "red,\nblue,\ngreen",
            "I like red a lot, blue is nice, green",
        ],
    ),
    (
        {"rule": "contains", "words": ["salt", "water"]},
        ["Salt the water.", "WATER and (salt)"],
        ["salt", "salty watery soup", "saltwater"],
    ),
    (
        {"rule": "excludes", "words": ["hot"]},
        ["A dry place.", "A photo of a hotel"],
        ["It is hot.", "HOT!", "a hot-dog", "..."],
    ),
    (
        {"rule": "starts_with", "phrase": "First"},
        ["First, rinse it.", '"First" comes this', "\n**first** step"],
        ["Firstly, rinse it.", "The first step", "1. First"],
    ),
    (
        {"rule": "ends_with", "phrase": "Good luck!"},
        ["Try it. Good luck!", "try it. good luck", '"Good luck!" '],
        ["Good luck! Bye.", "Good", "Toogood luck!", "Good luck! :)"],
    ),
    ({"rule": "lowercase"}, ["all small, 3 words."], ["One capital", "123", "ALL"]),
    ({"rule": "uppercase"}, ["ALL BIG, 3 WORDS."], ["ALMOST ALl", "123", "small"]),
    (
        {"rule": "number", "value": 1200},
        ["1200", "It is 1,200.", "$1,200.00", "3 times 400 = 1200", "**1200**", "1200km"],
        ["1,201", "1200 or 13", "-1200", "twelve hundred", "12,00", "x1200"],
    ),
    (
        {"rule": "equals", "expected": "The  Blue Whale"},
        ["the blue whale", '"The Blue Whale."', " **The blue\nwhale** "],
        ["a blue whale", "The Blue Whale is it", "bluewhale"],
    ),
    (
        {"rule": "regex", "pattern": r"\b\d{4}-\d{2}\b"},
        ["In 2024-05 it rained."],
        ["In 24-05", "2024-055"],
    ),
    (
        {"rule": "json_keys", "keys": ["name", "age"]},
        ['{"name": "Bo", "age": 3}', '```json\n{"age": 3, "name": "Bo"}\n```'],
        [
            '{"name": "Bo"}',
            '{"name": "Bo", "age": 3, "more": 1}',
            "{'name': 'Bo', 'age': 3}",
            'Here: {"name": "Bo", "age": 3}',
            '["name", "age"]',
            "[" * 100_000,
            "1" * 5_000,
        ],
    ),
]
PASSING = [(check, text) for check, good, _ in CASES for text in good]
FAILING = [(check, text) for check, _, bad in CASES for text in bad]


def read_rows(name: str) -> list[dict]:
    text = resources.files("sparring").joinpath("data", name).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


PROMPTS = read_rows("prompts.jsonl")
GOLD = read_rows("gold.jsonl")


@pytest.mark.parametrize(("check", "text"), PASSING)
def test_text_that_keeps_the_rule_passes(check: dict[str, object], text: str):
    assert passes(check, text)


@pytest.mark.parametrize(("check", "text"), FAILING)
def test_text_that_breaks_the_rule_fails(check: dict[str, object], text: str):
    assert not passes(check, text)


def test_every_rule_has_cases():
    assert {check["rule"] for check, _, _ in CASES} == set(PLAIN)


@pytest.mark.parametrize("text", ["", "  \n\t"])
def test_empty_answer_passes_no_rule(text: str):
    assert not any(passes(check, text) for check, _, _ in CASES)


@pytest.mark.parametrize(
    ("text", "value"),
    [("-3", -3), ("10-4", 4), ("5 - 2", 2), ("0.5", 0.5), (".5", 0.5), ("6.", 6), ("9 apples", 9)],
)
def test_number_reads_signs_and_decimals(text: str, value: float):
    assert passes({"rule": "number", "value": value}, text)


def test_counts_are_those_a_reader_would_make():
    assert count_words("It's ice-cold: 3.5 degrees, isn't it?") == 6
    assert count_sentences("1. Stop! Do you see it? Yes, at 3.5 m.") == 3


@pytest.mark.parametrize("name", ["shout", None, 3, ["one_word"]])
def test_unknown_rule_names_the_rules_there_are(name: object):
    with pytest.raises(ValueError, match=r"unknown rule .*allowed: one_word, .*Set the check"):
        passes({"rule": name}, "text")


@pytest.mark.parametrize(
    "check",
    [
        {"rule": "max_words"},
        {"rule": "max_words", "count": 0},
        {"rule": "max_words", "count": True},
        {"rule": "max_words", "count": 2.0},
        {"rule": "max_words", "count": 2, "unit": "words"},
        {"rule": "one_word", "count": 1},
        {"rule": "contains", "words": "salt"},
        {"rule": "contains", "words": []},
        {"rule": "contains", "words": [""]},
        {"rule": "starts_with", "phrase": "..."},
        {"rule": "yes_or_no", "answer": "maybe"},
        {"rule": "yes_or_no", "answer": ["yes"]},
        {"rule": "number", "value": "3"},
        {"rule": "number", "value": float("nan")},
        {"rule": "number", "value": 10**400},
        {"rule": "json_keys", "keys": [1]},
    ],
)
def test_bad_arguments_are_refused_even_for_an_empty_answer(check: dict[str, object]):
    with pytest.raises(ValueError, match=rf"rule '{check['rule']}' got .*allowed"):
        passes(check, "")


def tokens(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))


def test_prompt_rows_have_the_documented_columns():
    columns = {"id", "split", "category", "prompt", "check"}
    assert all(set(row) == columns for row in PROMPTS)
    assert all(row["id"].rpartition("-")[0] == row["category"] for row in PROMPTS)


def test_prompt_splits_have_their_sizes():
    assert Counter(row["split"] for row in PROMPTS) == {"train": 400, "held_out": 120}


def test_prompt_ids_and_texts_are_unique():
    assert len({row["id"] for row in PROMPTS}) == len(PROMPTS)
    assert len({row["prompt"].strip().lower() for row in PROMPTS}) == len(PROMPTS)


def test_prompts_are_short_plain_text():
    for row in PROMPTS:
        assert 5 <= len(row["prompt"].split()) <= 45, row["id"]
        assert row["prompt"].isascii(), row["id"]


def test_every_check_of_the_prompts_is_valid():
    checked = [row for row in PROMPTS if row["check"] is not None]
    assert not any(passes(row["check"], "") for row in checked)
    assert Counter(row["split"] for row in checked) == {"train": 120, "held_out": 48}


def test_every_word_a_check_looks_for_is_stated_in_its_prompt():
    for row in PROMPTS:
        check = row["check"] or {}
        stated = [*check.get("words", []), *check.get("keys", []), check.get("phrase", "")]
        assert all(part.lower() in row["prompt"].lower() for part in stated), row["id"]


def test_no_held_out_prompt_resembles_a_train_prompt():
    train = [tokens(row["prompt"]) for row in PROMPTS if row["split"] == "train"]
    for row in PROMPTS:
        if row["split"] == "held_out":
            words = tokens(row["prompt"])
            assert max(len(words & other) / len(words | other) for other in train) <= 0.7, row["id"]


def test_gold_answers_belong_to_train_prompts_and_pass_their_checks():
    checks = {row["prompt"]: row["check"] for row in PROMPTS if row["split"] == "train"}
    assert len({row["prompt"] for row in GOLD}) == len(GOLD) == 110
    for row in GOLD:
        check = checks[row["prompt"]]
        assert check is None or passes(check, row["response"]), row["prompt"]
        assert row["response"].isascii()


def test_gold_covers_checked_prompts():
    checked = {row["prompt"] for row in PROMPTS if row["check"] is not None}
    assert sum(row["prompt"] in checked for row in GOLD) >= 25
