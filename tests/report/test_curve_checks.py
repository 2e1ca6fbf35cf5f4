"""What the curves say: ok, look and bad series for every panel, and those of the recipe `inpo`."""

from __future__ import annotations

import itertools
from typing import Any, cast

import pytest

from sparring.report import curve_checks as checks
from sparring.report.curve_checks import Check
from sparring.report.figures import fit_figures
from sparring.report.html import levels
from sparring.report.panels import FIT_PANELS, POLICY_PANELS
from sparring.report.summary import FitRow, PolicyMeasures


def ramp(first: float, last: float, steps: int = 12) -> list[float]:
    return [first + (last - first) * i / (steps - 1) for i in range(steps)]


def fit(**curves: list[list[float]]) -> list[list[FitRow]]:
    """Rows of rounds from the values of each key, by round."""
    return [
        [dict(zip(curves, values, strict=True)) for values in zip(*by_round, strict=True)]
        for by_round in zip(*curves.values(), strict=True)
    ]


def policies(**series: list[float | None]) -> list[PolicyMeasures]:
    """Measures of successive policies; what is not given does not move."""
    level = {"tokens_mean": 90.0, "finished_share": 0.9, "distinct_trigrams": 0.9, "distinct_answers": 1.0}
    level |= {"repeating_share": 0.02, "kl_to_start": 0.0, "kl_standard_error": 0.1}
    rounds = range(len(next(iter(series.values()))))
    rows = [{"round": t, **level, **{key: values[t] for key, values in series.items()}} for t in rounds]
    return cast(list[PolicyMeasures], rows)


def spiky(height: float) -> list[float]:
    return [*[10.0] * 8, height, *[10.0] * 3]


