"""Which evaluated policy of a run is best so far, and for how many evaluations none was better.

The best is the policy with the highest point estimate; of equal ones the earliest, which is closest to the start. The
start is among them: it wins half of the comparisons with itself, so a policy that beats it in fewer is not the best.
The highest of several noisy estimates lies above the truth on average, and all are made on the same prompts: `in_words`
says so. Leaves out: the figures themselves (`win_rates.py`, `check_rates.py`, `duality_gap.py`).

    find_best(policies, "win_rate")  ->  {"round": 2, "by": "win_rate", "figure": Interval(0.62, 0.56, 0.67), ...}
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypedDict

from sparring.evaluation.intervals import Interval
from sparring.runtime.words import counted

Measure = Literal["win_rate", "mean_preference", "checks"]
START: dict[Measure, float] = {"win_rate": 0.5, "mean_preference": 0.5, "checks": 0.0}
"""the start's own figure"""
MEASURES: dict[Measure, str] = {
    "win_rate": "win rate against the start",
    "mean_preference": "mean preference over the start",
    "checks": "rule checks passed more than the start",
}


class EvaluatedPolicy(TypedDict):
    """The main figures of a policy; null where nobody judges, or no held-out prompt has a check."""

    round: int
    """t is the policy that round t made, counted from 1"""
    oracle: str | None
    """who says `win_rate` and `mean_preference`: the recipe's oracle, or the first of the evaluation's"""
    win_rate: Interval | None
    """against the start"""
    mean_preference: Interval | None
    checks: Interval | None
    """share of responses that pass their rules, minus the start's, paired by prompt"""
    gap: Interval | None
    """empirical duality gap against the policies that were evaluated up to then"""
    tokens_mean: float | None
    kl_to_start: float | None
    """nats per response"""


class Best(TypedDict):
    """The best of the evaluated policies."""

    round: int
    """0 where none is better than the start"""
    by: Measure
    oracle: str | None
    figure: Interval | None
    """null for the start"""
    of: int
    """how many policies were evaluated"""
    since: int
    """how many of them came after the best"""


class Stopped(TypedDict):
    """The end of a training that evaluation.patience stopped."""

    after: int
    """rounds that were trained"""
    of: int
    """rounds that the recipe asked for"""
    patience: int
    by: Measure
    best: int
    """round of the best policy"""


def find_best(policies: Sequence[EvaluatedPolicy], by: Measure) -> Best | None:
    """The best of the policies, which come in the order of their rounds; None where none has the figure."""
    figures = [(policy, figure) for policy in policies if (figure := policy[by]) is not None]
    if not figures:
        return None
    oracle = None if by == "checks" else figures[0][0]["oracle"]
    best: Best = {"round": 0, "by": by, "oracle": oracle, "figure": None, "of": len(policies), "since": len(policies)}
    highest = START[by]
    for policy, figure in figures:
        if figure.value > highest:
            highest, since = figure.value, sum(later["round"] > policy["round"] for later in policies)
            best = {**best, "round": policy["round"], "figure": figure, "since": since}
    return best


def in_words(best: Best) -> str:
    """The best policy, its figure, and what the choice does to it, in one or two sentences."""
    measure, among = MEASURES[best["by"]], f"of {counted(best['of'], 'evaluated policy', 'evaluated policies')}"
    under = f" under “{best['oracle']}”" if best["oracle"] else ""
    if best["figure"] is None:
        return f"Best by {measure}{under}: the start; {among} none is better."
    figure = f"{best['figure']:+.1%}" if best["by"] == "checks" else f"{best['figure']:.1%}"
    chosen = " It was chosen on the prompts that it is scored on, so this is likely too high." if best["of"] > 1 else ""
    return f"Best by {measure}{under}: policy {best['round']}, {figure}, the highest {among}.{chosen}"


def figures_in_words(policy: EvaluatedPolicy) -> str:
    """The figures of one policy on a line."""
    parts: list[str] = []
    if win := policy["win_rate"]:
        parts.append(f"wins {win:.1%} against the start under “{policy['oracle']}”")
    if checks := policy["checks"]:
        parts.append(f"checks {checks.scaled(100):+.1f} points")
    if gap := policy["gap"]:
        parts.append(f"gap {gap.value:.3f}")
    if policy["tokens_mean"] is not None:
        parts.append(f"{policy['tokens_mean']:.4g} tokens an answer")
    if policy["kl_to_start"] is not None:
        parts.append(f"KL to the start {policy['kl_to_start']:.3g}")
    return f"policy {policy['round']}: {', '.join(parts)}"


def stop_in_words(stopped: Stopped) -> str:
    """Why the training ended early, and how to have it go on."""
    best = f"policy {stopped['best']}" if stopped["best"] else "the start"
    return (
        f"Stopped after {stopped['after']} of {counted(stopped['of'], 'round')}: no {stopped['by']} above that of "
        f"{best} in {counted(stopped['patience'], 'evaluated policy', 'evaluated policies')} (evaluation.patience). To "
        "go on: --set evaluation.patience=null"
    )
