"""Instructions that exclude each other are found, and those that only look so are not."""

from __future__ import annotations

import re

import pytest

from sparring.data.checks import UnknownCheck, check_of_row, parse_check
from sparring.data.instructions.contradictions import BOUNDS, contradiction
from sparring.data.instructions.ifeval import IFEVAL
from sparring.data.instructions.plain import PLAIN


def one(rule: str, **arguments: object) -> dict[str, object]:
    return {"rule": rule, **arguments}


UPPER, LOWER, NO_COMMA = one("uppercase"), one("change_case:english_lowercase"), one("punctuation:no_comma")


def words(number: int, relation: str) -> dict[str, object]:
    return one("length_constraints:number_words", num_words=number, relation=relation)


@pytest.mark.parametrize(
    ("instructions", "says"),
    [
        ([UPPER, LOWER], "'uppercase' demands at least 1 capital letters and 'change_case:english_lowercase' allows"),
        ([words(10, "at least"), words(5, "less than")], "at least 10 words and .* at most 4"),
        ([words(5, "less than"), words(5, "at least")], "at least 5 words and .* at most 4"),
        ([one("max_words", count=3), one("min_words", count=4)], "'min_words' demands at least 4 words"),
        ([one("one_word"), one("starts_with", phrase="Of course")], "'starts_with' demands at least 2 words"),
        ([one("json_keys", keys=["a", "b"]), NO_COMMA], "'json_keys' demands at least 1 commas"),
        ([NO_COMMA, one("startend:end_checker", end_phrase="Well, bye.")], "demands at least 1 commas"),
        ([one("contains", words=["Cat"]), one("keywords:forbidden_words", forbidden_words=["cat"])], "times 'cat'"),
        ([LOWER, one("detectable_format:multiple_sections", section_spliter="Day", num_sections=2)], "capital letters"),
        (
            [one("language:response_language", language="de"), LOWER],
            r"'language:response_language' and 'change_case:english_lowercase' demand different languages \(de, en\)",
        ),
        (
            [one("language:response_language", language=language) for language in ("de", "de", "fr")],
            r"'language:response_language' and 'language:response_language' demand different languages \(de, fr\)",
        ),
        (
            [one("detectable_format:number_bullet_lists", num_bullets=number) for number in (2, 3)],
            "at least 3 bullet points",
        ),
    ],
)
def test_contradictions(instructions, says):
    assert re.search(says, contradiction(instructions) or "")


def test_a_check_that_contradicts_itself_is_refused():
    with pytest.raises(UnknownCheck, match=r"cannot be used: 'lowercase' demands .* obeys both. Remove one of the two"):
        parse_check([one("lowercase"), UPPER])


@pytest.mark.parametrize(
    "instructions",
    [
        [words(10, "at least"), words(11, "less than")],
        [one("max_words", count=3), words(20, "at least")],  # two definitions of a word: "a-b-c-..." obeys
        [one("detectable_format:json_format"), NO_COMMA],
        [one("json_keys", keys=["a"]), NO_COMMA],
        [UPPER, one("startend:end_checker", end_phrase="the end")],  # case aside
        [one("keywords:frequency", keyword=word, frequency=2, relation="at least") for word in ("war", "peace")],
    ],
)
def test_what_can_be_obeyed_together_is_let_through(instructions):
    assert contradiction(instructions) is None


def test_every_bounded_rule_exists():
    assert set(BOUNDS) <= {*PLAIN, *IFEVAL}


def test_checks_of_several_forms():
    several = [{"rule": "lowercase"}, {"rule": "max_words", "count": 3}]
    assert parse_check(several) == several
    assert parse_check('[{"rule": "lowercase", "count": null}]') == [{"rule": "lowercase"}]
    assert parse_check({"rule": "lowercase"}) == {"rule": "lowercase"}
    assert parse_check([]) is None
    with pytest.raises(UnknownCheck, match="'lowercase' is no instruction"):
        parse_check(["lowercase"])


def test_ifevals_own_columns():
    names = ["punctuation:no_comma", "length_constraints:number_words"]
    hub = [{"num_words": None}, {"num_words": 300.0, "relation": "at least", "keywords": None}]
    row = {"instruction_id_list": names, "kwargs": hub}
    assert check_of_row(row, "check") == [one(names[0]), words(300, "at least")]
    assert check_of_row({**row, "check": {"rule": "one_word"}}, "check") == {"rule": "one_word"}
    for broken, says in (
        ({"kwargs": hub[:1]}, "lists of one length, not 2 and 1"),
        ({"kwargs": None}, "lists of one length, not 2 and None"),
        ({"kwargs": [{}, {"relation": "at least"}]}, r"got the arguments \['relation'\]"),
        ({"instruction_id_list": ["no_comma", names[1]]}, "unknown rule 'no_comma'"),
    ):
        with pytest.raises(UnknownCheck, match=says):
            check_of_row({**row, **broken}, "check")


def test_ifevals_own_rows_may_contradict_themselves():
    """Two of the 541 prompts do, and are scored all the same."""
    names = ["combination:repeat_prompt", "punctuation:no_comma"]
    assert check_of_row({"instruction_id_list": names, "kwargs": [{"prompt_to_repeat": "Well, go."}, {}]}, "check")
