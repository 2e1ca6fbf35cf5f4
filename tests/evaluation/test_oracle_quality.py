"""The audit's numbers on cases worked out by hand, and the command from files to page."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace

import numpy as np
import pytest

from command import sparring
from conftest import write_jsonl
from oracle_fakes import Placed
from sparring.cli.oracle import named_oracles
from sparring.evaluation.audit_oracles import answer_groups, repeats, run_audit
from sparring.evaluation.intervals import CountedInterval
from sparring.evaluation.oracle_quality import (
    accuracy_gap,
    agreement,
    audit_one,
    calibration,
    chance_error,
    clustered,
    correct,
    length_bias,
    longer_wins,
    position_bias,
)
from sparring.oracles.build import build_oracle
from sparring.oracles.labelled import Labelled, read_labelled
from sparring.oracles.oracle import Comparison
from sparring.oracles.orders import swapped
from sparring.oracles.preferences import wins
from sparring.report.audit import in_words, length_in_words, warnings
from sparring.runtime.progress import Progress

LABELS = np.array([1.0, 0.0, 1.0, 0.5])
PROMPTS = ["p", "q", "r", "s"]
LENGTHS = np.array([[9.0, 2.0], [9.0, 2.0], [2.0, 9.0], [4.0, 4.0]])


def test_who_is_right():
    assert correct(np.array([0.9, 0.2, 0.5, 0.9]), LABELS)[:3].tolist() == [1.0, 1.0, 0.5]
    found = correct(np.array([math.nan, 0.7, 0.2, 0.5]), LABELS)
    assert math.isnan(found[0])
    assert found[1:3].tolist() == [0.0, 0.0]
    assert math.isnan(found[3])
    assert longer_wins(LENGTHS).tolist() == [1.0, 1.0, 0.0, 0.5]


def test_rounding_is_no_win():
    """1/2 to the last bit but one was a whole win or loss."""
    below, above = np.nextafter(0.5, 0), np.nextafter(0.5, 1)
    assert wins(np.array([below, above, 0.5, 0.5 + 1e-6, 1e-20])).tolist() == [0.5, 0.5, 0.5, 1.0, 0.0]
    assert math.isnan(wins(np.array([math.nan]))[0])
    found = audit_one(np.array([below, above, 0.9, 0.5]), LABELS, PROMPTS, LENGTHS, ["c"] * 4)
    assert found["ties"] == 3


def test_intervals_resample_prompts_and_not_pairs():
    values = np.tile([0.0, 1.0], 100)
    wide = clustered(values, ["one", "two"] * 100)
    narrow = clustered(values, [str(i) for i in range(200)])
    assert wide is not None
    assert narrow is not None
    assert wide.value == narrow.value == 0.5
    assert (wide.low, wide.high) == pytest.approx((1 - 0.975**0.5, 0.975**0.5))
    assert narrow.high - narrow.low < 0.2
    agreed = clustered(np.ones(200), ["one", "two"] * 100)
    assert agreed is not None
    assert (agreed.low, agreed.high) == (pytest.approx(0.025**0.5), 1.0)
    assert clustered(np.array([math.nan]), ["p"]) is None


def test_a_boaster_is_found_and_its_temperature():
    rng = np.random.default_rng(0)
    true = rng.uniform(0.55, 0.85, 4000)
    labels = (rng.random(4000) < true).astype(float)
    honest, boast = calibration(true, labels), calibration(np.clip(true + 0.14, 0, 1), labels)
    assert honest is not None
    assert boast is not None
    assert honest["ece"] < 0.03
    assert boast["ece"] == pytest.approx(0.14, abs=0.03)
    assert boast["temperature"] > 1.2
    assert boast["ece_at_temperature"] < boast["ece"] / 2
    assert sum(b["count"] for b in boast["bins"]) == 4000


def test_certain_and_wrong_is_finite():
    found = calibration(np.array([1.0, 0.0]), np.array([0.0, 0.0]))
    assert found is not None
    assert math.isfinite(found["log_loss"])
    assert found["ece"] == 0.5


def test_a_calibrated_judge_errs_by_chance_alone():
    """A calibration error of .22 on 20 pairs, and of .10 on 100, was shown without a word: a perfect judge has them."""
    rng = np.random.default_rng(0)
    for count, about in ((20, 0.219), (100, 0.101), (944, 0.034)):
        errors, chances = [], []
        for _ in range(20):
            p = 1 / (1 + np.exp(-1.2 * rng.normal(size=count)))
            found = calibration(p, (rng.random(count) < p).astype(float))
            assert found is not None
            errors.append(found["ece"])
            chances.append(found["ece_by_chance"])
        assert np.mean(errors) == pytest.approx(about, rel=0.15)
        assert np.mean(chances) == pytest.approx(np.mean(errors), rel=0.15)
    assert chance_error(np.full(50, 0.5)) == chance_error(np.array([0.0, 1.0])) == 0.0
    assert chance_error(np.array([0.8, 0.2])) == chance_error(np.array([0.8, 0.8]))


def test_length_bias_is_between_the_accuracies():
    found = length_bias(np.array([0.9, 0.9, 0.1, 0.9]), LABELS, LENGTHS, PROMPTS)
    assert found["oracle_picks_longer"].value == 1.0
    assert found["label_picks_longer"].value == pytest.approx(1 / 3)
    assert found["accuracy_longer_right"].value == 1.0
    assert found["accuracy_shorter_right"].value == 0.0
    assert found["accuracy_gap"].value == 1.0
    assert found["accuracy_gap"].low < 0 < found["accuracy_gap"].high == 1.0  # of three pairs
    assert found["accuracy_gap"].count == 3


@pytest.mark.parametrize(
    ("longer", "accuracies", "low", "high"),
    [
        (0.28, (0.5, 0.5), 0, 2),  # a coin picks the longer 22 points more often than these labels
        (0.28, (0.7, 0.7), 0, 2),
        (0.75, (0.9, 0.5), 20, 20),  # and this one hardly more often
        (0.75, (0.5, 0.9), -20, -20),
    ],
)
def test_length_bias_is_told_from_errors(longer, accuracies, low, high):
    """A coin was always warned of where labels prefer the shorter, a lover of length half the time where not."""
    rng, said = np.random.default_rng(0), 0
    for _ in range(20):
        right = rng.random(300) < longer
        lengths = np.where((rng.random(300) < 0.5)[:, None], [1.0, 2.0], [2.0, 1.0])
        labels = ((lengths[:, 0] > lengths[:, 1]) == right).astype(float)
        hit = rng.random(300) < np.where(right, *accuracies)
        found = length_bias(np.where(hit, labels, 1 - labels), labels, lengths, [str(i) for i in range(300)])
        words = length_in_words(found) or ""
        said += ("writing more" in words) - ("writing less" in words)
    assert min(low, high) <= said <= max(low, high)


def test_one_pair_shows_no_length_bias():
    """All variance is within the pairs of one kind: 300 and 1."""
    prompts = [str(i) for i in range(301)]
    found = accuracy_gap(np.r_[np.ones(150), np.zeros(151)], np.r_[np.ones(300), 0.0], prompts)
    assert found is not None
    assert found.value == 0.5
    assert found.low < 0
    assert accuracy_gap(np.ones(301), np.ones(301), prompts) is None


def test_the_length_bias_stays_a_difference_of_shares():
    """A judge that goes by length alone is always right on one side."""
    hit, right = np.r_[np.ones(20), np.zeros(20)], np.r_[np.zeros(20), np.ones(20)]
    for sign, hits in ((-1.0, hit), (1.0, 1 - hit)):
        found = accuracy_gap(hits, right, [str(i) for i in range(40)])
        assert found is not None
        assert found.value == sign
        assert -1.0 <= found.low <= found.value <= found.high <= 1.0
    hit[0] = 0.0  # one mistake: the bootstrap alone reaches below -1
    found = accuracy_gap(hit, right, [str(i) for i in range(40)])
    assert found is not None
    assert found.low == -1.0


def test_intervals_of_the_length_bias_are_over_prompts():
    """Copies of a prompt's pairs add nothing."""
    rng = np.random.default_rng(0)
    right, hit = (rng.random(60) < 0.5).astype(float), (rng.random(60) < 0.6).astype(float)
    prompts = [str(i) for i in range(60)]
    once, five = accuracy_gap(hit, right, prompts), accuracy_gap(np.tile(hit, 5), np.tile(right, 5), prompts * 5)
    assert once is not None
    assert five is not None
    assert (once.low, once.high) == (pytest.approx(five.low), pytest.approx(five.high))


