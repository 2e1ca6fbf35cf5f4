"""Did the training see the benchmark? Exact and n-gram overlap between training prompts and a benchmark's.

Texts are compared as lower-case words. A benchmark's prompt is *exact* when a training prompt has the same words, and
*overlapping* when at least `share` of its n-grams of words occur in training prompts (a prompt of fewer than n words
can only be exact). Shared n-grams may be a template that both use, so examples are shown beside the counts. Training
rows are read once, whatever their number; only the benchmark's n-grams are kept in memory. Leaves out: paraphrases,
translations, and answers that were trained on.

    find_overlap(["Why is the sky blue?"], ["why is the sky blue"], n=8, share=0.5).exact
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from sparring.data.rows import data_files, read_rows
from sparring.data.text import words
from sparring.models.messages import Message, conversation, decoded, read_transcript
from sparring.recipe.sections import DatasetConfig
from sparring.runtime.layout import TRAIN, is_run, refuse_folder_of_runs

COLUMNS = ("prompt", "instruction", "question", "turns", "query", "sentence", "messages", "problem", "text")
"""names of a prompt's column, in training data and in the benchmarks' own files; the first that is there counts"""
Gram = tuple[str, ...]
"""words of a text, in order"""


@dataclass(frozen=True, slots=True)
class Match:
    """A benchmark's prompt, and the training prompt that shares most with it."""

    row: int
    """in the benchmark, from 0"""
    train_row: int
    share: float
    """of the benchmark prompt's n-grams that occur in any training prompt; 1 where it is exact"""
    exact: bool
    prompt: str
    train_prompt: str


@dataclass(frozen=True, slots=True)
class Overlap:
    """How many of a benchmark's prompts the training prompts hold."""

    prompts: int
    exact: int
    overlapping: int
    """exact ones included"""
    touched: int
    """prompts with any n-gram in common"""
    short: int
    """prompts of fewer than n words, for which only exact matches count"""
    matches: list[Match]
    """the overlapping prompts, strongest first"""


class Prompts(NamedTuple):
    """The prompts of a data set or a benchmark."""

    texts: list[str]
    column: str
    dropped: Counter[str]
    """rows left out, by reason"""
    files: list[Path]
    """every file of this machine that was read; none for a shipped or a hub data set"""


def find_overlap(train: Sequence[str], bench: Sequence[str], n: int = 8, share: float = 0.5) -> Overlap:
    """The benchmark's prompts that training prompts hold: by their words, or at least `share` of their n-grams."""
    normal = [tuple(words(text)) for text in bench]
    grams = [set(_grams(tokens, n)) for tokens in normal]
    with_gram, with_words = defaultdict[Gram, list[int]](list), defaultdict[Gram, list[int]](list)
    for index, tokens in enumerate(normal):
        for gram in grams[index]:
            with_gram[gram].append(index)
        if tokens:
            with_words[tokens].append(index)
    seen: list[set[Gram]] = [set() for _ in bench]
    best: list[tuple[int, int]] = [(0, -1)] * len(bench)
    exact: dict[int, int] = {}
    counted: set[frozenset[Gram]] = set()
    for row, text in enumerate(train):
        tokens = tuple(words(text))
        for index in with_words.pop(tokens, ()):
            exact[index] = row
        shared = frozenset(gram for gram in _grams(tokens, n) if gram in with_gram)
        if not shared or shared in counted:  # a template that all rows and all prompts have is counted once
            continue
        counted.add(shared)
        hits: Counter[int] = Counter()
        for gram in shared:
            for index in with_gram[gram]:
                seen[index].add(gram)
                hits[index] += 1
        for index, count in hits.items():
            best[index] = max(best[index], (count, row), key=lambda pair: pair[0])
    shares = [1.0 if i in exact else len(seen[i]) / len(grams[i]) if grams[i] else 0.0 for i in range(len(bench))]
    matches = [
        Match(i, row, shares[i], i in exact, bench[i], train[row])
        for i in range(len(bench))
        if shares[i] >= share
        for row in [exact.get(i, best[i][1])]
    ]
    return Overlap(
        prompts=len(bench),
        exact=len(exact),
        overlapping=len(matches),
        touched=sum(x > 0 for x in shares),
        short=grams.count(set()),
        matches=sorted(matches, key=lambda match: (-match.exact, -match.share, match.row)),
    )


def _grams(tokens: Sequence[str], n: int) -> Iterator[Gram]:
    return (tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1))


def read_prompts(path: str, split: str | None = None, column: str | None = None) -> Prompts:
    """The prompts of a run's training data, of a data set, or of a benchmark's file; without `column` it is guessed.

    Raises:
        ValueError: it cannot be read, has no known column or no prompt; or it holds runs, and is none itself.
    """
    run = Path(path).expanduser() / TRAIN
    if not run.is_file():
        _refuse_unread_runs(Path(path).expanduser())
    config = DatasetConfig(path=str(run) if run.is_file() else path, split=split)
    rows = read_rows(config)
    # A run's column of texts holds the system message and the roles too.
    names = (column,) if column else ("messages", *COLUMNS) if run.is_file() else COLUMNS
    name = next((name for name in names if rows and name in rows[0]), None)
    if name is None:
        has = ", ".join(map(repr, rows[0])) if rows else "no rows"
        raise ValueError(f"{path!r}: no column {' or '.join(map(repr, names))}; it has {has}. Give --column.")
    texts, dropped = list[str](), Counter[str]()
    for row in rows:
        try:
            text = _text(row.get(name))
        except ValueError as error:
            dropped[str(error)] += 1
            continue
        if text:
            texts.append(text)
        else:
            dropped["prompt missing or empty"] += 1
    if not texts:
        raise ValueError(f"{path!r}: no row has a prompt in column {name!r}.")
    return Prompts(texts, name, dropped, data_files(config) or [])


def _refuse_unread_runs(folder: Path) -> None:
    # A run's other tables would be read as data, although they hold no prompts.
    if is_run(folder):
        raise ValueError(
            f"{str(folder)!r} is a run's folder without {TRAIN}, so what it trained on is unknown. Give its training "
            "data itself, or prepare the run first (sparring run)."
        )
    refuse_folder_of_runs(folder, TRAIN)
    refuse_folder_of_runs(folder)


def _text(value: Any) -> str:
    """A text, or the turns of a list, of a conversation only the user's: system messages are templates.

    Raises:
        ValueError: a conversation that a run would not read either.
    """
    value = decoded(value)
    if isinstance(value, str):
        turns = read_transcript(value)
        return value.strip() if turns is None else _user(turns)
    if not isinstance(value, Sequence):
        return ""
    if all(isinstance(item, str) for item in value):  # MT-Bench's turns
        return "\n".join(value).strip()
    # Arena-Hard's turns have no role.
    return _user(conversation([{"role": "user", **item} if isinstance(item, Mapping) else item for item in value]))


def _user(messages: Sequence[Message]) -> str:
    return "\n".join(turn["content"] for turn in messages if turn["role"] == "user").strip()
