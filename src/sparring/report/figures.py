"""The report's curves, as plain plotly dicts.

Colours are written as CSS variables ("var(--chosen)"), which the page resolves, so that one figure serves light, dark
and print. Leaves out: intervals and the win-rate matrix, which are HTML (`page.html`) and need no JavaScript, and the
picture for a README (`picture.py`).

    figures = policy_figures(summary["policies"], summary["recipe"]) + fit_figures(summary["fit"])
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import Any, Literal

from sparring.report.summary import FitRow, PolicyMeasures

Trace = dict[str, Any]
Values = list[float | None]

MOST_POINTS = 500
"""per round and line: longer fits are averaged in blocks, so that the page stays small"""
FEW_ROUNDS, MOST_NAMES = 4, 12
"""up to FEW_ROUNDS are named "round 0", more "0"; beyond MOST_NAMES only some: labels must not collide"""


@dataclass(frozen=True, slots=True)
class Line:
    """One curve: the key of its values, its name and its colour."""

    key: str
    name: str
    colour: str = "accent"


@dataclass(frozen=True, slots=True)
class Panel:
    """What one figure shows and how to read it."""

    title: str
    caption: str
    lines: tuple[Line, ...]
    unit: Literal["number", "share"] = "number"
    from_zero: bool = False
    smoothing: int = 15
    """the strong line is a running mean over this fraction (a 15th) of its round; 0: every step"""
    steps_shown: bool = True
    """whether single steps are drawn faintly behind the running mean"""
    band: tuple[str, str] | None = None
    """keys of the lower and upper edge of a band behind the first line"""


@dataclass(frozen=True, slots=True)
class Figure:
    """A panel with its data: plotly traces and layout."""

    id: str
    panel: Panel
    data: list[Trace]
    layout: dict[str, Any]


POLICY_PANELS = (
    Panel(
        "Length of responses, tokens",
        "Good: the mean moves a little and the band (10th to 90th percentile) with it; bad: it "
        "climbs round after round, which is how a policy exploits an oracle that likes long text.",
        (Line("tokens_mean", "mean"),),
        from_zero=True,
        band=("tokens_p10", "tokens_p90"),
    ),
    Panel(
        "Responses that end by themselves",
        "Good: steady or rising; bad: falling, when the policy has stopped knowing how to finish.",
        (Line("finished_share", "finished"),),
        "share",
    ),
    Panel(
        "Diversity",
        "Good: nearly level lines with repetition at the bottom; bad: distinct trigrams or answers collapse, or "
        "repetition rises.",
        (
            Line("distinct_trigrams", "distinct trigrams"),
            Line("distinct_answers", "distinct answers", "second"),
            Line("repeating_share", "responses that repeat", "against"),
        ),
        "share",
        from_zero=True,
    ),
    Panel(
        "{kl} to the start, nats per response",
        "Good: a slow rise that flattens (band: two standard errors either side); bad: one that "
        "speeds up, when each round leaves the start faster than the last.",
        (Line("kl_to_start", "KL(policy || start)"),),
        from_zero=True,
        band=("kl_low", "kl_high"),
    ),
)

FIT_PANELS = (
    Panel(
        "Loss",
        "Good: falls within a round and settles; bad: rises, or jumps and does not come back.",
        (Line("loss", "loss"),),
    ),
    Panel(
        "Margin and its target",
        "Good: the margin approaches its target and stays; bad: it runs past it, or never leaves zero.",
        (Line("margin", "margin, chosen over rejected"), Line("margin_target", "target", "muted")),
    ),
    Panel(
        "Log-ratio to the reference",
        "Good: chosen and rejected part with chosen near or above zero; bad: both sink together, "
        "when probability moves to text that nobody sampled.",
        (Line("chosen_vs_reference", "chosen"), Line("rejected_vs_reference", "rejected", "against")),
    ),
    Panel(
        "Log-ratio to the iterate",
        "Good: starts at zero every round and opens evenly; bad: many nats of one sign for both, "
        "a step too large for the pairs it was judged on.",
        (Line("chosen_vs_iterate", "chosen"), Line("rejected_vs_iterate", "rejected", "against")),
    ),
    Panel(
        "Accuracy on the training pairs",
        "Good: climbs above one half and levels off; bad: stuck at one half (nothing learned) or "
        "at one at once (pairs that give themselves away).",
        (Line("accuracy", "chosen ranked above rejected"),),
        "share",
    ),
    Panel(
        "Gradient norm before clipping",
        "Good: level, of order one; bad: spikes that grow, or a fall to zero.",
        (Line("grad_norm", "gradient norm"),),
        from_zero=True,
    ),
    Panel(
        "Share of clipped steps",
        "Good: low after the first steps; bad: near one, when the norm's limit sets the step size "
        "instead of the learning rate.",
        (Line("clipped", "clipped"),),
        "share",
        from_zero=True,
        smoothing=5,
        steps_shown=False,
    ),
    Panel(
        "Learning rate",
        "Good: the schedule you asked for, afresh each round; bad: anything else.",
        (Line("learning_rate", "learning rate"),),
        from_zero=True,
        smoothing=0,
    ),
    Panel(
        "Tokens per second",
        "Good: level; bad: falling, when memory or another process is in the way.",
        (Line("tokens_per_second", "tokens per second"),),
        from_zero=True,
    ),
)


def kl_title(recipe: Mapping[str, Any]) -> str:
    """ "KL", or "KL on the samples (...)" where temperature or top_p make them other than the policy's own."""
    sampling = recipe.get("sampling", {})
    drawn = {"T": sampling.get("temperature", 1.0), "top_p": sampling.get("top_p", 1.0)}
    changed = ", ".join(f"{name} = {value:g}" for name, value in drawn.items() if value != 1.0)
    return f"KL on the samples ({changed})" if changed else "KL"


