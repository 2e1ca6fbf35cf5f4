"""The report: one HTML file with its styles, its figures and plotly.js inside, and no network.

This file says the result in words and puts numbers into form; `page.html` arranges them, `figures.py` draws the curves.
Leaves out: computing any number (`evaluation/`).

    write_report(summary, Path("runs/demo/report.html"))
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from sparring.evaluation.intervals import Interval
from sparring.report.figures import fit_figures, kl_title, policy_figures, undrawn
from sparring.report.picture import readme_svg
from sparring.report.summary import FinishedRound, Judgment, Matrix, Summary
from sparring.runtime.files import write_text
from sparring.runtime.words import duration

Favours = Literal["final", "start", "neither"]

HERE = Path(__file__).parent
OPEN_SAMPLES = 12
"""prompts shown at once; the others are behind a click"""
MOST_SAMPLES = 300
"""prompts in the page: with plotly.js (5 MB) it should still open at once on a phone"""
THIN = "\u202f"
"""narrow no-break space, before % and between thousands"""
DASH = "\u2060–\u2060"
"""a dash between word joiners, so that no interval breaks across lines"""


def write_report(summary: Summary, path: Path) -> None:
    """Write the report's page."""
    write_text(path, render(summary))


def write_picture(summary: Summary, path: Path) -> None:
    """Write the README's picture (SVG)."""
    write_text(path, readme_svg(summary))


def render(summary: Summary) -> str:
    """The page as text."""
    policies, fit = policy_figures(summary["policies"], summary["recipe"]), fit_figures(summary["fit"])
    return (
        environment()
        .get_template("page.html")
        .render(
            s=summary,
            lead=lead(summary),
            agreement=agreement(summary["judgments"]),
            cautions=cautions(summary["judgments"]),
            cycles=losses_to_older(summary["matrix"]) if summary["matrix"] else [],
            policy_figures=policies,
            kl_title=kl_title(summary["recipe"]),
            fit_figures=fit,
            undrawn=undrawn(summary["fit"]),
            drawings=[{"id": f.id, "data": f.data, "layout": f.layout} for f in policies + fit],
            recipe=yaml.safe_dump(dict(summary["recipe"]), sort_keys=False, allow_unicode=True),
            samples=summary["samples"][:MOST_SAMPLES],
            open_samples=OPEN_SAMPLES,
            css=own_files("page.css"),
            plotly=Markup(get_plotlyjs()),
        )
    )


def own_files(*names: str) -> Markup:
    """Style sheets or scripts of this folder, joined: they are not text from a run, so nothing in them is escaped."""
    return Markup("".join((HERE / name).read_text(encoding="utf-8") for name in names))


@cache
def environment() -> Environment:
    """The templates of this folder, with the filters that put numbers into form."""
    loader = FileSystemLoader(HERE)
    templates = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    filters = (percent, points, span, number, duration, date, counts, plain, total_seconds)
    templates.filters |= {filter_.__name__: filter_ for filter_ in filters}
    templates.globals |= {"favours": favours}
    return templates


def favours(rate: Interval) -> Favours:
    """Which policy an interval favours: neither when it holds one half."""
    if rate.low > 0.5:
        return "final"
    return "start" if rate.high < 0.5 else "neither"


def lead(summary: Summary) -> str:
    """The result in one or two sentences."""
    if headline := summary["headline"]:
        seen = any(j["seen_in_training"] and j["name"] == headline["oracle"] for j in summary["judgments"])
        unseen = f"under “{headline['oracle']}”, which training never saw"
        return _comparison(headline["win_rate"], "under the oracle it was trained on" if seen else unseen)
    if unseen := [j for j in summary["judgments"] if not j["seen_in_training"]]:
        return _comparison(unseen[0]["win_rate"], f"under “{unseen[0]['name']}”, which training never saw")
    if checks := summary["checks"]:
        start, final = percent(checks["start"].value), percent(checks["final"].value)
        difference = checks["difference"]
        return (
            f"The final policy passes {final} of the responses that code can check, "
            f"the start {start}: a difference of {points(difference.value)} points "
            f"(95{THIN}% interval {span(difference, points)})."
        )
    return "This run was trained and not judged: no oracle compared its policies, and no prompt carries a check."


def _comparison(rate: Interval, oracle: str) -> str:
    numbers = f"{percent(rate.value, rate)} of held-out comparisons against the start"
    interval = f"(95{THIN}% interval {span(rate)})"
    ends: dict[Favours, str] = {"final": ".", "start": ": it got worse.", "neither": ": too close to tell from chance."}
    side = favours(rate)
    only = "only " if side == "start" else ""
    return f"The final policy wins {only}{numbers} {interval} {oracle}{ends[side]}"


def agreement(judgments: list[Judgment]) -> str:
    """How many of the judgments that training never saw favour which policy, in a sentence; "" without any."""
    unseen = [favours(j["win_rate"]) for j in judgments if not j["seen_in_training"]]
    if not unseen:
        return ""
    words: dict[Favours, str] = {
        "final": "favour{} the final policy",
        "neither": "cannot tell them apart",
        "start": "favour{} the start",
    }
    counted = [(unseen.count(side), word) for side, word in words.items() if side in unseen]
    *others, last = [f"{count} {word.format('s' if count == 1 else '')}" for count, word in counted]
    noun = "judgment" if len(unseen) == 1 else "judgments"
    listed = f"{', '.join(others)} and {last}" if others else last
    return f"Of {len(unseen)} {noun} that training never saw, {listed}."


def cautions(judgments: list[Judgment]) -> list[str]:
    """One plain sentence for every unseen judgment whose interval lies below one half."""
    return [
        f"“{j['name']}”, which training never saw, prefers the start: the final policy wins "
        f"{percent(j['win_rate'].value, j['win_rate'])} of comparisons, and the whole interval "
        f"({span(j['win_rate'])}) lies below 50{THIN}%."
        for j in judgments
        if not j["seen_in_training"] and favours(j["win_rate"]) == "start"
    ]


def losses_to_older(matrix: Matrix) -> list[str]:
    """Policies that lose to an older one, the trace that cycling leaves in a matrix."""
    names = [f"policy {name}" if name.isdigit() else f"the {name}" for name in matrix["policies"]]
    return [
        f"{names[new]} loses to {names[old]} ({percent(rate)})"
        for new in range(len(names))
        for old in range(new)
        if (rate := matrix["win_rate"][new][old]) is not None and rate < 0.5
    ]


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


def counts(facts: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The entries of a stage's facts that are counts by reason, such as drops and failures, without empty ones."""
    return {name: value for name, value in facts.items() if isinstance(value, Mapping) and value}


def plain(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The entries of a stage's facts that are single values."""
    return {name: value for name, value in facts.items() if not isinstance(value, Mapping)}


def total_seconds(round_: FinishedRound) -> float:
    """A round's time."""
    return sum(stage["seconds"] for stage in round_["stages"].values())
