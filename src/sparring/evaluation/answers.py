"""Answer files: one answer per instruction, joined by the instruction's text.

A file is AlpacaEval's model outputs (a JSON list with instruction, output, generator), or JSONL, CSV or Parquet with
those columns; prompt stands for instruction, and response or answer for output. lm-eval's logged samples are read too:
doc.prompt (or doc.instruction), and the first of filtered_resps. Leaves out: making answers
(`contests/head_to_head_folder.py`).

    pairs = align(read_answers(Path("mine.json")), read_answers(Path("base.json")))
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from sparring.data.examples import prompt_and_answers, refuse_attached, with_tools
from sparring.data.rows import ENDINGS, read_rows
from sparring.models.messages import PromptText, answer_text, decoded, prompt_text
from sparring.models.tools import Calls, Message
from sparring.recipe.sections import DatasetConfig
from sparring.runtime.files import LONE_SURROGATE

Row = dict[str, Any]
INSTRUCTION = ("instruction", "prompt")
OUTPUT = ("output", "response", "answer")


@dataclass(frozen=True, slots=True)
class Answers:
    """One side's answers by instruction, in the file's order."""

    name: str
    texts: dict[str, str]
    unanswered: dict[str, str]
    """why an instruction has no answer, where that is known"""
    unusable: Counter[str]
    """rows without an instruction of their own, by reason"""
    messages: dict[str, list[Message]] = field(default_factory=dict)
    """the turns of each instruction, where a file was read"""

    def why_none(self, instruction: str) -> str:
        """Why there is no answer to an instruction, in words."""
        reason = self.unanswered.get(instruction)
        return f"{reason} ({self.name})" if reason else f"no answer by {self.name}"


class Pairs(NamedTuple):
    """Instructions that both sides answered, in the baseline's order."""

    instructions: list[str]
    outputs: list[str]
    baseline_outputs: list[str]
    left_out: Counter[str]


class Instruction(NamedTuple):
    """A prompt as a policy gets it, and as a judge reads it."""

    text: str
    messages: list[Message]

    @property
    def prompt(self) -> PromptText:
        """The prompt for an oracle: the text, and the turns for oracles with a template."""
        return PromptText(self.messages)


def is_answer_file(spec: str) -> bool:
    """Whether a name stands for an answer file; else it stands for a policy."""
    return Path(spec).suffix in (*ENDINGS, ".gz")


def read_answers(path: Path, name: str | None = None) -> Answers:
    """Answers of one model; `name` defaults to the file's `generator`, else to the file's name.

    Raises:
        ValueError: it cannot be read, has no such columns, or answers an instruction in two ways.
    """
    rows = [_logged(row) for row in read_rows(DatasetConfig(path=str(path)))]
    asked, output = (column_of(rows, names, path) for names in (INSTRUCTION, OUTPUT))
    generators = list(dict.fromkeys(str(row["generator"]) for row in rows if row.get("generator")))
    if len(generators) > 1:
        raise ValueError(f"answers: {str(path)!r} mixes {len(generators)} generators ({', '.join(generators[:3])}).")
    texts, without, turns = dict[str, str](), dict[str, str](), dict[str, list[Message]]()
    unusable: Counter[str] = Counter()
    for row, instruction, messages in usable_instructions(rows, asked, unusable):
        turns.setdefault(instruction, messages)
        answer = spoken(row.get(output))
        if not isinstance(answer, str) or LONE_SURROGATE.search(answer):
            without[instruction] = no_text(answer)
        elif texts.setdefault(instruction, answer) != answer:
            raise ValueError(
                f"answers: {str(path)!r} holds two different answers to {instruction[:60]!r}. Keep one per instruction."
            )
    unanswered = {instruction: reason for instruction, reason in without.items() if instruction not in texts}
    unusable["repeated rows"] = len(rows) - len(texts) - len(unanswered) - unusable.total()
    if not texts:
        reasons = unusable + Counter(unanswered.values())
        counts = ", ".join(f"{count} rows: {reason}" for reason, count in reasons.items())
        raise ValueError(f"answers: {str(path)!r} holds no usable row ({counts}). Give every answer as one text.")
    return Answers(name or (generators or [path.stem])[0], texts, unanswered, +unusable, turns)


