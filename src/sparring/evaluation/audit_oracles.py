"""Asks oracles about labelled pairs, for `oracle_quality.py` to judge them. Leaves out: numbers and pictures.

Verdicts go through the guard, which retries, counts failures and stores them in `verdicts.jsonl`; the two orders of an
oracle that sees places are stored in `orders.jsonl`. An audit that was stopped goes on where it was, and nothing is
asked twice. Where the data hold several answers to one prompt, triples are asked, to find cycles; and cheap cheats are
put up against preferred answers (`cheats.py`).

    audit = run_audit({"panel": Panel()}, pairs, Path("runs/audit"), Progress())
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from sparring.data.instructions.plain import count_words
from sparring.evaluation.cheats import comparisons as cheating
from sparring.evaluation.cheats import honest
from sparring.evaluation.cheats import measure as measure_cheats
from sparring.evaluation.intransitivity import measure
from sparring.evaluation.oracle_quality import agreement, audit_one, clustered, correct, longer_wins
from sparring.oracles.abilities import Abstains, Calibrates, Learned, PositionSensitive, counts_of, nested
from sparring.oracles.guard import FIRST_QUESTIONS, Guard
from sparring.oracles.labelled import Labelled
from sparring.oracles.oracle import Comparison, Oracle
from sparring.oracles.recorded import Recorded
from sparring.oracles.train import digest
from sparring.runtime.progress import Progress

BATCH = 64
"""comparisons between two steps of the progress bar"""
MOST_ANSWERS = 4
"""answers to a prompt that are compared with each other to find cycles"""


def run_audit(
    oracles: Mapping[str, Oracle],
    pairs: Sequence[Labelled],
    out: Path,
    progress: Progress,
    triples: int = 75,
    cheats: int = 30,
) -> dict[str, Any]:
    """The audit as plain data, verdicts and orders stored under `out`.

    `triples` and `cheats` are numbers of prompts on which cycles and cheats are tried (0: none).
    """
    comparisons = [pair.comparison for pair in pairs]
    prompts = [pair.comparison.prompt for pair in pairs]
    labels = np.array([pair.preference for pair in pairs])
    lengths = np.array([[count_words(c.a), count_words(c.b)] for c in comparisons], dtype=np.float64)
    groups, answers = answer_groups(pairs, triples), honest(pairs, cheats)
    verdicts: dict[str, np.ndarray] = {}
    by_oracle = {}
    for name, oracle in oracles.items():
        recorded = Recorded(oracle, out / "orders.jsonl")
        guard = Guard(recorded, out / "verdicts.jsonl")
        guard.probe(FIRST_QUESTIONS[:1], progress.say)  # every question is paid for
        verdicts[name] = _judged(guard, comparisons, f"{name}  pairs", progress)
        cycles = _cycles(guard, groups, f"{name}  triples", progress)
        inside = [inner for inner, _ in nested(oracle)]
        trained_on = frozenset().union(*(inner.train_prompts for inner in inside if isinstance(inner, Learned)))
        fitted = {unordered(c) for inner in inside if isinstance(inner, Calibrates) for c in inner.fitted_on}
        abstaining = [inner for inner in inside if isinstance(inner, Abstains)]
        by_oracle[name] = {
            "identity": guard.identity,
            **audit_one(
                verdicts[name], labels, prompts, lengths, [p.category for p in pairs], _orders(recorded, comparisons)
            ),
            "sees_places": any(isinstance(inner, PositionSensitive) for inner in inside),
            "cycles": cycles,
            "cheats": _cheated(guard, answers, f"{name}  cheats", progress),
            "without_rule": sum(any(inner.abstains(c) for inner in abstaining) for c in comparisons),
            "calibrated_on": sum(unordered(c) in fitted for c in comparisons),
            "trained_on": len({prompt for prompt in prompts if digest(prompt) in trained_on}),
            "facts": counts_of(oracle),
        }
    rule = longer_wins(lengths)
    return {
        "pairs": len(pairs),
        "decided": int((labels != 0.5).sum()),
        "prompts": len(set(prompts)),
        **repeats(pairs),
        "length_rule": clustered(correct(rule, labels), prompts),
        "triple_prompts": len(groups),
        "cheat_prompts": len(answers),
        "oracles": by_oracle,
        "agreement": agreement({**verdicts, "longer wins": rule}, prompts),
    }


def unordered(comparison: Comparison) -> tuple[str, str, str]:
    """A key that is the same for both orders of the answers."""
    return comparison.prompt, min(comparison.a, comparison.b), max(comparison.a, comparison.b)


def repeats(pairs: Sequence[Labelled]) -> dict[str, int]:
    """Counts of comparisons labelled both ways, and of pairs that repeat another, in either order of the answers."""
    labels: dict[tuple[str, str, str], list[float]] = {}
    for pair in pairs:
        key, label = unordered(pair.comparison), pair.preference
        labels.setdefault(key, []).append(label if pair.comparison.a == key[1] else 1 - label)
    return {
        "contradicting": sum(min(own) < 0.5 < max(own) for own in labels.values()),
        "repeated": sum(len(own) - len(set(own)) for own in labels.values()),
    }


def _judged(guard: Guard, comparisons: Sequence[Comparison], title: str, progress: Progress) -> np.ndarray:
    verdicts = []
    with progress.task(title, len(comparisons)) as advance:
        for begin in range(0, len(comparisons), BATCH):
            verdicts.append(guard.judge(comparisons[begin : begin + BATCH]))
            advance(len(verdicts[-1]))
    return np.concatenate(verdicts)


def _cheated(guard: Guard, answers: Sequence[tuple[str, str]], title: str, progress: Progress) -> list[dict[str, Any]]:
    return measure_cheats(_judged(guard, cheating(answers), title, progress), answers) if answers else []


def planned(pairs: Sequence[Labelled], triples: int, cheats: int) -> list[Comparison]:
    """Every comparison that an audit asks, for an estimate before it starts."""
    cycles = [comparison for *_, comparison in _circles(answer_groups(pairs, triples))]
    return [*(pair.comparison for pair in pairs), *cycles, *cheating(honest(pairs, cheats))]


def _orders(recorded: Recorded, comparisons: Sequence[Comparison]) -> tuple[np.ndarray, np.ndarray] | None:
    """P(the answer shown first wins), with a and with b first, of an oracle that sees places; NaN where it failed."""
    if not isinstance(recorded.oracle, PositionSensitive):
        return None
    orders = [recorded.orders(comparison) or (math.nan, math.nan) for comparison in comparisons]
    there, back = np.array(orders, dtype=np.float64).reshape(-1, 2).T
    return there, 1 - back


def answer_groups(pairs: Sequence[Labelled], count: int) -> list[tuple[str, list[str]]]:
    """The first `count` prompts with three different answers or more, each with at most `MOST_ANSWERS`."""
    answers: dict[str, dict[str, None]] = {}
    for pair in pairs:
        prompt, a, b = pair.comparison
        answers.setdefault(prompt, {}).update({a: None, b: None})
    return [(prompt, list(texts)[:MOST_ANSWERS]) for prompt, texts in answers.items() if len(texts) > 2][:count]


def _cycles(
    guard: Guard, groups: Sequence[tuple[str, list[str]]], title: str, progress: Progress
) -> dict[str, Any] | None:
    asked = _circles(groups)
    if not asked:
        return None
    preferences = _judged(guard, [comparison for *_, comparison in asked], title, progress)
    by_prompt: list[dict[tuple[int, int], float]] = [{} for _ in groups]
    for (index, i, j, _), p in zip(asked, preferences.tolist(), strict=True):
        if not math.isnan(p):
            by_prompt[index][i, j] = p
    return measure([verdicts for verdicts in by_prompt if verdicts])


def _circles(groups: Sequence[tuple[str, list[str]]]) -> list[tuple[int, int, int, Comparison]]:
    return [
        (index, i, j, Comparison(prompt, texts[i], texts[j]))
        for index, (prompt, texts) in enumerate(groups)
        for i, j in combinations(range(len(texts)), 2)
    ]
