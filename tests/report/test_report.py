"""The report: says the result, escapes what models write, loads nothing, works without parts."""

import copy
import html
import os
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, cast

import pytest

from sparring.cli.run import judgment_rows
from sparring.evaluation.best_policy import find_best
from sparring.evaluation.intervals import CountedInterval, Interval
from sparring.report import figures
from sparring.report.chart import Chart, Curve
from sparring.report.curve_checks import Check
from sparring.report.html import (
    OPEN_SAMPLES,
    agreement,
    cautions,
    date,
    duration,
    lead,
    losses_to_older,
    number,
    percent,
    points,
    render,
    span,
    write_picture,
    write_report,
)
from sparring.report.picture import readme_svg
from sparring.report.shown import view_of_run
from sparring.report.summary import FitRow, Judgment, PolicyEpisodes, Rates, Summary
from sparring.rounds.model_card import _results

ATTACK = "</script><script>alert('x')</script><img src=http://evil.example/x onerror=alert(1)>"
SPACED = "a list:\n\n    - indented  twice\n\ttabbed"


def interval(value: float, half: float = 0.05) -> Interval:
    return Interval(value, value - half, value + half)


def judgment(name: str, value: float, seen: bool = False) -> Judgment:
    return {
        "name": name,
        "seen_in_training": seen,
        "win_rate": interval(value),
        "mean_preference": interval(value),
        "about": f"About {name}.",
        "failed": 0,
    }


def minimal() -> Summary:
    """A run without oracle, fit rows, samples or drops."""
    return {
        "name": "tiny",
        "sparring_version": "0.1.0",
        "finished": "2026-03-01T09:05:00+00:00",
        "algorithm": {
            "title": "SPIN",
            "paper": "2401.01335",
            "anchors": "iterate",
            "samples": "one",
            "pairing": "gold over own",
            "loss": "logistic",
        },
        "recipe": {"model": {"path": "tiny"}, "rounds": 1},
        "fit_settings": {},
        "lock": {
            "versions": {"torch": "2.11.0"},
            "hardware": {},
            "weights": {"0/play": "ab" * 32},
            "data": {},
        },
        "headline": None,
        "judgments": [],
        "checks": None,
        "matrix": None,
        "pool": None,
        "policies": [],
        "rounds": [],
        "fit": [],
        "intransitivity": None,
        "dropped": {},
        "warnings": [],
        "samples": [],
    }


def full(rounds: int = 3, steps: int = 40, prompts: int = 20) -> Summary:
    names = ["start", *map(str, range(1, rounds + 1))]
    rates: list[list[float | None]] = [[0.5 + 0.08 * (i - j) for j in range(rounds + 1)] for i in range(rounds + 1)]
    summary = minimal()
    summary["headline"] = {
        "oracle": "panel",
        "win_rate": interval(0.74, 0.06),
        "mean_preference": interval(0.64),
        "prompts": 120,
        "samples": 2,
    }
    summary["judgments"] = [judgment("panel", 0.74, seen=True), judgment("other", 0.4)]
    summary["checks"] = {
        "start": interval(0.3),
        "final": interval(0.4),
        "difference": interval(0.1),
        "prompts": 48,
    }
    summary["matrix"] = {"policies": names, "win_rate": rates, "mean_preference": rates}
    summary["pool"] = {
        "members": [*names, "3 best of 2", ATTACK],
        "gaps": {name: interval(0.1, 0.02) for name in names},
        "nash_mixture": {"3": 0.9, "1": 0.1},
    }
    summary["policies"] = [
        {
            "round": t,
            "tokens_mean": 90.0 + t,
            "tokens_p10": 20.0,
            "tokens_p90": 200.0,
            "finished_share": 0.9,
            "distinct_trigrams": 0.8,
            "repeating_share": 0.05,
            "distinct_answers": 1.0,
            "kl_to_start": 2.0 * t,
            "kl_standard_error": 0.3,
        }
        for t in range(rounds + 1)
    ]
    facts = {"pairs": 1234, "dropped_examples": {"tie": 3, ATTACK: 5}, "dropped_pairs": {}}
    summary["rounds"] = [
        {
            "round": t,
            "stages": {
                "sample": {"seconds": 61.0, "facts": {}},
                "pair": {"seconds": 0.4, "facts": facts},
            },
        }
        for t in range(rounds)
    ]
    summary["fit"] = [[fit_row(step) for step in range(1, steps + 1)] for _ in range(rounds)]
    summary["intransitivity"] = {
        "cyclic": CountedInterval(0.06, 0.02, 0.1, 1440),
        "bradley_terry_distance": 0.01,
        "nash_support": 1.2,
        "words": "Nearly transitive.",
    }
    summary["dropped"] = {"train": {"prompt too long": 4}, "held_out": {}}
    summary["fit_settings"] = {"rounds/000": {"fit.learning_rate": 0.001}}
    summary["warnings"] = [f"careful: {ATTACK}"]
    summary["samples"] = [
        {
            "prompt": f"Prompt number {i}: {ATTACK}",
            "check": {"rule": "contains", "words": ["hammer"]},
            "start": [ATTACK, ""],
            "final": [SPACED, "fine"],
            "preference": 0.8,
            "start_passes": [False, False],
            "final_passes": [True, False],
        }
        for i in range(prompts)
    ]
    return summary


