"""The report's curves as drawings, each with what it says.

Leaves out: which curves there are (`panels.py`), axes and lines (`chart.py`), intervals and the win-rate matrix
(`page.html`), the picture for a README (`picture.py`).

    figures = policy_figures(summary["policies"], summary["recipe"]) + fit_figures(summary["fit"], summary["recipe"])
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import Any

from sparring.evaluation.best_policy import EvaluatedPolicy
from sparring.evaluation.intervals import Interval
from sparring.report import curve_checks as checks
from sparring.report.chart import Chart, Curve
from sparring.report.curve_checks import Check
from sparring.report.numbers import number, percent
from sparring.report.panels import FIT_PANELS, POLICY_PANELS, Line, Panel, kl_title
from sparring.report.summary import FitRow, PolicyMeasures

Values = list[float | None]

MOST_POINTS, LEAST_POINTS = 360, 24
"""in a drawing, and for one round of many: longer fits are drawn in blocks, no finer than the screen"""
MOST_HOVERS = 48
"""parts of a fit's drawing with a tooltip each"""
FEW_ROUNDS, MOST_NAMES = 4, 12
"""up to FEW_ROUNDS are named "round 1", more "1"; beyond MOST_NAMES only some: labels must not collide"""


@dataclass(frozen=True, slots=True)
class Figure:
    """A panel with its drawing (SVG) and what it says."""

    id: str
    panel: Panel
    svg: str
    check: Check | None
    steps_drawn: bool = False
    """whether a faint line of single steps is in it"""


def policy_figures(
    policies: Sequence[PolicyMeasures], recipe: Mapping[str, Any], evaluated: Sequence[EvaluatedPolicy] = ()
) -> list[Figure]:
    """Win rate, length, finished share, diversity and KL by policy; none for a single policy, which makes no curve."""
    if len(policies) < 2:
        return []
    wins = {policy["round"]: policy["win_rate"] for policy in evaluated} if len(evaluated) > 1 else {}
    rows = [_with_kl_band(policy) | _win_band(wins.get(policy["round"])) for policy in policies]
    panels = [replace(panel, title=panel.title.format(kl=kl_title(recipe))) for panel in POLICY_PANELS]
    return [
        Figure(f"policy-{i}", panel, _policy_chart(panel, rows).svg(), panel.check(policies, recipe))
        for i, panel in enumerate(panels)
        if _measured(panel, rows)
    ]


def fit_figures(fit: Sequence[Sequence[FitRow]], recipe: Mapping[str, Any]) -> list[Figure]:
    """Training curves, rounds one after another; those without any value are left out."""
    every = [row for rows in fit for row in rows]
    panels = [(i, panel) for i, panel in enumerate(FIT_PANELS) if _measured(panel, every)]
    return [
        Figure(f"fit-{i}", panel, _fit_chart(panel, fit).svg(), panel.check(fit, recipe), _steps_drawn(panel, fit))
        for i, panel in panels
    ]


def undrawn(fit: Sequence[Sequence[FitRow]]) -> list[str]:
    """Keys of the fit's rows that no figure shows."""
    drawn = {"step"} | {line.key for panel in FIT_PANELS for line in panel.lines}
    return sorted({key for rows in fit for row in rows for key in row} - drawn)


def _with_kl_band(policy: PolicyMeasures) -> FitRow:
    numbers: FitRow = {key: value for key, value in policy.items() if isinstance(value, int | float)}
    kl, error = numbers.get("kl_to_start"), numbers.get("kl_standard_error")
    return numbers if kl is None or error is None else {**numbers, "kl_low": kl - 2 * error, "kl_high": kl + 2 * error}


def _win_band(rate: Interval | None) -> FitRow:
    return {} if rate is None else {"win_rate": rate.value, "win_rate_low": rate.low, "win_rate_high": rate.high}


def _measured(panel: Panel, rows: Sequence[FitRow]) -> bool:
    """Whether there is any value; one that is not finite counts, as its check says so."""
    return any(row.get(line.key) is not None for row in rows for line in panel.lines)


def _value(row: FitRow, key: str) -> float | None:
    value = row.get(key)
    return value if value is not None and checks.finite(value) else None


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def blocks(rows: Sequence[FitRow], most: int) -> list[Sequence[FitRow]]:
    """The rows in at most `most` stretches of equal size."""
    size = max(1, math.ceil(len(rows) / most))
    return [rows[i : i + size] for i in range(0, len(rows), size)]


def smooth(values: Values, fraction: int) -> Values:
    """Centred running mean over a `fraction`-th of the values; gaps stay; 0 changes nothing."""
    half = len(values) // fraction // 2 if fraction else 0
    return [None if value is None else _mean(values[max(0, i - half) : i + half + 1]) for i, value in enumerate(values)]


def _shown(value: float | None, panel: Panel) -> str:
    return percent(value) if panel.unit == "share" else number(value)


# ---------------------------------------------------------------- policies


def _policy_chart(panel: Panel, rows: Sequence[FitRow]) -> Chart:
    rounds = [int(row.get("round") or 0) for row in rows]
    where = [f"policy {t}" if t else "start" for t in rounds]
    every = math.ceil(len(rounds) / MOST_NAMES)
    curves = [
        Curve([(t, _value(row, line.key)) for t, row in zip(rounds, rows, strict=True)], line.colour, dots=True)
        for line in panel.lines
    ]
    words = ["; ".join(f"{line.name} {_shown(_value(row, line.key), panel)}" for line in panel.lines) for row in rows]
    named = [f"{name}: {text}" for name, text in zip(where, words, strict=True)]
    edges = [(t - 0.5, t + 0.5, name) for t, name in zip(rounds, named, strict=True)]
    return Chart(
        label=f"{panel.title}. {'. '.join(named[::every])}.",
        lines=curves,
        span=(min(rounds) - 0.2, max(rounds) + 0.2),
        band=_band(rounds, panel.band, rows) if panel.band else None,
        share=panel.unit == "share",
        from_zero=panel.from_zero,
        ticks=[(t, str(t) if t else "start") for t in rounds[::every]],
        hovers=edges,
    )


