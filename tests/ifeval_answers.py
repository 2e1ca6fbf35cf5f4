"""Answers made by code for IFEval's 25 kinds of instruction: near the bounds, and with what checkers stumble over.

instruction, text = answer("punctuation:no_comma", random.Random(0))
"""

from __future__ import annotations

import json
import re
from random import Random
from typing import Any

WORDS = (
    *("bread", "river", "Dr.", "U.S.", "e.g.", "i.e.", "a.m.", "NASA", "OK", "I", "don't", "state-of-the-art", "3.5"),
    *("J.", "café", "Straße", "№5", "snow_man"),
)
SENTENCES = (
    "The baker, who rose at 5 a.m., sold bread.",
    "Dr. Smith lives in the U.S. He is old.",
    "Prices rose by 3.5 percent in the second quarter",
    'She said "Stop!" and left?',
    "Is it far... Yes! No?! It is.",
    "He met J. S. Bach in St. Petersburg (see fig. 3). Then he slept.",
    "i like quiet mornings with a warm cup of tea and a good book.",
    "THE WHOLE TOWN CAME TO SEE THE OLD SHIP AND ITS CREW.",
    "Das ist ein schöner Tag, und wir gehen spazieren.",
    "Il fait beau aujourd'hui et nous allons nous promener.",
    "यह एक सुंदर दिन है और हम घूमने जा रहे हैं।",
    "Сегодня хороший день, и мы идём гулять.",
    "12345 67890 !!! ???",
    "...",
)
BULLETS = (
    "* one",
    "- two",
    "  * three",
    "*four",
    "**bold** start",
    "*",
    "-",
    "+ five",
    "1. six",
    "-- seven",
    "•8",
    "*\n",
)
STARS = (
    "*shine*",
    "**bold**",
    "***both***",
    "****",
    "**",
    "* loose *",
    "*cut\noff*",
    "**open",
    "*a**b*",
    "***",
    "******",
)
BRACKETS = ("[name]", "[]", "[", "]", "[[x]]", "[cut\noff]", "[a] [b]", "text [", "(round)")
TITLES = ("<<Song>>", "<< >>", "<<>>", "<<<deep>>>", "<<open", "shut>>", "<<a\nb>>", "<<>>>", "<x>", "<<a>> <<b>>")
POSTSCRIPTS = ("P.S. more", "p.s. less", "P. S. wide", "PS none", "P.P.S more", "P.P.S. dot", "P. P. S", "P.P.S", "P.S")
QUOTES = ('"', '"whole"', "“curly”", '""', "'", '"open', 'shut"')
JSONS = ('{"a": 1}', "[1, 2]", '"text"', "{'a': 1}", "{", "12", "NaN", "null", '{"a": "x,y"}', "```", "```json")
SECTIONS = ("Section 1", "SECTION 2", "Section1", "Section  3", "Section one", "PARAGRAPH 5", "Day 6Day 7")
OPTIONS = ("My answer is yes.", "My answer is no", "my answer is maybe.", "My answer is maybe.")
JOINTS = ("", " ", "\n", "\n\n", "\n \n", "\n\n\n", "\t", ", ", " *** ", "***", "\n***\n", "******", "\n*\n", "\r\n")
PIECES = (SENTENCES, WORDS, BULLETS, STARS, BRACKETS, TITLES, POSTSCRIPTS, QUOTES, JSONS, SECTIONS, OPTIONS)
FAVOURITES: dict[str, tuple[Any, ...]] = {
    "number_bullet_lists": (BULLETS,),
    "number_highlighted_sections": (STARS,),
    "number_placeholders": (BRACKETS,),
    "title": (TITLES,),
    "postscript": (POSTSCRIPTS,),
    "quotation": (QUOTES,),
    "json_format": (JSONS,),
    "multiple_sections": (SECTIONS,),
    "constrained_response": (OPTIONS,),
    "number_sentences": (SENTENCES, WORDS),
    "response_language": (SENTENCES,),
    "english_capital": (SENTENCES,),
    "english_lowercase": (SENTENCES,),
    "capital_word_frequency": (WORDS, SENTENCES),
}
LANGUAGES = ("en", "de", "fr", "hi", "ru")
RELATIONS = ("less than", "at least")


