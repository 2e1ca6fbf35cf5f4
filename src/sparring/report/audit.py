"""The page of an oracle audit: one HTML file without scripts or network.

Says the result in words; `audit.html` arranges the numbers. Leaves out: computing any (`evaluation/oracle_quality.py`).

    write_audit(found, Path("runs/audit/audit.html"))
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sparring.evaluation.cheats import can_tell, falls_for
from sparring.evaluation.intervals import CountedInterval
from sparring.report.html import environment, own_files, percent, points, span
from sparring.runtime.files import write_text


def write_audit(found: Mapping[str, Any], path: Path) -> None:
    """Render the audit beside its target, then rename."""
    oracles = found["oracles"]
    page = (
        environment()
        .get_template("audit.html")
        .render(
            s=found,
            lines=[in_words(name, one) for name, one in oracles.items()],
            warnings=[*doubts(found), *warnings(oracles)],
            rates={name: rate_text(one["accuracy"]) for name, one in oracles.items()}
            | {"length_rule": rate_text(found["length_rule"])},
            categories=categories(oracles),
            cheats=cheats(oracles),
            radius=lambda count, whole: round(1.5 + 7 * (count / max(whole, 1)) ** 0.5, 1),
            css=own_files("page.css"),
        )
    )
    write_text(path, page)


def rate_text(rate: CountedInterval | None) -> str:
    """62 % (58-66 %) of 410."""
    return "–" if rate is None else f"{percent(rate.value)} ({span(rate)}) of {rate.count:,.0f}"


def in_words(name: str, one: Mapping[str, Any]) -> str:
    """One oracle's result in a sentence or two."""
    rate, lead = one["accuracy"], one["over_length_rule"]
    if rate is None:
        return f"“{name}” was asked, but no pair has both a verdict and a labelled winner."
    says = f"“{name}” picks the labelled winner in {rate_text(rate)} pairs: "
    if rate.contains(0.5):
        return says + "not to be told from a coin."
    if rate.high < 0.5:
        return says + "worse than a coin on these pairs."
    if lead.low > 0:
        return says + f"{points(lead.value)} points on the rule that the longer answer wins."
    if lead.high < 0:
        return says + f"{points(lead.value)} points against the rule that the longer answer wins."
    return says + "not to be told from the rule that the longer answer wins."


def doubts(found: Mapping[str, Any]) -> list[str]:
    """Why figures may flatter an oracle, or say nothing: by the data, not by its verdicts."""
    said = []
    if count := found["contradicting"]:
        said.append(f"Comparisons whose labels contradict each other: {count}. No oracle can be right there.")
    if count := found["repeated"]:
        said.append(f"Pairs that repeat another, with its answers exchanged or not: {count}. They count again.")
    for name, one in found["oracles"].items():
        if one["trained_on"]:
            said.append(f"“{name}” was trained on {one['trained_on']} of these prompts: its figures flatter it.")
        if one["calibrated_on"]:
            said.append(
                f"“{name}” took its temperature from {one['calibrated_on']} of these pairs: its calibration error "
                "flatters it."
            )
        if one["without_rule"]:
            said.append(f"“{name}” has no rule for {one['without_rule']} of {found['pairs']} pairs and ties them.")
        if one["cheats"] and not can_tell(one["cheats"]):
            said.append(
                f"“{name}” met cheats on too few prompts to tell whether it falls for them: give more --cheats."
            )
    return said


def warnings(oracles: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Signs that an oracle can be fooled, or fails."""
    found = []
    for name, one in oracles.items():
        position = one["position"]
        if said := length_in_words(one["length"]):
            found.append(f"“{name}” {said}")
        first = position and position["first_wins"]
        if first and not first.contains(0.5):
            found.append(
                f"“{name}” favours the {'first' if first.value > 0.5 else 'second'} answer shown: the first wins "
                f"{percent(first.value)}. Both orders are averaged, which removes the bias and not "
                "the noise."
            )
        if fooled := falls_for(one["cheats"]):
            found.append(f"“{name}” prefers cheap cheats to the answers that people preferred: {', '.join(fooled)}.")
        if one["failed"]:
            found.append(f"“{name}” gave no verdict on {one['failed']} pairs; they are left out.")
    return found


def length_in_words(length: Mapping[str, Any]) -> str | None:
    """What the oracle's errors say of length; None where they are as frequent whichever answer is longer."""
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
    known = {name: {row["cheat"]: row for row in one["cheats"]} for name, one in oracles.items()}
    first = next(iter(known.values()))
    return {
        cheat: {"kind": row["kind"], "rates": [mine[cheat]["wins"] for mine in known.values()]}
        for cheat, row in first.items()
    }


def categories(oracles: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """By category: the length rule and every oracle's accuracy."""
    first = next(iter(oracles.values()))
    return {
        name: {
            "count": facts["length_rule"].count if facts["length_rule"] else 0,
            "length_rule": facts["length_rule"],
            "rates": [one["categories"][name]["accuracy"] for one in oracles.values()],
        }
        for name, facts in first["categories"].items()
    }
