"""IFEval's kinds of instruction on answers that obey, that do not, and that a careless checker would take wrongly."""

from __future__ import annotations

import pytest

from sparring.data.checks import obeyed, obeys, passes, readings
from sparring.data.instructions import language
from sparring.data.instructions.ifeval import IFEVAL

AT_LEAST, LESS = {"relation": "at least"}, {"relation": "less than"}
CASES: list[tuple[str, dict[str, object], list[str], list[str]]] = [
    ("keywords:existence", {"keywords": ["Cat", "c++"]}, ["cats like C++"], ["cat", "c++ only", "cat c+"]),
    (
        "keywords:frequency",
        {"keyword": "war", "frequency": 2, **AT_LEAST},
        ["War and war", "wars, warm"],
        ["war", "no"],
    ),
    ("keywords:frequency", {"keyword": "war", "frequency": 2, **LESS}, ["war", "peace"], ["war, war", "warm war"]),
    ("keywords:forbidden_words", {"forbidden_words": ["hot"]}, ["a hotel", "cold"], ["It is HOT.", "hot-dog"]),
    (
        "keywords:letter_frequency",
        {"letter": "E", "let_frequency": 2, "let_relation": "at least"},
        ["See", "Each one"],
        ["one", "bad"],
    ),
    (
        "keywords:letter_frequency",
        {"letter": "#", "let_frequency": 2, "let_relation": "at least"},
        ["#a #b"],
        ["#a", "aaaa"],
    ),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, ["a *** b", "***\na\n***\nb"], ["a", "a***\n***b"]),
    (
        "length_constraints:number_words",
        {"num_words": 3, **LESS},
        ["two words", "..."],
        ["one two three", "don't stop"],
    ),
    ("length_constraints:number_words", {"num_words": 3, **AT_LEAST}, ["ice-cold tea", "a b c"], ["a b"]),
    (
        "length_constraints:nth_paragraph_first_word",
        {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "And"},
        ["First.\n\nand so", 'First.\n\n"And," he said'],
        ["First.\nand so", "First.\n\nandy", "And\n\nfirst", "a\n\nand\n\nb", "a\n\n\n\nand"],
    ),
    ("detectable_content:number_placeholders", {"num_placeholders": 2}, ["[a] [b]", "[[a] []"], ["[a]", "[a\n] [b]"]),
    (
        "detectable_content:postscript",
        {"postscript_marker": "P.S."},
        ["Bye.\nP.S. More", "p. s. more"],
        ["PS more", "P.S"],
    ),
    ("detectable_content:postscript", {"postscript_marker": "P.P.S"}, ["P.P.S more", "p. p. s"], ["P.S. more"]),
    (
        "detectable_format:number_bullet_lists",
        {"num_bullets": 2},
        ["* a\n- b", "Here:\n\n  * a\n  *b", "-\n-"],
        ["* a", "* a\n* b\n* c", "**a** b\n* c", "1. a\n2. b", "*\n* b"],
    ),
    (
        "detectable_format:constrained_response",
        {},
        ["My answer is yes.", "Well. My answer is maybe."],
        ["my answer is yes.", "My answer is yes", "yes"],
    ),
    (
        "detectable_format:number_highlighted_sections",
        {"num_highlights": 2},
        ["*a* and *b*", "**a** **b**", "*a* **b**"],
        ["*a*", "**a**", "* * *b*", "*a\nb* *c"],
    ),
    (
        "detectable_format:multiple_sections",
        {"section_spliter": "Section", "num_sections": 2},
        ["Section 1 a Section 2 b", "Section1\nSection 3"],
        ["Section 1", "section 1 section 2", "Section one Section two"],
    ),
    (
        "detectable_format:json_format",
        {},
        ['{"a": 1}', '```json\n{"a": 1}\n```', "[1]", '"text"'],
        ["{'a': 1}", 'Here: {"a": 1}', "[" * 100_000],
    ),
    ("detectable_format:title", {}, ["<<Song>>", "A <<b>> c", "<<a>\n<<b>>"], ["<Song>", "<< >>", "<<a\nb>>", "<<>>"]),
    ("combination:two_responses", {}, ["a ****** b", "******\na\n******\nb"], ["a", "a******A******a", "a******a"]),
    ("combination:repeat_prompt", {"prompt_to_repeat": "Say hi. "}, ["SAY HI. Hi!"], ["Hi! Say hi.", "Say, hi."]),
    (
        "startend:end_checker",
        {"end_phrase": "The end."},
        ["So. the END.", '"The end."'],
        ["The end", "The end. X"],
    ),
    ("startend:quotation", {}, ['"a"', ' "a" b "c"\n'], ['"', "'a'", '"a', "“a”"]),
    ("punctuation:no_comma", {}, ["Short and sharp."], ["Short, sharp."]),
]
MORE: list[tuple[str, dict[str, object], list[str], list[str]]] = [
    ("language:response_language", {"language": "de"}, ["Das ist ein schöner Tag.", "123"], ["It is a fine day."]),
    (
        "length_constraints:number_sentences",
        {"num_sentences": 3, **LESS},
        ["Dr. Smith met J. S. Bach. They ate.", "One line\nand more"],
        ["One. Two. Three.", "One! Two? Three"],
    ),
    (
        "change_case:capital_word_frequency",
        {"capital_frequency": 2, "capital_relation": "at least"},
        ["I saw NASA", "A-B X", "U.S. and I"],
        ["I saw it", "iPhone"],
    ),
    (
        "change_case:english_capital",
        {},
        ["THE SHIP CAME HOME WITH ALL OF ITS CREW."],
        ["The ship came.", "123", "DAS IST EIN SCHÖNER TAG, UND WIR GEHEN HEUTE SPAZIEREN."],
    ),
    ("change_case:english_lowercase", {}, ["the ship came home with all of its crew."], ["The ship came home.", "123"]),
]


