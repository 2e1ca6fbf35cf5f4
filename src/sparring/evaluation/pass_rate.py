"""How many of one model's answers pass the rules of their prompts, with no opponent: accuracy on GSM8K, for example.

The rules are those of an oracle `rules` (a check with each prompt, or a gold answer), strict or loose as it reads. An
answer passes if it keeps all its prompt's rules; by kind of rule every rule counts by itself. A prompt may have several
answers; intervals are over prompts (`intervals.py`). Left out and counted: rows without an answer, and prompts without
a rule. Leaves out: sampling, and judges (`head_to_head.py`).

    pass_rate(read_samples([Path("answers.jsonl")]), Rules("gsm8k.jsonl", "number", "question", "answer"))
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sparring.data.checks import instructions_of, obeyed
from sparring.data.rows import read_rows
from sparring.evaluation.answers import INSTRUCTION, OUTPUT, column_of, no_join, no_text, spoken, usable_instructions
from sparring.evaluation.intervals import SHARE, CountedInterval, clustered_mean
from sparring.oracles.rules import Rules
from sparring.recipe.sections import DatasetConfig
from sparring.runtime.files import LONE_SURROGATE


@dataclass(frozen=True, slots=True)
class Samples:
    """One model's answers by prompt, any number each."""

    name: str
    texts: dict[str, list[str]]
    left_out: Counter[str]
    """rows without a usable prompt or answer, by reason"""


def read_samples(paths: Sequence[Path]) -> Samples:
    """Answers of one model from files with `instruction` (or `prompt`) and `output` (or `response`, `answer`).

    Raises:
        ValueError: a file cannot be read or has no such columns, the generators differ, or no row is usable.
    """
    texts: dict[str, list[str]] = {}
    left_out: Counter[str] = Counter()
    generators: dict[str, None] = {}
    for path in paths:
        rows = read_rows(DatasetConfig(path=str(path)))
        asked, output = (column_of(rows, names, path) for names in (INSTRUCTION, OUTPUT))
        for row, prompt, _ in usable_instructions(rows, asked, left_out):
            answer = spoken(row.get(output))
            if not isinstance(answer, str) or LONE_SURROGATE.search(answer):
                left_out[no_text(answer)] += 1
                continue
            texts.setdefault(prompt, []).append(answer)
            if row.get("generator"):
                generators.setdefault(str(row["generator"]))
    if len(generators) > 1:
        raise ValueError(
            f"answers: {len(generators)} generators ({', '.join(list(generators)[:3])}). Give one's files."
        )
    if not texts:
        counts = ", ".join(f"{count} rows: {reason}" for reason, count in left_out.items())
        raise ValueError(f"answers: {', '.join(map(str, paths))} hold no usable row ({counts}).")
    return Samples(next(iter(generators), paths[0].stem), texts, left_out)


def pass_rate(samples: Samples, rules: Rules) -> dict[str, Any]:
    """The share of answers that pass, of rules kept, and both by kind, highest first, with what was left out.

    Raises:
        ValueError: no answered prompt has a rule.
    """
    kept = {prompt: rules.checks[prompt] for prompt in samples.texts if prompt in rules.checks}
    if not kept:
        raise ValueError(
            "no answered prompt has a rule (they are joined by the prompt's text). "
            + no_join(samples.texts, rules.checks)
        )
    rows = [
        (number, str(instruction["rule"]), answer, held)
        for number, (prompt, check) in enumerate(kept.items())
        for answer, text in enumerate(samples.texts[prompt])
        for instruction, held in zip(instructions_of(check), obeyed(check, text, rules.reading == "loose"), strict=True)
    ]
    owner, kind, answer, held = (np.array(column) for column in zip(*rows, strict=True))
    by_rule = {str(name): _share(held[kind == name], owner[kind == name]) for name in np.unique(kind)}
    first = np.flatnonzero((np.diff(owner, prepend=-1) != 0) | (np.diff(answer, prepend=-1) != 0))
    several = len(first) < len(rows)
    without = sum(len(texts) for prompt, texts in samples.texts.items() if prompt not in rules.checks)
    return {
        "benchmark": "pass-rate",
        "model": samples.name,
        "rules": rules.identity,
        "pass_rate": _share(np.logical_and.reduceat(held, first), owner[first]),
        **({"rules_kept": _share(held, owner)} if several else {}),
        "by_rule": dict(sorted(by_rule.items(), key=lambda item: -item[1].value)),
        "prompts": len(kept),
        "empty": sum(not text.strip() for prompt in kept for text in samples.texts[prompt]),
        "unanswered": len(rules.checks) - len(kept),
        "left_out": dict(+(samples.left_out + Counter({"answers to prompts without a rule": without}))),
    }


def _share(passed: np.ndarray, owner: np.ndarray) -> CountedInterval:
    mean = clustered_mean(passed.astype(np.float64), owner, SHARE)
    return CountedInterval(mean.value, mean.low, mean.high, len(passed))
