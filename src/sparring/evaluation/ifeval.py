"""IFEval: how many instructions that code can check are obeyed (Zhou et al., 2023, 2311.07911).

Prompt level: the share of prompts all of whose instructions are obeyed; instruction level: the share of instructions.
Strict takes an answer as it is, loose forgives an introduction, a closing line and asterisks (`checks.readings`).
Intervals are over prompts: the instructions of one prompt share its answer. The prompts come from the user's file, in
IFEval's own form, the hub's or with a column `check`, and none is shipped. Leaves out: sampling
(`contests/ifeval_folder.py`), and other languages' versions.

    prompts = read_ifeval(Path("input_data.jsonl"))
    scores(judge(prompts, {"Write ...": "Dear ..."}))["prompt_strict"]
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparring.data.checks import (
    IDS,
    KWARGS,
    Instruction,
    UnknownCheck,
    check_of_row,
    instructions_of,
    obeys,
    readings,
)
from sparring.data.instructions.contradictions import contradiction
from sparring.data.rows import read_rows
from sparring.evaluation.answers import INSTRUCTION, column_of, no_join, usable_instructions
from sparring.evaluation.answers import Instruction as Prompt
from sparring.evaluation.intervals import DIFFERENCE, SHARE, CountedInterval, Interval, clustered_mean, interval
from sparring.evaluation.paired import compare, sign_flip
from sparring.recipe.sections import DatasetConfig

COUNT = 541
"""prompts of the published benchmark"""
READINGS = ("strict", "loose")


@dataclass(frozen=True, slots=True)
class IfevalPrompts:
    """The prompts of a file with their instructions, in its order."""

    prompts: list[Prompt]
    instructions: dict[str, list[Instruction]]
    """by the prompt's text"""
    left_out: Counter[str]
    """rows without a usable prompt or an instruction, by reason"""
    contradictory: int
    """prompts two of whose instructions no answer obeys together; they are scored"""


@dataclass(frozen=True, slots=True)
class Verdicts:
    """Which instructions one model's answers obey: I instructions of P answered prompts."""

    prompts: list[str]
    owner: NDArray[np.int64]
    """(I,) the prompt's place in `prompts`"""
    kinds: NDArray[np.str_]
    obeyed: dict[str, NDArray[np.bool_]]
    """(I,) each, "strict" and "loose" """
    empty: int
    """answers without a letter or sign, which obey nothing"""


def read_ifeval(path: Path, limit: int | None = None) -> IfevalPrompts:
    """Prompts and instructions from a file in IFEval's form, or with a column `check`; `limit`: of the first rows.

    Raises:
        ValueError: it has no such columns, a row's instructions cannot be checked, a prompt stands there twice with
            other instructions, or nothing is left.
    """
    rows = read_rows(DatasetConfig(path=str(path), limit=limit))
    column = column_of(rows, INSTRUCTION, path)
    if not {"check", IDS} & rows[0].keys():
        has = ", ".join(map(repr, rows[0]))
        raise ValueError(f"{str(path)!r} needs the columns {IDS!r} and {KWARGS!r}, or 'check'; it has {has}.")
    prompts, instructions, left_out = list[Prompt](), dict[str, list[Instruction]](), Counter[str]()
    numbered = [{**row, NUMBER: number} for number, row in enumerate(rows, start=1)]
    for row, text, messages in usable_instructions(numbered, column, left_out):
        own = _instructions(row, path)
        if not own:
            left_out["prompt without an instruction"] += 1
        elif text not in instructions:
            instructions[text] = own
            prompts.append(Prompt(text, messages))
        elif instructions[text] == own:
            left_out["repeated prompt"] += 1
        else:
            raise ValueError(
                f"{str(path)!r}, row {row[NUMBER]}: {text[:60]!r} stands there twice, with other instructions. "
                "Keep one of the two."
            )
    if not prompts:
        raise ValueError(f"{str(path)!r} holds no prompt with an instruction ({_reasons(left_out)}).")
    contradictory = sum(contradiction(own) is not None for own in instructions.values())
    return IfevalPrompts(prompts, instructions, left_out, contradictory)


NUMBER = " row"
"""key of a row's number, which no file's column has"""


def _instructions(row: Mapping[str, Any], path: Path) -> list[Instruction]:
    try:
        check = check_of_row(row, "check")
    except UnknownCheck as error:
        key = f" (key {row['key']})" if row.get("key") is not None else ""
        raise ValueError(f"{str(path)!r}, row {row[NUMBER]}{key}: {error}") from error
    return [] if check is None else instructions_of(check)


def _reasons(left_out: Counter[str]) -> str:
    return "; ".join(f"{count} x {reason}" for reason, count in left_out.items()) or "it has no rows"