@pytest.mark.parametrize(("kind", "arguments", "good", "bad"), CASES)
def test_kinds_that_need_nothing(kind, arguments, good, bad):
    instruction = {"rule": kind, **arguments}
    assert [obeys(instruction, text) for text in (*good, *bad)] == [True] * len(good) + [False] * len(bad)
    assert not obeys(instruction, " \n")


@pytest.mark.parametrize(("kind", "arguments", "good", "bad"), MORE)
def test_kinds_that_need_packages(kind, arguments, good, bad):
    for module in IFEVAL[kind].needs:
        pytest.importorskip(module, reason="pip install 'sparring[ifeval]'")
    test_kinds_that_need_nothing(kind, arguments, good, bad)


def test_every_kind_has_cases():
    assert {kind for kind, *_ in (*CASES, *MORE)} == set(IFEVAL)
    assert len(IFEVAL) == 25


def test_a_language_is_the_same_each_time():
    pytest.importorskip("langdetect")
    torn = "ok no si da in de la an"  # langdetect alone answers it in several ways
    assert len({language.language(torn) for _ in range(20)}) == 1


@pytest.mark.parametrize("kind", [kind for kind, rule in IFEVAL.items() if rule.needs])
def test_a_package_that_is_missing_is_named_with_the_remedy(kind, monkeypatch):
    own = next(arguments for other, arguments, *_ in MORE if other == kind)
    monkeypatch.setattr("sparring.data.checks.missing", lambda modules: modules[0])
    with pytest.raises(ValueError, match=r"needs the package .* not installed: pip install 'sparring\[ifeval\]'"):
        obeys({"rule": kind, **own}, "text")


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        ("keywords:existence", {"keywords": "cat"}),
        ("keywords:existence", {"keywords": []}),
        ("keywords:letter_frequency", {"letter": "ab", "let_frequency": 1, "let_relation": "at least"}),
        ("length_constraints:number_words", {"num_words": 0, **AT_LEAST}),
        ("length_constraints:number_words", {"num_words": 5, "relation": "at most"}),
        ("length_constraints:number_words", {"num_words": 5}),
        ("length_constraints:nth_paragraph_first_word", {"num_paragraphs": 2, "nth_paragraph": 3, "first_word": "a"}),
        ("length_constraints:nth_paragraph_first_word", {"num_paragraphs": 2, "nth_paragraph": 1, "first_word": "a b"}),
        ("punctuation:no_comma", {"num_words": 5}),
        ("startend:end_checker", {"end_phrase": " "}),
    ],
)
def test_wrong_arguments_are_refused(kind, arguments):
    with pytest.raises(ValueError, match=rf"rule '{kind}' got .*(Correct|Add or remove)"):
        obeys({"rule": kind, **arguments}, "text")


def test_a_language_without_a_detector_is_refused():
    pytest.importorskip("langdetect")
    with pytest.raises(ValueError, match=r"language='tlh'; allowed: .* langdetect knows"):
        obeys({"rule": "language:response_language", "language": "tlh"}, "text")


def test_loose_verdicts_forgive_an_introduction_and_markdown():
    text = "Sure!\n**blue**\nBye."
    assert readings(text)[4:] == ["Sure!\n**blue**", "Sure!\nblue", "**blue**", "blue"]
    assert len(readings(text)) == 8
    check = [{"rule": "one_word"}, {"rule": "keywords:existence", "keywords": ["bye"]}, {"rule": "uppercase"}]
    assert obeyed(check, text) == [False, True, False]
    assert obeyed(check, text, loose=True) == [True, True, False]
    assert obeyed({"rule": "one_word"}, "**Sure!**", loose=True) == [True]  # cut, nothing is left of it


def test_all_instructions_must_be_obeyed():
    check = [{"rule": "lowercase"}, {"rule": "max_words", "count": 2}]
    assert passes(check, "two words")
    assert not passes(check, "Two words")
    assert not passes(check, "no more than two")
