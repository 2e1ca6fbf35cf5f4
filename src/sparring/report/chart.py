"""A line chart as SVG inside a page: axes, lines, bands, stretches, and a tooltip for every part of the x axis.

It needs no script; the page's style sheet gives the colours (`page.css`), so one drawing serves light, dark and print.
Leaves out: what is drawn (`figures.py`), and pictures that stand alone (`svg.py`, whose shapes it uses).

    Chart("Loss: falls", lines=(Curve(((1, 0.3), (2, 0.2)), "accent"),), span=(1, 2)).svg()
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sparring.report.numbers import THIN
from sparring.report.svg import Point, circle, inline, line, polygon, polyline, rect, text

WIDTH, HEIGHT, TOP, BOTTOM, RIGHT, LETTER = 400, 200, 22, 22, 12, 6.2
"""pixels: the drawing, its margins, and about the width of a tick's letter"""
Values = Sequence[tuple[float, float | None]]


@dataclass(frozen=True, slots=True)
class Curve:
    """A line through points; it is broken where a value is missing."""

    points: Values
    style: str
    """CSS classes"""
    dots: bool = False


@dataclass(frozen=True, slots=True)
class Chart:
    """What a chart shows, in the data's units."""

    label: str
    """what a screen reader says"""
    lines: Sequence[Curve]
    span: tuple[float, float]
    """ends of the x axis"""
    band: tuple[Values, Values] | None = None
    """lower and upper edge"""
    share: bool = False
    """values are shares: the axis has percentages and ends at 0 and 1"""
    from_zero: bool = False
    ticks: Sequence[tuple[float, str]] = ()
    """below the x axis"""
    headings: Sequence[tuple[float, str]] = ()
    """above the drawing"""
    separators: Sequence[float] = ()
    """vertical lines"""
    hovers: Sequence[tuple[float, float, str]] = ()
    """parts of the x axis, each with its tooltip"""

    def svg(self) -> str:
        """The drawing."""
        low, high, step = self._scale()
        marks = [low + i * step for i in range(round((high - low) / step) + 1)]
        names = [tick_name(mark, step, self.share) for mark in marks]
        left, bottom, (first, last) = 10 + LETTER * max(map(len, names)), HEIGHT - BOTTOM, self.span

        def across(x: float) -> float:
            return left + (WIDTH - RIGHT - left) * (x - first) / ((last - first) or 1)

        def up(y: float) -> float:
            return bottom - (bottom - TOP) * (y - low) / (high - low)

        def place(values: Values) -> Iterator[list[Point]]:
            return _unbroken([(across(x), None if y is None else up(y)) for x, y in values])

        parts = [line(left, up(mark), WIDTH - RIGHT, up(mark), "grid") for mark in marks]
        parts += [text(left - 6, up(mark) + 4, name, "", "end") for mark, name in zip(marks, names, strict=True)]
        parts += [text(across(x), HEIGHT - 4, name, "", "middle") for x, name in self.ticks]
        parts += [text(across(x), 12, name, "", "middle") for x, name in self.headings]
        parts += [line(across(x), TOP, across(x), bottom, "part") for x in self.separators]
        if self.band:
            edges = zip(place(self.band[0]), place(self.band[1]), strict=True)
            parts += [polygon([*lower, *reversed(upper)], "band") for lower, upper in edges]
        for curve in self.lines:
            for points in place(curve.points):
                parts += [polyline(points, f"line {curve.style}")] if len(points) > 1 else []
                parts += [circle(*p, 3.5, curve.style) for p in points] if curve.dots or len(points) == 1 else []
        for start, end, words in self.hovers:
            x = max(across(start), left)
            parts.append(rect(x, TOP, min(across(end), WIDTH - RIGHT) - x, bottom - TOP, "hover", words))
        return inline(WIDTH, HEIGHT, self.label, parts)

    def _scale(self) -> tuple[float, float, float]:
        """Lowest and highest tick, and the step between ticks."""
        edges = self.band or ()
        values = [y for points in (*(curve.points for curve in self.lines), *edges) for _, y in points if y is not None]
        values = [*values, 0.0] if self.from_zero or not values else values
        low, high = min(values), max(values)
        if self.share:
            low, high = max(low, 0.0), min(high, 1.0)
        if high - low <= 1e-9 * max(abs(high), abs(low), 1e-9):  # a level line: room around it
            room = 0.05 if self.share else abs(high) / 2 or 1.0
            low, high = low - (0 if self.from_zero and low == 0 else room), high + room
        step = nice_step((high - low) / 4)
        low, high = math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step
        return (max(low, 0.0), min(high, 1.0), step) if self.share else (low, high, step)


def nice_step(least: float) -> float:
    """The next of 1, 2, 2.5 and 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= least * (1 - 1e-9))


def tick_name(value: float, step: float, share: bool) -> str:
    """A tick's value with as many digits as its step needs."""
    if share:
        value, step = 100 * value, 100 * step
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    digits += round(step * 10**digits, 6) % 1 > 0  # 2.5 needs one more
    value = 0.0 if abs(value) < step / 1e6 else value
    if not value:
        shown = "0"
    elif digits > 4 or abs(value) >= 1e6:
        places = max(0, digits + math.floor(math.log10(abs(value))))
        mantissa, _, power = f"{value:.{places}e}".partition("e")
        shown = f"{mantissa.rstrip('0').rstrip('.') if places else mantissa}e{int(power)}"
    else:
        shown = f"{value:,.{digits}f}".replace(",", THIN)
    return shown.replace("-", "−") + (f"{THIN}%" if share else "")


def _unbroken(points: Sequence[tuple[float, float | None]]) -> Iterator[list[Point]]:
    """Stretches of points without a gap."""
    stretch: list[Point] = []
    for x, y in points:
        if y is not None:
            stretch.append((x, y))
        elif stretch:
            yield stretch
            stretch = []
    if stretch:
        yield stretch
