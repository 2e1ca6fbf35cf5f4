"""What the curves of a report say: ok, look or bad, each with the number that decided.

All limits stand on top of this file; the captions print them. A change within a round is the mean of its last third of
steps against that of its first third, and counts only beyond two standard errors of that difference. Leaves out:
drawing (`figures.py`).

    loss([[{"loss": 0.3}, ...]])  ->  Check("ok", "falls in every round; round 1: 0.25 → 0.167 (−33 %)")
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, median
from typing import Any, Literal

from sparring.report import numbers
from sparring.report.numbers import percent
from sparring.report.summary import FitRow, PolicyMeasures
from sparring.runtime.words import counted

Level = Literal["ok", "look", "bad"]
LEVELS: tuple[Level, ...] = ("ok", "look", "bad")


@dataclass(frozen=True, slots=True)
class Limits:
    """A value above `look` is worth a look, one above `bad` is bad."""

    look: float
    bad: float

    def level(self, value: float) -> Level:
        """The level of a value; one that is not finite is bad."""
        if not math.isfinite(value):
            return "bad"
        return "bad" if value > self.bad else "look" if value > self.look else "ok"


LENGTH = Limits(0.25, 0.5)
"""change of the mean length from the start to the final policy, as a share of the start's; the run warns at `bad`"""
FINISHED = Limits(0.05, 0.15)
"""fall of the share of responses that end by themselves"""
HALF = 0.5
"""look: where fewer of the final policy's end by themselves"""
DISTINCT = Limits(0.1, 0.3)
"""fall of the share of distinct trigrams, or of distinct answers"""
REPEATING = Limits(0.03, 0.1)
"""rise of the share of responses that repeat"""
KL_SPEED = Limits(1.25, 2.0)
"""KL that the last round added, over the most that an earlier one added"""
KL_PER_TOKEN = Limits(0.3, 1.0)
"""KL to the start in nats per response, over the mean length in tokens"""
LOSS_RISE = Limits(0.05, 0.25)
"""rise of the loss within a round, as a share of its beginning"""
MARGIN_SHORT, MARGIN_PAST = Limits(0.75, math.inf), Limits(0.5, 2.0)
"""share of its target that the margin lacks at a round's end, or exceeds it by"""
TOGETHER, TOGETHER_NATS = Limits(1.0, 4.0), Limits(1.0, 10.0)
"""common movement of chosen and rejected at a round's end: over their difference, and in nats; both must exceed"""
ACCURACY_LEAST, ACCURACY_AT_ONCE = 0.55, 0.98
"""look: less at a round's end, or more in the first third of the first round"""
SPIKE, GROWTH = Limits(5.0, 20.0), Limits(3.0, 10.0)
"""gradient norm: the largest over a round's median; median of a round's last third over that of its first"""
VANISHED = 0.01
"""bad: a gradient norm that falls to this share of its round's beginning"""
CLIPPED = Limits(0.5, math.inf)
"""share of clipped steps; never bad: Adam takes out a constant factor"""
SLOWER = Limits(0.25, 0.5)
"""fall of the median tokens per second within a round"""
HUGE = 1e100
"""a curve's value beyond it counts as not finite: its square would not be"""
FEWEST_STEPS = 6
"""in a round: fewer show no course"""


@dataclass(frozen=True, slots=True)
class Check:
    """A curve's level and the number that decided it, in words."""

    level: Level
    words: str


Rounds = Sequence[Sequence[FitRow]]


def worst(checks: Sequence[Check]) -> Check:
    """The first of the most serious ones."""
    return max(checks, key=lambda check: LEVELS.index(check.level))


# ---------------------------------------------------------------- policies, from the start to the final one


def length(policies: Sequence[PolicyMeasures]) -> Check | None:
    """Mean length of the final policy's responses against the start's."""
    before, after = policies[0]["tokens_mean"], policies[-1]["tokens_mean"]
    if not before or after is None:
        return None
    change = after / before - 1
    return Check(LENGTH.level(abs(change)), f"{number(before)} → {number(after)} tokens ({signed(change)})")


