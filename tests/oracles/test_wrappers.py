"""Wrappers: what each does to the probabilities, that they nest in a recipe, and that none hides a failure."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, logit

from oracle_fakes import Fixed, Placed
from sparring.models.messages import PromptText
from sparring.oracles.abilities import announce, counts_of
from sparring.oracles.build import build_oracle
from sparring.oracles.cached import Cached
from sparring.oracles.calibrated import Calibrated, fit_temperature
from sparring.oracles.duplicate_gate import DuplicateGate, near_duplicates
from sparring.oracles.guard import Guard
from sparring.oracles.jury import Jury
from sparring.oracles.length_penalty import LengthPenalty
from sparring.oracles.oracle import Comparison
from sparring.oracles.orders import BothOrders, both_orders, swapped
from sparring.oracles.recorded import Recorded
from sparring.oracles.verdicts import verdict_key

LONG = "the quick brown fox jumps over the lazy dog and then it sleeps for a while"
PAIR = [Comparison("p", "one two three", "one")]
probabilities = st.lists(st.floats(0, 1), min_size=3, max_size=3)


@given(probabilities, st.sampled_from(["mean", "majority", "cautious"]))
def test_a_jury_is_symmetric_and_stays_in_the_unit_interval(answers, rule):
    there = Jury([Fixed(p) for p in answers], rule).judge(PAIR)
    back = Jury([Fixed(1 - p) for p in answers], rule).judge(PAIR)
    assert there + back == pytest.approx(1)
    assert 0 <= there[0] <= 1


@pytest.mark.parametrize(
    ("answers", "rule", "expected"),
    [
        ([0.9, 0.6, 0.6], "mean", 0.7),
        ([0.9, 0.6, 0.4], "majority", 2 / 3),
        ([0.9, 0.5, 0.4], "majority", 0.5),
        ([0.9, 0.6, 0.7], "cautious", 0.6),
        ([0.1, 0.3, 0.2], "cautious", 0.3),
        ([0.9, 0.6, 0.4], "cautious", 0.5),
    ],
)
def test_the_rules_of_a_jury(answers, rule, expected):
    assert Jury([Fixed(p) for p in answers], rule).judge(PAIR)[0] == pytest.approx(expected)


@pytest.mark.parametrize("rule", ["mean", "majority", "cautious"])
def test_a_member_that_fails_makes_the_comparison_fail(rule):
    assert math.isnan(Jury([Fixed(0.9), Fixed(math.nan)], rule).judge(PAIR)[0])


def test_both_orders_mends_a_judge_that_favours_the_first():
    class First(Fixed):
        def judge(self, comparisons):
            return np.array([0.9 if c.a > c.b else 0.7 for c in comparisons])

    oracle = BothOrders(First(0))
    assert oracle.judge(PAIR) + oracle.judge(swapped(PAIR)) == pytest.approx(1)
    assert oracle.judge(PAIR)[0] == pytest.approx((0.9 + 1 - 0.7) / 2)


def test_a_judge_of_places_alone_ties_exactly():
    """A rounding error away from 1/2 counted as a whole win or loss, for a quarter of all p."""
    ps = np.random.default_rng(0).random(2000)
    assert {float(both_orders(lambda asked, p=p: np.full(len(asked), p), PAIR)[0]) for p in ps} == {0.5}
    assert {float(BothOrders(Fixed(p)).judge(PAIR)[0]) for p in ps[:100]} == {0.5}


@pytest.mark.parametrize("rule", ["mean", "majority"])
@pytest.mark.parametrize("weights", [None, [0.1] * 10, [float(i) for i in range(1, 11)]])
def test_a_jury_that_agrees_on_a_tie_or_a_win_says_exactly_that(rule, weights):
    for p in (0.0, 0.5, 1.0):
        assert Jury([Fixed(p)] * 10, rule, weights).judge(PAIR)[0] == pytest.approx(p, abs=1e-15)
        assert 0 <= Jury([Fixed(p)] * 10, rule, weights).judge(PAIR)[0] <= 1
    assert Jury([Fixed(0.5)] * 10, rule, weights).judge(PAIR)[0] == 0.5


def test_the_length_penalty_moves_the_odds_against_the_longer():
    longer = [Comparison("p", "word " * 60, "word " * 10)]
    p = LengthPenalty(Fixed(0.5), strength=1.0, scale=50).judge(longer)[0]
    assert logit(p) == pytest.approx(-math.tanh(1.0))
    assert LengthPenalty(Fixed(1.0), strength=1.0).judge(longer)[0] < 0.999
    assert LengthPenalty(Fixed(0.7)).judge([Comparison("p", "a b", "c d")])[0] == pytest.approx(0.7)


def test_near_duplicates_tie_unasked():
    near = Comparison("p", LONG * 3, LONG * 3 + "!")
    gate = DuplicateGate(Fixed(0.9))
    assert gate.judge([near, *PAIR]).tolist() == [0.5, 0.9]
    assert gate.counts()["near duplicates tied"] == 1


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ("Yes", "yes ", True),
        ("It is 12.", "It is 13.", False),
        (LONG * 3 + " so the sum is 12", LONG * 3 + " so the sum is 13", False),
        (LONG * 3 + " so it is true", LONG * 3 + " so it is not true", False),
        ("a < b", "a > b", False),
    ],
)
def test_what_can_turn_the_meaning_is_no_duplicate(a, b, same):
    assert near_duplicates(a, b, 0.8) is same


def labels_file(tmp_path, overconfident=3.0, count=400):
    """Answers named after the true log-odds; labels drawn from them."""
    rng = np.random.default_rng(0)
    odds = rng.normal(size=count)
    rows = [
        {"prompt": f"p{i}", "a": f"{overconfident * o}", "b": "x", "preference": float(rng.random() < expit(o))}
        for i, o in enumerate(odds)
    ]
    path = tmp_path / "labels.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


class Boaster:
    identity = "boaster"

    def judge(self, comparisons):
        return expit(np.array([number(c.a) - number(c.b) for c in comparisons]))


def test_calibration_finds_the_temperature_and_keeps_winners(tmp_path):
    oracle = Calibrated(Boaster(), labels=str(labels_file(tmp_path)))
    assert oracle.judge([Comparison("p", "3", "x")])[0] == pytest.approx(expit(3 / oracle.temperature))
    assert oracle.temperature == pytest.approx(3.0, rel=0.25)


def test_labels_that_contradict_the_oracle_are_told_before_any_work(tmp_path):
    """The temperature went to its bound, every verdict to a half, and nothing was said."""
    labels, said = labels_file(tmp_path), []
    guard = Guard(Jury([Calibrated(Boaster(), labels=str(labels)), Fixed(0.5)]))
    guard.probe(["p"], said.append)
    assert not said
    rows = [json.loads(line) for line in labels.read_text().splitlines()]
    labels.write_text("".join(json.dumps({**row, "preference": 1 - row["preference"]}) + "\n" for row in rows))
    turned = Calibrated(Boaster(), labels=str(labels))
    Guard(Jury([turned, Fixed(0.5)])).probe(["p"], said.append)
    assert len(said) == 1
    assert "of the 400 pairs in oracle.labels" in said[0]
    assert turned.counts()["accuracy on the labels"] < 0.5
    assert turned.temperature > 19


def test_a_calibration_announces_what_its_labels_cost(tmp_path):
    class Priced(Boaster):
        served_model = None

        def estimate(self, comparisons):
            return f"{len(set(comparisons))} questions"

    said = []
    oracle = Calibrated(LengthPenalty(Priced()), labels=str(labels_file(tmp_path, count=30)))
    announce(Jury([oracle, Fixed(0.5)]), PAIR, said.append)
    assert said == ["boaster: 31 questions"]
    oracle.judge([Comparison("p", "1", "x")])
    announce(oracle, PAIR, said.append)
    assert said[1:] == ["boaster: 1 questions"]


def test_labels_of_a_calibration_may_be_any_data_set(tmp_path):
    """Its identity hashed one file, so that patterns and data sets of other kinds ended in a traceback."""
    path = labels_file(tmp_path, count=30)
    pattern = Calibrated(Boaster(), labels=str(tmp_path / "label*.jsonl"))
    assert pattern.identity == Calibrated(Boaster(), labels=str(path)).identity
    labels_file(tmp_path, overconfident=2.0, count=30)
    assert pattern.identity != Calibrated(Boaster(), labels=str(path)).identity


def test_calibration_leaves_failures_out_and_needs_enough():
    p, truth = np.full(50, 0.9), np.tile([1.0, 1.0, 1.0, 0.0, 1.0], 10)
    assert expit(logit(0.9) / fit_temperature(np.append(p, math.nan), np.append(truth, 0))) == pytest.approx(
        0.8, abs=1e-3
    )
    with pytest.raises(ValueError, match="5 of 6 labelled pairs were judged"):
        fit_temperature(np.append(p[:5], math.nan), truth[:6])


def test_wrappers_nest_in_a_recipe_and_errors_name_the_place():
    inner = {"name": "function", "path": "oracle_fakes:more_vowels"}
    section = {
        "name": "length_penalty",
        "oracle": {
            "name": "jury",
            "members": [inner, {"name": "both_orders", "oracle": {**inner, "path": "oracle_fakes:lopsided"}}],
        },
    }
    oracle = build_oracle(section, "")
    assert 0 < oracle.judge(PAIR)[0] < 1
    assert oracle.identity.count("function(") == 2
    section["oracle"]["members"][1]["oracle"]["pth"] = 1
    with pytest.raises(
        ValueError, match=r"oracle\.oracle, oracle\.members\.1, oracle\.oracle, oracle\.pth: unknown key"
    ):
        build_oracle(section, "")


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"name": "jury", "members": [{"name": "rules"}]}, "oracle.data: missing"),
        ({"name": "jury", "members": {"name": "rules"}}, "give a list of oracles"),
        ({"name": "both_orders", "oracle": "panel"}, "give an oracle"),
        (
            {"name": "calibrated", "oracle": {"name": "function", "path": "oracle_fakes:more_vowels"}},
            "give one of them",
        ),
    ],
)
def test_bad_sections(section, message):
    with pytest.raises(ValueError, match=message):
        build_oracle(section, "")


def test_a_torn_journal_of_orders_loses_one_line_only(tmp_path):
    """The first line after a restart joined what a killed process had left, and both were lost."""
    journal = tmp_path / "orders.jsonl"
    cases = [Comparison(word, "aeiou", "xyz") for word in ("ant", "bee", "cat")]
    Recorded(Placed(), journal).judge(cases[:2])
    journal.write_text(journal.read_text()[:-20])
    Recorded(Placed(), journal).judge(cases[2:])
    again = Recorded(Placed(), journal)
    assert [again.orders(case) is None for case in cases] == [False, True, False]


def test_orders_of_a_pair_that_was_asked_the_other_way_round(tmp_path):
    case = Comparison("Say a", "aeiou", "xyz, and more")
    asked, turned = Recorded(Placed(), tmp_path / "a.jsonl"), Recorded(Placed(), tmp_path / "b.jsonl")
    asked.judge([case])
    turned.judge(swapped([case]))
    for one in (case, *swapped([case])):
        first, second = asked.orders(one) or (0.5, 0.5)
        assert first > second + 0.1
        assert turned.orders(one) == pytest.approx((first, second))


def test_kept_verdicts_are_shared_by_runs(tmp_path):
    inner = {"name": "oracle_fakes:Fixed", "answer": 0.7}
    section = {"name": "cached", "path": str(tmp_path / "v.jsonl"), "oracle": inner}
    first = build_oracle(section, "")
    assert first.judge(PAIR * 2).tolist() == [0.7, 0.7]
    assert first.identity == Fixed(0.7).identity
    again = build_oracle(section, "")
    assert again.judge([*PAIR, Comparison("p", "x", "y")]).tolist() == [0.7, 0.7]
    assert counts_of(again) == {"kept verdicts used": 1}
    other = build_oracle({**section, "oracle": {**inner, "answer": 0.2}}, "")
    assert other.judge(PAIR).tolist() == [0.2]


def test_both_orders_are_kept_and_failures_are_not(tmp_path):
    answers = {"one": 0.9, "two": math.nan}
    asked: list[Comparison] = []

    class Judge:
        identity = "places"

        def first_shown(self, comparisons):
            asked.extend(comparisons)
            return np.array([answers[c.prompt] for c in comparisons])

        def judge(self, comparisons):
            raise AssertionError("asked through first_shown")

    cases = [Comparison("one", "a", "b"), Comparison("two", "a", "b")]
    for count in (4, 6):
        found = Recorded(Cached(Judge(), str(tmp_path / "v.jsonl")), tmp_path / "orders.jsonl").judge(cases)
        assert found == pytest.approx([0.5, math.nan], nan_ok=True)
        assert len(asked) == count


@pytest.mark.parametrize(
    "line", ['{"preference": 0.5}', '{"key": "a"}', '{"key": "a", "preference": null}', "[1]", "p,a,b", "7"]
)
@pytest.mark.parametrize("before", ["", '{"key": "a", "preference": 0.5}\n'])
def test_a_file_that_holds_no_verdicts_is_refused_by_line(tmp_path, before, line):
    path = tmp_path / "v.jsonl"
    path.write_text(f"{before}{line}\n")
    with pytest.raises(ValueError, match=rf"v\.jsonl, line {1 + bool(before)}: not .*[Gg]ive another file"):
        Cached(Fixed(0.7), str(path))
    assert path.read_text() == f"{before}{line}\n"


@pytest.mark.parametrize("value", ["7.5", "-0.1", "NaN", "Infinity", "1" + "0" * 400, "true", '"0.7"'])
def test_a_verdict_that_none_can_be_is_not_used(tmp_path, value):
    """It was trained on, and became NaN in results."""
    path = tmp_path / "v.jsonl"
    keys = [verdict_key(Fixed(0.7).identity, Comparison("p", a, "b")) for a in ("a", "c")]
    path.write_text(f'{{"key": "{keys[0]}", "preference": {value}}}\n{{"key": "{keys[1]}", "preference": 0.2}}\n')
    asked = [Comparison("p", "a", "b"), Comparison("p", "c", "b")]
    if value in ("true", '"0.7"'):  # another form of file
        with pytest.raises(ValueError, match=r"v\.jsonl, line 1"):
            Guard(Fixed(0.7), path)
        return
    guard = Guard(Fixed(0.7), path)
    assert guard.judge(asked).tolist() == [0.7, 0.2]
    assert "v.jsonl: 1 line is damaged and is not used (line 1)" in guard.damage
    assert Guard(Fixed(0.1), path).judge(asked).tolist() == [0.1, 0.1]
    assert Guard(Fixed(0.7), path).judge(asked).tolist() == [0.7, 0.2]
    path.write_text(path.read_text().replace('"check"', '"chdck"').replace("0.7", "0.8"))
    assert Guard(Fixed(0.7), path).judge(asked).tolist() == [0.7, 0.2]


@pytest.mark.parametrize(("old", "new"), [('"first": 1', '"first": 7'), ('"check"', '"chdck"'), ("0.", "0.1")])
def test_damaged_orders_are_not_used(tmp_path, old, new):
    journal = tmp_path / "orders.jsonl"
    cases = [Comparison(word, "aeiou", "xyz") for word in ("ant", "bee")]
    Recorded(Placed(), journal).judge(cases)
    one, two = journal.read_text().splitlines()
    assert old in one
    journal.write_text(f"{one.replace(old, new, 1)}\n{two}\n")
    again = Recorded(Placed(), journal)
    assert [again.orders(case) is None for case in cases] == [True, False]
    assert "1 line is damaged" in again.diagnosis()


def test_a_folder_is_no_file_of_verdicts(tmp_path):
    with pytest.raises(ValueError, match="is a folder"):
        Cached(Fixed(0.7), str(tmp_path))


def test_torn_verdicts_are_passed_over(tmp_path):
    path = tmp_path / "v.jsonl"
    Cached(Fixed(0.7), str(path)).judge(PAIR)
    whole = path.read_text()
    path.write_text(whole + whole[:30])
    Cached(Fixed(0.7), str(path)).judge([Comparison("p", "x", "y")])
    again = Cached(Fixed(0.7), str(path))
    again.judge([*PAIR, Comparison("p", "x", "y")])
    assert counts_of(again) == {"kept verdicts used": 2}


def test_turns_and_the_text_they_look_like_have_their_own_verdicts():
    """Oracles read turns, and the key was of the flat text."""
    talk = [{"role": role, "content": "Hi"} for role in ("user", "assistant", "user")]
    several, single = PromptText(talk), PromptText(talk[:1])
    keys = [verdict_key("o", Comparison(prompt, "a", "b")) for prompt in (several, str(several), single, "Hi")]
    assert keys[0] != keys[1]
    assert keys[2] == keys[3]
    # as versions before had it
    assert keys[3] == "719b7b6255f9634c9653fdd285c6846a30bda3e8dd4527994641698a906cb7e4"


def test_answers_cut_by_an_oracle_inside_are_counted(tmp_path):
    class Reader(Fixed):
        def cut(self, pairs):
            return sum(len(answer) > 10 * self.answer for _, answer in pairs)

    inside = Jury([LengthPenalty(Reader(0.9)), Cached(Reader(0.3), str(tmp_path / "v.jsonl"))])
    guard = Guard(Recorded(inside, tmp_path / "orders.jsonl"))
    assert guard.cut([("p", "a" * n) for n in (2, 5, 7, 12, 12)]) == {"answers_cut": 3}
    assert Guard(Jury([Fixed(0.5)] * 2)).cut([("p", "a")]) == {}
