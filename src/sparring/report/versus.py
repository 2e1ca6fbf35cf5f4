"""The page of a contest: who wins, how sure that is, and all answers side by side, in one file without network.

Leaves out: computing any number (`evaluation/head_to_head.py`).

    write_versus(result, judgments, orders, Path("index.html"))
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sparring.evaluation.annotations import Judgments
from sparring.report.html import page
from sparring.runtime.files import write_text

MOST = 2000
"""prompts in the page; the first ones are shown, and the page says so"""


def write_versus(result: Mapping[str, Any], judgments: Judgments, orders: np.ndarray, path: Path) -> None:
    """Write the contest's page; `orders` is N2, P(A wins) with A shown first and second, NaN where unknown."""
    rows = _rows(judgments, orders)[:MOST]
    intervals = _intervals(result)
    write_text(path, page("versus.html", ["versus.css"], "versus.js", r=result, intervals=intervals, rows=rows))


def _intervals(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of the picture: name, what it is, and its interval."""
    rows = [
        ("Win rate", "prompts on which A is preferred; a tie counts one half", result["win_rate"]),
        ("Mean preference", "the judge’s probability that A is better, averaged", result["mean_preference"]),
    ]
    if result["length_controlled"]:
        about = "mean preference if both answers had the same length"
        rows.append(("At equal lengths", about, result["length_controlled"]))
    return [{"name": name, "about": about, "rate": rate} for name, about, rate in rows]


def _rows(judgments: Judgments, orders: np.ndarray) -> list[dict[str, Any]]:
    preferences = judgments.preferences
    return [
        {
            "prompt": judgments.instructions[i],
            "a": judgments.outputs[i],
            "b": judgments.baseline_outputs[i],
            "preference": None if np.isnan(p) else float(p),
            "outcome": "none" if np.isnan(p) else "tie" if p == 0.5 else "win" if p > 0.5 else "loss",
            "orders": None if np.isnan(orders[i]).any() else orders[i].tolist(),
            "turned": bool((orders[i, 0] - 0.5) * (orders[i, 1] - 0.5) < 0),
        }
        for i, p in enumerate(preferences)
    ]
