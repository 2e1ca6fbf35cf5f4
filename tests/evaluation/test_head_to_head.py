"""The sentence on top: who is better, claimed by intervals and never by a point."""

from __future__ import annotations

import numpy as np
import pytest

from sparring.evaluation.annotations import Judgments
from sparring.evaluation.head_to_head import compare, verdict
from sparring.evaluation.intervals import Interval


def judged(preferences: list[float], shortest: int = 5) -> Judgments:
    prompts = [f"p{i}" for i in range(len(preferences))]
    ours = ["x" * (shortest + i % 7) for i in range(len(prompts))]
    return Judgments("A", "B", "j", prompts, ours, ["yyyy"] * len(prompts), np.array(preferences))


def told(
    raw: tuple[float, float],
    controlled: tuple[float, float] | None = None,
    prompts: int = 200,
    longer: float | None = 0.6,
) -> str:
    rates = [None if r is None else Interval(sum(r) / 2, *r) for r in (raw, controlled)]
    about = {"a": "A", "b": "B", "judged": prompts, "longer_wins": longer}
    return verdict({**about, "win_rate": rates[0], "length_controlled": rates[1]})


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_few_prompts_conclude_nothing(value):
    found = compare(judged([value] * 3), np.full((3, 2), np.nan))
    assert found["win_rate"].high - found["win_rate"].low > 0.5
    assert "Too few prompts to say who is better (3, at least 20 are needed)" in found["verdict"]
    assert told((0.6, 0.9), prompts=19).startswith("Too few")
    assert told((0.6, 0.9), prompts=20).startswith("Under this judge A is better than B")


@pytest.mark.parametrize("preferences", [[0.7], [0.7, 0.7], [0.5] * 30])
def test_verdicts_that_are_alike_are_not_certain(preferences):
    found = compare(judged(preferences), np.full((len(preferences), 2), np.nan))
    for rate in (found["win_rate"], found["mean_preference"]):
        assert rate.high - rate.low >= 1 - 0.025 ** (1 / len(preferences)) - 1e-9
    assert found["length_controlled"] is None


def test_unanimous_verdicts_have_an_interval_and_say_nothing_of_length():
    found = compare(judged([1.0] * 30), np.full((30, 2), np.nan))
    assert found["win_rate"] == found["mean_preference"]
    assert found["win_rate"].low == pytest.approx(0.025 ** (1 / 30))
    assert found["length_controlled"] is None
    assert "A is better than B" in found["verdict"]


@pytest.mark.parametrize(
    ("raw", "controlled", "expected"),
    [
        ((0.6, 0.8), (0.424, 0.579), " At equal lengths no difference is shown: 50.1% (42.4% to 57.9%)."),
        ((0.6, 0.8), (0.3, 0.579), " At equal lengths no difference is shown: 44.0% (30.0% to 57.9%)."),
        ((0.6, 0.8), (0.3, 0.4), " At equal lengths the verdict turns, A is worse: 35.0% (30.0% to 40.0%)."),
        ((0.2, 0.4), (0.6, 0.7), " At equal lengths the verdict turns, A is better: 65.0% (60.0% to 70.0%)."),
        ((0.4, 0.59), (0.6, 0.7), " At equal lengths A is better: 65.0% (60.0% to 70.0%)."),
        ((0.6, 0.8), (0.55, 0.6), ""),
        ((0.4, 0.59), (0.3, 0.6), ""),
    ],
)
def test_equal_lengths_are_told_by_their_interval(raw, controlled, expected):
    assert told(raw, controlled) == told(raw) + expected


@pytest.mark.parametrize("which", ["longer", "shorter"])
def test_where_length_decides_everything_nothing_is_said_of_equal_lengths(which):
    """The regression said 3.5 % (0.2 to 28.8) of a judge that only counts characters, where the truth is a tie."""
    gap = np.arange(140) % 7 - 3
    longer_wins = np.sign(gap) / 2 + 0.5
    won = longer_wins if which == "longer" else 1 - longer_wins
    found = compare(judged(won.tolist(), shortest=1), np.full((140, 2), np.nan))
    assert found["length_controlled"] is None
    said = f" The {which} answer wins 100% of decided prompts: quality and length cannot be told apart."
    assert found["verdict"].endswith(said)
    seldom = np.where(np.arange(140) < 14, 1 - won, won)
    found = compare(judged(seldom.tolist(), shortest=1), np.full((140, 2), np.nan))
    assert found["length_controlled"].low <= 0.5 <= found["length_controlled"].high
    assert "told apart" not in found["verdict"]


@pytest.mark.parametrize(("longer", "said"), [(None, False), (0.06, False), (0.05, True), (0.94, False), (0.95, True)])
def test_length_decides_everything_from_a_share_on(longer, said):
    assert ("told apart" in told((0.6, 0.8), longer=longer)) is said
    assert "told apart" not in told((0.6, 0.8), prompts=19, longer=longer)


def test_only_opposite_verdicts_are_turned():
    orders = np.array([[0.9, 0.2], [0.9, 0.5], [0.5, 0.1], [0.9, 0.7], [0.5, 0.5], [np.nan, np.nan]])
    found = compare(judged([0.5] * 6), orders)["orders"]
    assert found["turned"] == pytest.approx(1 / 5)
    assert found["change"] == pytest.approx((0.7 + 0.4 + 0.4 + 0.2) / 5)
    assert found["first_bias"] == pytest.approx(found["change"] / 2)


def test_the_longer_answer_is_counted_on_either_side():
    """Of decided prompts whose answers differ in length: the longer one won three of four."""
    lengths = [(3, 1), (1, 3), (1, 3), (3, 1), (3, 1), (2, 2)]
    ours, theirs = (["x" * pair[side] for pair in lengths] for side in (0, 1))
    preferences = np.array([0.9, 0.1, 0.2, 0.3, 0.5, 0.9])
    two = Judgments("A", "B", "j", [str(i) for i in range(6)], ours, theirs, preferences)
    assert compare(two, np.full((6, 2), np.nan))["longer_wins"] == 0.75
