"""The page of an oracle audit: one HTML file without scripts or network.

It says the result in words; `audit.html` arranges the numbers. Leaves out: computing any number
(`evaluation/oracle_quality.py`).

    write_audit(run_audit(...), Path("runs/audit/audit.html"))
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from markupsafe import Markup

from sparring.evaluation.cheats import can_tell, falls_for
from sparring.evaluation.intervals import CountedInterval, Interval
from sparring.report.html import page
from sparring.report.numbers import percent, points, span
from sparring.report.svg import circle, inline, line, rect, text
from sparring.runtime.files import write_text


def write_audit(audit: Mapping[str, Any], path: Path) -> None:
    """Write the page of an audit (`run_audit`'s), beside its target and renamed."""
    oracles = audit["oracles"]
    text = page(
        "audit.html",
        s=audit,
        lines=[in_words(name, one) for name, one in oracles.items()],
        warnings=[*doubts(audit), *warnings(oracles)],
        rates={name: rate_text(one["accuracy"]) for name, one in oracles.items()}
        | {"length_rule": rate_text(audit["length_rule"])},
        categories=categories(oracles),
        cheats=cheats(oracles),
        rate_text=rate_text,
        length_gap=length_gap,
        reliability=partial(reliability, pairs=audit["decided"]),
    )
    write_text(path, text)


def rate_text(rate: CountedInterval | None) -> str:
    """A rate as text: 62 % (58-66 %) of 410."""
    return "–" if rate is None else f"{percent(rate.value)} ({span(rate)}) of {rate.count:,.0f}"


def length_gap(gap: Interval | None) -> str:
    """The difference in accuracy between pairs whose longer and whose shorter answer is right, in words."""
    return "" if gap is None else f"the difference: {points(gap.value)} points ({span(gap, points)})"


def reliability(name: str, bins: Sequence[Mapping[str, Any]], pairs: int) -> Markup:
    """Accuracy by confidence as a drawing: on the diagonal, a confidence is as often right as it says."""
    left, top, side = 52.0, 12.0, 200.0
    dots = []
    for one in sorted(bins, key=lambda one: -one["count"]):
        x, y = left + 2 * side * (one["confidence"] - 0.5), top + side * (1 - one["accuracy"])
        words = f"confidence {percent(one['confidence'])}: right in {percent(one['accuracy'])} of {one['count']}"
        dots.append(circle(x, y, round(3 + 14 * (one["count"] / max(pairs, 1)) ** 0.5, 1), "bin", words))
    marks = [
        *(text(left - 6, top + side * (1 - y) + 4, percent(y), "", "end") for y in (0, 0.5, 1)),
        *(text(left + 2 * side * (x - 0.5), top + side + 16, percent(x), "", "middle") for x in (0.5, 0.75, 1)),
        text(left + side / 2, top + side + 32, "confidence", "", "middle"),
        text(left - 6, top + side / 4 + 4, "right", "", "end"),
    ]
    frame = [rect(left, top, side, side, "frame"), line(left, top + side / 2, left + side, top, "diagonal")]
    label = f"Reliability of {name}: accuracy by confidence"
    return Markup(inline(left + side + 22, top + side + 38, label, [*frame, *dots, *marks], "chart reliability"))


def in_words(name: str, one: Mapping[str, Any]) -> str:
    """One oracle's result in a sentence or two."""
    rate, lead = one["accuracy"], one["over_length_rule"]
    if rate is None:
        return f"“{name}” was asked, but no pair has both a verdict and a labelled winner."
    rule = "the rule that the longer answer wins"
    if rate.contains(0.5):
        meaning = "no difference from a coin is shown"
    elif rate.high < 0.5:
        meaning = "worse than a coin on these pairs"
    elif lead.contains(0):
        meaning = f"no difference from {rule} is shown"
    else:
        meaning = f"{points(lead.value)} points {'on' if lead.low > 0 else 'against'} {rule}"
    return f"“{name}” picks the labelled winner in {rate_text(rate)} pairs: {meaning}."


def doubts(audit: Mapping[str, Any]) -> list[str]:
    """Reasons in the data, not in the verdicts, why figures may flatter an oracle or say nothing."""
    doubts = []
    if count := audit["contradicting"]:
        doubts.append(f"Comparisons whose labels contradict each other: {count}. No oracle can be right there.")
    if count := audit["repeated"]:
        doubts.append(f"Pairs that repeat another, with its answers exchanged or not: {count}. They count again.")
    for name, one in audit["oracles"].items():
        if count := one["trained_on"]:
            doubts.append(f"“{name}” was trained on {count} of these prompts: its figures flatter it.")
        if count := one["calibrated_on"]:
            doubts.append(
                f"“{name}” took its temperature from {count} of these pairs: its calibration error flatters it."
            )
        if count := one["without_rule"]:
            doubts.append(f"“{name}” has no rule for {count} of {audit['pairs']} pairs and ties them.")
        if one["cheats"] and not can_tell(one["cheats"]):
            doubts.append(
                f"“{name}” met cheats on too few prompts to tell whether it falls for them: give more --cheats."
            )
    return doubts


def warnings(oracles: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Signs that an oracle can be fooled, or fails."""
    warnings = []
    for name, one in oracles.items():
        if bias := length_in_words(one["length"]):
            warnings.append(f"“{name}” {bias}")
        first = one["position"] and one["position"]["first_wins"]
        if first and not first.contains(0.5):
            warnings.append(
                f"“{name}” favours the {'first' if first.value > 0.5 else 'second'} answer shown: the first wins "
                f"{percent(first.value)}. Both orders are averaged, which removes the bias and not the noise."
            )
        if cheats := falls_for(one["cheats"]):
            warnings.append(f"“{name}” prefers cheap cheats to the answers that people preferred: {', '.join(cheats)}.")
        if one["failed"]:
            warnings.append(f"“{name}” gave no verdict on {one['failed']} pairs; they are left out.")
    return warnings


def length_in_words(length: Mapping[str, Any]) -> str | None:
    """The oracle's bias of length in words; None where its errors are as frequent whichever answer is longer."""
    gap = length["accuracy_gap"]
    if gap is None or gap.contains(0):
        return None
    pays, more = ("length", "more") if gap.value > 0 else ("brevity", "less")
    return (
        f"is right in {percent(length['accuracy_longer_right'].value)} where the longer answer is right and in "
        f"{percent(length['accuracy_shorter_right'].value)} where the shorter one is ({points(gap.value)} "
        f"points, {points(gap.low)} to {points(gap.high)}): it pays for {pays}, and a policy trained on it can "
        f"win by writing {more}."
    )


def cheats(oracles: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """By cheat: its kind, and how often it wins under every oracle."""
    by_oracle = [{row["cheat"]: row for row in one["cheats"]} for one in oracles.values()]
    return {
        cheat: {"kind": row["kind"], "rates": [rows[cheat]["wins"] for rows in by_oracle]}
        for cheat, row in by_oracle[0].items()
    }


def categories(oracles: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """By category: the length rule and every oracle's accuracy."""
    rules = {name: one["length_rule"] for name, one in next(iter(oracles.values()))["categories"].items()}
    return {
        name: {
            "count": rule.count if rule else 0,
            "length_rule": rule,
            "rates": [one["categories"][name]["accuracy"] for one in oracles.values()],
        }
        for name, rule in rules.items()
    }
