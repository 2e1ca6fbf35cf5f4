"""SVG by hand: the few shapes that our pictures are made of, on a card with colours for light and dark pages.

A shape is text; `style` names CSS classes. `title`, `small`, `muted`, `card` and `grid` are defined here, the others
by the caller. Colours are tokens of the pages' one style sheet, `page.css`; a file of its own, which cannot read that
sheet, gets their values. Leaves out: what is drawn (`picture.py`, `chart.py`, `certificates/plot.py`).

    document(200, 80, "A line that rises.", [text(24, 25, "Gap", "title"), polyline([(24, 70), (90, 30)], "line")])
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from html import escape
from pathlib import Path

Point = tuple[float, float]
RULE, COLOUR = re.compile(r"([^{}]+)\{([^{}]*)\}"), re.compile(r"var\(--([a-z-]+)\)")
TOKEN = re.compile(r"--([a-z-]+): light-dark\((#[0-9a-f]+), (#[0-9a-f]+)\);")


def document(width: float, height: float, label: str, parts: Iterable[str], style: str = "", font: float = 13) -> str:
    """A whole file of `width` times `height` pixels; `label` is what a screen reader says.

    `style`: the caller's CSS rules, in which colours are tokens: `.line { stroke: var(--accent) }`.
    """
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{escape(label)}">\n'
        f"<style>{style_of(style, font)}</style>\n"
        f'<rect class="card" x=".5" y=".5" width="{width - 1}" height="{height - 1}" rx="8"/>\n{body}\n</svg>\n'
    )


def inline(width: float, height: float, label: str, parts: Iterable[str], style: str = "chart") -> str:
    """A drawing inside a page, whose style sheet has its colours; `label` is what a screen reader says."""
    size = f'class="{style}" viewBox="0 0 {width} {height}"'
    return f'<svg {size} role="img" aria-label="{escape(label)}">{"".join(parts)}</svg>'


def style_of(style: str, font: float) -> str:
    """The rules of a file of its own: these and the common ones, for light pages and, where they colour, for dark."""
    rules = f"""
text {{ font: {font}px -apple-system, "Segoe UI", system-ui, Arial, sans-serif; fill: var(--ink) }}
.title {{ font-size: {font + 2}px; font-weight: 600 }} .small {{ font-size: {font - 1.5}px }}
.muted {{ fill: var(--soft) }} .card {{ fill: var(--card); stroke: var(--rule) }} .grid {{ stroke: var(--rule) }}
{style.strip()}
"""
    coloured = [
        f"{selector.strip()} {{ {'; '.join(colours)} }}"
        for selector, declarations in RULE.findall(rules)
        if (colours := [one.strip() for one in declarations.split(";") if COLOUR.search(one)])
    ]
    dark = "\n".join(coloured)
    return f"{_filled(rules, 0)}@media (prefers-color-scheme: dark) {{\n{_filled(dark, 1)}\n}}\n"


def _filled(rules: str, scheme: int) -> str:
    """The rules with the tokens' values: 0 for light pages, 1 for dark ones."""
    return COLOUR.sub(lambda name: tokens()[name[1]][scheme], rules)


@cache
def tokens() -> dict[str, tuple[str, str]]:
    """The colours of the pages' style sheet by name, each for light and for dark pages."""
    sheet = (Path(__file__).parent / "page.css").read_text(encoding="utf-8")
    return {name: (light, dark) for name, light, dark in TOKEN.findall(sheet)}


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
