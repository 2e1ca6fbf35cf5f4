"""SVG by hand: the few shapes that our pictures are made of, on a card with colours for light and dark pages.

A shape is text; `style` names CSS classes. `title`, `small`, `muted`, `card` and `grid` are defined here, the others
by the caller. Leaves out: what is drawn (`picture.py`, `chart.py`, `certificates/plot.py`).

    document(200, 80, "A line that rises.", [text(24, 25, "Gap", "title"), polyline([(24, 70), (90, 30)], "line")])
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

Point = tuple[float, float]


def document(
    width: float, height: float, label: str, parts: Iterable[str], light: str = "", dark: str = "", font: float = 13
) -> str:
    """A whole file of `width` times `height` pixels; `label` is what a screen reader says.

    `light` and `dark` are the caller's CSS rules, for light and for dark pages.
    """
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{escape(label)}">\n'
        f"<style>{_style(light, dark, font)}</style>\n"
        f'<rect class="card" x=".5" y=".5" width="{width - 1}" height="{height - 1}" rx="8"/>\n{body}\n</svg>\n'
    )


def inline(width: float, height: float, label: str, parts: Iterable[str], style: str = "chart") -> str:
    """A drawing inside a page, whose style sheet has its colours; `label` is what a screen reader says."""
    size = f'class="{style}" viewBox="0 0 {width} {height}"'
    return f'<svg {size} role="img" aria-label="{escape(label)}">{"".join(parts)}</svg>'


def _style(light: str, dark: str, font: float) -> str:
    return f"""
text {{ font: {font}px -apple-system, "Segoe UI", system-ui, Arial, sans-serif; fill: #1f2733 }}
.title {{ font-size: {font + 2}px; font-weight: 600 }} .small {{ font-size: {font - 1.5}px }}
.muted {{ fill: #5a6373 }} .card {{ fill: #fff; stroke: #d9dde3 }} .grid {{ stroke: #e4e7eb }}
{light.strip()}
@media (prefers-color-scheme: dark) {{
text {{ fill: #e3e7ed }} .muted {{ fill: #9aa4b2 }}
.card {{ fill: #14181f; stroke: #303846 }} .grid {{ stroke: #29303b }}
{dark.strip()}
}}
"""


def text(x: float, y: float, words: str, style: str = "", anchor: str = "start") -> str:
    """Words, escaped, whose baseline begins (or ends, or has its middle) at a point."""
    return f'<text class="{style}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def line(x1: float, y1: float, x2: float, y2: float, style: str = "") -> str:
    """A straight line."""
    return f'<line class="{style}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def circle(x: float, y: float, radius: float, style: str = "", title: str = "") -> str:
    """A circle around a point; hovering it shows `title`."""
    return f'<circle class="{style}" cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}">{_title(title)}</circle>'


def rect(x: float, y: float, width: float, height: float, style: str = "", title: str = "") -> str:
    """A rectangle; hovering it shows `title`."""
    place = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
    return f'<rect class="{style}" {place}>{_title(title)}</rect>'


def polyline(points: Iterable[Point], style: str = "") -> str:
    """A line through points."""
    return f'<polyline class="{style}" points="{_points(points)}"/>'


def polygon(points: Iterable[Point], style: str = "") -> str:
    """A closed line through points."""
    return f'<polygon class="{style}" points="{_points(points)}"/>'


def x_tick(x: float, bottom: float, label: str, top: float | None = None, style: str = "grid") -> str:
    """A label below an axis at `bottom`, with a line up to `top` where that is given."""
    grid = "" if top is None else line(x, top, x, bottom, style)
    return grid + text(x, bottom + 17, label, "small muted", "middle")


def y_tick(y: float, left: float, right: float, label: str) -> str:
    """A line from `left` to `right`, and its label on the left."""
    return line(left, y, right, y, "grid") + text(left - 6, y + 4, label, "small muted", "end")


def _title(words: str) -> str:
    return f"<title>{escape(words)}</title>" if words else ""


def _points(points: Iterable[Point]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
