"""Drawing of panels: gaps on log axes, and paths on the simplex of a three-action game.

Two formats by suffix: .svg is written by hand (small, own colours for light and dark, readable by a screen reader),
.html is an interactive plotly page. Leaves out: which panels there are (`panels.py`), the report of a run (`report/`).

    write_plot({"inpo": certify(...)}, game, Path("inpo.svg"))
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from sparring.certificates.panels import LogPanel, Panel, SimplexPanel, panels
from sparring.games.game import Game
from sparring.runtime.files import write_text

LIGHT = ("#1c6e8c", "#c2571a", "#5b7f2b", "#7a4fa3", "#b0306a", "#6b7280", "#9a7b12", "#2f5fd0")
DARK = ("#6cc0dc", "#f2a071", "#a9cf72", "#c3a1ea", "#ec86b4", "#a7afbb", "#dcc05a", "#93b4ff")
FLOOR = 1e-16
"""smaller values are drawn here: a log axis has no zero"""
PANEL_WIDTH, PANEL_HEIGHT, MARGIN_LEFT, MARGIN_TOP, MARGIN_BOTTOM, LEGEND = 440, 320, 62, 56, 44, 20
"""pixels; a legend's row is `LEGEND` high"""


def write_plot(results: Mapping[str, Mapping[str, Any]], game: Game, path: Path) -> None:
    """Draw results as .svg or .html, beside the target and renamed."""
    drawn = panels(results, game)
    write_text(path, svg(drawn) if path.suffix == ".svg" else html(drawn))


# ---------------------------------------------------------------- SVG


def svg(drawn: Sequence[Panel]) -> str:
    """Panels side by side."""
    rows = max(len(p.curves) if isinstance(p, LogPanel) else len(p.paths) for p in drawn)
    height = PANEL_HEIGHT + LEGEND * math.ceil(rows / 2) + 8
    body = "\n".join(f'<g transform="translate({i * PANEL_WIDTH} 0)">{_panel(p)}</g>' for i, p in enumerate(drawn))
    label = escape("; ".join(_words(p) for p in drawn))
    width = PANEL_WIDTH * len(drawn)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" aria-label="{label}">\n<style>{_style()}</style>\n'
        f'<rect class="card" x=".5" y=".5" width="{width - 1}" height="{height - 1}" rx="8"/>\n{body}\n</svg>\n'
    )


def _style() -> str:
    def colours(palette: Sequence[str]) -> str:
        return " ".join(f".c{i} {{ stroke: {c} }} .f{i} {{ fill: {c} }}" for i, c in enumerate(palette))

    return (
        'text { font: 12px -apple-system, "Segoe UI", system-ui, Arial, sans-serif; fill: #1f2733 } '
        ".title { font-size: 14px; font-weight: 600 } .muted { fill: #5a6373 } .card { fill: #fff; stroke: #d9dde3 } "
        ".grid { stroke: #e4e7eb } .line { fill: none; stroke-width: 1.6 } .band { stroke-width: 1; opacity: .55 } "
        ".dash { stroke-dasharray: 5 3 } "
        f".mark {{ stroke: #1f2733 }} {colours(LIGHT)} "
        "@media (prefers-color-scheme: dark) { text { fill: #e3e7ed } .muted { fill: #9aa4b2 } "
        ".card { fill: #14181f; stroke: #303846 } .grid { stroke: #29303b } .mark { stroke: #e3e7ed } "
        f"{colours(DARK)} }}"
    )