def test_position_bias():
    found = position_bias(np.array([0.9, 0.9, 0.6]), np.array([0.8, 0.2, 0.7]), PROMPTS[:3])
    assert found["first_wins"].value == pytest.approx((1 + 0.5 + 1) / 3)
    assert found["consistent"].value == pytest.approx(1 / 3)


def test_agreement_counts_half_for_a_tie():
    (row,) = agreement({"x": np.array([0.9, 0.1, 0.5]), "y": np.array([0.6, 0.7, 0.9])}, PROMPTS[:3])
    assert row["same_winner"].value == pytest.approx((1 + 0 + 0.5) / 3)


def test_only_prompts_with_three_answers_can_show_cycles():
    pairs = [Labelled(Comparison("p", *sides), 1.0, "") for sides in ("xy", "yz", "xw", "vu")]
    pairs.append(Labelled(Comparison("q", "x", "y"), 1.0, ""))
    assert answer_groups(pairs, 5) == [("p", ["x", "y", "z", "w"])]


def one(accuracy, over, **changes):
    rate = CountedInterval(accuracy, accuracy - 0.05, accuracy + 0.05, 200)
    lead = CountedInterval(over, over - 0.05, over + 0.05, 200)
    base = {"accuracy": rate, "over_length_rule": lead, "trained_on": 0, "position": None, "failed": 0, "cheats": []}
    return {**base, "length": {"accuracy_gap": None}, **changes}


