"""Instructions that no answer can obey together: capitals and lower case, at least 10 words and less than 5.

Each instruction bounds some counts of a text (words, commas, capital letters); two that leave no number between them
contradict each other. Only what is certain is found: counts of two definitions, such as IFEval's words and the plain
rules', are never compared. Leaves out: instructions that are merely hard together.

    contradiction([{"rule": "uppercase"}, {"rule": "lowercase"}])
    ->  "'uppercase' demands at least 1 capital letters and 'lowercase' allows at most 0: no answer obeys both"
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from sparring.data.instructions.ifeval import LESS, OPTIONS
from sparring.data.instructions.plain import count_words

COMMAS, CAPITALS, SMALL = "commas", "capital letters", "small letters"
PLAIN_WORDS, PLAIN_SENTENCES, ITEMS = "words (by the plain rules)", "sentences (by the plain rules)", "list items"
WORDS, SENTENCES, CAPITAL_WORDS, BULLETS = "words", "sentences", "words in capitals", "bullet points"
PARAGRAPHS, PARTS = "paragraphs between ***", "paragraphs between empty lines"


class Bound(NamedTuple):
    """An instruction allows from `least` to `most` of what is counted."""

    what: str
    least: float = 0
    most: float = math.inf


Arguments = Mapping[str, Any]


def contradiction(instructions: Sequence[Mapping[str, Any]]) -> str | None:
    """Words on two instructions that exclude each other; None where no two do."""
    bounds = [(str(one["rule"]), bound) for one in instructions for bound in _bounds(one)]
    for low, demanded in bounds:
        for high, allowed in bounds:
            if demanded.what == allowed.what and demanded.least > allowed.most:
                return (
                    f"{low!r} demands at least {demanded.least:g} {demanded.what} and {high!r} allows at most "
                    f"{allowed.most:g}: no answer obeys both"
                )
    return _other_language(instructions)


def _other_language(instructions: Sequence[Mapping[str, Any]]) -> str | None:
    """Two languages for one answer; both cases of IFEval are English ones."""
    english = {"change_case:english_capital", "change_case:english_lowercase"}
    asked = [
        (str(one["rule"]), "en" if one["rule"] in english else str(one["language"]))
        for one in instructions
        if one["rule"] in english or one["rule"] == "language:response_language"
    ]
    other = next(((rule, language) for rule, language in asked if language != asked[0][1]), None)
    if other is None:
        return None
    return f"{asked[0][0]!r} and {other[0]!r} demand different languages ({asked[0][1]}, {other[1]})"


def _bounds(instruction: Arguments) -> list[Bound]:
    return BOUNDS.get(str(instruction["rule"]), lambda _: [])(instruction)


def _related(what: str, number: str, relation: str = "relation") -> Callable[[Arguments], list[Bound]]:
    """`less than` or `at least` a number."""
    return lambda arguments: [_bound(what, arguments[relation], arguments[number])]


def _bound(what: str, relation: str, number: int) -> Bound:
    return Bound(what, most=number - 1) if relation == LESS else Bound(what, least=number)


def _exactly(what: str, number: str) -> Callable[[Arguments], list[Bound]]:
    return lambda arguments: [Bound(what, arguments[number], arguments[number])]


def _commas(argument: str) -> Callable[[Arguments], list[Bound]]:
    return lambda arguments: [Bound(COMMAS, _text(arguments[argument]).count(","))]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else " ".join(map(str, value))


def _cases(text: str) -> list[Bound]:
    """Of a text that must stand in the answer as it is."""
    capitals, small = sum(map(str.isupper, text)), sum(map(str.islower, text))
    return [Bound(CAPITALS, capitals), Bound(SMALL, small), Bound(COMMAS, text.count(","))]


def _json_keys(arguments: Arguments) -> list[Bound]:
    keys = list(arguments["keys"])
    return [*_cases(_text(keys))[:2], Bound(COMMAS, len(set(keys)) - 1)]


def _present(argument: str) -> Callable[[Arguments], list[Bound]]:
    return lambda arguments: [Bound(_occurrences(word), 1) for word in arguments[argument]]


def _absent(argument: str) -> Callable[[Arguments], list[Bound]]:
    return lambda arguments: [Bound(_occurrences(word), most=0) for word in arguments[argument]]


def _occurrences(word: str) -> str:
    """Of a word, whole or not: where "cat" must and must not occur, "cats" would obey, which is never meant."""
    return f"times {word.strip().lower()!r}"


def _keyword(arguments: Arguments) -> list[Bound]:
    return [_bound(_occurrences(arguments["keyword"]), arguments["relation"], arguments["frequency"])]


def _letter(arguments: Arguments) -> list[Bound]:
    what = f"times the letter {arguments['letter'].lower()!r}"
    return [_bound(what, arguments["let_relation"], arguments["let_frequency"])]


_LOWER = [Bound(CAPITALS, most=0), Bound(SMALL, 1), Bound(CAPITAL_WORDS, most=0)]
_UPPER = [Bound(SMALL, most=0), Bound(CAPITALS, 1), Bound(CAPITAL_WORDS, 1)]
BOUNDS: Mapping[str, Callable[[Arguments], list[Bound]]] = {
    "one_word": lambda _: [Bound(PLAIN_WORDS, 1, 1)],
    "yes_or_no": lambda _: [Bound(PLAIN_WORDS, 1, 1)],
    "max_words": lambda arguments: [Bound(PLAIN_WORDS, 1, arguments["count"])],
    "min_words": lambda arguments: [Bound(PLAIN_WORDS, arguments["count"])],
    "max_sentences": lambda arguments: [Bound(PLAIN_SENTENCES, 1, arguments["count"])],
    "min_sentences": lambda arguments: [Bound(PLAIN_SENTENCES, arguments["count"])],
    "list_items": _exactly(ITEMS, "count"),
    "comma_list": lambda arguments: [Bound(COMMAS, arguments["count"] - 1)],
    "contains": _present("words"),
    "excludes": _absent("words"),
    "starts_with": lambda arguments: [Bound(PLAIN_WORDS, count_words(arguments["phrase"]))],
    "ends_with": lambda arguments: [Bound(PLAIN_WORDS, count_words(arguments["phrase"]))],
    "lowercase": lambda _: _LOWER,
    "uppercase": lambda _: _UPPER,
    "json_keys": _json_keys,
    "keywords:existence": lambda arguments: [*_present("keywords")(arguments), *_commas("keywords")(arguments)],
    "keywords:frequency": _keyword,
    "keywords:forbidden_words": _absent("forbidden_words"),
    "keywords:letter_frequency": _letter,
    "length_constraints:number_sentences": _related(SENTENCES, "num_sentences"),
    "length_constraints:number_paragraphs": _exactly(PARAGRAPHS, "num_paragraphs"),
    "length_constraints:number_words": _related(WORDS, "num_words"),
    "length_constraints:nth_paragraph_first_word": _exactly(PARTS, "num_paragraphs"),
    "detectable_format:number_bullet_lists": _exactly(BULLETS, "num_bullets"),
    "detectable_format:constrained_response": lambda _: _cases(OPTIONS[1])[:2],
    "detectable_format:multiple_sections": lambda arguments: _cases(arguments["section_spliter"].strip()),
    "combination:repeat_prompt": _commas("prompt_to_repeat"),
    "startend:end_checker": _commas("end_phrase"),
    "change_case:capital_word_frequency": _related(CAPITAL_WORDS, "capital_frequency", "capital_relation"),
    "change_case:english_capital": lambda _: _UPPER,
    "change_case:english_lowercase": lambda _: _LOWER,
    "punctuation:no_comma": lambda _: [Bound(COMMAS, most=0)],
}
"""what an instruction's arguments bound"""
