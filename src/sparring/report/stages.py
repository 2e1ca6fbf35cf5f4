"""The stages of a run for its report: facts under their names, and everything that was left out, by reason.

Leaves out: the table (`page.html`).

    left_out(summary)  ->  {"train data": {"prompt too long": 4}, "pair: dropped examples": {"tie": 3}}
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from sparring.report.numbers import number, percent
from sparring.report.summary import Counts, FinishedRound, Summary

NAMES = {
    "turns": "replies",
    "trained": "replies to train on",
    "seconds_judging": "seconds of judging while sampling",
    "cut_off": "cut off by max_new_tokens",
    "empty": "empty responses",
    "repeating_share": "repeating responses",
    "policies": "policies scored",
    "first_loss": "first loss",
    "last_loss": "last loss",
    "clip_share": "clipped steps",
    "logp_check": "log-probabilities recomputed within, nats",
    "answers_cut": "answers that the judge read only in part",
    "dropped_examples": "dropped examples",
    "dropped_pairs": "dropped pairs",
}
"""of facts whose key does not say it"""
PLACES = {
    "train": "train data",
    "held_out": "held-out data",
    "teacher": "the teacher’s answers",
    "collection": "the collection",
}
FAILED, ORACLE = "failed", "oracle"


def judges(summary: Summary) -> dict[str, str]:
    """Identity of every judge by its name, those of the evaluation and those that only the training asked."""
    names = {j.get("identity", j["name"]): j["name"] for j in summary["judgments"]}
    asked = [stage["facts"].get(ORACLE) for one in summary["rounds"] for stage in one["stages"].values()]
    names = dict.fromkeys((str(identity) for identity in asked if identity), "") | names
    return {identity: name or identity.partition("(")[0] for identity, name in names.items()}


def made(facts: Mapping[str, Any]) -> dict[str, str]:
    """What a stage made, under its facts' names; the judge's identity stands once on the page, elsewhere."""
    single = {key: value for key, value in facts.items() if not isinstance(value, Mapping)}
    kept = {key: value for key, value in single.items() if key != ORACLE and not (key == FAILED and value)}
    return {fact_name(key): percent(value) if key.endswith("_share") else number(value) for key, value in kept.items()}


def dropped(facts: Mapping[str, Any]) -> dict[str, Counts]:
    """What a stage left out: its counts by reason, and comparisons that got no verdict."""
    groups = {fact_name(key): dict(value) for key, value in facts.items() if isinstance(value, Mapping) and value}
    return groups | ({"comparisons": {"without a verdict": facts[FAILED]}} if facts.get(FAILED) else {})


def left_out(summary: Summary) -> dict[str, Counts]:
    """All that was left out, over all rounds and in the evaluation: reasons and counts by place."""
    found = {_place(place): Counter(reasons) for place, reasons in summary["dropped"].items()}

    def add(place: str, reasons: Counts) -> None:
        found[place] = found.get(place, Counter()) + Counter(reasons)

    for one in summary["rounds"]:
        for stage, entry in one["stages"].items():
            for name, reasons in dropped(entry["facts"]).items():
                add(f"{stage}: {name}", reasons)
    games = [("the start", judgment) for judgment in summary["judgments"]]
    games += [(o["name"], judgment) for o in summary.get("opponents", []) for judgment in (o["start"], o["final"])]
    for other, judgment in games:
        if failed := judgment["failed"]:
            add(f"evaluation: {judgment['name']}, against {other}", {"comparisons without a verdict": failed})
    for name, refused in {o["name"]: o.get("refused", 0) for o in summary.get("opponents", [])}.items():
        if refused:
            add(f"evaluation: against {name}", {"prompts that its server refuses": refused})
    return {place: dict(reasons) for place, reasons in found.items()}


def _place(place: str) -> str:
    """A data set's name for people; `train.NAME` is one of a mixture."""
    part, _, name = place.partition(".")
    return f"{PLACES.get(part, part)}, {name}" if name else PLACES.get(part, part)


def total_seconds(round_: FinishedRound) -> float:
    """A round's time."""
    return sum(stage["seconds"] for stage in round_["stages"].values())


def fact_name(key: str) -> str:
    """A fact's name for people."""
    return NAMES.get(key, key.replace("_", " "))
