"""Judging in looks: after each, the policies that go on are chosen from the verdicts so far, and the choice is stored.

    out/choices.json    design, seed, budget, looks, and what was chosen at each

The prompts are asked in an order that depends on the seed and their texts alone. A choice is written before anything is
asked because of it; the same command after a stop follows the stored ones, even if a verdict that failed before comes
now. Leaves out: the rule of choosing and what it costs (`evaluation/racing.py`).

    record = judge_in_looks(Plan("adaptive"), names, verdict_tables, Path("out/choices.json"), inputs)
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from sparring.contests.verdict_tables import Table, VerdictTables
from sparring.evaluation.exploitability import Attack, attacks
from sparring.evaluation.racing import Design, plan_race
from sparring.runtime.files import read_json, write_json

CHOICES = "choices.json"
NO_ATTACKER = "{} has no attacker: give --attacker, or --samples 3 or more for the best of its own answers."


@dataclass(frozen=True, slots=True)
class Plan:
    """Which comparisons are asked: `uniform` all, `adaptive` in looks; `budget`: verdicts at most."""

    design: Design = "uniform"
    budget: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.design not in get_args(Design):
            raise ValueError(f"--design {self.design!r}: give one of {', '.join(get_args(Design))}.")

    @property
    def identity(self) -> str:
        """What the verdicts depend on; empty where all are asked, in any order."""
        every = self.design == "uniform" and self.budget is None
        return "" if every else f"{self.design}, budget {self.budget}, seed {self.seed}"

    def order(self, texts: Sequence[str]) -> list[str]:
        """The prompts in the order in which they are asked: a random one, which is the same for the same seed."""
        return sorted(texts, key=lambda text: hashlib.sha256(f"{self.seed} {text!r}".encode()).digest())


def attacks_by_player(
    names: Sequence[str], tables: Sequence[Sequence[Table]], prompts: int | None = None
) -> dict[int, list[Attack]]:
    """The attacks of every player that has some, the target being the first; `prompts`: only on so many of them."""
    found = {p: attacks(names[p], table[:prompts], own=p == 0) for p, table in enumerate(tables)}
    return {p: own for p, own in found.items() if own}


def judge_in_looks(
    plan: Plan, names: Sequence[str], verdicts: VerdictTables, path: Path, inputs: Mapping[str, str]
) -> None:
    """Fill in the tables look by look, and write what was chosen.

    Args:
        names: of the players, the target first.
        path: file of the choices.
        inputs: hashes of what the choices depend on; a file of other ones is written anew.

    Raises:
        ValueError: the budget is too small, or the target has no attacker.
    """
    runs = list(attacks_by_player(names, verdicts.tables))
    if not runs:
        raise ValueError(NO_ATTACKER.format(names[0]))
    cost_NP = verdicts.costs()
    cost_NP[:, [p for p in range(len(names)) if p not in runs]] = 0
    race = plan_race(cost_NP, plan.budget, plan.design)
    record: dict[str, Any] = {"inputs": dict(inputs), "design": plan.design, "seed": plan.seed, "budget": plan.budget}
    record |= {"looks": list(race.looks), "uniform": int(cost_NP.sum()), "verdicts": 0, "choices": []}
    stored = read_json(path) if path.exists() else {}
    choices = stored["choices"] if stored.get("inputs") == record["inputs"] else []
    begin = 0
    for look, end in enumerate(race.looks):
        verdicts.ask(range(begin, end), runs)
        record["verdicts"] += int(cost_NP[begin:end, runs].sum())
        if look < len(race.looks) - 1:
            if len(choices) == look:
                seen = {p: own for p, own in attacks_by_player(names, verdicts.tables, end).items() if p in runs}
                kept, dropped = race.choose(look, seen, cost_NP, record["verdicts"])
                choices.append({"prompts": end, "kept": sorted(kept), "dropped": dropped})
            begin, runs = end, choices[look]["kept"]
        write_json(path, {**record, "choices": choices})