def _colour(index: int) -> str:
    """Classes of a line: its colour, dashed when the colours come round again."""
    return f"c{index % len(LIGHT)}" + (" dash" if index // len(LIGHT) % 2 else "")


def _words(panel: Panel) -> str:
    """What a screen reader says."""
    if isinstance(panel, SimplexPanel):
        return f"{panel.title}: {', '.join(path.name for path in panel.paths)}"
    ends = ", ".join(f"{curve.name} {curve.ys[0]:.2g} to {curve.ys[-1]:.2g}" for curve in panel.curves)
    return f"{panel.title}: {ends}"


def _text(x: float, y: float, text: str, style: str = "", anchor: str = "start") -> str:
    return f'<text class="{style}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _panel(panel: Panel) -> str:
    names = [c.name for c in panel.curves] if isinstance(panel, LogPanel) else [p.name for p in panel.paths]
    inner = _log_axes(panel) if isinstance(panel, LogPanel) else _simplex(panel)
    legend = []
    for i, name in enumerate(names):
        x, y = 24 + (i % 2) * (PANEL_WIDTH - 40) / 2, PANEL_HEIGHT + LEGEND * (i // 2) + 4
        legend.append(
            f'<line class="line {_colour(i)}" x1="{x}" y1="{y}" x2="{x + 18}" y2="{y}"/>{_text(x + 24, y + 4, name)}'
        )
    return "".join([_text(24, 25, panel.title, "title"), *inner, *legend])


def _log_axes(panel: LogPanel) -> list[str]:
    ys = [max(y, FLOOR) for curve in panel.curves for y in curve.ys if math.isfinite(y)]
    xs = [x for curve in panel.curves for x in curve.xs]
    low, high = math.floor(math.log10(min(ys))), math.ceil(math.log10(max(ys)))
    high = max(high, low + 1)
    left, right, top, bottom = MARGIN_LEFT, PANEL_WIDTH - 20, MARGIN_TOP, PANEL_HEIGHT - MARGIN_BOTTOM
    first, last = _x(min(xs), panel.log_x), _x(max(xs), panel.log_x)

    def place(x: float, y: float) -> tuple[float, float]:
        across = (_x(x, panel.log_x) - first) / ((last - first) or 1)
        up = (math.log10(max(y, FLOOR)) - low) / (high - low)
        return left + (right - left) * across, bottom - (bottom - top) * up

    parts = [_text(right, bottom + 34, panel.x_label, "muted", "end"), _text(24, top - 10, panel.y_label, "muted")]
    stride = max(1, math.ceil((high - low) / 6))
    for power in range(low, high + 1, stride):
        y = place(min(xs), 10.0**power)[1]
        parts.append(f'<line class="grid" x1="{left}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}"/>')
        parts.append(_text(left - 6, y + 4, _power(power), "muted", "end"))
    parts += [_text(place(x, 1)[0], bottom + 17, f"{x:g}", "muted", "middle") for x in _ticks(panel, min(xs), max(xs))]
    for i, curve in enumerate(panel.curves):
        at = [place(x, y) for x, y in zip(curve.xs, curve.ys, strict=True) if math.isfinite(y)]
        parts.append(
            f'<polyline class="line {_colour(i)}" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in _thin(at))}"/>'
        )
        for x, y, error in zip(curve.xs, curve.ys, curve.errors, strict=False):
            (across, up), (_, down) = place(x, y + error), place(x, max(y - error, 10.0**low))
            parts.append(
                f'<line class="band c{i % 8}" x1="{across:.1f}" y1="{up:.1f}" x2="{across:.1f}" y2="{down:.1f}"/>'
            )
    return parts


def _x(value: float, log: bool) -> float:
    return math.log10(max(value, 1)) if log else value


def _power(power: int) -> str:
    return f"1e{power}" if abs(power) > 2 else f"{10.0**power:g}"


def _ticks(panel: LogPanel, low: float, high: float) -> list[float]:
    if panel.log_x:
        return sorted({x for curve in panel.curves for x in curve.xs if len(curve.xs) < 9} or {low, high})
    step = 10 ** math.floor(math.log10(max(high - low, 1)))
    step = step if (high - low) / step >= 3 else step / 2
    return np.arange(math.ceil(low / step) * step, high + 1e-9, step).tolist()[:12]


def _thin(points: list[tuple[float, float]], most: int = 600) -> list[tuple[float, float]]:
    """At most so many points, the last one kept."""
    stride = max(1, math.ceil(len(points) / most))
    return points[::stride] + ([points[-1]] if (len(points) - 1) % stride else [])


def _simplex(panel: SimplexPanel) -> list[str]:
    side, left, bottom = 250.0, 95.0, PANEL_HEIGHT - MARGIN_BOTTOM + 8
    tall = side * math.sqrt(3) / 2
    corners = np.array([[left, bottom], [left + side, bottom], [left + side / 2, bottom - tall]])
    outline = " ".join(f"{x:.1f},{y:.1f}" for x, y in corners)
    parts = [f'<polygon class="grid" fill="none" points="{outline}"/>']
    shifts = ((-12, 8, "end"), (12, 8, "start"), (0, -8, "middle"))
    parts += [
        _text(x + dx, y + dy, n, "muted", a)
        for (x, y), (dx, dy, a), n in zip(corners, shifts, panel.corners, strict=True)
    ]
    for i, path in enumerate(panel.paths):
        points = path.points @ corners
        text = " ".join(f"{x:.1f},{y:.1f}" for x, y in _thin([(float(x), float(y)) for x, y in points]))
        parts.append(f'<polyline class="line {_colour(i)}" points="{text}"/>')
        (x, y), (x0, y0) = points[-1], points[0]
        parts.append(f'<circle class="f{i % 8}" cx="{x:.1f}" cy="{y:.1f}" r="4"/>')
        parts.append(f'<circle class="line c{i % 8}" cx="{x0:.1f}" cy="{y0:.1f}" r="4"/>')
    for label, target in panel.targets.items():
        x, y = target @ corners
        parts.append(f'<path class="line mark" d="M{x - 5:.1f} {y:.1f}h10M{x:.1f} {y - 5:.1f}v10"/>')
        parts.append(_text(x + 7, y - 5, label, "muted"))
    return parts


# ---------------------------------------------------------------- HTML


def html(drawn: Sequence[Panel]) -> str:
    """A self-contained plotly page."""
    import plotly.graph_objects as go

    parts = []
    for panel in drawn:
        figure = go.Figure(layout={"title": panel.title, "template": "plotly_white"})
        if isinstance(panel, LogPanel):
            for curve in panel.curves:
                ys = [max(y, FLOOR) if math.isfinite(y) else None for y in curve.ys]
                figure.add_scatter(x=list(curve.xs), y=ys, name=curve.name, mode="lines")
            figure.update_yaxes(type="log", title=panel.y_label)
            figure.update_xaxes(type="log" if panel.log_x else "linear", title=panel.x_label)
        else:
            for path in panel.paths:
                a, b, c = path.points.T.tolist()
                figure.add_scatterternary(a=a, b=b, c=c, name=path.name, mode="lines+markers", marker={"size": 3})
            for label, target in panel.targets.items():
                a, b, c = ([float(v)] for v in target)
                figure.add_scatterternary(
                    a=a, b=b, c=c, name=label, mode="markers", marker={"symbol": "cross", "size": 9}
                )
        parts.append(figure.to_html(full_html=False, include_plotlyjs=not parts))
    title = escape("; ".join(panel.title for panel in drawn))
    head = f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title></head>'
    return f"{head}<body>{''.join(parts)}</body></html>\n"