def _band(x: Sequence[float], keys: tuple[str, str], rows: Sequence[FitRow]) -> tuple[list[Any], list[Any]] | None:
    """Lower and upper edge where both are known."""
    edges = [(t, _value(row, keys[0]), _value(row, keys[1])) for t, row in zip(x, rows, strict=True)]
    known = [(t, low, high) for t, low, high in edges if low is not None and high is not None]
    return ([(t, low) for t, low, _ in known], [(t, high) for t, _, high in known]) if len(known) > 1 else None


# ---------------------------------------------------------------- fits


def _fit_chart(panel: Panel, fit: Sequence[Sequence[FitRow]]) -> Chart:
    starts = list(accumulate((len(rows) for rows in fit), initial=0))
    spans = [(t, a, b) for t, (a, b) in enumerate(pairwise(starts), start=1) if b > a]
    named = spans[:: math.ceil(len(spans) / MOST_NAMES)]
    word = "round " if len(spans) <= FEW_ROUNDS else ""
    most = max(LEAST_POINTS, MOST_POINTS // len(spans))
    faint = [c for t, a, _ in spans for line in panel.lines for c in _single_steps(panel, line, fit[t - 1], a, most)]
    strong = [_running_mean(panel, line, fit[t - 1], a, most) for t, a, _ in spans for line in panel.lines]
    return Chart(
        label=f"{panel.title}. {'. '.join(_course(panel, t, fit[t - 1]) for t, _, _ in named)}.",
        lines=[*faint, *strong],
        span=(0.5, starts[-1] + 0.5),
        share=panel.unit == "share",
        from_zero=panel.from_zero,
        headings=[((a + b + 1) / 2, f"{word}{t}") for t, a, b in named],
        separators=[a + 0.5 for _, a, _ in spans if a > 0],
        hovers=[hover for t, a, _ in spans for hover in _hovers(panel, t, fit[t - 1], a, MOST_HOVERS // len(spans))],
    )


def _running_mean(panel: Panel, line: Line, rows: Sequence[FitRow], start: int, most: int) -> Curve:
    parts = blocks(rows, most)
    mean = smooth([_mean([_value(row, line.key) for row in part]) for part in parts], panel.smoothing)
    return Curve(list(zip(_middles(parts, start), mean, strict=True)), line.colour)


def _single_steps(panel: Panel, line: Line, rows: Sequence[FitRow], start: int, most: int) -> Iterator[Curve]:
    """The faint line; of a block of steps its lowest and highest, so that no spike is averaged away."""
    if not panel.steps_shown or not _smoothed(panel, line, rows):
        return
    parts = blocks(rows, most)
    points: list[tuple[float, float | None]] = []
    for x, part in zip(_middles(parts, start), parts, strict=True):
        known = [value for row in part if (value := _value(row, line.key)) is not None]
        ends = [None] if not known else known if len(known) == 1 else [min(known), max(known)]
        points += [(x, value) for value in ends]
    yield Curve(points, f"{line.colour} faint")


def _smoothed(panel: Panel, line: Line, rows: Sequence[FitRow]) -> bool:
    """Whether the strong line is another than that of the single steps."""
    values = {value for row in rows if (value := _value(row, line.key)) is not None}
    return bool(panel.smoothing) and len(rows) // panel.smoothing >= 2 and len(values) > 1


def _steps_drawn(panel: Panel, fit: Sequence[Sequence[FitRow]]) -> bool:
    return panel.steps_shown and any(_smoothed(panel, line, rows) for line in panel.lines for rows in fit)


def _middles(parts: Sequence[Sequence[FitRow]], start: int) -> list[float]:
    """Where blocks of steps stand on the axis, whose steps count from 1 over all rounds."""
    ends = list(accumulate((len(part) for part in parts), initial=start))
    return [(a + b + 1) / 2 for a, b in pairwise(ends)]


def _hovers(panel: Panel, t: int, rows: Sequence[FitRow], start: int, most: int) -> Iterator[tuple[float, float, str]]:
    before = start
    for part in blocks(rows, max(most, 1)):
        end = start + len(part)
        yield start + 0.5, end + 0.5, _tooltip(panel, t, part, start - before + 1)
        start = end


def _tooltip(panel: Panel, t: int, part: Sequence[FitRow], first: int) -> str:
    steps = [int(row.get("step") or first + i) for i, row in enumerate(part)]
    where = f"step {steps[0]}" if len(steps) == 1 else f"steps {steps[0]} to {steps[-1]}, mean"
    means = ((line.name, _mean([_value(row, line.key) for row in part])) for line in panel.lines)
    return f"round {t}, {where}: " + "; ".join(f"{name} {_shown(mean, panel)}" for name, mean in means)


def _course(panel: Panel, t: int, rows: Sequence[FitRow]) -> str:
    """One round for a screen reader."""
    ends = []
    for line in panel.lines:
        if known := [value for row in rows if (value := _value(row, line.key)) is not None]:
            ends.append(f"{line.name} from {_shown(known[0], panel)} to {_shown(known[-1], panel)}")
    return f"Round {t}: {'; '.join(ends) or 'no value'}"