def finished(policies: Sequence[PolicyMeasures]) -> Check | None:
    """Share of responses that end by themselves."""
    before, after = policies[0]["finished_share"], policies[-1]["finished_share"]
    if before is None or after is None:
        return None
    level = FINISHED.level(_rounded(before - after))
    return Check("look" if level == "ok" and after < HALF else level, f"{percent(before)} → {percent(after)}")


def diversity(policies: Sequence[PolicyMeasures]) -> Check | None:
    """Distinct trigrams, distinct answers and repetition; the worst of the three decides."""
    named: tuple[tuple[Literal["distinct_trigrams", "distinct_answers", "repeating_share"], str, int, Limits], ...] = (
        ("distinct_trigrams", "distinct trigrams", -1, DISTINCT),
        ("distinct_answers", "distinct answers", -1, DISTINCT),
        ("repeating_share", "repeating", 1, REPEATING),
    )
    checks = []
    for key, name, sign, limits in named:
        before, after = policies[0][key], policies[-1][key]
        if before is not None and after is not None:
            level = limits.level(_rounded(sign * (after - before)))
            checks.append(Check(level, f"{name} {percent(before)} → {percent(after)}"))
    if not checks:
        return None
    return Check(worst(checks).level, ", ".join(check.words for check in checks))


def kl(policies: Sequence[PolicyMeasures]) -> Check | None:
    """KL to the start per token, and whether the last round added more than those before."""
    known = [p for p in policies if p["kl_to_start"] is not None]
    values = [p["kl_to_start"] or 0.0 for p in known]
    if len(values) < 2:
        return None
    tokens = known[-1]["tokens_mean"] or math.nan
    checks = [
        Check(KL_PER_TOKEN.level(values[-1] / tokens), f"{number(values[-1])} nats, {values[-1] / tokens:.2g} a token")
    ]
    *before, last = [b - a for a, b in pairwise(values)]
    if before:
        errors = [p["kl_standard_error"] or 0.0 for p in known]
        faster = last - max(before) > 2 * math.hypot(*errors)
        speed = last / max(before) if max(before) > 0 else math.inf
        words = f"the last round added {number(last)}, an earlier one at most {number(max(before))}"
        checks.append(Check(KL_SPEED.level(speed) if faster else "ok", words))
    return Check(worst(checks).level, "; ".join(check.words for check in checks))


# ---------------------------------------------------------------- fits, round by round


@dataclass(frozen=True, slots=True)
class Course:
    """A curve in one round: means of its first and last third, standard errors of the last and of the change."""

    round: int
    first: float
    last: float
    error: float
    change_error: float

    @property
    def change(self) -> float:
        """Last minus first."""
        return self.last - self.first


def courses(fit: Rounds, key: str) -> list[Course]:
    """The course of a key in every round that has enough steps with it."""
    found = []
    for t, rows in enumerate(fit, start=1):
        values = _values(rows, key)
        if len(values) >= FEWEST_STEPS:
            first, last = _thirds(values)
            error = _error(last)
            found.append(Course(t, fmean(first), fmean(last), error, math.hypot(error, _error(first))))
    return found


def loss(fit: Rounds, _: Mapping[str, Any]) -> Check | None:
    """Whether the loss falls within every round."""
    if broken := _not_finite(fit, "loss"):
        return broken

    def rise(course: Course) -> float:
        beyond_noise = course.change > 2 * course.change_error
        return course.change / max(abs(course.first), 1e-12) if beyond_noise else min(course.change, 0.0)

    if not (found := courses(fit, "loss")):
        return _too_few(fit, "loss")
    one = max(found, key=rise)
    falls = sum(course.change < 0 for course in found)
    relative = signed(one.change / max(abs(one.first), 1e-12))
    noise = ", within noise" if one.change > 0 and rise(one) == 0 else ""
    which = f"round {one.round}: {number(one.first)} → {number(one.last)} ({relative}{noise})"
    return Check(LOSS_RISE.level(rise(one)), f"{_falls(falls, len(found))}; {which}")