def _logged(row: Row) -> Row:
    """A row of lm-eval's logged samples as prompt and response; other rows as they are."""
    doc, responses = row.get("doc"), row.get("filtered_resps") or row.get("resps")
    if not isinstance(doc, dict) or not isinstance(responses, list) or not responses:
        return row
    first = responses[0][0] if isinstance(responses[0], list) and responses[0] else responses[0]
    return {"prompt": doc.get("prompt", doc.get("instruction")), "response": first}


def spoken(answer: Any) -> Any:
    """The text of an answer that is written as messages; other values, and calls of tools, as they are."""
    try:
        text = answer_text(answer) if isinstance(decoded(answer), list) else answer
        return answer if isinstance(text, Calls) else text
    except ValueError:
        return None if isinstance(answer, str) else answer


def no_text(answer: Any) -> str:
    """Why a value is no answer, in words."""
    if answer is None:
        return "answer missing"
    if isinstance(answer, str):
        return "answer with half a character (a lone surrogate, as a cut emoji leaves)"
    kind = "a list" if isinstance(answer, list) else "an object" if isinstance(answer, dict) else "a number"
    return f"answer is {kind}, not text"


def read_instructions(config: DatasetConfig) -> tuple[list[Instruction], Counter[str]]:
    """The instructions of a data set, each once, and what was left out.

    Raises:
        ValueError: the data set cannot be read, or has no usable row.
    """
    rows = read_rows(config)
    column = column_of(rows, (*INSTRUCTION, config.columns.prompt), Path(config.path))
    instructions: dict[str, Instruction] = {}
    dropped: Counter[str] = Counter()
    for _, text, messages in usable_instructions(rows, column, dropped):
        if text in instructions:
            dropped["repeated instructions"] += 1
        instructions[text] = Instruction(text, messages)
    if not instructions:
        raise ValueError(f"prompts: {config.path!r} holds no usable instruction.")
    return list(instructions.values()), dropped


def usable_instructions(
    rows: Sequence[Row], column: str, dropped: Counter[str]
) -> Iterator[tuple[Row, str, list[Message]]]:
    """(row, instruction as text, as turns); rows without a usable instruction are counted in `dropped`."""
    for row in rows:
        value = row.get(column)
        if value is None or value == [] or (isinstance(value, str) and not value.strip()):
            dropped["instruction missing or empty"] += 1
            continue
        try:
            refuse_attached(row, (column,))
            messages = with_tools(row, prompt_and_answers(value, {})[0])
        except ValueError as error:
            dropped[str(error)] += 1
            continue
        text = prompt_text(messages)
        yield row, text, messages


def column_of(rows: Sequence[Row], names: Sequence[str], path: Path) -> str:
    """The first of `names` that the rows have; ValueError that names the columns where there is none."""
    present = next((name for name in names if rows and name in rows[0]), None)
    if present is None:
        has = ", ".join(map(repr, rows[0])) if rows else "no rows"
        raise ValueError(f"{str(path)!r} needs a column {' or '.join(map(repr, names))}; it has {has}.")
    return present


def align(model: Answers, baseline: Answers, asked: Collection[str] = ()) -> Pairs:
    """The instructions that both sides answered; of those in `asked` the ones that neither answered are counted too.

    Raises:
        ValueError: the sides answered no instruction in common.
    """
    shared = [text for text in baseline.texts if text in model.texts]
    if not shared:
        raise ValueError(
            f"{model.name} and {baseline.name} share no instruction (they are joined by its text). "
            + no_join(model.texts, baseline.texts)
        )
    left_out: Counter[str] = Counter()
    for text in dict.fromkeys([*asked, *model.texts, *model.unanswered, *baseline.texts, *baseline.unanswered]):
        lacking = [side for side in (model, baseline) if text not in side.texts]
        if len(lacking) == 2:
            left_out["answered by neither"] += 1
        elif lacking:
            left_out[lacking[0].why_none(text)] += 1
    for side in (model, baseline):
        left_out.update({f"{reason} ({side.name})": count for reason, count in side.unusable.items()})
    return Pairs(shared, [model.texts[t] for t in shared], [baseline.texts[t] for t in shared], left_out)


def no_join(side: Collection[str], other_side: Collection[str]) -> str:
    """Words on two sides without a common instruction: an example of each, and whether only space differs."""
    one, other = (repr(next(iter(texts))[:60]) for texts in (side, other_side))
    if {text.strip() for text in side} & {text.strip() for text in other_side}:
        return f"One side has {one}, the other {other}: they differ in surrounding space. Remove it from both."
    return f"One side has {one}, the other {other}. Give answers to the same prompts."
