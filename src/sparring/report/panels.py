"""The report's curves: which there are, how to read them, and what judges each (`curve_checks.py`).

Leaves out: their drawings (`figures.py`).

    [panel.title for panel in FIT_PANELS]  ->  ["Loss", "Margin and its target", ...]
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sparring.report import curve_checks as checks
from sparring.report.curve_checks import Check
from sparring.report.numbers import number, percent


@dataclass(frozen=True, slots=True)
class Line:
    """One curve: the key of its values, its name and its colour."""

    key: str
    name: str
    colour: Literal["accent", "second", "against", "muted"] = "accent"


@dataclass(frozen=True, slots=True)
class Panel:
    """What one figure shows, how to read it, and what judges it."""

    title: str
    caption: str
    lines: tuple[Line, ...]
    check: Callable[[Any, Mapping[str, Any]], Check | None]
    unit: Literal["number", "share"] = "number"
    from_zero: bool = False
    smoothing: int = 15
    """the strong line is a running mean over this fraction (a 15th) of its round; 0: every step"""
    steps_shown: bool = True
    """whether single steps are drawn faintly behind the running mean"""
    band: tuple[str, str] | None = None
    """keys of the lower and upper edge of a band behind the first line"""


POLICY_PANELS = (
    Panel(
        "Length of responses, tokens",
        f"Mean, and a band from the 10th to the 90th percentile. Look: the mean moves by more than "
        f"{percent(checks.LENGTH.look)}; bad: {percent(checks.LENGTH.bad)}. A climb in every round is how a policy "
        "exploits an oracle that likes long text.",
        (Line("tokens_mean", "mean"),),
        lambda policies, _: checks.length(policies),
        from_zero=True,
        band=("tokens_p10", "tokens_p90"),
    ),
    Panel(
        "Responses that end by themselves",
        f"Look: the share falls by more than {number(100 * checks.FINISHED.look)} points, or fewer "
        f"than {percent(checks.HALF)} do; bad: {number(100 * checks.FINISHED.bad)}, when the policy has stopped "
        "knowing how to finish.",
        (Line("finished_share", "finished"),),
        lambda policies, _: checks.finished(policies),
        "share",
    ),
    Panel(
        "Diversity",
        f"Look: distinct trigrams or answers fall by more than {number(100 * checks.DISTINCT.look)} points, or "
        f"repetition rises by {number(100 * checks.REPEATING.look)}; bad: {number(100 * checks.DISTINCT.bad)} and "
        f"{number(100 * checks.REPEATING.bad)}.",
        (
            Line("distinct_trigrams", "distinct trigrams"),
            Line("distinct_answers", "distinct answers", "second"),
            Line("repeating_share", "responses that repeat", "against"),
        ),
        lambda policies, _: checks.diversity(policies),
        "share",
        from_zero=True,
    ),
    Panel(
        "{kl} to the start, nats per response",
        f"Band: two standard errors either side. Look: more than {checks.KL_PER_TOKEN.look:g} nats a token, or a last "
        f"round that added {checks.KL_SPEED.look:g} times what any earlier one did; bad: "
        f"more than {checks.KL_PER_TOKEN.bad:g} a token, or {checks.KL_SPEED.bad:g} times: each round leaves the start "
        "faster than the last.",
        (Line("kl_to_start", "KL(policy || start)"),),
        lambda policies, _: checks.kl(policies),
        from_zero=True,
        band=("kl_low", "kl_high"),
    ),
    Panel(
        "Win rate against the start",
        "With a band of 95 % intervals over prompts. Every point is of the same prompts and the same answers of the "
        "start, so the highest of them is likely too high.",
        (Line("win_rate", "win rate"),),
        lambda policies, _: None,
        "share",
        band=("win_rate_low", "win_rate_high"),
    ),
)

_TOGETHER = (
    f"Look: at a round’s end both have moved by more than {checks.TOGETHER_NATS.look:g} nat and by more than what "
    f"parts them; bad: by more than {checks.TOGETHER_NATS.bad:g} nats and {checks.TOGETHER.bad:g} times what parts them"
)
FIT_PANELS = (
    Panel(
        "Loss",
        f"Look: within a round it rises by more than {percent(checks.LOSS_RISE.look)} and beyond noise; bad: by more "
        f"than {percent(checks.LOSS_RISE.bad)}, or it is no number. A jump between rounds is normal: each has pairs of "
        "its own.",
        (Line("loss", "loss"),),
        checks.loss,
    ),
    Panel(
        "Margin and its target",
        f"How much more chosen gained than rejected, in the loss’s units. Look: a round ends below "
        f"{percent(1 - checks.MARGIN_SHORT.look)} of the target (few steps, or small ones) or above "
        f"{percent(1 + checks.MARGIN_PAST.look)}; bad: below 0, or above {percent(1 + checks.MARGIN_PAST.bad)}.",
        (Line("margin", "margin, chosen over rejected"), Line("margin_target", "target", "muted")),
        checks.margin,
    ),
    Panel(
        "Log-ratio to the reference",
        f"{_TOGETHER}. Only sinking counts: probability moves to text that nobody sampled.",
        (Line("chosen_vs_reference", "chosen"), Line("rejected_vs_reference", "rejected", "against")),
        checks.together("reference"),
    ),
    Panel(
        "Log-ratio to the iterate",
        f"{_TOGETHER}: a step too large for the pairs that it was judged on.",
        (Line("chosen_vs_iterate", "chosen"), Line("rejected_vs_iterate", "rejected", "against")),
        checks.together("iterate"),
    ),
    Panel(
        "Accuracy on the training pairs",
        f"Look: a round ends below {percent(checks.ACCURACY_LEAST)} (little learned), or the first one begins above "
        f"{percent(checks.ACCURACY_AT_ONCE)} (pairs that give themselves away); bad: below one half beyond noise.",
        (Line("accuracy", "chosen ranked above rejected"),),
        checks.accuracy,
        "share",
    ),
    Panel(
        "Gradient norm before clipping",
        "Its size is the model’s and the loss’s; what counts is its course. Look: a spike above "
        f"{checks.SPIKE.look:g} times the round’s median, or {checks.GROWTH.look:g} times its beginning at the end; "
        f"bad: {checks.SPIKE.bad:g} and {checks.GROWTH.bad:g} times, a fall to zero, or no number.",
        (Line("grad_norm", "gradient norm"),),
        checks.gradient,
        from_zero=True,
    ),
    Panel(
        "Share of clipped steps",
        f"Look: above {percent(checks.CLIPPED.look)}: the norm’s limit (fit.max_grad_norm), not the gradient, sets the "
        "length of most steps.",
        (Line("clipped", "clipped"),),
        checks.clipped,
        "share",
        from_zero=True,
        smoothing=5,
        steps_shown=False,
    ),
    Panel(
        "Learning rate",
        "The schedule, afresh in each round. Look: it never reaches half of the recipe’s; bad: it is above it, or 0 "
        "throughout.",
        (Line("learning_rate", "learning rate"),),
        checks.learning_rate,
        from_zero=True,
        smoothing=0,
    ),
    Panel(
        "Tokens per second",
        f"Look: a round ends more than {percent(checks.SLOWER.look)} slower than it began; bad: "
        f"{percent(checks.SLOWER.bad)}, when memory or another process is in the way.",
        (Line("tokens_per_second", "tokens per second"),),
        checks.speed,
        from_zero=True,
    ),
)


def kl_title(recipe: Mapping[str, Any]) -> str:
    """ "KL", or "KL on the samples (...)" where temperature or top_p make them other than the policy's own."""
    sampling = recipe.get("sampling", {})
    drawn = {"T": sampling.get("temperature", 1.0), "top_p": sampling.get("top_p", 1.0)}
    changed = ", ".join(f"{name} = {value:g}" for name, value in drawn.items() if value != 1.0)
    return f"KL on the samples ({changed})" if changed else "KL"