FIT: list[tuple[Any, dict[str, list[list[float]]], str, str]] = [
    (checks.loss, {"loss": [ramp(0.25, 0.17), ramp(0.25, 0.17)]}, "ok", "falls in every round; round 1: "),
    (checks.loss, {"loss": [ramp(0.25, 0.17), ramp(0.25, 0.275)]}, "look", "falls in 1 of 2 rounds; round 2: "),
    (checks.loss, {"loss": [ramp(0.25, 0.5)]}, "bad", "does not fall; round 1: 0.284 → 0.466 (+64\u202f%)"),
    (
        checks.loss,
        {"loss": [[*ramp(0.25, 0.2), float("nan")]]},
        "bad",
        "not a finite number in 1 step, first in round 1, step 13",
    ),
    (checks.loss, {"loss": [[*ramp(0.25, 0.2), 1e308]]}, "bad", "not a finite number in 1 step"),
    (checks.loss, {"loss": [[0.25]]}, "look", "1 step a round: too few to show a course"),
    (checks.margin, {"margin": [ramp(0, 8)], "margin_target": [[10.0] * 12]}, "ok", "of 10 (69\u202f%)"),
    (checks.margin, {"margin": [ramp(0, 2)], "margin_target": [[10.0] * 12]}, "look", "of 10 (17\u202f%)"),
    (checks.margin, {"margin": [ramp(0, -4)], "margin_target": [[10.0] * 12]}, "bad", "below 0"),
    (checks.margin, {"margin": [ramp(30, 35)], "margin_target": [[10.0] * 12]}, "bad", "(343\u202f%)"),
    (checks.margin, {"margin": [ramp(0, 3)]}, "ok", "round 1 ends at 2.59"),
    (
        checks.together("reference"),
        {"chosen_vs_reference": [ramp(0, 3)], "rejected_vs_reference": [ramp(0, -3)]},
        "ok",
        "chosen 2.59",
    ),
    (
        checks.together("reference"),
        {"chosen_vs_reference": [ramp(0, -6)], "rejected_vs_reference": [ramp(0, -9)]},
        "look",
        "both sink",
    ),
    (
        checks.together("reference"),
        {"chosen_vs_reference": [ramp(0, -40)], "rejected_vs_reference": [ramp(0, -42)]},
        "bad",
        "both sink",
    ),
    (
        checks.together("reference"),
        {"chosen_vs_reference": [ramp(0, 40)], "rejected_vs_reference": [ramp(0, 39)]},
        "ok",
        "chosen",
    ),
    (
        checks.together("iterate"),
        {"chosen_vs_iterate": [ramp(0, 40)], "rejected_vs_iterate": [ramp(0, 39)]},
        "bad",
        "both rise",
    ),
    (checks.accuracy, {"accuracy": [ramp(0.5, 0.8)]}, "ok", "round 1 ends at 76\u202f%"),
    (checks.accuracy, {"accuracy": [ramp(0.5, 0.8), [0.5] * 12]}, "look", "round 2 ends at 50\u202f%"),
    (checks.accuracy, {"accuracy": [[1.0] * 12]}, "look", "give themselves away"),
    (checks.accuracy, {"accuracy": [ramp(0.5, 0.2)]}, "bad", "ends at 24\u202f%"),
    (checks.gradient, {"grad_norm": [ramp(10, 20)]}, "ok", "median 15, largest 20"),
    (checks.gradient, {"grad_norm": [spiky(90.0)]}, "look", "median 10, largest 90"),
    (checks.gradient, {"grad_norm": [ramp(10, 12), spiky(900.0)]}, "bad", "round 2: median 10, largest 900"),
    (checks.gradient, {"grad_norm": [[10.0] * 6 + [1e-5] * 6]}, "bad", "falls to zero"),
    (checks.gradient, {"grad_norm": [[0.1] * 4 + [1.0] * 4 + [4.0] * 4]}, "bad", "grows: 0.1 → 4"),
    (checks.clipped, {"clipped": [[0.0] * 10 + [1.0] * 2]}, "ok", "17\u202f% of 12 steps"),
    (checks.clipped, {"clipped": [[1.0] * 12]}, "look", "100\u202f% of 12 steps"),
    (checks.learning_rate, {"learning_rate": [ramp(1e-4, 1e-3)]}, "ok", "at most 0.001"),
    (checks.learning_rate, {"learning_rate": [ramp(1e-5, 1e-4)]}, "look", "at most 0.0001, the recipe says 0.001"),
    (checks.learning_rate, {"learning_rate": [ramp(1e-3, 2e-3)]}, "bad", "at most 0.002"),
    (checks.speed, {"tokens_per_second": [ramp(400, 390)]}, "ok", "round 1: 399 → 391"),
    (checks.speed, {"tokens_per_second": [ramp(400, 250)]}, "look", "round 1: "),
    (checks.speed, {"tokens_per_second": [ramp(400, 50)]}, "bad", "round 1: "),
]


@pytest.mark.parametrize(("check", "curves", "level", "words"), FIT)
def test_fits(check: Any, curves: dict[str, list[list[float]]], level: str, words: str) -> None:
    found = check(fit(**curves), {"fit": {"learning_rate": 1e-3}})
    assert (found.level, words in found.words) == (level, True), found


POLICIES: list[tuple[Any, dict[str, list[float | None]], str, str]] = [
    (checks.length, {"tokens_mean": [90, 120, 100]}, "ok", "90 → 100 tokens (+11\u202f%)"),
    (checks.length, {"tokens_mean": [90, 120]}, "look", "(+33\u202f%)"),
    (checks.length, {"tokens_mean": [90, 40]}, "bad", "(−56\u202f%)"),
    (checks.finished, {"finished_share": [0.9, 0.85]}, "ok", "90\u202f% → 85\u202f%"),
    (checks.finished, {"finished_share": [0.3, 0.45]}, "look", "30\u202f% → 45\u202f%"),
    (checks.finished, {"finished_share": [0.9, 0.8]}, "look", "90\u202f% → 80\u202f%"),
    (checks.finished, {"finished_share": [0.9, 0.5]}, "bad", "90\u202f% → 50\u202f%"),
    (checks.diversity, {"distinct_trigrams": [0.9, 0.85]}, "ok", "distinct trigrams 90\u202f% → 85\u202f%"),
    (checks.diversity, {"distinct_answers": [1.0, 0.8]}, "look", "distinct answers 100\u202f% → 80\u202f%"),
    (checks.diversity, {"repeating_share": [0.02, 0.4]}, "bad", "repeating 2\u202f% → 40\u202f%"),
    (
        checks.kl,
        {"kl_to_start": [0, 4, 7, 9]},
        "ok",
        "9 nats, 0.1 a token; the last round added 2, an earlier one at most 4",
    ),
    (checks.kl, {"kl_to_start": [0, 3, 6.5, 12]}, "look", "added 5.5, an earlier one at most 3.5"),
    (checks.kl, {"kl_to_start": [0, 1, 2, 9]}, "bad", "added 7"),
    (checks.kl, {"kl_to_start": [0, 1, 2, 4], "kl_standard_error": [0.0, 1.0, 1.0, 1.0]}, "ok", "added 2"),
    (checks.kl, {"kl_to_start": [0, 50]}, "look", "0.56 a token"),
    (checks.kl, {"kl_to_start": [0, float("nan")]}, "bad", "nan nats"),
    (checks.kl, {"kl_to_start": [0, 100]}, "bad", "1.1 a token"),
]