def _falls(falls: int, rounds: int) -> str:
    if rounds == 1:
        return "falls" if falls else "does not fall"
    return "falls in every round" if falls == rounds else f"falls in {falls} of {rounds} rounds"


def margin(fit: Rounds, _: Mapping[str, Any]) -> Check | None:
    """The margin at every round's end against its target, or against 0 where there is none."""
    targets = {course.round: course.last for course in courses(fit, "margin_target")}

    def check(course: Course) -> Check:
        target, end = targets.get(course.round), number(course.last)
        where = f"round {course.round} ends at {end}"
        if course.last + 2 * course.error < 0:
            return Check("bad", f"{where}, below 0: the rejected response gained")
        if not target or target < 0:
            return Check("ok" if course.last > 2 * course.error else "look", where)
        reached = course.last / target
        level = worst([Check(MARGIN_SHORT.level(1 - reached), ""), Check(MARGIN_PAST.level(reached - 1), "")]).level
        return Check(level, f"{where} of {number(target)} ({percent(reached)})")

    found = courses(fit, "margin")
    return worst([check(course) for course in found]) if found else _too_few(fit, "margin")


def together(of: Literal["reference", "iterate"]) -> Callable[[Rounds, Mapping[str, Any]], Check | None]:
    """Whether chosen and rejected part, or move together; up only counts against the iterate."""

    def check(fit: Rounds, _: Mapping[str, Any]) -> Check | None:
        chosen, rejected = (courses(fit, f"{side}_vs_{of}") for side in ("chosen", "rejected"))
        pairs = [(c, r) for c in chosen for r in rejected if c.round == r.round]
        if not pairs:
            return _too_few(fit, f"chosen_vs_{of}") or _too_few(fit, f"rejected_vs_{of}")
        return worst([_moved(c, r, of == "iterate") for c, r in pairs])

    return check


def _moved(chosen: Course, rejected: Course, up_counts: bool) -> Check:
    common, parted = (chosen.last + rejected.last) / 2, max(chosen.last - rejected.last, 1e-9)
    words = f"round {chosen.round} ends with chosen {number(chosen.last)}, rejected {number(rejected.last)} nats"
    if common > 0 and not up_counts:
        return Check("ok", words)
    levels = (TOGETHER.level(abs(common) / parted), TOGETHER_NATS.level(abs(common)))
    level = min(levels, key=LEVELS.index)
    return Check(
        level, words if level == "ok" else f"{words}: both {'rise' if common > 0 else 'sink'} more than they part"
    )


def accuracy(fit: Rounds, _: Mapping[str, Any]) -> Check | None:
    """Accuracy on the training pairs at every round's end."""
    if not (found := courses(fit, "accuracy")):
        return _too_few(fit, "accuracy")
    if found[0].first > ACCURACY_AT_ONCE:
        return Check("look", f"{percent(found[0].first)} already in the first steps: the pairs give themselves away")
    one = min(found, key=lambda course: course.last)
    level: Level = "bad" if one.last + 2 * one.error < 0.5 else "look" if one.last < ACCURACY_LEAST else "ok"
    return Check(level, f"round {one.round} ends at {percent(one.last)}")


def gradient(fit: Rounds, _: Mapping[str, Any]) -> Check | None:
    """Spikes, growth and a fall to zero of the gradient norm, each measured by the norm itself."""
    if broken := _not_finite(fit, "grad_norm"):
        return broken
    checks = []
    for t, rows in enumerate(fit, start=1):
        values = _values(rows, "grad_norm")
        if len(values) < FEWEST_STEPS:
            continue
        first, last = (median(third) for third in _thirds(values))
        middle = max(median(values), 1e-12)
        if last < VANISHED * first:
            checks.append(Check("bad", f"round {t} falls to zero: {number(first)} → {number(last)}"))
            continue
        spike = f"round {t}: median {number(middle)}, largest {number(max(values))}"
        growth = f"round {t} grows: {number(first)} → {number(last)}"
        checks.append(
            worst(
                [Check(SPIKE.level(max(values) / middle), spike), Check(GROWTH.level(last / max(first, 1e-12)), growth)]
            )
        )
    return worst(checks) if checks else _too_few(fit, "grad_norm")


