"""Checks: does an answer obey the instructions that its prompt states in words?

A check is an instruction such as `{"rule": "max_words", "count": 20}`, or a list of several (the `check` column of
`data/prompts.jsonl`); rules are the plain ones (`instructions/plain.py`) and IFEval's (`instructions/ifeval.py`),
mixed as wanted. An empty answer obeys none, so that silence never earns "at most 20 words". IFEval's own rows
(`instruction_id_list` and `kwargs`) are read too. Leaves out: whether the rest of the answer is good.

    passes({"rule": "contains", "words": ["salt"]}, "Add a pinch of salt.")  ->  True
    obeyed([{"rule": "one_word"}, {"rule": "lowercase"}], "Blue")  ->  [True, False]
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from sparring.data.instructions.contradictions import contradiction
from sparring.data.instructions.ifeval import IFEVAL
from sparring.data.instructions.language import EXTRA, missing
from sparring.data.instructions.plain import PLAIN
from sparring.data.instructions.rule import Rule

Instruction = Mapping[str, Any]
"""`rule`, the name, and that rule's arguments"""
Check = Instruction | Sequence[Instruction]
"""the instructions of one prompt"""
RULES: Mapping[str, Rule] = {**PLAIN, **IFEVAL}
RULE_NAMES: tuple[str, ...] = tuple(RULES)
IDS, KWARGS = "instruction_id_list", "kwargs"
"""columns of IFEval's own rows"""


def instructions_of(check: Check) -> list[Instruction]:
    """A check's instructions, one or several."""
    return [check] if isinstance(check, Mapping) else list(check)


def passes(check: Check, text: str) -> bool:
    """Whether `text` obeys all instructions of `check`.

    Raises:
        ValueError: a rule is unknown, or its arguments are not exactly those it takes, each of the right kind.
    """
    return all(obeyed(check, text))


def obeyed(check: Check, text: str, loose: bool = False) -> list[bool]:
    """Which instructions of `check` are obeyed by `text`, in order; `loose`: by one of its `readings`.

    Raises:
        ValueError: as `passes`.
    """
    texts = readings(text) if loose else [text]
    return [any(obeys(instruction, one) for one in texts) for instruction in instructions_of(check)]


def readings(text: str) -> list[str]:
    """IFEval's eight readings for the loose verdict: without the first line, the last, both, or none; with asterisks
    and without (2311.07911, section 2.3): "Sure:" before an answer, and Markdown, are forgiven.
    """
    lines = text.split("\n")
    cut = ["\n".join(part).strip() for part in (lines[1:], lines[:-1], lines[1:-1])]
    return [reading for whole in (text, *cut) for reading in (whole, whole.replace("*", ""))]


def obeys(instruction: Instruction, text: str) -> bool:
    """Whether `text` obeys one instruction.

    Raises:
        ValueError: as `passes`.
    """
    name = instruction.get("rule")
    if not isinstance(name, str) or name not in RULES:
        raise ValueError(
            f"unknown rule {name!r}; allowed: {', '.join(RULE_NAMES)}. "
            'Set the check\'s "rule" to one of these, or leave the check null.'
        )
    rule = RULES[name]
    arguments = {key: value for key, value in instruction.items() if key != "rule"}
    _refuse(name, rule, arguments)
    return bool(text.strip()) and bool(rule.holds(text, **arguments))


def _refuse(name: str, rule: Rule, arguments: Mapping[str, Any]) -> None:
    """Raise ValueError for arguments that are not the rule's, and for a rule whose packages are not installed."""
    if set(arguments) != set(rule.arguments):
        raise ValueError(
            f"rule {name!r} got the arguments {sorted(map(str, arguments))}; "
            f"allowed and required: {sorted(rule.arguments)}. Add or remove keys of the check."
        )
    if (lacking := missing(rule.needs)) is not None:
        raise MissingPackage(f"rule {name!r} needs the package {lacking!r}, which is not installed: {EXTRA}.")
    for argument, kind in rule.arguments.items():
        if not kind.accepts(arguments[argument]):
            raise ValueError(
                f"rule {name!r} got {argument}={arguments[argument]!r}; "
                f"allowed: {kind.allowed}. Correct {argument!r} in the check."
            )
    if (reason := rule.consistent(**arguments)) is not None:
        raise ValueError(f"rule {name!r} got arguments that no answer obeys: {reason}. Correct one of them.")


def check_of_row(row: Mapping[str, Any], column: str) -> Check | None:
    """The check of a row of data: of its column, else of IFEval's columns; None where it has none.

    Raises:
        UnknownCheck: as `parse_check`.
    """
    check = parse_check(row.get(column))
    return ifeval_check(row) if check is None else check


def ifeval_check(row: Mapping[str, Any]) -> Check | None:
    """The instructions of a row in IFEval's own form; None where it has none.

    They may exclude each other: two of IFEval's 541 prompts ask for words with a comma and for no comma.

    Raises:
        UnknownCheck: rules or their arguments are not known.
    """
    if row.get(IDS) is None:
        return None
    try:
        instructions = from_ifeval(row[IDS], row.get(KWARGS))
        for instruction in instructions:
            obeys(instruction, "")
    except ValueError as error:
        raise UnknownCheck(f"{IDS} and {KWARGS} cannot be used: {error}") from error
    return instructions or None


def parse_check(value: Any) -> Check | None:
    """A check from an object, a list, or JSON text; None for an empty cell, and arguments of null are left out.

    Raises:
        UnknownCheck: rules or their arguments are not known, or exclude each other.
    """
    if value is None or value == "":
        return None
    try:
        plain = json.loads(value) if isinstance(value, str) else value
        instructions = [_without_nulls(one) for one in (plain if isinstance(plain, list | tuple) else [plain])]
        for instruction in instructions:
            obeys(instruction, "")
        if (reason := contradiction(instructions)) is not None:
            raise ValueError(f"{reason}. Remove one of the two.")
    except ValueError as error:
        raise UnknownCheck(f"the check {value!r} cannot be used: {error}") from error
    if not instructions:
        return None
    return instructions[0] if isinstance(plain, Mapping) else instructions


def from_ifeval(names: Any, arguments: Any) -> list[dict[str, Any]]:
    """Instructions from IFEval's columns `instruction_id_list` and `kwargs`, of which the hub's copy writes all keys,
    null but for the kind's own; whole numbers may be written 3.0, and cells may be JSON text.

    Raises:
        ValueError: they are no lists of one length.
    """
    names, arguments = (json.loads(value) if isinstance(value, str) else value for value in (names, arguments))
    if not isinstance(names, Sequence) or not isinstance(arguments, Sequence) or len(names) != len(arguments):
        counts = [len(value) if isinstance(value, Sequence) else repr(value) for value in (names, arguments)]
        raise ValueError(f"{IDS} and {KWARGS} must be lists of one length, not {counts[0]} and {counts[1]}.")
    return [
        {"rule": name, **{key: _whole(value) for key, value in (own or {}).items() if not _is_null(value)}}
        for name, own in zip(names, arguments, strict=True)
    ]


def _without_nulls(instruction: Any) -> dict[str, Any]:
    if not isinstance(instruction, Mapping):
        raise ValueError(f'{instruction!r} is no instruction. Write {{"rule": NAME, ...}}, or a list of such objects.')
    return {name: argument for name, argument in instruction.items() if argument is not None}


def _is_null(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


class MissingPackage(ValueError):
    """A rule is known, and what evaluates it is not installed."""


class UnknownCheck(Exception):
    """A rule that cannot be evaluated: the whole data set is refused, not just the row."""
