"""Every comparison says its result in a sentence before its table."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from rich.console import Console

from sparring.cli.evaluate import exploitability, head_to_head
from sparring.evaluation.intervals import Interval

RATE = Interval(0.6, 0.55, 0.65)


def screen() -> Console:
    return Console(file=io.StringIO(), width=100)


def first_line(console: Console) -> str:
    return console.file.getvalue().splitlines()[0]  # type: ignore[attr-defined]


def test_a_head_to_head_says_its_verdict_first() -> None:
    console = screen()
    counts = {"wins": 6, "losses": 4, "ties": 0, "judged": 10, "left_out": {}, "decided_by_rule": {}, "cautions": []}
    rates = {"win_rate": RATE, "mean_preference": RATE, "length_controlled": None}
    head_to_head.show({"a": "x", "b": "y", "judge": "j", "verdict": "A wins.", **rates, **counts}, Path("o"), console)
    assert first_line(console) == "A wins."


def test_exploitability_says_its_verdict_first() -> None:
    console = screen()
    result: dict[str, Any] = {"judge": "j", "verdict": "Not shown.", "comparisons": 1, "judged": 1, "prompts": 1}
    attacker = {"attacker": "x", "preference": RATE}
    result |= {"attackers": [attacker], "left_out": 0, "failed": 0, "players": [], "cautions": []}
    exploitability.show(result, console)
    assert first_line(console) == "Not shown."