def clipped(fit: Rounds, _: Mapping[str, Any]) -> Check | None:
    """Share of steps whose gradient was clipped."""
    values = [value for rows in fit for value in _values(rows, "clipped")]
    if not values:
        return None
    share = fmean(values)
    return Check(CLIPPED.level(share), f"{percent(share)} of {number(len(values))} steps")


def learning_rate(fit: Rounds, recipe: Mapping[str, Any]) -> Check | None:
    """The highest learning rate against the recipe's."""
    values = [value for rows in fit for value in _values(rows, "learning_rate")]
    asked = recipe.get("fit", {}).get("learning_rate")
    if not values or not asked:
        return None
    peak = max(values)
    level: Level = "bad" if peak > 1.001 * asked or peak <= 0 else "look" if peak < 0.5 * asked else "ok"
    return Check(level, f"at most {number(peak)}, the recipe says {number(asked)}")


def speed(fit: Rounds, _: Mapping[str, Any]) -> Check | None:
    """Whether the fit slows down within a round."""
    checks = []
    for t, rows in enumerate(fit, start=1):
        values = _values(rows, "tokens_per_second")
        if len(values) >= FEWEST_STEPS:
            first, last = (median(third) for third in _thirds(values))
            level = SLOWER.level(1 - last / first if first > 0 else 0.0)
            checks.append(Check(level, f"round {t}: {number(round(first))} → {number(round(last))}"))
    return worst(checks) if checks else _too_few(fit, "tokens_per_second")


# ---------------------------------------------------------------- small parts


def finite(value: float) -> bool:
    """Whether a value can be averaged and drawn."""
    return abs(value) < HUGE


def number(value: float) -> str:
    """A number with a minus sign instead of a hyphen."""
    return numbers.number(value).replace("-", "−")


def signed(share: float) -> str:
    """A relative change: +7 %, −33 %."""
    return ("+" if share >= 0 else "−") + percent(abs(share))


def _values(rows: Sequence[FitRow], key: str) -> list[float]:
    return [value for row in rows if (value := row.get(key)) is not None and finite(value)]


def _thirds(values: Sequence[float]) -> tuple[Sequence[float], Sequence[float]]:
    size = max(1, len(values) // 3)
    return values[:size], values[-size:]


def _error(values: Sequence[float]) -> float:
    """Standard error of a mean."""
    mean = fmean(values)
    return math.sqrt(sum((value - mean) ** 2 for value in values) / max(len(values) - 1, 1) / len(values))


def _rounded(share: float) -> float:
    """Without the dust of subtraction, so that a limit is met exactly where the percentages say so."""
    return round(share, 9)


def _steps(fit: Rounds, key: str) -> Iterator[tuple[int, int, float]]:
    for t, rows in enumerate(fit, start=1):
        for i, row in enumerate(rows, start=1):
            if (value := row.get(key)) is not None:
                yield t, i, value


def _not_finite(fit: Rounds, key: str) -> Check | None:
    found = [(t, i) for t, i, value in _steps(fit, key) if not finite(value)]
    if not found:
        return None
    t, i = found[0]
    return Check("bad", f"not a finite number in {counted(len(found), 'step')}, first in round {t}, step {i}")


def _too_few(fit: Rounds, key: str) -> Check | None:
    most = max((len(_values(rows, key)) for rows in fit), default=0)
    return Check("look", f"{counted(most, 'step')} a round: too few to show a course") if most else None
