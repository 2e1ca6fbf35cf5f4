"""IFEval's 25 kinds of instruction under their public names and arguments (Zhou et al., 2023, 2311.07911).

What counts as a word, a section or a bullet point is what IFEval's published checkers count, quirks included: a text
whose language cannot be told passes as English, and a bold phrase is a highlighted section. Three things differ on
purpose: words to find are text and no patterns, a letter to count may be any character ("#"), and a reply that
exhausts Python's stack is no JSON. Leaves out: several readings of one answer (`checks.py`).

    IFEVAL["punctuation:no_comma"].holds("Short, sharp.")  ->  False
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence

from sparring.data.instructions import language as english
from sparring.data.instructions.rule import COUNT, Argument, Detail, Rule

LESS, AT_LEAST = "less than", "at least"
OPTIONS = ("My answer is yes.", "My answer is no.", "My answer is maybe.")
"""of which a constrained response holds one"""
DIVIDER, SEPARATOR = "***", "******"
"""between paragraphs, and between two responses"""
# After a single star, or a minus, that no other sign of the line precedes; the line after a lone star belongs to it.
_STAR_BULLET = re.compile(r"^[^\S\n]*\*[^*].*$", re.MULTILINE)
_DASH_BULLET = re.compile(r"^[^\S\n]*-", re.MULTILINE)
_PARAGRAPHS = re.compile(r"\s?\*\*\*\s?")
_POSTSCRIPTS = {"P.S.": r"p\.\s?s\.", "P.P.S": r"p\.\s?p\.\s?s"}
_HIGHLIGHT, _BOLD = re.compile(r"\*([^\n*]*)\*"), re.compile(r"\*\*([^\n*]*)\*\*")
_FENCES = ("```json", "```Json", "```JSON", "```")
_FIRST_WORD = re.compile(r"[^.,?!'\"]*")


def _compare(number: int, relation: str, bound: int) -> bool:
    return number < bound if relation == LESS else number >= bound


# ---------------------------------------------------------------- words and letters


def _finds(text: str, keyword: str) -> bool:
    return re.search(re.escape(keyword), text, re.IGNORECASE) is not None


def _has_keywords(text: str, keywords: Sequence[str]) -> bool:
    """Every keyword occurs, be it inside of a longer word."""
    return all(_finds(text, keyword) for keyword in keywords)


def _keyword_often(text: str, keyword: str, frequency: int, relation: str) -> bool:
    return _compare(len(re.findall(re.escape(keyword.strip()), text, re.IGNORECASE)), relation, frequency)


def _forbids(text: str, forbidden_words: Sequence[str]) -> bool:
    """None of the words occurs as a whole word."""
    return not any(re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text, re.IGNORECASE) for word in forbidden_words)


def _letter_often(text: str, letter: str, let_frequency: int, let_relation: str) -> bool:
    return _compare(text.lower().count(letter.lower()), let_relation, let_frequency)


def _capital_words(text: str, capital_frequency: int, capital_relation: str) -> bool:
    number = sum(token.isupper() for token in english.tokens(text))
    return _compare(number, capital_relation, capital_frequency)


def _language(text: str, language: str) -> bool:
    """Where no language can be told the instruction counts as obeyed."""
    return english.language(text) in (language, None)


def _capitals(text: str) -> bool:
    return text.isupper() and _language(text, "en")


def _lowercase(text: str) -> bool:
    return text.islower() and _language(text, "en")


# ---------------------------------------------------------------- lengths


def _words(text: str, num_words: int, relation: str) -> bool:
    return _compare(len(re.findall(r"\w+", text)), relation, num_words)


def _sentences(text: str, num_sentences: int, relation: str) -> bool:
    return _compare(english.count_sentences(text), relation, num_sentences)


def _paragraphs(text: str, num_paragraphs: int) -> bool:
    """Parts between `***`; an empty one is left out at either end and forbidden between others."""
    parts = [bool(part.strip()) for part in _PARAGRAPHS.split(text)]
    return all(parts[1:-1]) and sum(parts) == num_paragraphs


def _first_word_of_paragraph(text: str, num_paragraphs: int, nth_paragraph: int, first_word: str) -> bool:
    """Paragraphs are parted by an empty line; the place counts empty ones too, as IFEval does, the number does not."""
    parts = [part.strip() for part in text.split("\n\n")]
    filled, part = sum(map(bool, parts)), parts[nth_paragraph - 1 : nth_paragraph]
    if filled != num_paragraphs or nth_paragraph > filled or not part or not part[0]:
        return False
    word = part[0].split()[0].lstrip("'").lstrip('"')
    start = _FIRST_WORD.match(word)
    return start is not None and start.group().lower() == first_word.lower()


# ---------------------------------------------------------------- form


def _placeholders(text: str, num_placeholders: int) -> bool:
    """At least a number of [stretches] in square brackets, each within a line."""
    return sum(map(_bracketed, text.split("\n"))) >= num_placeholders


def _bracketed(line: str) -> int:
    """`[...]` from left to right, none inside of another; in one pass, as a pattern would not be."""
    count, place = 0, line.find("[")
    while place >= 0 and (close := line.find("]", place)) >= 0:
        count, place = count + 1, line.find("[", close)
    return count


def _postscript(text: str, postscript_marker: str) -> bool:
    marker = postscript_marker.strip()
    return re.search(_POSTSCRIPTS.get(marker, re.escape(marker.lower())), text.lower()) is not None


def _bullets(text: str, num_bullets: int) -> bool:
    return len(_STAR_BULLET.findall(text)) + len(_DASH_BULLET.findall(text)) == num_bullets


def _constrained(text: str) -> bool:
    return any(option in text for option in OPTIONS)


def _highlights(text: str, num_highlights: int) -> bool:
    """*This* and **this** count; two stars with nothing between do not."""
    stretches = [*_HIGHLIGHT.findall(text), *_BOLD.findall(text)]
    return sum(bool(stretch.strip()) for stretch in stretches) >= num_highlights


def _sections(text: str, section_spliter: str, num_sections: int) -> bool:
    return len(re.findall(rf"{re.escape(section_spliter.strip())}\s?\d+", text)) >= num_sections


def _json(text: str) -> bool:
    """The whole answer is JSON, in a code fence or not."""
    body = text.strip()
    for fence in _FENCES:
        body = body.removeprefix(fence)
    try:
        json.loads(body.removesuffix("```").strip())
    except (ValueError, RecursionError):  # not JSON, or nested deeper than Python's stack
        return False
    return True


def _title(text: str) -> bool:
    """A line has `<<words>>`: something between its first `<<` and its last `>>`."""
    return any(_titled(line) for line in text.split("\n"))


def _titled(line: str) -> bool:
    start, end = line.find("<<"), line.rfind(">>")
    return 0 <= start < end - 2 and bool(line[start:end].lstrip("<").rstrip(">").strip())


def _two_responses(text: str) -> bool:
    """Two different ones; an empty part is left out at either end and forbidden between others."""
    parts = [part.strip() for part in text.split(SEPARATOR)]
    filled = [part for part in parts if part]
    return all(parts[1:-1]) and len(filled) == 2 and filled[0] != filled[1]


def _repeats(text: str, prompt_to_repeat: str) -> bool:
    return text.strip().lower().startswith(prompt_to_repeat.strip().lower())


def _ends(text: str, end_phrase: str) -> bool:
    return text.strip().strip('"').lower().endswith(end_phrase.strip().lower())


def _quoted(text: str) -> bool:
    body = text.strip()
    return len(body) > 1 and body[0] == body[-1] == '"'


# ---------------------------------------------------------------- arguments


def _is_text(value: Detail) -> bool:
    return isinstance(value, str) and value.strip() != ""


def _is_texts(value: Detail) -> bool:
    return isinstance(value, list | tuple) and len(value) > 0 and all(map(_is_text, value))


def _is_letter(value: Detail) -> bool:
    return isinstance(value, str) and len(value) == 1 and not value.isspace()


def _is_language(value: Detail) -> bool:
    return isinstance(value, str) and value in english.languages()


def _nth_exists(num_paragraphs: int, nth_paragraph: int, **_: Detail) -> str | None:
    if nth_paragraph <= num_paragraphs:
        return None
    return f"nth_paragraph={nth_paragraph} is beyond num_paragraphs={num_paragraphs}"


_TEXT = Argument("a non-empty string", _is_text)
_TEXTS = Argument("a non-empty list of strings", _is_texts)
_WORD = Argument("a word without spaces and the marks . , ? ! ' \"", lambda value: _is_text(value) and _bare(value))
_LETTER = Argument("one character", _is_letter)
_RELATION = Argument(f'"{LESS}" or "{AT_LEAST}"', lambda value: value in (LESS, AT_LEAST))
_LANGUAGE = Argument("a language's code that langdetect knows, such as de, fr, hi", _is_language)


def _bare(value: Detail) -> bool:
    return re.fullmatch(r"[^\s.,?!'\"]+", str(value).strip()) is not None


def _rule(holds: Callable[..., bool], needs: tuple[str, ...] = (), **arguments: Argument) -> Rule:
    return Rule(holds, arguments, needs)


IFEVAL: Mapping[str, Rule] = {
    "keywords:existence": _rule(_has_keywords, keywords=_TEXTS),
    "keywords:frequency": _rule(_keyword_often, keyword=_TEXT, frequency=COUNT, relation=_RELATION),
    "keywords:forbidden_words": _rule(_forbids, forbidden_words=_TEXTS),
    "keywords:letter_frequency": _rule(_letter_often, letter=_LETTER, let_frequency=COUNT, let_relation=_RELATION),
    "language:response_language": _rule(_language, english.LANGDETECT, language=_LANGUAGE),
    "length_constraints:number_sentences": _rule(_sentences, english.NLTK, num_sentences=COUNT, relation=_RELATION),
    "length_constraints:number_paragraphs": _rule(_paragraphs, num_paragraphs=COUNT),
    "length_constraints:number_words": _rule(_words, num_words=COUNT, relation=_RELATION),
    "length_constraints:nth_paragraph_first_word": Rule(
        _first_word_of_paragraph,
        {"num_paragraphs": COUNT, "nth_paragraph": COUNT, "first_word": _WORD},
        consistent=_nth_exists,
    ),
    "detectable_content:number_placeholders": _rule(_placeholders, num_placeholders=COUNT),
    "detectable_content:postscript": _rule(_postscript, postscript_marker=_TEXT),
    "detectable_format:number_bullet_lists": _rule(_bullets, num_bullets=COUNT),
    "detectable_format:constrained_response": _rule(_constrained),
    "detectable_format:number_highlighted_sections": _rule(_highlights, num_highlights=COUNT),
    "detectable_format:multiple_sections": _rule(_sections, section_spliter=_TEXT, num_sections=COUNT),
    "detectable_format:json_format": _rule(_json),
    "detectable_format:title": _rule(_title),
    "combination:two_responses": _rule(_two_responses),
    "combination:repeat_prompt": _rule(_repeats, prompt_to_repeat=_TEXT),
    "startend:end_checker": _rule(_ends, end_phrase=_TEXT),
    "startend:quotation": _rule(_quoted),
    "change_case:capital_word_frequency": _rule(
        _capital_words, english.NLTK, capital_frequency=COUNT, capital_relation=_RELATION
    ),
    "change_case:english_capital": _rule(_capitals, english.LANGDETECT),
    "change_case:english_lowercase": _rule(_lowercase, english.LANGDETECT),
    "punctuation:no_comma": _rule(lambda text: "," not in text),
}