@pytest.mark.parametrize(("check", "series", "level", "words"), POLICIES)
def test_policies(check: Any, series: dict[str, list[float | None]], level: str, words: str) -> None:
    found = check(policies(**series))
    assert (found.level, words in found.words) == (level, True), found


def test_what_was_not_measured_is_not_judged() -> None:
    nothing = cast(list[PolicyMeasures], [dict.fromkeys(policies(tokens_mean=[1])[0])] * 3)
    assert [panel.check(nothing, {}) for panel in POLICY_PANELS] == [None] * 5
    assert [panel.check([[{"step": 1.0}] * 20], {}) for panel in FIT_PANELS] == [None] * 9


def test_noise_is_no_rise() -> None:
    found = checks.loss(
        [[{"loss": value} for value in (0.2, 0.3, 0.2, 0.3, 0.2, 0.2, 0.2, 0.2, 0.3, 0.2, 0.3, 0.3)]], {}
    )
    assert found
    assert (found.level, "within noise" in found.words) == ("ok", True), found


def test_the_recipe_inpo_is_worth_a_look_and_not_bad() -> None:
    """KL +2.9, +3.4, +4.5; norms of 10 to 20; a margin of 0 to 2 of 10; a loss that starts anew in each round."""
    wave = [0.03 * (-1) ** i for i in range(12)]
    curves = {
        "loss": [
            [v + w for v, w in zip(ramp(a, b), wave, strict=True)]
            for a, b in ((0.25, 0.167), (0.247, 0.169), (0.256, 0.258))
        ],
        "margin": [ramp(0, 2), ramp(0, 2), ramp(0, 0.5)],
        "margin_target": [[10.0] * 12] * 3,
        "chosen_vs_iterate": [ramp(0, -3)] * 3,
        "rejected_vs_iterate": [ramp(0, -4.5)] * 3,
        "grad_norm": [ramp(10, 20), ramp(20, 10), ramp(12, 18)],
    }
    found = {f.panel.title: f.check.level for f in fit_figures(fit(**curves), {}) if f.check}
    assert found == {
        "Loss": "ok",
        "Margin and its target": "look",
        "Log-ratio to the iterate": "look",
        "Gradient norm before clipping": "ok",
    }
    kl = checks.kl(
        policies(kl_to_start=list(itertools.accumulate((0, 2.9, 3.4, 4.5))), kl_standard_error=[0, 0.2, 0.2, 0.2])
    )
    assert kl == Check("look", "10.8 nats, 0.12 a token; the last round added 4.5, an earlier one at most 3.4")
    words = "Curves: 2 ok; 2 to look at (Margin and its target, Log-ratio to the iterate)."
    assert levels(fit_figures(fit(**curves), {})) == words


def test_captions_print_the_limits() -> None:
    captions = {panel.title: panel.caption for panel in (*POLICY_PANELS, *FIT_PANELS)}
    assert f"rises by more than {100 * checks.LOSS_RISE.look:.0f}\u202f%" in captions["Loss"]
    assert f"above {checks.SPIKE.look:g} times" in captions["Gradient norm before clipping"]
    assert f"more than {checks.KL_PER_TOKEN.look:g} nats a token" in captions["{kl} to the start, nats per response"]
