"""Two sides compared from their stored verdicts: who wins, how sure that is, and how much of it is length.

The unit is the prompt: intervals are over prompts, a tie counts one half. Leaves out: judging
(`contests/head_to_head_folder.py`), and the page (`report/versus.py`).

    compare(judgments, orders)["win_rate"]
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sparring.evaluation.annotations import Judgments
from sparring.evaluation.intervals import SHARE, Interval, interval, unanimous
from sparring.evaluation.length_control import length_controlled, separable
from sparring.oracles.preferences import wins
from sparring.runtime.shown import View

RATES = {"win rate": "win_rate", "mean preference": "mean_preference", "at equal lengths": "length_controlled"}
"""keys of a result's intervals, by what people call them"""
FEWEST = 20
"""prompts below which nothing is concluded, and a regression on length says nothing"""
ONE_WITH_LENGTH = 0.95
"""share of decided prompts that the longer (or the shorter) answer wins, from which a regression cannot tell who would
win at equal lengths: its answer hangs on the few prompts that length did not decide"""


def compare(judgments: Judgments, orders: np.ndarray, seed: int = 0) -> dict[str, Any]:
    """All results of A (`judgments.model`) against B (`judgments.baseline`), as plain data; lengths in characters.

    `orders` is N2: P(A wins) with A shown first, and second; NaN where the judge sees no places.

    Raises:
        ValueError: no prompt was judged.
    """
    known = ~np.isnan(judgments.preferences)
    if not known.any():
        raise ValueError("the judge gave no preference at all, so there is nothing to compare.")
    preferences, (lengths_a, lengths_b) = judgments.preferences[known], judgments.lengths()
    won = wins(preferences)
    result: dict[str, Any] = {
        "a": judgments.model,
        "b": judgments.baseline,
        "judge": judgments.judge,
        "prompts": len(known),
        "judged": int(known.sum()),
        "wins": int((won == 1).sum()),
        "losses": int((won == 0).sum()),
        "ties": int((won == 0.5).sum()),
        "win_rate": interval(won.tolist(), SHARE),
        "mean_preference": interval(preferences.tolist(), SHARE),
        "length_controlled": None,
        "lengths": {"a": float(lengths_a.mean()), "b": float(lengths_b.mean())},
        "empty": {"a": _empty(judgments.outputs), "b": _empty(judgments.baseline_outputs)},
        "longer_wins": _longer_wins(won, (lengths_a - lengths_b)[known]),
        "orders": _agreement(orders[~np.isnan(orders).any(1)]),
    }
    result["separable"] = separable(lengths_a, lengths_b)
    controllable = result["separable"] and not one_with_length(result["longer_wins"])
    if known.sum() >= FEWEST and controllable and unanimous(preferences) is None:
        result["length_controlled"] = length_controlled(judgments.preferences, lengths_a, lengths_b, seed=seed).rate
    return {**result, "verdict": verdict(result)}


def verdict(result: dict[str, Any]) -> str:
    """Who is better, in one sentence that claims no more than the interval does."""
    rate = result["win_rate"]
    span = f"wins {rate.value:.1%} of {result['judged']} prompts (95 % interval {rate.span('.1%')})"
    if result["judged"] < FEWEST:
        few = f"Too few prompts to say who is better ({result['judged']}, at least {FEWEST} are needed)"
        return f"{few}: under this judge {result['a']} {span} against {result['b']}."
    if shown := _shown(rate):
        first = f"Under this judge {result['a']} is {shown} than {result['b']}: it {span}."
    else:
        first = f"Under this judge no difference is shown: {result['a']} {span} against {result['b']}."
    second = one_with_length(result["longer_wins"])
    return first + (second or _at_equal_lengths(shown, result["length_controlled"], result["a"]))


def view(result: dict[str, Any]) -> View:
    """A result in a Python shell or a notebook."""
    rates = [(name, result[key]) for name, key in RATES.items() if result[key] is not None]
    rows = [("", "A", "95 % interval"), *((name, f"{rate.value:.1%}", rate.span(".1%")) for name, rate in rates)]
    counts = f"{result['wins']} wins, {result['losses']} losses, {result['ties']} ties of {result['judged']} judged"
    notes = [f"A: {result['a']}", f"B: {result['b']}", f"judge: {result['judge']}", counts]
    return View(result["verdict"], rows, [*notes, *(f"warning: {one}" for one in result.get("cautions", []))])


def cautions(result: dict[str, Any]) -> list[str]:
    """Reasons in the numbers not to believe the win rate, as sentences; `left_out` counts prompts by reason."""
    sentences, enough = [], result["judged"] >= FEWEST
    if result["orders"] is not None and result["orders"]["turned"] > 0.1:
        sentences.append(f"{result['orders']['turned']:.0%} of the judge's verdicts turn when the answers are swapped.")
    longer = result["longer_wins"]
    if longer is not None and enough and abs(longer - 0.5) > 0.25 and not one_with_length(longer):
        more = "longer" if longer > 0.5 else "shorter"
        seen = "see the row at equal lengths" if result["length_controlled"] else "the verdict may be length's"
        sentences.append(f"The {more} answer wins {max(longer, 1 - longer):.0%} of the time: {seen}.")
    if not result["separable"] and enough:
        sentences.append(
            "Lengths differ alike on every prompt: what is length and what is quality cannot be told apart."
        )
    lost = sum(result["left_out"].values())
    if lost > 0.05 * (result["judged"] + lost):
        sentences.append(f"{lost} of {result['judged'] + lost} rows or prompts were left out.")
    for side in ("a", "b"):
        if result["empty"][side] > 0.02 * result["prompts"]:
            sentences.append(f"{result['empty'][side]} answers of {side.upper()} are empty; an empty answer loses.")
    return sentences


def one_with_length(longer_wins: float | None) -> str:
    """A second sentence where length decides nearly everything, so that equal lengths show nothing; else ""."""
    if longer_wins is None or (most := max(longer_wins, 1 - longer_wins)) < ONE_WITH_LENGTH:
        return ""
    which = "longer" if longer_wins > 0.5 else "shorter"
    return f" The {which} answer wins {most:.0%} of decided prompts: quality and length cannot be told apart."


def _shown(rate: Interval) -> str:
    return "better" if rate.low > 0.5 else "worse" if rate.high < 0.5 else ""


def _at_equal_lengths(raw: str, controlled: Interval | None, name: str) -> str:
    """A second sentence where equal lengths show something else than the win rate; intervals speak, not signs."""
    if controlled is None or (shown := _shown(controlled)) == raw:
        return ""
    if not shown:
        return f" At equal lengths no difference is shown: {controlled:.1%}."
    return f" At equal lengths {'the verdict turns, ' if raw else ''}{name} is {shown}: {controlled:.1%}."


def _empty(texts: list[str]) -> int:
    return sum(not text.strip() for text in texts)


def _longer_wins(won: np.ndarray, gap: np.ndarray) -> float | None:
    """Share of prompts that the longer answer won, of those that were decided and whose answers differ in length."""
    decided = (won != 0.5) & (gap != 0)
    return float(((won == 1) == (gap > 0))[decided].mean()) if decided.any() else None


def _agreement(orders: np.ndarray) -> dict[str, float] | None:
    """Effects of the order of presentation: mean change of P, share of turned verdicts, pull to the first answer."""
    if not len(orders):
        return None
    first, second = orders.T
    return {
        "change": float(np.abs(first - second).mean()),
        "turned": float(((first - 0.5) * (second - 0.5) < 0).mean()),
        "first_bias": float((first - second).mean() / 2),
    }
