"""Drawing of panels: gaps on log axes, and paths on the simplex of a three-action game.

An SVG, small, with the pages' colours for light and dark, and readable by a screen reader; by the suffix .html a page
around it. Leaves out: which panels there are (`panels.py`), the shapes of an SVG (`report/svg.py`).

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
from sparring.report.svg import Point, circle, document, line, polygon, polyline, text, x_tick, y_tick
from sparring.runtime.files import write_text

HUES = ("accent", "against", "pass", "second", "third", "muted", "look", "fourth")
"""tokens of `report/page.css`: the colours of the lines, in order"""
SHAPES = (
    ".small { font-size: 12px } .line { fill: none; stroke-width: 1.6 } .band { stroke-width: 1; opacity: .55 } "
    ".dash { stroke-dasharray: 5 3 } .outline { fill: none; stroke: var(--rule-strong) } .mark { stroke: var(--ink) }"
)
FLOOR = 1e-16
"""smaller values are drawn here: a log axis has no zero"""
PANEL_WIDTH, PANEL_HEIGHT, MARGIN_LEFT, MARGIN_TOP, MARGIN_BOTTOM, LEGEND = 440, 320, 62, 56, 44, 20
"""pixels; a legend's row is `LEGEND` high"""


def write_plot(results: Mapping[str, Mapping[str, Any]], game: Game, path: Path) -> None:
    """Draw results as .svg or .html, beside the target and renamed."""
    drawn = panels(results, game)
    write_text(path, svg(drawn) if path.suffix == ".svg" else html(drawn))


def svg(drawn: Sequence[Panel]) -> str:
    """The panels side by side, as the text of one SVG file."""
    rows = max(len(_names(panel)) for panel in drawn)
    height = PANEL_HEIGHT + LEGEND * math.ceil(rows / 2) + 8
    parts = [f'<g transform="translate({i * PANEL_WIDTH} 0)">{_panel(p)}</g>' for i, p in enumerate(drawn)]
    return document(PANEL_WIDTH * len(drawn), height, "; ".join(map(_words, drawn)), parts, style(), font=12)


def style() -> str:
    """The CSS rules of a drawing; its colours are tokens."""
    hues = (f".c{i} {{ stroke: var(--{hue}) }} .f{i} {{ fill: var(--{hue}) }}" for i, hue in enumerate(HUES))
    return f"{SHAPES} {' '.join(hues)}"


def _line_style(index: int) -> str:
    """Classes of a line: its colour, dashed when the colours come round again."""
    return f"line c{index % len(HUES)}" + (" dash" if index // len(HUES) % 2 else "")


def _names(panel: Panel) -> list[str]:
    return [each.name for each in (panel.curves if isinstance(panel, LogPanel) else panel.paths)]


def _words(panel: Panel) -> str:
    """What a screen reader says."""
    if isinstance(panel, SimplexPanel):
        return f"{panel.title}: {', '.join(_names(panel))}"
    ends = ", ".join(f"{curve.name} {curve.ys[0]:.2g} to {curve.ys[-1]:.2g}" for curve in panel.curves)
    return f"{panel.title}: {ends}"


def _panel(panel: Panel) -> str:
    legend = []
    for i, name in enumerate(_names(panel)):
        x, y = 24 + (i % 2) * (PANEL_WIDTH - 40) / 2, PANEL_HEIGHT + LEGEND * (i // 2) + 4
        legend += [line(x, y, x + 18, y, _line_style(i)), text(x + 24, y + 4, name)]
    inner = _log_axes(panel) if isinstance(panel, LogPanel) else _simplex(panel)
    return "".join([text(24, 25, panel.title, "title"), *inner, *legend])


def _log_axes(panel: LogPanel) -> list[str]:
    ys = [max(y, FLOOR) for curve in panel.curves for y in curve.ys if math.isfinite(y)]
    xs = [x for curve in panel.curves for x in curve.xs]
    low, high = math.floor(math.log10(min(ys))), math.ceil(math.log10(max(ys)))
    high = max(high, low + 1)
    left, right, top, bottom = MARGIN_LEFT, PANEL_WIDTH - 20, MARGIN_TOP, PANEL_HEIGHT - MARGIN_BOTTOM
    first, last = _x(min(xs), panel.log_x), _x(max(xs), panel.log_x)

    def place(x: float, y: float) -> Point:
        across = (_x(x, panel.log_x) - first) / ((last - first) or 1)
        up = (math.log10(max(y, FLOOR)) - low) / (high - low)
        return left + (right - left) * across, bottom - (bottom - top) * up

    parts = [text(right, bottom + 34, panel.x_label, "muted", "end"), text(24, top - 10, panel.y_label, "muted")]
    powers = range(low, high + 1, max(1, math.ceil((high - low) / 6)))
    parts += [y_tick(place(min(xs), 10.0**power)[1], left, right, _power(power)) for power in powers]
    parts += [x_tick(place(x, 1)[0], bottom, f"{x:g}") for x in _ticks(panel, min(xs), max(xs))]
    for i, curve in enumerate(panel.curves):
        points = [place(x, y) for x, y in zip(curve.xs, curve.ys, strict=True) if math.isfinite(y)]
        parts.append(polyline(_thin(points), _line_style(i)))
        for x, y, error in zip(curve.xs, curve.ys, curve.errors, strict=False):
            parts.append(line(*place(x, y + error), *place(x, max(y - error, 10.0**low)), f"band c{i % len(HUES)}"))
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


def _thin(points: list[Point], most: int = 600) -> list[Point]:
    """About `most` points at equal steps, and the last one."""
    stride = max(1, math.ceil(len(points) / most))
    return points[::stride] + ([points[-1]] if (len(points) - 1) % stride else [])


def _simplex(panel: SimplexPanel) -> list[str]:
    side, left, bottom = 250.0, 95.0, PANEL_HEIGHT - MARGIN_BOTTOM + 8
    tall = side * math.sqrt(3) / 2
    corners = np.array([[left, bottom], [left + side, bottom], [left + side / 2, bottom - tall]])
    shifts = ((-12, 8, "end"), (12, 8, "start"), (0, -8, "middle"))
    parts = [polygon(corners.tolist(), "grid outline")]
    for (x, y), (dx, dy, anchor), name in zip(corners, shifts, panel.corners, strict=True):
        parts.append(text(x + dx, y + dy, name, "muted", anchor))
    for i, path in enumerate(panel.paths):
        points: list[Point] = [(float(x), float(y)) for x, y in path.points @ corners]
        parts.append(polyline(_thin(points), _line_style(i)))
        parts += [circle(*points[-1], 4, f"f{i % len(HUES)}"), circle(*points[0], 4, f"line c{i % len(HUES)}")]
    for label, target in panel.targets.items():
        x, y = target @ corners
        parts += [line(x - 5, y, x + 5, y, "line mark"), line(x, y - 5, x, y + 5, "line mark")]
        parts.append(text(x + 7, y - 5, label, "muted"))
    return parts


def html(drawn: Sequence[Panel]) -> str:
    """A page that holds the drawing."""
    title = escape("; ".join(panel.title for panel in drawn))
    head = f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title></head>'
    return f"{head}<body>{svg(drawn)}</body></html>\n"