def policy_figures(policies: Sequence[PolicyMeasures], recipe: Mapping[str, Any]) -> list[Figure]:
    """Length, finished share, diversity and KL by policy; no figure for a single policy, which makes no curve."""
    if len(policies) < 2:
        return []
    rows = [_with_kl_band(policy) for policy in policies]
    panels = [replace(panel, title=panel.title.format(kl=kl_title(recipe))) for panel in POLICY_PANELS]
    return [_policy_figure(i, p, rows) for i, p in enumerate(panels) if _measured(p, rows)]


def fit_figures(fit: Sequence[Sequence[FitRow]]) -> list[Figure]:
    """Training curves, rounds one after another; those without any value are left out."""
    rounds = [thin(rows) for rows in fit]
    every = [row for rows in rounds for row in rows]
    return [_fit_figure(i, p, rounds) for i, p in enumerate(FIT_PANELS) if _measured(p, every)]


def undrawn(fit: Sequence[Sequence[FitRow]]) -> list[str]:
    """Keys of the fit's rows that no figure shows."""
    drawn = {"step"} | {line.key for panel in FIT_PANELS for line in panel.lines}
    return sorted({key for rows in fit for row in rows for key in row} - drawn)


def _with_kl_band(policy: PolicyMeasures) -> FitRow:
    numbers: FitRow = {key: value for key, value in policy.items() if isinstance(value, int | float)}
    kl, error = numbers.get("kl_to_start"), numbers.get("kl_standard_error")
    return numbers if kl is None or error is None else {**numbers, "kl_low": kl - 2 * error, "kl_high": kl + 2 * error}


def _measured(panel: Panel, rows: Sequence[FitRow]) -> bool:
    return any(_value(row, line.key) is not None for row in rows for line in panel.lines)


def _value(row: FitRow, key: str) -> float | None:
    # Five digits are more than a screen shows; JSON has no NaN.
    value = row.get(key)
    return float(f"{value:.5g}") if value is not None and math.isfinite(value) else None


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(f"{sum(known) / len(known):.5g}") if known else None


def thin(rows: Sequence[FitRow]) -> list[FitRow]:
    """At most MOST_POINTS rows: means over blocks of equal size."""
    size = math.ceil(len(rows) / MOST_POINTS)
    if size <= 1:
        return list(rows)
    blocks = [rows[i : i + size] for i in range(0, len(rows), size)]
    keys = list(dict.fromkeys(key for row in rows for key in row))
    return [{key: _mean([_value(row, key) for row in block]) for key in keys} for block in blocks]


def smooth(values: Values, fraction: int) -> Values:
    """Centred running mean over a `fraction`-th of the values; gaps stay; 0 changes nothing."""
    half = len(values) // fraction // 2 if fraction else 0
    return [None if value is None else _mean(values[max(0, i - half) : i + half + 1]) for i, value in enumerate(values)]