def judge(prompts: IfevalPrompts, texts: Mapping[str, str]) -> Verdicts:
    """Check the answers to the prompts, by text; prompts without one are left out.

    Raises:
        ValueError: none of the prompts is answered.
    """
    answered = [prompt.text for prompt in prompts.prompts if prompt.text in texts]
    if not answered:
        asked = [prompt.text for prompt in prompts.prompts]
        raise ValueError(
            f"answers: none of the {len(asked)} prompts is answered (they are joined by the prompt's text). "
            + no_join(texts, asked)
        )
    owner, kinds, strict, loose = list[int](), list[str](), list[bool](), list[bool]()
    for place, prompt in enumerate(answered):
        _, *others = readings(texts[prompt])
        for instruction in prompts.instructions[prompt]:
            owner.append(place)
            kinds.append(str(instruction["rule"]))
            strict.append(obeys(instruction, texts[prompt]))
            loose.append(strict[-1] or any(obeys(instruction, text) for text in others))
    obeyed = {"strict": np.array(strict), "loose": np.array(loose)}
    empty = sum(not texts[prompt].strip() for prompt in answered)
    return Verdicts(answered, np.array(owner), np.array(kinds), obeyed, empty)


def scores(verdicts: Verdicts) -> dict[str, Any]:
    """{level_reading: interval} of the four published scores, and the instruction level by kind."""
    result: dict[str, Any] = {}
    for reading, obeyed in verdicts.obeyed.items():
        result[f"prompt_{reading}"] = interval(whole(verdicts, reading).tolist(), SHARE)
        result[f"instruction_{reading}"] = _mean(obeyed, verdicts.owner, SHARE)
    return result | {"by_kind": _by_kind(verdicts, verdicts.obeyed, SHARE)}


def whole(verdicts: Verdicts, reading: str) -> NDArray[np.float64]:
    """(P,) 1 for each prompt all of whose instructions are obeyed, else 0."""
    broken = np.bincount(verdicts.owner, ~verdicts.obeyed[reading], len(verdicts.prompts))
    return (broken == 0).astype(np.float64)


def difference(before: Verdicts, after: Verdicts) -> dict[str, Any]:
    """after - before of the four scores and by kind, paired by prompt, with 95 % intervals and two-sided p values.

    Prompt level: McNemar's exact test (`paired.compare`); instruction level: random signs of whole prompts.
    """
    assert before.prompts == after.prompts
    change = {
        reading: after.obeyed[reading].astype(np.float64) - before.obeyed[reading].astype(np.float64)
        for reading in READINGS
    }
    result: dict[str, Any] = {}
    for reading in READINGS:
        level = compare(*(whole(side, reading).tolist() for side in (before, after)))
        result[f"prompt_{reading}"] = {key: level[key] for key in ("difference", "p", "test", "gained", "lost")}
        values, sums = change[reading], np.bincount(after.owner, change[reading])
        result[f"instruction_{reading}"] = {
            "difference": _mean(values, after.owner, DIFFERENCE),
            "p": sign_flip(sums),
            "test": "sign flips of prompts",
            "gained": int((values > 0).sum()),
            "lost": int((values < 0).sum()),
        }
    return result | {"by_kind": _by_kind(after, change, DIFFERENCE)}


def _by_kind(
    verdicts: Verdicts, values: Mapping[str, NDArray[Any]], within: tuple[float, float]
) -> dict[str, dict[str, CountedInterval]]:
    """Each kind's mean per reading, kinds by name."""
    return {
        str(kind): {
            reading: _counted(one[verdicts.kinds == kind], verdicts.owner[verdicts.kinds == kind], within)
            for reading, one in values.items()
        }
        for kind in np.unique(verdicts.kinds)
    }


def _counted(values: NDArray[Any], owner: NDArray[np.int64], within: tuple[float, float]) -> CountedInterval:
    mean = _mean(values, owner, within)
    return CountedInterval(mean.value, mean.low, mean.high, len(values))


def _mean(values: NDArray[Any], owner: NDArray[np.int64], within: tuple[float, float]) -> Interval:
    return clustered_mean(values.astype(np.float64), owner, within)


def shared(prompts: IfevalPrompts, sides: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    """Each side's answers to the prompts that all sides answered.

    Raises:
        ValueError: there are none.
    """
    both = [prompt.text for prompt in prompts.prompts if all(prompt.text in texts for texts in sides)]
    if not both:
        raise ValueError(f"answers: no prompt of the {len(prompts.prompts)} was answered by both.")
    return [{prompt: texts[prompt] for prompt in both} for texts in sides]
