"""Plain rules of our own: at most 20 words, a list of four items, the right number, the first word.

Every rule is a pure function of the text. Leaves out: whether the rest of the answer is good, languages other than
English, spelled-out numbers ("seven"), fractions ("3/4") and abbreviations (a space after "e.g." ends a sentence).

    PLAIN["contains"].holds("Add a pinch of salt.", words=["salt"])  ->  True
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Mapping, Sequence

from sparring.data.instructions.rule import COUNT, Argument, Rule
from sparring.runtime.bounds import bounded

SECONDS = 2.0
"""of computing that a pattern may take for one text"""

# "don't", "ice-cold" and "3.5" are one word each; "red/blue" and "red,blue" are two.
_WORD = re.compile(r"[^\W_]+(?:(?:['’-]|(?<=[0-9])[.,](?=[0-9]))[^\W_]+)*")
_SENTENCE_END = re.compile(r"[.!?]+[\"'”’)*]*(?:\s+|$)")
_LIST_ITEM = re.compile(r"^[ \t]*(?:[-*•]|[0-9]{1,3}[.)])[ \t]+(.*\w.*)$", re.MULTILINE)
# A minus counts as a sign only where no digit or letter stands before it: "10-4" ends in 4.
_NUMBER = re.compile(r"(?<![\w.])-?(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?|(?<![\w.])-?\.[0-9]+")
_FENCE = re.compile(r"\A```(?:json)?[ \t]*\n(.*)\n```\Z", re.DOTALL)
_OUTER_MARKS = " \t\r\n\"'`*_“”‘’"
_LONGEST_COMMA_ITEM = 3  # words; keeps a sentence with commas from passing as a list


def count_words(text: str) -> int:
    """Number of words; bare punctuation and list dashes are not words."""
    return len(_WORD.findall(text))


def count_sentences(text: str) -> int:
    """Number of stretches ended by `.`, `!` or `?` before a space or the end.

    Stretches without a letter (the "1." of a list) do not count.
    """
    return sum(any(c.isalpha() for c in part) for part in _SENTENCE_END.split(text))


def _has_word(text: str, word: str) -> bool:
    """Whether `word` stands in `text` as a whole word, in any case."""
    return re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text, re.IGNORECASE) is not None


def _list_items(text: str, count: int) -> bool:
    """Exactly `count` bulleted or numbered lines, no two alike; other lines are allowed."""
    items = [item.strip().lower() for item in _LIST_ITEM.findall(text)]
    return len(items) == len(set(items)) == count


def _comma_list(text: str, count: int) -> bool:
    """One line of exactly `count` different short items between commas, and nothing else."""
    parts = text.strip(_OUTER_MARKS + ".").lower().split(",")
    items = [part.strip().removeprefix("and ").strip() for part in parts]
    short = all(0 < count_words(item) <= _LONGEST_COMMA_ITEM for item in items)
    one_line = not re.search(r"[\n:;!?]", text.strip())
    return short and one_line and len(items) == len(set(items)) == count


def _starts_with(text: str, phrase: str) -> bool:
    """The first words are `phrase`, quotes and case aside."""
    start = text.lstrip(_OUTER_MARKS)
    return re.match(rf"{re.escape(phrase)}(?!\w)", start, re.IGNORECASE) is not None


def _ends_with(text: str, phrase: str) -> bool:
    """The last words are `phrase`; quotes, case and closing punctuation aside."""
    marks = _OUTER_MARKS + ".!?"
    ending = re.escape(phrase.rstrip(marks))
    return re.search(rf"(?<!\w){ending}\Z", text.rstrip(marks), re.IGNORECASE) is not None


def last_number(text: str) -> float | None:
    """The last number in the text; "1,200", "$12.50" and "7." are read as numbers."""
    numbers = _NUMBER.findall(text)
    return float(numbers[-1].replace(",", "")) if numbers else None


def _ends_in(text: str, value: float) -> bool:
    last = last_number(text)
    return last is not None and math.isclose(last, value, abs_tol=1e-9)


def _bare(text: str) -> str:
    return " ".join(text.casefold().strip(_OUTER_MARKS + ".").split())


def _json_keys(text: str, keys: Sequence[str]) -> bool:
    """The answer is one JSON object, bare or in a code fence, with exactly these keys."""
    body = text.strip()
    fenced = _FENCE.match(body)
    try:
        parsed = json.loads(fenced.group(1) if fenced else body)
    except (ValueError, RecursionError):  # not JSON, or nested deeper than Python's stack
        return False
    return isinstance(parsed, dict) and set(parsed) == set(keys)


def _matches(text: str, pattern: str) -> bool:
    with bounded(f"the pattern {pattern[:60]!r}", SECONDS):
        return re.search(pattern, text) is not None


def _is_number(value: object) -> bool:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return abs(value) <= sys.float_info.max  # false for nan, inf and 10**400


def _is_phrase(value: object) -> bool:
    return isinstance(value, str) and count_words(value) > 0


def _is_pattern(value: object) -> bool:
    try:
        return isinstance(value, str) and value != "" and re.compile(value) is not None
    except re.error:
        return False


def _is_phrases(value: object) -> bool:
    return isinstance(value, list | tuple) and len(value) > 0 and all(map(_is_phrase, value))


_COUNT = {"count": COUNT}
_WORDS = {"words": Argument("a non-empty list of words", _is_phrases)}
_PHRASE = {"phrase": Argument("a non-empty string with a word in it", _is_phrase)}

PLAIN: Mapping[str, Rule] = {
    "one_word": Rule(lambda text: count_words(text) == 1),
    "yes_or_no": Rule(
        lambda text, answer: [word.lower() for word in _WORD.findall(text)] == [answer],
        {"answer": Argument('"yes" or "no"', lambda value: value in ("yes", "no"))},
    ),
    "max_words": Rule(lambda text, count: 0 < count_words(text) <= count, _COUNT),
    "min_words": Rule(lambda text, count: count_words(text) >= count, _COUNT),
    "max_sentences": Rule(lambda text, count: 0 < count_sentences(text) <= count, _COUNT),
    "min_sentences": Rule(lambda text, count: count_sentences(text) >= count, _COUNT),
    "list_items": Rule(_list_items, _COUNT),
    "comma_list": Rule(_comma_list, _COUNT),
    "contains": Rule(lambda text, words: all(_has_word(text, word) for word in words), _WORDS),
    "excludes": Rule(
        lambda text, words: not any(_has_word(text, word) for word in words) and count_words(text) > 0, _WORDS
    ),
    "starts_with": Rule(_starts_with, _PHRASE),
    "ends_with": Rule(_ends_with, _PHRASE),
    "lowercase": Rule(lambda text: any(map(str.isalpha, text)) and text == text.lower()),
    "uppercase": Rule(lambda text: any(map(str.isalpha, text)) and text == text.upper()),
    "number": Rule(_ends_in, {"value": Argument("a finite number", _is_number)}),
    "equals": Rule(
        lambda text, expected: _bare(text) == _bare(expected),
        {"expected": Argument("a non-empty string with a word in it", _is_phrase)},
    ),
    "regex": Rule(
        _matches,
        {"pattern": Argument("a regular expression", _is_pattern)},
    ),
    "json_keys": Rule(_json_keys, {"keys": Argument("a non-empty list of key names", _is_phrases)}),
}
