"""Turns rows of users' data into examples: a prompt and the responses that the data hold.

The first row shows where prompt and responses are - columns, whole conversations, HH-RLHF transcripts, ranked lists -
and every later row must agree; rows that cannot be used are counted by reason. Leaves out: reading files (`rows.py`),
tokens (`rounds/prepare.py`).

    dropped = Counter()
    examples = list(stream_examples(DatasetConfig(path="sparring:prompts", split="train"), (), dropped))
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sparring.data.aloe import UnusableRow, plain_rows
from sparring.data.checks import IDS, Check, MissingPackage, UnknownCheck, ifeval_check, parse_check
from sparring.data.form import ATTACHED, UNREAD, Form, count_drop, is_null
from sparring.data.labels import Labels, rows_of_prompts
from sparring.data.rows import Placed, Row
from sparring.models.messages import (
    Message,
    answer_text,
    as_messages,
    conversation,
    decoded,
    is_empty,
    prompt_turns,
    read_transcript,
    split_conversation,
)
from sparring.models.tools import CALLS, TOOLS, is_nothing, tools_message
from sparring.objectives.responses import DESIRABLE, MISMATCHED, UNDESIRABLE
from sparring.recipe.datasets import ColumnsConfig, DatasetConfig
from sparring.runtime.files import LONE_SURROGATE

CONVERSATIONS = ("messages", "conversations")
"""columns of whole conversations"""
COMPLETION = "completion"
"""an unpaired answer, before its label says which role it has"""
TAKERS = {
    "pairs": "dpo, simpo, orpo",
    "rated": "dpo",
    "labels": "kto",
    "gold": "spin, space, t_spin and tpaw",
    "oracle": "inpo, sppo",
}
"""methods by the data that they take, for messages"""


@dataclass(frozen=True, slots=True)
class Example:
    """A prompt, the responses by role, and optional instructions that code can check."""

    id: str
    """hash of the content, so that it is the same in every run"""
    messages: list[Message]
    responses: dict[str, str]
    """texts, or `Calls` of tools"""
    check: Check | None = None
    group: str | None = None
    """what held-out results are shown by, beside all together"""
    preference: float | None = None
    """P(chosen beats rejected), where the data's own was asked for"""


def stream_examples(
    config: DatasetConfig,
    roles: Sequence[str],
    dropped: Counter[str],
    unread: Counter[str] | None = None,
    preferences: bool = False,
    seen: set[int] | None = None,
) -> Iterator[Example]:
    """Examples that hold every role, one at a time; rows that cannot be used are counted in `dropped` by reason.

    What is used without a part that may belong to the prompt (a column `system`) is counted in `unread`. Memory holds
    a hash of 8 bytes of each in `seen`, to find duplicates; several sets that share it have none in common.
    `preferences`: each example has the data's own probability that chosen beats rejected.

    Raises:
        ValueError: a file is missing or unreadable (with the line), a column is missing or changes half-way (with the
            row), or nothing is left.
    """
    seen = set() if seen is None else seen
    before = len(seen)
    layout: Layout | None = None
    others = OtherPrompts()
    for placed in _plain(rows_of_prompts(config, roles, dropped), config.columns.prompt, dropped):
        layout = layout or Layout.of(placed.row, config, roles, preferences)
        layout.form.check(placed)
        try:
            example = layout.example(placed.row)
        except UnknownCheck as error:
            own = placed.row.get(config.columns.check) not in (None, "", [])
            field = config.columns.check if own else IDS
            raise ValueError(f"data: {placed.file!r}, row {placed.number}, field {field!r}: {error}") from error
        except ValueError as error:
            count_drop(dropped, error, placed)
            continue
        if (digest := int(example.id, 16)) in seen:
            dropped["duplicate"] += 1
        elif "chosen" in roles and example.responses["chosen"] == example.responses["rejected"]:
            dropped["chosen and rejected are identical"] += 1
        else:
            seen.add(digest)
            if unread is not None:
                unread.update(layout.unread(placed.row))
            yield others.beside(example) if MISMATCHED in roles else example
    if len(seen) == before:
        reasons = "; ".join(f"{count} x {reason}" for reason, count in dropped.items()) or "it has no rows"
        raise ValueError(f"data: {config.path!r} holds no usable example: {reasons}.")


