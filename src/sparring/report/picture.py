"""The result as a small SVG for a README: judgments with intervals, each policy against the start.

One file with its own colours for light and dark pages, readable as an image and by a screen reader.
Leaves out: everything else of the report.

    Path("result.svg").write_text(readme_svg(summary), encoding="utf-8")
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

from sparring.evaluation.intervals import Interval
from sparring.report.summary import Matrix, Summary

SVG_STYLE = """
text { font: 13px -apple-system, "Segoe UI", system-ui, Arial, sans-serif; fill: #1f2733 }
.title { font-size: 15px; font-weight: 600 } .small { font-size: 11.5px } .muted { fill: #5a6373 }
.card { fill: #fff; stroke: #d9dde3 } .grid { stroke: #e4e7eb }
.half { stroke: #8b94a3; stroke-dasharray: 3 3 }
.unseen { stroke: #1c6e8c; fill: #1c6e8c } .seen { stroke: #5a6373; fill: #fff }
.path { stroke: #1c6e8c; fill: none; stroke-width: 2 } .value { font-weight: 600 }
@media (prefers-color-scheme: dark) {
  text { fill: #e3e7ed } .muted { fill: #9aa4b2 } .card { fill: #14181f; stroke: #303846 }
  .grid { stroke: #29303b } .half { stroke: #79839a } .unseen { stroke: #6cc0dc; fill: #6cc0dc }
  .seen { stroke: #9aa4b2; fill: #14181f } .path { stroke: #6cc0dc }
}
"""
WIDTH, LEAST_HEIGHT, ROW, TOP, FOOT = 760, 260, 30, 84, 38
"""pixels: the picture, one judgment's row, where both plots begin, and the space below them"""


class Row(NamedTuple):
    """One interval of the picture."""

    name: str
    interval: Interval
    filled: bool


def readme_svg(summary: Summary) -> str:
    """The result as SVG text; without a judgment the rates of passed checks, else a sentence."""
    rows = _rows(summary)
    height = max(LEAST_HEIGHT, TOP + ROW * len(rows) + FOOT + 6)
    parts = [
        f'<rect class="card" x=".5" y=".5" width="{WIDTH - 1}" height="{height - 1}" rx="8"/>',
        _text(24, 34, _title(summary), "title"),
        *(_legend() if summary["judgments"] else []),
        *(_forest(rows, height - FOOT) if rows else [_text(24, 110, "Nothing was judged.", "muted")]),
        *(_climb(summary["matrix"], height - FOOT) if summary["matrix"] else []),
    ]
    words = "; ".join(f"{row.name} {_percent(row.interval.value)} ({_range(row.interval)})" for row in rows)
    size = f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    label = escape(f"{_title(summary)}. {words}")
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{label}">\n'
        f"<style>{SVG_STYLE}</style>\n{body}\n</svg>\n"
    )


def _rows(summary: Summary) -> list[Row]:
    if summary["judgments"]:
        return [Row(j["name"], j["win_rate"], not j["seen_in_training"]) for j in summary["judgments"]]
    if checks := summary["checks"]:
        return [Row("start", checks["start"], False), Row("final policy", checks["final"], True)]
    return []


def _title(summary: Summary) -> str:
    checked = summary["checks"] and not summary["judgments"]
    what = "share of checked held-out responses that pass" if checked else "win rate of the final policy over the start"
    return f"{_shorten(summary['name'], 28)}: {what}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f}\u202f%"


def _range(interval: Interval) -> str:
    return f"{100 * interval.low:.0f}–{_percent(interval.high)}"


def _text(x: float, y: float, text: str, style: str = "", anchor: str = "start") -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    return f'<text class="{style}" {place}>{escape(text)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, style: str, width: float = 1) -> str:
    ends = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line class="{style}" {ends} stroke-width="{width}"/>'


def _dot(x: float, y: float, style: str) -> str:
    return f'<circle class="{style}" cx="{x:.1f}" cy="{y:.1f}" r="5" stroke-width="2"/>'


def _shorten(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"


def _legend() -> list[str]:
    return [
        _dot(29, 55, "unseen"),
        _text(41, 59, "oracle never seen in training", "small muted"),
        _dot(239, 55, "seen"),
        _text(251, 59, "oracle of training; bars: 95\u202f% intervals", "small muted"),
    ]


def _forest(rows: Sequence[Row], bottom: float) -> list[str]:
    """Intervals on an axis from 0 to 100 %."""
    left, length = 184.0, 210.0
    step = min(36.0, (bottom - TOP) / len(rows))
    parts: list[str] = []
    for share in (0, 0.25, 0.5, 0.75, 1):
        x = left + length * share
        parts.append(_line(x, TOP - 6, x, bottom, "half" if share == 0.5 else "grid"))
        parts.append(_text(x, bottom + 17, _percent(share), "small muted", "middle"))
    for index, row in enumerate(rows):
        parts += _forest_row(row, TOP + step * (index + 0.5), left, length)
    return parts


def _forest_row(row: Row, y: float, left: float, length: float) -> list[str]:
    low, value, high = (left + length * x for x in (row.interval.low, row.interval.value, row.interval.high))
    style = "unseen" if row.filled else "seen"
    return [
        _text(24, y + 4, _shorten(row.name, 22)),
        _line(low, y, high, y, style, 2),
        _dot(value, y, style),
        _text(left + length + 54, y + 4, _percent(row.interval.value), "value", "end"),
        _text(left + length + 62, y + 4, _range(row.interval), "small muted"),
    ]


def _climb(matrix: Matrix, bottom: float) -> list[str]:
    """Win rate of every policy against the start, oldest first."""
    left, right = 572.0, 716.0
    known = [(i, row[0]) for i, row in enumerate(matrix["win_rate"]) if row[0] is not None]
    rates = [0.5, *(rate for _, rate in known)]
    low, high = min(rates) - 0.06, max(rates) + 0.06
    last = max(1, len(matrix["policies"]) - 1)
    xs = [left + (right - left) * i / last for i in range(len(matrix["policies"]))]
    half, *ys = (bottom - (bottom - TOP) * (rate - low) / (high - low) for rate in rates)
    points = [(xs[i], y, rate, i) for y, (i, rate) in zip(ys, known, strict=True)]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y, _, _ in points)
    return [
        _text(left - 16, 59, "Each policy against the start", "small muted"),
        _line(left - 16, half, right + 16, half, "half"),
        f'<polyline class="path" points="{path}"/>',
        *(_dot(x, y, "seen") for x, y, _, _ in points),
        *(_text(x, y - 11, _percent(rate), "value", "middle") for x, y, rate, i in points if i > 0),
        *(_text(x, bottom + 17, name, "small muted", "middle") for x, name in zip(xs, matrix["policies"], strict=True)),
    ]