def text(kind: str, rng: Random) -> str:
    """Pieces with joints between, most of them of the kind's own sort."""
    short = kind.partition(":")[2]
    own = FAVOURITES.get(short, PIECES)
    parts = [
        rng.choice(rng.choice(own if rng.random() < 0.7 else PIECES)) for _ in range(rng.choice((0, 1, 2, 3, 5, 8)))
    ]
    joint = {"nth_paragraph_first_word": "\n\n", "number_paragraphs": "***"}.get(short) or rng.choice(JOINTS)
    made = "".join(part + (joint if rng.random() < 0.8 else rng.choice(JOINTS)) for part in parts)
    if short in ("english_capital", "english_lowercase") and rng.random() < 0.7:
        return made.upper() if short == "english_capital" else made.lower()
    return rng.choice((made, made, made, made.strip(), made.upper(), made.lower(), f'"{made}"', f"```\n{made}\n```"))


def arguments(kind: str, answer: str, rng: Random) -> dict[str, Any]:
    """Of one kind, with counts that the answer may just reach or miss."""
    count, relation, words = rng.choice((1, 1, 2, 3, 5, 8)), rng.choice(RELATIONS), answer.split() or ["none"]
    plain = [word for word in words if re.fullmatch(r"\w(?:[\w'-]*\w)?", word)]  # lm-eval takes a keyword for a pattern
    some = [rng.choice([*plain, "bread", "river", "in"]) for _ in range(rng.choice((1, 2)))]
    near = {"relation": relation, "num_words": max(1, len(answer.split()) + rng.choice((-1, 0, 0, 1)))}
    start = next((word for word in words if word.isalnum()), "the")
    by_kind: dict[str, dict[str, Any]] = {
        "keywords:existence": {"keywords": some},
        "keywords:frequency": {"keyword": some[0], "frequency": count, "relation": relation},
        "keywords:forbidden_words": {"forbidden_words": some},
        "keywords:letter_frequency": {
            "letter": rng.choice("aeiotnxE"),
            "let_frequency": count * rng.choice((1, 3)),
            "let_relation": relation,
        },
        "language:response_language": {"language": rng.choice(LANGUAGES)},
        "length_constraints:number_sentences": {"num_sentences": count, "relation": relation},
        "length_constraints:number_paragraphs": {"num_paragraphs": count},
        "length_constraints:number_words": near,
        "length_constraints:nth_paragraph_first_word": {
            "num_paragraphs": (parts := max(1, answer.count("\n\n") + rng.choice((0, 0, 1)))),
            "nth_paragraph": rng.choice((1, 1, parts)),
            "first_word": start.lower(),
        },
        "detectable_content:number_placeholders": {"num_placeholders": count},
        "detectable_content:postscript": {"postscript_marker": rng.choice(("P.S.", "P.P.S"))},
        "detectable_format:number_bullet_lists": {"num_bullets": count},
        "detectable_format:number_highlighted_sections": {"num_highlights": count},
        "detectable_format:multiple_sections": {
            "section_spliter": rng.choice(("Section", "SECTION", "PARAGRAPH", "Day")),
            "num_sections": count,
        },
        "combination:repeat_prompt": {
            "prompt_to_repeat": rng.choice((answer[:40], "Say it again.")).strip() or "Say it."
        },
        "startend:end_checker": {"end_phrase": rng.choice((answer[-30:], "It is.", "the end")).strip() or "It is."},
        "change_case:capital_word_frequency": {"capital_frequency": count, "capital_relation": relation},
    }
    return by_kind.get(kind, {})


def answer(kind: str, rng: Random) -> tuple[dict[str, Any], str]:
    """An instruction of that kind in IFEval's own form (without `rule`), and an answer to it."""
    made = text(kind, rng)
    return arguments(kind, made, rng), made


def as_row(kind: str, own: dict[str, Any]) -> dict[str, Any]:
    """A row of IFEval's own with this one instruction."""
    return json.loads(json.dumps({"key": 0, "prompt": "Answer.", "instruction_id_list": [kind], "kwargs": [own]}))