def _plain(rows: Iterable[Placed], prompt: str, dropped: Counter[str]) -> Iterator[Placed]:
    """The rows, those of ALOE's files as rows with a prompt."""
    for placed in rows:
        try:
            yield from (placed._replace(row=row) for row in plain_rows(placed.row, prompt))
        except UnusableRow as error:
            dropped[str(error)] += 1


class OtherPrompts:
    """Puts beside each unpaired answer the last one before it that answers another prompt; the first has none."""

    def __init__(self) -> None:
        self.last: Example | None = None
        self.other: Example | None = None
        """the last example with another prompt than `last`"""

    def beside(self, example: Example) -> Example:
        """The example with that answer as a response."""
        if self.last is not None and self.last.messages != example.messages:
            self.other = self.last
        self.last = example
        if self.other is None:
            return example
        (text,) = (text for role, text in self.other.responses.items() if role != MISMATCHED)
        return replace(example, responses={**example.responses, MISMATCHED: text})


class Layout:
    """Where prompt and responses stand in the rows of a data set, as its first row shows."""

    def __init__(
        self, config: DatasetConfig, prompt: str, responses: dict[str, str], inside: bool, labels: Labels
    ) -> None:
        """`inside`: `prompt` is not a prompt's column but one of whole conversations."""
        self.path, self.check_column, self.group_column = config.path, config.columns.check, config.columns.group
        self.prompt, self.responses, self.inside, self.labels = prompt, responses, inside, labels
        self.form = Form((prompt, *responses.values(), *labels.columns))

    @classmethod
    def of(cls, row: Row, config: DatasetConfig, roles: Sequence[str], preferences: bool = False) -> Layout:
        """The layout of a data set that begins with `row`.

        Raises:
            ValueError: a column is missing.
        """
        columns = config.columns
        if DESIRABLE in roles:
            responses = {COMPLETION: columns.completion}
        else:
            responses = {role: getattr(columns, role) for role in roles}
        for role in responses.keys() & {"gold", COMPLETION}:
            if responses[role] not in row:
                responses[role] = next((name for name in CONVERSATIONS if name in row), responses[role])
        if {"chosen", "rejected"} <= responses.keys() and columns.ranked in row and columns.chosen not in row:
            responses |= {"chosen": columns.ranked, "rejected": columns.ranked}
        inside = columns.prompt not in row
        whole = [*responses.values()] or [columns.chosen, columns.gold, *CONVERSATIONS]
        prompt = next((name for name in whole if inside and _holds_prompt(row.get(name))), columns.prompt)
        ranked = {"chosen", "rejected"} <= responses.keys() and responses["chosen"] == responses["rejected"]
        missing, labels = [name for name in (prompt, *responses.values()) if name not in row], None
        if not missing:
            labels = Labels.of(row, config, DESIRABLE in roles, ranked, preferences)
            missing = [name for name in labels.columns if name not in row]
        if responses and missing == [columns.prompt]:
            raise ValueError(
                f"data: {config.path!r} has no column {columns.prompt!r}, and no prompt stands in "
                f"{' or '.join(map(repr, dict.fromkeys(responses.values())))}: they are neither lists of messages nor "
                'transcripts ("\\n\\nHuman: ...\\n\\nAssistant: ..."). Name the prompt\'s column under columns: '
                f"{{prompt: ...}}; it has {', '.join(map(repr, row))}."
            )
        if labels is None or missing:
            raise ValueError(
                f"data: {config.path!r} has no column {missing[0]!r}; it has {', '.join(map(repr, row))}. "
                + _remedy(row, columns, roles)
            )
        return cls(config, prompt, responses, inside, labels)

    def example(self, row: Row) -> Example:
        """The example of a row.

        Raises:
            ValueError: why the row cannot be used.
        """
        refuse_attached(row, (self.prompt, *self.responses.values()))
        ranked = self.labels.best_and_worst(row[self.responses["chosen"]]) if self.labels.ranked else None
        values = ranked.answers if ranked else {role: row[name] for role, name in self.responses.items()}
        for role, value in values.items():
            if is_null(value):
                raise ValueError(f"the {role} response is null")
        prompt = row[self.prompt]
        if self.inside:
            prompt = None if values else _begun(prompt)
        elif is_null(prompt):
            raise ValueError("the prompt is null")
        messages, responses = prompt_and_answers(prompt, values)
        messages = with_tools(row, messages)
        if COMPLETION in self.responses:
            responses = {DESIRABLE if self.labels.desirable(row) else UNDESIRABLE: responses[COMPLETION]}
        check = parse_check(row.get(self.check_column)) or _other_check(row)
        group = None if is_null(row.get(self.group_column)) else str(row[self.group_column])
        content = json.dumps([messages, responses], sort_keys=True, ensure_ascii=False)
        preference = self.labels.preference(row, ranked) if self.labels.preferences else None
        digest = hashlib.sha256(content.encode()).hexdigest()[:16]
        return Example(digest, messages, responses, check, group, preference)

    def unread(self, row: Row) -> list[str]:
        """What a row holds beside its columns that are read, and may belong to its prompt."""
        used = {self.prompt, *self.responses.values()}
        names = [repr(name) for name in UNREAD if name not in used and not is_empty(row.get(name))]
        messages = [turn for name in used if isinstance(row[name], list) for turn in row[name]]
        named = any(isinstance(turn, dict) and not is_empty(turn.get("name")) for turn in messages)
        unknown = row.get(IDS) is not None and row.get(self.check_column) is None and _other_check(row) is None
        return [*names, *(["the messages' field 'name'"] if named else []), *([repr(IDS)] if unknown else [])]


