"""How many instructions two policies obey, where code can tell: of all prompts, by kind of rule, by group of prompts.

A prompt passes when all its rules hold; a rule is counted by itself in its kind. Both policies answered the same
prompts, so differences are paired; intervals are over prompts (`intervals.py`). Leaves out: judging a rule
(`data/checks.py`), and one policy alone (`pass_rate.py`).

    check_rates([Checked([{"rule": "one_word"}], "unseen topics", start=["A ship."], final=["Ship"])])["difference"]

Shape suffixes: N answers of one policy to a prompt, R its rules.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sparring.data.checks import Instruction, obeyed
from sparring.evaluation.intervals import DIFFERENCE, SHARE, interval

RELATIONS = ("relation", "let_relation", "capital_relation")
"""arguments of IFEval's rules that say which way a bound goes"""
MOST_GROUPS = 12
"""a column with more values than this does not name groups, and none are shown"""


@dataclass(frozen=True, slots=True)
class Checked:
    """One prompt's rules, the group it belongs to, and the answers of both policies."""

    checks: Sequence[Instruction]
    group: str | None
    start: Sequence[str]
    final: Sequence[str]


@dataclass(frozen=True, slots=True)
class _Shares:
    """Of one prompt: the share of each policy's answers that pass."""

    start: float
    final: float


def check_rates(rows: Sequence[Checked]) -> dict[str, Any] | None:
    """Rates of start and final policy with their paired difference; None where no prompt has a rule.

    `by_rule` and `by_group` hold the same by name, most prompts first; a group of its own is a name in at most 12.
    """
    rows = [row for row in rows if row.checks]
    if not rows:
        return None
    by_rule: dict[str, list[_Shares]] = {}
    by_group: dict[str, list[_Shares]] = {}
    whole: list[_Shares] = []
    for row in rows:
        start_NR, final_NR = (
            np.array([obeyed(row.checks, text) for text in texts]) for texts in (row.start, row.final)
        )
        whole.append(_Shares(float(start_NR.all(1).mean()), float(final_NR.all(1).mean())))
        for check, start, final in zip(row.checks, start_NR.mean(0), final_NR.mean(0), strict=True):
            by_rule.setdefault(_kind(check), []).append(_Shares(float(start), float(final)))
        if row.group is not None:
            by_group.setdefault(row.group, []).append(whole[-1])
    return {
        **_rates(whole),
        "by_rule": _table(by_rule),
        "by_group": _table(by_group) if 1 < len(by_group) <= MOST_GROUPS else {},
    }


def _kind(check: Instruction) -> str:
    """The rule, and for bounds their direction: "at least 30 words" and "less than 10" are two kinds."""
    relation = next((check[name] for name in RELATIONS if name in check), None)
    return f"{check['rule']}{'' if relation is None else f', {relation}'}"


def _table(named: Mapping[str, Sequence[_Shares]]) -> dict[str, dict[str, Any]]:
    return {name: _rates(shares) for name, shares in sorted(named.items(), key=lambda item: (-len(item[1]), item[0]))}


def _rates(shares: Sequence[_Shares]) -> dict[str, Any]:
    return {
        "start": interval([one.start for one in shares], SHARE),
        "final": interval([one.final for one in shares], SHARE),
        "difference": interval([one.final - one.start for one in shares], DIFFERENCE),
        "prompts": len(shares),
    }
