"""The result as a small SVG for a README where code checked every held-out prompt: obeyed before and after, by kind.

Leaves out: judgments (`picture.py`).

    Path("result.svg").write_text(rules_svg(summary["name"], summary["checks"]), encoding="utf-8")
"""

from __future__ import annotations

from collections.abc import Sequence

from sparring.report.numbers import percent, points, rule_name
from sparring.report.summary import CheckRates, Rates
from sparring.report.svg import circle, document, line, text, x_tick

STYLE = """
.bar { stroke-width: 2 } .start { stroke: var(--soft); fill: var(--card) }
.final { stroke: var(--accent); fill: var(--accent) }
.head { font-weight: 600 } .move { stroke: var(--accent); stroke-width: 4; opacity: .25 }
"""
WIDTH, TOP, ROW, GAP, FOOT, DOT = 780, 96, 26, 10, 40, 4.5
"""pixels: the picture, where the rows begin, a row, the space between two blocks, the space below, a mark's radius"""
LEFT, LENGTH = 214.0, 300.0
"""pixels: where the axis begins, and its length"""
MOST_RULES = 16
"""kinds that are drawn, those with most prompts first"""
FEWEST = 8
"""prompts of a kind that is shown: an interval of fewer says nothing"""


def rules_svg(name: str, checks: CheckRates) -> str:
    """Start and final policy on an axis from 0 to 100 %: all prompts, each group, each kind of rule."""
    kinds = list(telling(checks).items())[:MOST_RULES]
    blocks = [
        [("all prompts", checks), *checks.get("by_group", {}).items()],
        [(rule_name(kind), rates) for kind, rates in kinds] if len(kinds) > 1 else [],
    ]
    height = TOP + sum(ROW * len(block) for block in blocks) + GAP * (len(blocks) - 1) + FOOT
    title = f"{name}: instructions obeyed, checked by code"
    parts = [text(24, 34, title, "title"), *_legend(), *_axis(height - FOOT)]
    top = float(TOP)
    for block in blocks:
        for index, (kind, rates) in enumerate(block):
            parts += _row(kind, rates, top + ROW * (index + 0.5), "head" if rates is checks else "")
        top += ROW * len(block) + GAP
    return document(WIDTH, height, f"{title}. {_words(blocks[0])}", parts, STYLE)


def telling(checks: CheckRates) -> dict[str, Rates]:
    """The kinds of rule with enough prompts to be shown."""
    return {kind: rates for kind, rates in checks.get("by_rule", {}).items() if rates["prompts"] >= FEWEST}


def _words(rows: Sequence[tuple[str, Rates]]) -> str:
    return "; ".join(
        f"{name} {percent(r['start'].value)} before, {percent(r['final'].value)} after" for name, r in rows
    )


def _legend() -> list[str]:
    return [
        circle(29, 56, DOT, "start"),
        text(41, 60, "start", "small muted"),
        circle(89, 56, DOT, "final"),
        text(101, 60, "final policy; bars: 95\u202f% intervals over held-out prompts", "small muted"),
        text(LEFT + LENGTH + 24, 84, "before → after", "small muted"),
        text(WIDTH - 24, 84, "difference, points", "small muted", "end"),
    ]


def _axis(bottom: float) -> list[str]:
    shares = (0, 0.25, 0.5, 0.75, 1)
    return [x_tick(LEFT + LENGTH * share, bottom, percent(share), TOP - 6) for share in shares]


def _row(name: str, rates: Rates, y: float, style: str) -> list[str]:
    start, final, gain = rates["start"], rates["final"], rates["difference"]

    def across(share: float) -> float:
        return LEFT + LENGTH * share

    numbers = f"{100 * start.value:.0f} → {percent(final.value)}"
    return [
        text(24, y + 4, name, style),
        line(across(start.value), y, across(final.value), y, "move"),
        line(across(start.low), y - 3, across(start.high), y - 3, "bar start"),
        line(across(final.low), y + 3, across(final.high), y + 3, "bar final"),
        circle(across(start.value), y - 3, DOT, "start"),
        circle(across(final.value), y + 3, DOT, "final"),
        text(LEFT + LENGTH + 24, y + 4, numbers, style),
        text(WIDTH - 24, y + 4, f"{points(gain.value)} ({points(gain.low)} to {points(gain.high)})", style, "end"),
    ]