@pytest.mark.parametrize(
    ("accuracy", "over", "words"),
    [
        (0.52, 0.1, "no difference from a coin is shown"),
        (0.4, 0.1, "worse than a coin"),
        (0.7, 0.1, "+10 points on the rule"),
        (0.7, -0.1, "−10 points against the rule"),
        (0.7, 0.0, "no difference from the rule"),
    ],
)
def test_the_result_in_words(accuracy, over, words):
    assert words in in_words("x", one(accuracy, over))


def test_warnings():
    first = {"first_wins": CountedInterval(0.8, 0.7, 0.9, 30)}
    rate = CountedInterval(0.8, 0.7, 0.9, 30)
    gap = CountedInterval(0.2, 0.1, 0.3, 200)
    length = {"accuracy_longer_right": rate, "accuracy_shorter_right": replace(rate, value=0.6), "accuracy_gap": gap}
    cheat = {"cheat": "says it twice", "kind": "dressed", "wins": rate}
    found = warnings({"x": one(0.7, 0.1, failed=2, position=first, length=length, cheats=[cheat])})
    assert len(found) == 4
    assert any("prefers cheap cheats" in line and "says it twice" in line for line in found)
    assert any("(+20 points, +10 to +30): it pays for length" in line for line in found)
    assert not warnings({"x": one(0.7, 0.1)})


def test_everything_without_a_verdict():
    nothing = np.full(4, math.nan)
    found = audit_one(nothing, LABELS, PROMPTS, LENGTHS, ["c"] * 4, (nothing, nothing))
    assert found["accuracy"] is None
    assert found["failed"] == 4
    json.dumps(found, allow_nan=False, default=asdict)
    assert warnings({"x": {**found, "trained_on": 0, "cheats": []}}) == [
        "“x” gave no verdict on 4 pairs; they are left out."
    ]


@pytest.fixture
def labelled(tmp_path) -> str:
    rows = [
        {
            "prompt": f"Say {i % 10} <b>",
            "a": "aeiou " * (1 + i % 3),
            "b": "xyz",
            "label": 1 + (i % 5 == 0),
            "category": c,
        }
        for i, c in zip(range(40), ["<i>odd</i>", "even"] * 20, strict=True)
    ]
    return str(write_jsonl(tmp_path / "labels.jsonl", rows))