def _layout(panel: Panel, xaxis: dict[str, Any]) -> dict[str, Any]:
    yaxis: dict[str, Any] = {"rangemode": "tozero" if panel.from_zero else "normal"}
    if panel.unit == "share":
        yaxis |= {"tickformat": ".0%", "minallowed": 0, "maxallowed": 1.02}
    return {"xaxis": xaxis, "yaxis": yaxis}


def _trace(x: Sequence[float], y: Values, where: Sequence[str], line: Line, panel: Panel) -> Trace:
    """A strong line; hovering says where on it and the value."""
    stroke = {"color": f"var(--{line.colour})", "width": 2}
    trace: Trace = {"type": "scatter", "mode": "lines", "x": list(x), "y": y, "line": stroke}
    value = "%{y:.1%}" if panel.unit == "share" else "%{y:.4~g}"
    hover = {"text": list(where), "hovertemplate": f"{line.name}, %{{text}}: {value}<extra></extra>"}
    return trace | (hover if where else {})


def _policy_figure(index: int, panel: Panel, rows: Sequence[FitRow]) -> Figure:
    rounds = [int(row.get("round") or 0) for row in rows]
    names = ["start" if round_ == 0 else str(round_) for round_ in rounds]
    where = [name if name == "start" else f"policy {name}" for name in names]
    band = _band(rounds, panel.band, rows) if panel.band else []
    lines = [
        _trace(rounds, [_value(row, line.key) for row in rows], where, line, panel)
        | {"mode": "lines+markers", "marker": {"size": 7}, "cliponaxis": False}
        for line in panel.lines
    ]
    xaxis = {"tickvals": rounds, "ticktext": names, "range": [min(rounds) - 0.2, max(rounds) + 0.2]}
    return Figure(f"policy-{index}", panel, band + lines, _layout(panel, xaxis))


def _band(x: Sequence[float], keys: tuple[str, str], rows: Sequence[FitRow]) -> list[Trace]:
    """Two invisible edges with the space between them filled."""
    edge = {"type": "scatter", "mode": "lines", "hoverinfo": "skip", "line": {"width": 0}}
    low, high = ([_value(row, key) for row in rows] for key in keys)
    fill = {"fill": "tonexty", "fillcolor": "var(--accent-band)"}
    return [{**edge, "x": list(x), "y": low}, {**edge, "x": list(x), "y": high, **fill}]


def _fit_figure(index: int, panel: Panel, rounds: Sequence[Sequence[FitRow]]) -> Figure:
    starts = list(accumulate((len(rows) for rows in rounds), initial=0))
    data = [
        trace
        for t, rows in enumerate(rounds)
        for line in panel.lines
        for trace in _round_traces(t, starts[t], rows, line, panel)
    ]
    layout = _layout(panel, {"range": [0, starts[-1] + 1], "tickvals": []}) | _separated(starts)
    return Figure(f"fit-{index}", panel, data, layout)


def _round_traces(t: int, start: int, rows: Sequence[FitRow], line: Line, panel: Panel) -> Iterator[Trace]:
    """One round's single steps, faint, and their running mean."""
    x = [start + i + 1 for i in range(len(rows))]
    steps = [_value(row, line.key) for row in rows]
    mean = smooth(steps, panel.smoothing)
    if panel.steps_shown and mean != steps:
        faint = {"color": f"var(--{line.colour}-faint)", "width": 1}
        yield _trace(x, steps, [], line, panel) | {"line": faint, "hoverinfo": "skip"}
    where = [f"round {t}, step {row.get('step') or i + 1:.0f}" for i, row in enumerate(rows)]
    yield _trace(x, mean, where, line, panel)


def _separated(starts: Sequence[int]) -> dict[str, Any]:
    """Vertical lines between rounds, and each round's name above its stretch."""
    stroke = {"color": "var(--rule-strong)", "width": 1}
    line = {"type": "line", "yref": "paper", "y0": 0, "y1": 1, "line": stroke}
    label = {"yref": "paper", "y": 1, "yanchor": "bottom", "showarrow": False}
    spans = [(t, a, b) for t, (a, b) in enumerate(pairwise(starts)) if b > a]
    every = math.ceil(len(spans) / MOST_NAMES)
    word = "round " if len(spans) <= FEW_ROUNDS else ""
    return {
        "shapes": [line | {"x0": a + 0.5, "x1": a + 0.5} for _, a, _ in spans if a > 0],
        "annotations": [label | {"x": (a + b + 1) / 2, "text": f"{word}{t}"} for t, a, b in spans[::every]],
    }