def fit_row(step: int) -> FitRow:
    numbers = (
        "loss",
        "margin",
        "margin_target",
        "accuracy",
        "chosen_vs_reference",
        "rejected_vs_iterate",
    )
    return {
        "step": step,
        **dict.fromkeys(numbers, 1.0 / step),
        "clipped": 0,
        "grad_norm": float("nan"),
        "extra": 1.0,
    }


def page(summary: Summary) -> str:
    """The page as text."""
    return render(summary)


class Tags(HTMLParser):
    """Start tags, their attributes, and whether every element is closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in {"meta", "link", "br", "img"}:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_full_page_holds_every_section_in_order_and_stays_small() -> None:
    text = page(full(steps=400))
    order = [
        "judgments",
        "samples",
        "warnings",
        "next",
        "checks",
        "matrix",
        "pool",
        "policies",
        "fit",
        "rounds",
        "made",
    ]
    assert re.findall(r'<section id="(\w+)"', text) == order
    assert len(text.encode()) < 400_000


@pytest.mark.parametrize("summary", [minimal(), full(), full(rounds=1, steps=1, prompts=1)])
def test_elements_are_well_nested(summary: Summary) -> None:
    assert Tags(page(summary)).open == []


def test_the_minimal_page_has_no_empty_section_and_no_script() -> None:
    text = render(minimal())
    assert "was trained and not judged" in text
    assert "<script" not in text
    assert re.findall(r'<section id="(\w+)"', text) == ["warnings", "next", "made"]


OPTIONAL = ("headline", "checks", "matrix", "pool", "intransitivity")
LISTS = ("judgments", "policies", "rounds", "fit", "warnings", "samples")


@pytest.mark.parametrize("key", [*OPTIONAL, *LISTS, "dropped", "fit_settings"])
def test_any_part_may_be_missing(key: str) -> None:
    summary = cast(dict[str, Any], full())
    summary[key] = None if key in OPTIONAL else type(summary[key])()
    assert Tags(page(cast(Summary, summary))).open == []


def test_measures_may_be_missing() -> None:
    summary = full()
    for policy in cast(list[dict[str, Any]], summary["policies"]):
        policy |= dict.fromkeys(policy.keys() - {"round"})
    for sample in summary["samples"]:
        sample["check"] = sample["preference"] = sample["start_passes"] = sample["final_passes"] = None
    text = page(summary)
    assert 'id="policy-0"' not in text
    assert "P(final preferred)" not in text


def test_what_a_run_wrote_is_text_and_never_markup() -> None:
    summary = full()
    summary["name"] = summary["judgments"][0]["name"] = ATTACK
    summary["rounds"][0]["stages"][ATTACK] = {"seconds": 1.0, "facts": {ATTACK: ATTACK, "oracle": ATTACK}}
    summary["fit"][0][0][ATTACK] = 1.0
    tags = Tags(render(summary, Path(f"runs/{ATTACK}"))).seen
    assert not [
        tag for tag, attrs in tags if tag in {"script", "img", "iframe"} or any(a.startswith("on") for a in attrs)
    ]
    (policy,) = [
        content for tag, attrs in tags if tag == "meta" and "default-src" in (content := attrs.get("content") or "")
    ]
    assert "script-src" not in policy  # default-src 'none' forbids all scripts


def test_evaluated_policies_their_best_and_a_run_that_goes_on_are_shown() -> None:
    summary = full()
    before = page(summary)
    summary["evaluated"] = [
        {
            "round": t,
            "oracle": ATTACK,
            "win_rate": interval(rate),
            "mean_preference": interval(rate),
            "checks": interval(0.1),
            "gap": None,
            "tokens_mean": 31.0,
            "kl_to_start": None,
        }
        for t, rate in ((1, 0.61), (2, 0.74), (3, 0.66))
    ]
    summary["best"] = find_best(summary["evaluated"], "win_rate")
    text = page(summary)
    assert "policy 2 <b>best</b>" in text
    assert text.count(" <b>best</b>") == 1
    assert "policy 2, 74.0" in text
    assert "likely too high" in text
    assert "sparring export tiny --best" in text
    assert "Win rate against the start</h3>" in text
    assert ATTACK not in text
    assert "goes on" not in text
    summary["stopped"] = {"after": 3, "of": 9, "patience": 1, "by": "win_rate", "best": 2}
    assert "Stopped after 3 of 9 rounds" in page(summary)
    assert "--set evaluation.patience=null" in page(summary)
    assert "The run goes on: 3 of 9 rounds are trained" in (going := page({**summary, "going_on": 9}))
    assert "sparring export" not in going
    for part in ('id="evaluated"', "goes on", "<b>best</b>", "Win rate against the start</h3>"):
        assert part not in before


def test_nothing_is_loaded_from_a_network() -> None:
    text = page(full())
    links = [v for _, attrs in Tags(text).seen for k, v in attrs.items() if k in {"src", "href", "srcset", "data"}]
    assert all(link is not None and link.startswith(("#", "data:", "rounds/")) for link in links)
    assert not re.search(r"@import|url\(", text)
    assert "default-src 'none'" in text


def test_whitespace_of_responses_is_kept() -> None:
    assert f'dir="auto">{SPACED}</div>' in page(full())


def test_the_first_prompts_are_open_and_the_others_behind_a_click() -> None:
    shown, hidden = page(full(prompts=OPEN_SAMPLES + 3)).split('<details class="more">')
    assert shown.count('<article class="sample">') == OPEN_SAMPLES
    assert hidden.count('<article class="sample">') == 3
    assert "Show all: 3 more prompts" in hidden


def test_prompts_beyond_the_most_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sparring.report.html.MOST_SAMPLES", 5)
    text = page(full(prompts=9))
    assert text.count('<article class="sample">') == 5
    assert "The first 5 of 9 prompts are shown." in text


def test_every_drop_and_failure_is_in_view_with_its_reason() -> None:
    summary = full()
    for one in summary["rounds"]:
        one["stages"]["judge"] = {"seconds": 1.0, "facts": {"comparisons": 8, "failed": 2, "oracle": "panel-v1(a;b)"}}
    summary["judgments"][1]["failed"] = 7
    view, folded = page(summary).split('<section id="rounds">')[1].split('<details class="fold">')
    for words in (
        "<dt>pair: dropped examples</dt><dd>tie <b>9</b>",
        "without a verdict <b>6</b>",
        "prompt too long <b>4</b>",
    ):
        assert words in view
    assert "<dt>evaluation: other, against the start</dt><dd>comparisons without a verdict <b>7</b>" in view
    assert "panel, against the start" not in view
    assert "<dt>held-out data</dt><dd>nothing" in view
    assert "&lt;/script&gt;" in view
    assert "<b>dropped examples</b> <span>tie <b>3</b>" in folded
    assert "dropped pairs" not in view + folded


def test_the_identity_of_a_judge_stands_once_under_how_it_was_made() -> None:
    summary = full()
    identity = "panel-v1(" + "completeness:0.3/0.15," * 9 + ")"
    for one in summary["rounds"]:
        one["stages"]["judge"] = {"seconds": 1.0, "facts": {"oracle": identity}}
    before, made = page(summary).split('<section id="made">')
    assert (identity in before, made.count(identity)) == (False, 1)


def test_judges_of_one_name_are_told_apart() -> None:
    summary = full()
    summary["judgments"] = [judgment("function", 0.6), judgment("function", 0.7), judgment("panel", 0.7)]
    for one, path in zip(summary["judgments"], ("mine:a_very_long_name", "mine:b"), strict=False):
        one["identity"] = f"function({path};source=1)"
    text = page(summary)
    assert "function (mine:a_very_long_name)" in text
    assert "function (mine:b)" in text
    assert "panel (" not in text
    names = ["function (mine:a_very_long_name)", "function (mine:b)", "panel"]
    assert [row[0] for row in judgment_rows(summary)][:3] == names
    assert [row[0] for row in view_of_run(summary, Path("run")).table[1:]][:3] == names
    card = "\n".join(_results(summary, None))
    assert all(f"| {name} | " in card for name in names)


def test_facts_have_names_and_one_unit() -> None:
    summary = full()
    facts = {"cut_off": 3, "repeating_share": 0.125, "clip_share": 1.0, "logp_check": 1e-7}
    summary["rounds"][0]["stages"]["fit"] = {"seconds": 1.0, "facts": facts}
    summary["warnings"] = ["12% of the answers repeat themselves."]
    text = page(summary)
    assert "cut off by max_new_tokens <b>3</b>" in text
    assert "repeating responses <b>12\u202f%</b>" in text
    assert "12\u202f% of the answers" in text
    assert not [key for key in facts if key in text.replace("fit.", "")]


def test_rounds_count_from_one_and_policies_are_named() -> None:
    text = page(full())
    assert "Round 1 → policy 1" in text
    assert "Round 0" not in text
    assert '<th scope="row">policy 3</th><td>0.100</td>' in text
    assert "policy 3 <b>90\u202f%</b>; policy 1 <b>10\u202f%</b>." in text
    assert "best of 2 answers of policy 3" in text
    assert "No member" not in text  # the gap's lower end is above 0
    assert "shown to be beaten by a member of this pool (gap at least 0.080)" in text
    assert "<dt>start</dt><dd>abab" in text


def test_what_now_names_the_folder_the_policy_and_commands_that_a_shell_takes() -> None:
    text = html.unescape(render(full(), Path("runs/my demo")))
    assert 'href="rounds/002/policy/"><code>runs/my demo/rounds/002/policy</code>' in text
    for command in (
        "sparring samples 'runs/my demo' --prompt",
        "sparring evaluate head-to-head 'runs/my demo:3' 'runs/my demo:0' --oracle",
        "sparring export 'runs/my demo'",
        "sparring run 'runs/my demo/recipe.yaml' --out 'runs/my demo' --set rounds=4",
    ):
        assert command in text


def test_written_beside_the_target_and_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "new" / "report.html"
    write_report(minimal(), target)
    first = target.read_bytes()

    def fail(_: int) -> None:
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match="disk full"):
            write_report(full(), target)
    assert target.read_bytes() == first
    write_report(full(), target)
    assert [path.name for path in target.parent.iterdir()] == ["report.html"]


def test_half_a_surrogate_pair_does_not_stop_the_report(tmp_path: Path) -> None:
    summary = full(prompts=1)
    summary["samples"][0]["final"] = ["broken \ud83d emoji"]
    write_report(summary, tmp_path / "report.html")
    assert "broken \ufffd emoji" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_the_lead_says_the_result_with_its_interval() -> None:
    assert lead(full()).replace("\u202f", " ").replace("\u2060", "") == (
        "The final policy wins 74 % of held-out comparisons against the start "
        "(95 % interval 68–80 %) under the oracle it was trained on."
    )


@pytest.mark.parametrize(("value", "words"), [(0.3, "it got worse"), (0.52, "too close to tell from chance")])
def test_the_lead_does_not_boast(value: float, words: str) -> None:
    summary = full()
    assert summary["headline"]
    summary["headline"]["win_rate"] = interval(value)
    assert words in lead(summary)


def test_the_lead_falls_back_on_unseen_judgments_then_on_checks() -> None:
    summary = full()
    summary["headline"] = None
    assert "“other”, which training never saw" in lead(summary)
    summary["judgments"] = []
    assert "+10 points" in lead(summary)


def test_an_unseen_judgment_below_one_half_is_said_plainly() -> None:
    found = cautions([judgment("panel", 0.3, seen=True), judgment("other", 0.4), judgment("third", 0.48)])
    assert len(found) == 1
    assert found[0].startswith("“other”, which training never saw, prefers the start")


def test_agreement_counts_only_unseen_judgments() -> None:
    judgments = [
        judgment("a", 0.8, seen=True),
        judgment("b", 0.8),
        judgment("c", 0.5),
        judgment("d", 0.7),
    ]
    assert agreement(judgments) == (
        "Of 3 judgments that training never saw, 2 favour the final policy and 1 cannot tell them apart."
    )
    assert agreement(judgments[:1]) == ""


def test_a_policy_that_loses_to_an_older_one_is_named() -> None:
    summary = full()
    assert summary["matrix"]
    assert losses_to_older(summary["matrix"]) == []
    summary["matrix"] = copy.deepcopy(summary["matrix"])
    summary["matrix"]["win_rate"][3][1] = 0.42
    assert losses_to_older(summary["matrix"]) == ["policy 3 loses to policy 1 (42\u202f%)"]
    assert "Policy 3 loses to policy 1" in page(summary)


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (percent(0.744), "74 %"),
        (percent(0.744, interval(0.744, 0.01)), "74.4 %"),
        (percent(None), "–"),
        (percent(float("nan")), "–"),
        (span(interval(0.5, 0.1)), "40–60 %"),
        (span(interval(0.5, 0.011)), "48.9–51.1 %"),
        (points(-0.031), "−3"),
        (number(1234567), "1 234 567"),
        (number(0.12345), "0.123"),
        (number("text"), "text"),
        (number(True), "True"),
        (duration(0.4), "0.4 s"),
        (duration(192), "3 min 12 s"),
        (duration(7500), "2 h 05 min"),
        (date("2026-03-01T09:05:00+00:00"), "1 March 2026, 09:05 UTC"),
        (date("2026-03-01T09:05:00"), "1 March 2026, 09:05"),
    ],
)
def test_forms_of_numbers(shown: str, expected: str) -> None:
    assert shown.replace("\u202f", " ").replace("\u2060", "") == expected


def all_figures(summary: Summary) -> list[figures.Figure]:
    recipe = summary["recipe"]
    return figures.policy_figures(summary["policies"], recipe) + figures.fit_figures(summary["fit"], recipe)


def test_figures_are_drawings_with_words_for_screen_readers() -> None:
    found = all_figures(full())
    assert len(found) == 4 + 7
    for figure in found:
        root = ElementTree.fromstring(figure.svg)
        assert root.attrib["aria-label"].startswith(figure.panel.title.format(kl="KL"))
        assert root.findall(".//rect/title")
        numbers = [float(n) for line in root.iter("polyline") for n in re.findall(r"[-\d.]+", line.attrib["points"])]
        assert all(0 <= n <= 400 for n in numbers)
    norm = next(figure for figure in found if "Gradient" in figure.panel.title)
    assert norm.check == Check("bad", "not a finite number in 120 steps, first in round 1, step 1")
    assert "Gradient norm before clipping" in page(full())


def test_every_colour_of_the_figures_is_in_the_styles() -> None:
    summary = full()
    text = page(summary)
    used = set(re.findall(r"var\((--[\w-]+)\)", text))
    defined = set(re.findall(r"(--[\w-]+):", text))
    assert used <= defined


def lines_of(figure: figures.Figure, style: str = "line accent") -> list[list[tuple[float, float]]]:
    found = [one for one in ElementTree.fromstring(figure.svg).iter("polyline") if one.attrib["class"] == style]
    return [[tuple(map(float, pair.split(","))) for pair in one.attrib["points"].split()] for one in found]  # type: ignore[misc]


def words_of(figure: figures.Figure) -> list[str]:
    return [one.text or "" for one in ElementTree.fromstring(figure.svg).iter("text")]


def test_rounds_stay_apart_in_the_curves() -> None:
    loss = figures.fit_figures(full(rounds=3, steps=4)["fit"], {})[0]
    assert [len(line) for line in lines_of(loss)] == [4, 4, 4]
    ends = [x for line in lines_of(loss) for x in (line[0][0], line[-1][0])]
    assert ends == sorted(ends)
    assert [word for word in words_of(loss) if "round" in word] == ["round 1", "round 2", "round 3"]


def test_a_round_without_rows_draws_nothing_and_keeps_the_numbers_of_the_others() -> None:
    loss = figures.fit_figures([[fit_row(1), fit_row(2)], [], [fit_row(1)]], {})[0]
    assert [word for word in words_of(loss) if "round" in word] == ["round 1", "round 3"]


def test_long_fits_are_drawn_in_blocks_and_keep_their_spikes() -> None:
    rows: list[FitRow] = [{"loss": 1.0 + i % 2} for i in range(40 * figures.MOST_POINTS)]
    rows[7000]["loss"] = 50.0
    loss = figures.fit_figures([rows], {})[0]
    (strong,), (faint,) = lines_of(loss), lines_of(loss, "line accent faint")
    assert len(strong) == figures.MOST_POINTS
    assert len(faint) == 2 * figures.MOST_POINTS
    assert min(y for _, y in faint) < 60 < min(y for _, y in strong)
    assert len(loss.svg) < 30_000
    assert loss.steps_drawn
    assert not figures.fit_figures([rows[:12]], {})[0].steps_drawn


def test_gaps_break_a_line() -> None:
    rows: list[FitRow] = [{"loss": value} for value in (1.0, 2.0, None, 3.0, float("inf"), 2.0, 1.0)]
    assert [len(line) for line in lines_of(figures.fit_figures([rows], {})[0])] == [2, 2]


def test_tooltips_name_round_step_and_value() -> None:
    loss = figures.fit_figures([[fit_row(1)], [fit_row(1), fit_row(2)]], {})[0]
    titles = [one.text for one in ElementTree.fromstring(loss.svg).iter("title")]
    assert titles == ["round 1, step 1: loss 1", "round 2, step 1: loss 1", "round 2, step 2: loss 0.5"]


@pytest.mark.parametrize(
    ("values", "share", "names"),
    [
        ((0.0, 1.0), True, ["0\u202f%", "25\u202f%", "50\u202f%", "75\u202f%", "100\u202f%"]),
        ((0.1, 0.46), False, ["0.1", "0.2", "0.3", "0.4", "0.5"]),
        ((-3.0, 40000.0), False, ["−20\u202f000", "0", "20\u202f000", "40\u202f000"]),
        ((1e-5, 4e-5), False, ["1e−5", "2e−5", "3e−5", "4e−5"]),
        ((0.25, 0.2482), False, ["0.2480", "0.2485", "0.2490", "0.2495", "0.2500"]),
        ((0.0, 1e-4), False, ["0", "2.5e−5", "5e−5", "7.5e−5", "1e−4"]),
        ((2.5e-6, 2.4e-6), False, ["2.4e−6", "2.425e−6", "2.45e−6", "2.475e−6", "2.5e−6"]),
        ((2.5e6, 2.51e6), False, ["2.5e6", "2.5025e6", "2.505e6", "2.5075e6", "2.51e6"]),
        ((7.0, 7.0), False, ["2", "4", "6", "8", "10", "12"]),
    ],
)
def test_axes_have_round_ticks(values: tuple[float, ...], share: bool, names: list[str]) -> None:
    chart = Chart("x", [Curve(list(enumerate(values)), "accent")], (0, len(values)), share=share)
    assert [one.text for one in ElementTree.fromstring(chart.svg()).iter("text")] == names


def test_the_running_mean_keeps_gaps_and_constants() -> None:
    assert figures.smooth([2.0] * 9, 3) == [2.0] * 9
    assert figures.smooth([1.0, None, 4.0], 1) == [1.0, None, 4.0]


def test_keys_that_no_figure_shows_are_named() -> None:
    assert figures.undrawn(full()["fit"]) == ["extra"]
    assert "Recorded and not drawn: extra." in page(full())


@pytest.mark.parametrize("rows", [0, 2, 9])
def test_the_picture_is_well_formed_and_says_its_numbers(rows: int, tmp_path: Path) -> None:
    summary = full()
    summary["judgments"] = [judgment(f"<oracle> & {i}", 0.6) for i in range(rows)]
    write_picture(summary, tmp_path / "result.svg")
    root = ElementTree.parse(tmp_path / "result.svg").getroot()
    assert ("judge" in (label := root.attrib["aria-label"]) and "<oracle> & 0, 60" in label) == bool(rows)
    assert int(root.attrib["height"]) >= 260


def test_the_picture_of_a_run_without_oracle() -> None:
    assert "Nothing was judged." in readme_svg(minimal())


def test_the_page_shows_kinds_of_rule_with_enough_prompts_and_counts_the_others() -> None:
    def rates(prompts: int) -> Rates:
        return {"start": interval(0.2), "final": interval(0.4), "difference": interval(0.2), "prompts": prompts}

    rules = {"kind:common": rates(9), "kind:usual": rates(8), "kind:rare": rates(7)}
    page = render({**full(), "checks": {**rates(24), "by_rule": rules}})
    assert '<th scope="row">usual</th>' in page
    assert '<th scope="row">rare</th>' not in page
    assert "and 1 kind of fewer than 8 prompts is left out" in page


def test_roles_and_their_measures_have_intervals_where_they_are_known() -> None:
    summary = full()
    rewards = {"first": Interval(-0.001, -0.25, 0.25)}
    start: PolicyEpisodes = {"round": 0, "rewards": rewards, "kinds": {}, "replies": {"first": 4}, "measures": {}}
    final: PolicyEpisodes = {**start, "round": 3, "measures": {"won": Interval(0.25, 0.125, 0.5), "illegal": 0.0}}
    summary["episodes"] = [start, final]
    table = page(summary).split('id="episodes"')[1]
    cells = [re.sub(r"<[^>]+>", "", cell) for cell in re.findall(r"<td>(.*?)</td>", table)]
    assert cells[:6] == ["+0.00 -0.25 to +0.25", "–", "–", "+0.00 -0.25 to +0.25", "0.25 (0.125 to 0.5)", "0"]