def _other_check(row: Row) -> Check | None:
    """The instructions in IFEval's columns; None where one is unknown: other sets have kinds of their own there.

    Raises:
        UnknownCheck: all kinds until one are known, and the package that evaluates this one is not installed.
    """
    try:
        return ifeval_check(row)
    except UnknownCheck as error:
        if isinstance(error.__cause__, MissingPackage):
            raise
        return None


def _remedy(row: Row, columns: ColumnsConfig, roles: Sequence[str]) -> str:
    """What to do where a row lacks a column of its roles: another method, or the columns' names."""
    whole = next((name for name in CONVERSATIONS if name in row), CONVERSATIONS[0])
    kinds = {
        f"pairs, which {TAKERS['pairs']} and others take": {columns.chosen, columns.rejected},
        f"lists of answers, whose best and worst {TAKERS['pairs']} and others take": {columns.ranked},
        f"conversations with a label, which {TAKERS['labels']} takes": {whole, columns.label},
        f"unpaired answers with a label, which {TAKERS['labels']} takes": {columns.completion, columns.label},
        f"rated answers, which {TAKERS['labels']} takes with a threshold, and {TAKERS['rated']} and others as pairs": {
            columns.completion,
            columns.score,
        },
        f"gold answers, which {TAKERS['gold']} take": {columns.gold},
        f"conversations, whose last answers {TAKERS['gold']} take": {whole},
    }
    kind = next((kind for kind, names in kinds.items() if names <= row.keys()), None)
    if kind is None and row.keys() <= {columns.prompt, columns.check, columns.group}:
        kind = f"prompts alone, which {TAKERS['oracle']} and others take with an oracle"
    names = "chosen: ..., rejected: ..., gold: ..., ranked: ..., score: ...}."
    if DESIRABLE in roles:
        names = "completion: ..., label: ...}, or score: ... with threshold: ..."
    collect = " Or have pairs built: data.collect." if "chosen" in roles else ""
    begin = f"These rows are {kind}. Or name" if kind else "Name"
    return f"{begin} yours under columns: {{prompt: ..., {names}{collect}"


def _holds_prompt(value: Any) -> bool:
    try:
        value = decoded(value)
    except ValueError:  # a row that will be dropped, but of conversations
        return True
    return isinstance(value, list) or (isinstance(value, str) and read_transcript(value) is not None)


