"""A run's summary in a Python shell and a notebook: its headline, judgments, checks, warnings and files.

Leaves out: the report, which has all numbers (`html.py`).

    print(view_of_run(summary, Path("runs/demo")).text)
"""

from __future__ import annotations

from pathlib import Path

from sparring.evaluation.best_policy import in_words
from sparring.report.html import lead, picture
from sparring.report.numbers import JOINER, THIN, judge_names, percent, span
from sparring.report.summary import Rates, Summary
from sparring.runtime.layout import REPORT, round_folder
from sparring.runtime.shown import View


def view_of_run(summary: Summary, run: Path) -> View:
    """The result, in words and as the README's picture."""
    columns = ("final against start, held out", "in training", "rate", "95 % interval")
    rows = [
        (
            name,
            "yes" if j["seen_in_training"] else "no",
            percent(j["win_rate"].value, j["win_rate"]),
            span(j["win_rate"]),
        )
        for name, j in zip(judge_names(summary["judgments"]), summary["judgments"], strict=True)
    ] + (_checked(checks) if (checks := summary["checks"]) else [])
    files = f"report: {run / REPORT}", f"policy: {run / round_folder(len(summary['rounds']) - 1).policy}"
    best = [in_words(chosen)] if (chosen := summary.get("best")) else []
    notes = [*best, *(f"warning: {warning}" for warning in summary["warnings"]), *files]
    plain = [tuple(map(_plain, row)) for row in ([columns, *rows] if rows else [])]
    return View(_plain(f"{summary['name']}: {lead(summary)}"), plain, notes, picture(summary))


def _checked(checks: Rates) -> list[tuple[str, ...]]:
    """The share of responses that pass the checks by code, of both policies."""
    sides = ("start", checks["start"]), ("final policy", checks["final"])
    return [(f"checks passed by the {name}", "", percent(rate.value, rate), span(rate)) for name, rate in sides]


def _plain(text: str) -> str:
    """Without the characters that keep a number and its unit on one line of a page."""
    return text.replace(JOINER, "").replace(THIN, " ")