def test_the_command_writes_numbers_and_a_page(labelled, tmp_path):
    out = tmp_path / "audit"
    vowels = "{name: function, path: 'oracle_fakes:more_vowels'}"
    lopsided = "{name: both_orders, oracle: {name: function, path: 'oracle_fakes:lopsided'}}"
    given = ["oracle", "audit", labelled, "--oracle", vowels, "--oracle", lopsided, "--out", str(out), "--json"]
    result = sparring(*given)
    assert result.code == 0, result.err
    assert "more_vowels  pairs" in result.err
    found = json.loads(result.out)
    assert found == json.loads((out / "audit.json").read_text())
    assert set(found["oracles"]) == {"more_vowels", "both_orders"}
    assert found["oracles"]["both_orders"]["position"]["first_wins"]["value"] == 1.0
    assert found["oracles"]["both_orders"]["ties"] == found["pairs"]
    cheats = {row["cheat"]: row["wins"]["value"] for row in found["oracles"]["more_vowels"]["cheats"]}
    assert found["cheat_prompts"] == 10
    assert cheats["says it twice"] == 1.0
    assert cheats["one word"] < 0.5
    page = (out / "audit.html").read_text()
    assert "prefers cheap cheats" in page
    assert "of which chance gives" in page
    assert "the difference: +" in page
    assert "wins under" not in page  # bars, not a table of ten columns
    assert "&lt;i&gt;odd" in page
    assert "<i>odd" not in page
    assert "<script" not in page
    assert "favours the first answer shown" in page


class Counted(Placed):
    """Sees places, gives no verdict on one prompt, and counts what it is asked."""

    asked = 0

    def first_shown(self, comparisons):
        self.asked += len(comparisons)
        found = super().first_shown(comparisons)
        return np.array([math.nan if c.prompt == "Say 3 <b>" else p for c, p in zip(comparisons, found, strict=True)])


def test_an_audit_asks_both_orders_once_and_goes_on_without_asking(labelled, tmp_path):
    """It asked a judge of places again for its orders, on every pair and at every start, past the guard."""
    pairs, _ = read_labelled(labelled)
    pairs = [pair for pair in pairs if pair.comparison.prompt != "Say 3 <b>"]
    first = Counted()
    found = run_audit({"placed": first}, pairs, tmp_path, Progress(quiet=True), 0, 0)["oracles"]["placed"]
    assert first.asked == 2 * len({pair.comparison for pair in pairs}) + 4  # the probe
    assert found["position"]["mean_preference_for_first"].count == len(pairs)
    comparisons = [pair.comparison for pair in pairs]
    there, back = Placed().first_shown(comparisons), Placed().first_shown(swapped(comparisons))
    assert found["position"]["mean_preference_for_first"].value == pytest.approx(float(np.mean((there + back) / 2)))
    again = Counted()
    assert run_audit({"placed": again}, pairs, tmp_path, Progress(quiet=True), 0, 0)["oracles"]["placed"] == found
    assert again.asked == 4


def test_an_audit_counts_what_a_judge_of_places_cannot_answer(tmp_path):
    pairs = [Labelled(Comparison(f"Say {i} <b>", "aeiou", "xyz"), 1.0, "") for i in range(40)]
    found = run_audit({"placed": Counted()}, pairs, tmp_path, Progress(quiet=True), 0, 0)["oracles"]["placed"]
    assert found["failed"] == 1
    assert found["position"]["first_wins"].count == 39


def test_a_wrapper_around_a_judge_of_places_is_not_called_symmetric(labelled, tmp_path):
    lopsided = "{name: both_orders, oracle: {name: function, path: 'oracle_fakes:lopsided'}}"
    wrapped = f"{{name: length_penalty, oracle: {lopsided}}}"
    given = ["oracle", "audit", labelled, "--oracle", wrapped, "--out", tmp_path / "audit", "--cheats", "0"]
    result = sparring(*given)
    assert result.code == 0, result.err
    assert "same" not in result.out
    page = (tmp_path / "audit" / "audit.html").read_text()
    assert "symmetric by construction" not in page
    assert "the oracle inside sees places" in page


