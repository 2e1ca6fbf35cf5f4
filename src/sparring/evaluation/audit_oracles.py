"""Asks oracles about labelled pairs, for `oracle_quality.py` to judge them. Leaves out: numbers and pictures.

Verdicts go through the guard, which retries, counts failures and keeps them in `verdicts.jsonl`; what an oracle that
sees places says of either order is kept in `orders.jsonl`. An audit that was stopped goes on where it was, and nothing
is asked twice. Where the data hold several answers to one prompt, triples are asked, to find cycles; and cheap cheats
are put up against preferred answers (`evaluation/cheats.py`).

    audit = run_audit({"panel": Panel()}, pairs, Path("runs/audit"), Progress())
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from sparring.data.checks import count_words
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
"""comparisons between two signs of life"""
MOST_ANSWERS = 4
"""of a prompt that are compared with each other when cycles are looked for"""


def run_audit(
    oracles: Mapping[str, Oracle],
    pairs: Sequence[Labelled],
    out: Path,
    progress: Progress,
    triples: int = 75,
    cheats: int = 30,
) -> dict[str, Any]:
    """The audit as plain data; `triples` and `cheats` are on how many prompts cycles and cheats are tried (0: none)."""
    comparisons = [pair.comparison for pair in pairs]
    prompts = [pair.comparison.prompt for pair in pairs]
    labels = np.array([pair.preference for pair in pairs])
    lengths = np.array([[count_words(c.a), count_words(c.b)] for c in comparisons], dtype=np.float64)
    groups, answers = answer_groups(pairs, triples), honest(pairs, cheats)
    verdicts: dict[str, np.ndarray] = {}
    found = {}
    for name, oracle in oracles.items():
        recorded = Recorded(oracle, out / "orders.jsonl")
        guard = Guard(recorded, out / "verdicts.jsonl")
        guard.probe(FIRST_QUESTIONS[:1], progress.say)  # every question is paid for
        verdicts[name] = _judged(guard, comparisons, f"{name}  pairs", progress)
        cycles = _cycles(guard, groups, f"{name}  triples", progress)
        inside = [inner for inner, _ in nested(oracle)]
        known = frozenset().union(*(inner.train_prompts for inner in inside if isinstance(inner, Learned)))
        fitted = {unordered(c) for inner in inside if isinstance(inner, Calibrates) for c in inner.fitted_on}
        abstaining = [inner for inner in inside if isinstance(inner, Abstains)]
        found[name] = {
            "identity": guard.identity,
            **audit_one(
                verdicts[name], labels, prompts, lengths, [p.category for p in pairs], _orders(recorded, comparisons)
            ),
            "sees_places": any(isinstance(inner, PositionSensitive) for inner in inside),
            "cycles": cycles,
            "cheats": _cheated(guard, answers, f"{name}  cheats", progress),
            "without_rule": sum(any(inner.abstains(c) for inner in abstaining) for c in comparisons),
            "calibrated_on": sum(unordered(c) in fitted for c in comparisons),
            "trained_on": len({prompt for prompt in prompts if digest(prompt) in known}),
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
        "oracles": found,
        "agreement": agreement({**verdicts, "longer wins": rule}, prompts),
    }


def unordered(comparison: Comparison) -> tuple[str, str, str]:
    """The same for both orders of the answers."""
    return comparison.prompt, min(comparison.a, comparison.b), max(comparison.a, comparison.b)


def repeats(pairs: Sequence[Labelled]) -> dict[str, int]:
    """Comparisons labelled both ways, and pairs that say again what another says, in either order of the answers."""
    labels: dict[tuple[str, str, str], list[float]] = {}
    for pair in pairs:
        key, label = unordered(pair.comparison), pair.preference
        labels.setdefault(key, []).append(label if pair.comparison.a == key[1] else 1 - label)
    return {
        "contradicting": sum(min(given) < 0.5 < max(given) for given in labels.values()),
        "repeated": sum(len(given) - len(set(given)) for given in labels.values()),
    }


def _judged(guard: Guard, comparisons: Sequence[Comparison], title: str, progress: Progress) -> np.ndarray:
    answers = []
    with progress.task(title, len(comparisons)) as advance:
        for begin in range(0, len(comparisons), BATCH):
            answers.append(guard.judge(comparisons[begin : begin + BATCH]))
            advance(len(answers[-1]))
    return np.concatenate(answers)


def _cheated(guard: Guard, answers: Sequence[tuple[str, str]], title: str, progress: Progress) -> list[dict[str, Any]]:
    return measure_cheats(_judged(guard, cheating(answers), title, progress), answers) if answers else []


def planned(pairs: Sequence[Labelled], triples: int, cheats: int) -> list[Comparison]:
    """Every comparison that an audit asks, for an estimate before it starts."""
    cycles = [comparison for *_, comparison in _circles(answer_groups(pairs, triples))]
    return [*(pair.comparison for pair in pairs), *cycles, *cheating(honest(pairs, cheats))]


def _orders(recorded: Recorded, comparisons: Sequence[Comparison]) -> tuple[np.ndarray, np.ndarray] | None:
    """What an oracle that sees places said for the answer shown first, a or b; NaN where it failed."""
    if not isinstance(recorded.oracle, PositionSensitive):
        return None
    found = [recorded.orders(comparison) or (math.nan, math.nan) for comparison in comparisons]
    there, back = np.array(found, dtype=np.float64).reshape(-1, 2).T
    return there, 1 - back


def answer_groups(pairs: Sequence[Labelled], count: int) -> list[tuple[str, list[str]]]:
    """The first `count` prompts with three different answers or more, each with at most `MOST_ANSWERS`."""
    answers: dict[str, dict[str, None]] = {}
    for pair in pairs:
        prompt, a, b = pair.comparison
        answers.setdefault(prompt, {}).update({a: None, b: None})
    found = [(prompt, list(texts)[:MOST_ANSWERS]) for prompt, texts in answers.items() if len(texts) > 2]
    return found[:count]


def _cycles(
    guard: Guard, groups: Sequence[tuple[str, list[str]]], title: str, progress: Progress
) -> dict[str, Any] | None:
    asked = _circles(groups)
    if not asked:
        return None
    answers = _judged(guard, [comparison for *_, comparison in asked], title, progress)
    known: list[dict[tuple[int, int], float]] = [{} for _ in groups]
    for (index, i, j, _), p in zip(asked, answers.tolist(), strict=True):
        if p == p:
            known[index][i, j] = p
    return measure([verdicts for verdicts in known if verdicts])


def _circles(groups: Sequence[tuple[str, list[str]]]) -> list[tuple[int, int, int, Comparison]]:
    return [
        (index, i, j, Comparison(prompt, texts[i], texts[j]))
        for index, (prompt, texts) in enumerate(groups)
        for i, j in combinations(range(len(texts)), 2)
    ]
