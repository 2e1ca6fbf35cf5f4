"""Numbers as the pages and the terminal write them: shares, points, intervals, counts, durations, dates.

Leaves out: sentences (`html.py`).

    percent(0.744)  ->  "74 %"
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sparring.evaluation.intervals import Interval
from sparring.report.summary import Judgment

THIN = "\u202f"
"""narrow no-break space, before % and between thousands"""
JOINER = "\u2060"
DASH = f"{JOINER}–{JOINER}"
"""a dash between word joiners, so that no interval breaks across lines"""


def told_apart(judges: Sequence[tuple[str, str]]) -> list[str]:
    """Names of judges, given with their identities; those that share a name with what their identity begins with."""
    names = [name for name, _ in judges]
    return [
        f"{name} ({identity.partition('(')[2].partition(';')[0].rstrip(')')})"
        if names.count(name) > 1 and "(" in identity
        else name
        for name, identity in judges
    ]


def judge_names(judgments: Sequence[Judgment]) -> list[str]:
    """`told_apart`, of a summary's judgments; those of early versions have no identity."""
    return told_apart([(one["name"], one.get("identity", "")) for one in judgments])


def percent(share: float | None, interval: Interval | None = None) -> str:
    """74 %; with one decimal when its interval is narrower than five points."""
    if share is None or share != share:
        return "–"
    narrow = interval is not None and interval.high - interval.low < 0.05
    return f"{100 * share:.{int(narrow)}f}{THIN}%"


def points(share: float, interval: Interval | None = None) -> str:
    """A difference of shares as signed percentage points."""
    return f"{100 * share:+.0f}".replace("-", "−")


def span(interval: Interval, form: Any = percent) -> str:
    """68–80 %, or −3 to +4."""
    low, high = form(interval.low, interval), form(interval.high, interval)
    return f"{low.removesuffix(f'{THIN}%')}{DASH}{high}" if form is percent else f"{low} to {high}"


def rule_name(rule: str) -> str:
    """A rule for people: "detectable_format:number_bullet_lists" is number bullet lists."""
    return rule.rpartition(":")[2].replace("_", " ")


def number(value: Any) -> str:
    """Integers with spaced thousands, other numbers with three digits, text as it is."""
    if value is None:
        return "–"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int) or abs(value) >= 1000:
        return f"{value:,.0f}".replace(",", THIN)
    return f"{value:.3g}"


def date(iso: str) -> str:
    """20 November 2026, 14:05 UTC."""
    moment = datetime.fromisoformat(iso)
    return f"{moment.day} {moment:%B %Y, %H:%M} {moment.tzname() or ''}".rstrip()