def test_a_recipe_brings_its_oracles(labelled, tmp_path, tiny_recipe):
    tiny_recipe["evaluation"]["oracles"] = [{"name": "function", "path": "oracle_fakes:answer"}]
    (tmp_path / "mine.yaml").write_text(json.dumps(tiny_recipe))
    given = [
        "oracle",
        "audit",
        labelled,
        "--oracle",
        tmp_path / "mine.yaml",
        "--out",
        tmp_path / "audit",
        "--limit",
        20,
    ]
    result = sparring(*given)
    assert result.code == 0, result.err
    assert set(json.loads((tmp_path / "audit" / "audit.json").read_text())["oracles"]) == {"more_vowels", "answer"}
    assert "longer wins" in result.out


@pytest.mark.parametrize("inner", [{"name": "mutual_information", "model": "start"}, {"name": "mutual_information"}])
def test_a_recipes_start_model_judges_wherever_its_oracle_names_it(tmp_path, tiny_recipe, tiny_model, inner):
    tiny_recipe["oracle"] = inner
    tiny_recipe["evaluation"]["oracles"] = [{"name": "length_penalty", "oracle": inner}]
    (tmp_path / "mine.yaml").write_text(json.dumps(tiny_recipe))
    found = named_oracles([str(tmp_path / "mine.yaml")])
    expected = build_oracle({"name": "mutual_information", "model": str(tiny_model)}, "")
    assert found["mutual_information"].identity == expected.identity
    assert expected.identity in found["length_penalty"].identity


def audited(tmp_path, rows, oracle, *more):
    data = write_jsonl(tmp_path / "pairs.jsonl", rows)
    return sparring("oracle", "audit", data, "--oracle", oracle, "--out", tmp_path / "audit", *more)


def test_what_the_data_cannot_show_is_said(tmp_path):
    """All ties without a rule looked like a coin, and labels of both kinds like a bad oracle."""
    rows = [{"prompt": f"p{i}", "chosen": "aa", "rejected": "b"} for i in range(30)]
    rows += [{"prompt": "p0", "chosen": "b", "rejected": "aa"}]
    rules = write_jsonl(tmp_path / "rules.jsonl", [{"prompt": "other", "gold": "4"}])
    told = audited(tmp_path, rows, f"{{name: rules, data: {rules}, rule: equals, gold: gold}}", "--cheats", 4)
    assert told.code == 0, told.err
    assert "“rules” has no rule for 31 of 31 pairs" in told.out
    assert "contradict each other: 1." in told.out
    assert told.out.count("too few prompts to tell") == 2
    assert "0.000 (0.000)" in told.out
    page = (tmp_path / "audit" / "audit.html").read_text()
    assert "no rule for 31 of 31" in page


def test_a_temperature_fitted_on_these_pairs_flatters(tmp_path):
    rows = [{"prompt": f"p{i}", "chosen": "aa", "rejected": "b"} for i in range(30)]
    vowels = "{name: function, path: 'oracle_fakes:more_vowels'}"
    oracle = f"{{name: calibrated, labels: {tmp_path / 'pairs.jsonl'}, oracle: {vowels}}}"
    write_jsonl(tmp_path / "pairs.jsonl", rows)
    told = audited(tmp_path, rows, oracle)
    assert told.code == 0, told.err
    assert "“calibrated” took its temperature from 30 of these pairs" in told.out


def test_pairs_that_say_the_same_in_either_order():
    there, back = Comparison("p", "x", "y"), Comparison("p", "y", "x")
    same = [Labelled(there, 1.0, ""), Labelled(back, 0.0, "")]
    assert repeats(same) == {"contradicting": 0, "repeated": 1}
    assert repeats([*same, Labelled(back, 1.0, "")]) == {"contradicting": 1, "repeated": 1}


@pytest.mark.parametrize("option", [("--limit", 0), ("--limit", -2), ("--triples", -1)])
def test_numbers_out_of_range_are_named(labelled, tmp_path, option):
    told = sparring("oracle", "audit", labelled, "--oracle", "panel", "--out", tmp_path / "audit", *option)
    assert (told.code, option[0] in told.err, "pydantic" in told.err) == (2, True, False)


@pytest.mark.parametrize(
    ("spec", "message"),
    [("nobody", "unknown oracle"), ("[1, 2]", "give a name"), ("mutual_information", "Name a model")],
)
def test_bad_oracles(labelled, tmp_path, spec, message):
    result = sparring("oracle", "audit", labelled, "--oracle", spec, "--out", str(tmp_path / "out"))
    assert result.code == 2
    assert message in result.err
