"""The result as a small SVG for a README: judgments with intervals, each policy against the start.

One file with the pages' colours, light and dark, readable as an image and by a screen reader.
Leaves out: everything else of the report.

    Path("result.svg").write_text(readme_svg(summary), encoding="utf-8")
"""

from __future__ import annotations

from collections.abc import Sequence

from sparring.evaluation.intervals import Interval
from sparring.report.summary import Matrix, Summary
from sparring.report.svg import circle, document, line, polyline, text, x_tick

STYLE = """
.half { stroke: var(--muted); stroke-dasharray: 3 3 } .bar, circle { stroke-width: 2 }
.unseen { stroke: var(--accent); fill: var(--accent) } .seen { stroke: var(--soft); fill: var(--card) }
.path { stroke: var(--accent); fill: none; stroke-width: 2 } .value { font-weight: 600 }
"""
WIDTH, LEAST_HEIGHT, ROW, TOP, FOOT, DOT = 760, 260, 30, 84, 38, 5
"""pixels: the picture, one judgment's row, where both plots begin, the space below them, a mark's radius"""


Row = tuple[str, str, Interval, bool]
"""an interval of the picture: who judged, its name where that says more, the interval, whether its mark is filled"""


def readme_svg(summary: Summary) -> str:
    """The result as SVG text; without a judgment the rates of passed checks, else a sentence."""
    rows = _rows(summary)
    height = max(LEAST_HEIGHT, TOP + ROW * len(rows) + FOOT + 6)
    parts = [
        text(24, 34, _title(summary), "title"),
        *(_legend() if summary["judgments"] else []),
        *(_forest(rows, height - FOOT) if rows else [text(24, 110, "Nothing was judged.", "muted")]),
        *(_climb(summary["matrix"], height - FOOT) if summary["matrix"] else []),
    ]
    words = "; ".join(
        f"{who}{f', {name},' if name else ''} {_percent(interval.value)} ({_range(interval)})"
        for who, name, interval, _ in rows
    )
    return document(WIDTH, height, f"{_title(summary)}. {words}", parts, STYLE)


def _rows(summary: Summary) -> list[Row]:
    if summary["judgments"]:
        unseen = [j["name"] for j in summary["judgments"] if not j["seen_in_training"]]
        numbers = iter([""] if len(unseen) == 1 else [f" {i}" for i in range(1, len(unseen) + 1)])
        return [
            (
                "judge it trained on" if j["seen_in_training"] else f"unseen judge{next(numbers)}",
                j["name"],
                j["win_rate"],
                not j["seen_in_training"],
            )
            for j in summary["judgments"]
        ]
    if checks := summary["checks"]:
        return [("start", "", checks["start"], False), ("final policy", "", checks["final"], True)]
    return []


def _title(summary: Summary) -> str:
    checked = summary["checks"] and not summary["judgments"]
    what = "share of checked held-out responses that pass" if checked else "win rate of the final policy over the start"
    return f"{_shorten(summary['name'], 28)}: {what}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f}\u202f%"


def _range(interval: Interval) -> str:
    return f"{100 * interval.low:.0f}–{_percent(interval.high)}"


def _shorten(words: str, most: int) -> str:
    return words if len(words) <= most else words[: most - 1].rstrip() + "…"


def _legend() -> list[str]:
    return [
        circle(29, 55, DOT, "unseen"),
        text(41, 59, "judge never seen in training", "small muted"),
        circle(239, 55, DOT, "seen"),
        text(251, 59, "judge it trained on; bars: 95\u202f% intervals", "small muted"),
    ]


def _forest(rows: Sequence[Row], bottom: float) -> list[str]:
    """Intervals on an axis from 0 to 100 %."""
    left, length = 184.0, 210.0
    step = min(36.0, (bottom - TOP) / len(rows))
    parts: list[str] = []
    for share in (0, 0.25, 0.5, 0.75, 1):
        x = left + length * share
        parts.append(x_tick(x, bottom, _percent(share), TOP - 6, "half" if share == 0.5 else "grid"))
    for index, row in enumerate(rows):
        parts += _forest_row(row, TOP + step * (index + 0.5), left, length)
    return parts


def _forest_row(row: Row, y: float, left: float, length: float) -> list[str]:
    who, name, interval, filled = row
    low, value, high = (left + length * x for x in (interval.low, interval.value, interval.high))
    style = "unseen" if filled else "seen"
    return [
        text(24, y + (-2 if name else 4), who),
        text(24, y + 12, _shorten(name, 26), "small muted"),
        line(low, y, high, y, f"bar {style}"),
        circle(value, y, DOT, style),
        text(left + length + 54, y + 4, _percent(interval.value), "value", "end"),
        text(left + length + 62, y + 4, _range(interval), "small muted"),
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
    return [
        text(left - 16, 59, "Each policy against the start", "small muted"),
        line(left - 16, half, right + 16, half, "half"),
        polyline([(x, y) for x, y, _, _ in points], "path"),
        *(circle(x, y, DOT, "seen") for x, y, _, _ in points),
        *(text(x, y - 11, _percent(rate), "value", "middle") for x, y, rate, i in points if i > 0),
        *(x_tick(x, bottom, name) for x, name in zip(xs, matrix["policies"], strict=True)),
    ]