def with_tools(row: Row, messages: list[Message]) -> list[Message]:
    """The prompt with the tools in the row's column `tools` before it, if there are any.

    Raises:
        ValueError: they are no list of functions with a name each.
    """
    return messages if is_nothing(row.get(TOOLS)) else [tools_message(row[TOOLS]), *messages]


def refuse_attached(row: Row, used: Sequence[str]) -> None:
    """Raise ValueError where a row has images or sound in a column that is not `used`: they belong to it."""
    for name, value in row.items():
        if name not in (*used, TOOLS) and ATTACHED.fullmatch(name.lower()) and not is_empty(value):
            raise ValueError(f"the row has {name!r} beside its prompt")


def prompt_and_answers(prompt: Any, answers: Mapping[str, Any]) -> tuple[list[Message], dict[str, str]]:
    """A row's prompt, and the texts of its answers. `prompt`: None where the answers hold it.

    An answer that is a conversation may begin with the prompt, in its middle, or after it: the prompt is all that was
    said before the answer, each turn once.

    Raises:
        ValueError: why the row cannot be used.
    """
    beside = [] if prompt is None else _prompt_beside(prompt)
    parts = {role: _answer(value, beside) for role, value in answers.items()}
    wholes = [_joined(beside, turns) for turns, _ in parts.values()] or [beside]
    if any(wholes) and not all(wholes):
        raise ValueError("one response is a conversation with its prompt, another text: give both in one form")
    if any(whole != wholes[0] for whole in wholes):
        raise ValueError("the responses answer different prompts")
    if not wholes[0]:
        raise ValueError("there is no prompt")
    texts = {role: text for role, (_, text) in parts.items()}
    if any(map(LONE_SURROGATE.search, [*texts.values(), *(part for turn in wholes[0] for part in turn.values())])):
        raise ValueError("half a character (a lone surrogate, as a cut emoji leaves)")
    return as_messages(wholes[0]), texts


def _prompt_beside(prompt: Any) -> list[Message]:
    is_transcript = isinstance(prompt, str) and prompt.rstrip().endswith("\n\nAssistant:")
    return prompt_turns((is_transcript and read_transcript(prompt)) or prompt)


def _answer(value: Any, beside: list[Message]) -> tuple[list[Message], str]:
    """The turns before an answer, if it holds them, and its text."""
    value = decoded(value)
    if isinstance(value, str):
        spoken = read_transcript(value)
        # Beside a prompt, a text of Human: and Assistant: turns is an answer of its own, unless it repeats the prompt.
        if spoken is None or (beside and _overlapped(beside, spoken[:-1]) is None):
            return [], answer_text(value)
        value = spoken
    turns, text = split_conversation(value)
    return turns, answer_text(text)


def _joined(beside: list[Message], turns: list[Message]) -> list[Message]:
    """All that was said before an answer: the prompt beside it, and the turns that it holds."""
    if not beside or not turns:
        return turns or beside
    if (whole := _overlapped(beside, turns)) is not None:
        return whole
    if beside[-1]["role"] in {"system", "developer", "assistant"} and turns[0]["role"] == "user":
        return [*beside, *turns]
    raise ValueError("the conversation does not hold the prompt")


def _overlapped(beside: list[Message], turns: list[Message]) -> list[Message] | None:
    """`turns` where they hold the prompt beside them, both where they begin with its end, else None."""
    said, held = ([turn["content"].strip() for turn in part] for part in (beside, turns))
    if any(held[i : i + len(said)] == said for i in range(len(held) - len(said) + 1)):
        return turns
    shared = next((k for k in range(min(len(said), len(held)), 0, -1) if said[-k:] == held[:k]), 0)
    return [*beside, *turns[shared:]] if shared else None


def _begun(value: Any) -> list[Message]:
    """A conversation without its last answer, if there is one."""
    if is_null(value):
        raise ValueError("the prompt is null")
    value = decoded(value)
    turns = read_transcript(value) or [] if isinstance(value, str) else conversation(value)
    return turns[:-1] if turns and turns[-1]["role"] in ("assistant", CALLS) else turns
