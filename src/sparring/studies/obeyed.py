"""What code checked of a study's methods: rules passed by the start and by each method, the gain, and what it cost.

A prompt's shares are averaged over a method's seeds first; intervals are over prompts, for these seeds' policies.
Points a minute count the rounds' time alone, without evaluation. Leaves out: judgments (`numbers.py`).

    obeyed({("inpo", 0): summary})[0]["gain"]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sparring.evaluation.intervals import DIFFERENCE, SHARE, interval
from sparring.report.compare import run_row
from sparring.report.summary import Sample, Summary

ALL = "all"
"""the rows of all prompts, before those of groups"""
COLUMNS = ("method", "prompts", "start", "final", "gain", "95 % interval", "over seeds", "points a minute")


def obeyed(summaries: Mapping[tuple[str, int], Summary]) -> list[dict[str, Any]]:
    """A row per group of prompts and method, methods in their order; none where no held-out prompt has a rule."""
    rows = []
    for name in dict.fromkeys(name for name, _ in summaries):
        own = [summary for (method, _), summary in summaries.items() if method == name and summary.get("checks")]
        if own:
            minutes = float(np.mean([run_row(name, summary)["seconds"] for summary in own])) / 60
            rows += [{"method": name, "group": group, **_rates(own, group, minutes)} for group in _groups(own[0])]
    return sorted(rows, key=lambda row: row["group"] != ALL)


def _groups(summary: Summary) -> list[str]:
    checks = summary["checks"]
    return [ALL, *(checks.get("by_group", {}) if checks else {})]


def _rates(own: Sequence[Summary], group: str, minutes: float) -> dict[str, Any]:
    rows = [[one for one in summary["samples"] if one["check"] and _in_group(one, group)] for summary in own]
    start, final = (
        np.mean([[np.mean(one[key] or [0.0]) for one in of_seed] for of_seed in rows], axis=0)
        for key in ("start_passes", "final_passes")
    )
    by_seed = [_gain(of_seed) for of_seed in rows]
    gain = interval(final - start, DIFFERENCE)
    return {
        "start": interval(start, SHARE),
        "final": interval(final, SHARE),
        "gain": gain,
        "by_seed": by_seed,
        "prompts": len(start),
        "points_per_minute": 100 * gain.value / minutes if minutes and group == ALL else None,
    }


def _in_group(sample: Sample, group: str) -> bool:
    return group in (ALL, sample.get("group"))


def _gain(rows: Sequence[Sample]) -> float:
    return float(
        np.mean([np.mean(one["final_passes"] or [0.0]) - np.mean(one["start_passes"] or [0.0]) for one in rows])
    )


def cells(row: Mapping[str, Any]) -> list[str]:
    """A row as cells under COLUMNS."""
    start, final, gain = (row[key].scaled(100) for key in ("start", "final", "gain"))
    seeds = [100 * one for one in row["by_seed"]]
    over = f"{min(seeds):+.0f} to {max(seeds):+.0f}" if len(seeds) > 1 else ""
    speed = "" if row["points_per_minute"] is None else f"{row['points_per_minute']:.1f}"
    numbers = [f"{start.value:.1f}", f"{final.value:.1f}", f"{gain.value:+.1f}", gain.span("+.1f")]
    return [row["method"], str(row["prompts"]), *numbers, over, speed]


def by_group(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """The rows of each group of prompts, all prompts first."""
    return {group: [row for row in rows if row["group"] == group] for group in dict.fromkeys(r["group"] for r in rows)}
