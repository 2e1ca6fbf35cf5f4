"""MT-Bench: FastChat's averages and tie rule, and judgments that do not fit."""

from __future__ import annotations

import json

import pytest

from sparring.evaluation.mt_bench import pairwise, score_files, single

CATEGORIES = {"81": "writing", "111": "math"}


def rating(question, turn, score, model="m", judge="gpt-4", prompt=None):
    prompt = prompt or ("single-math-v1" if question == 111 else "single-v1")
    return {"question_id": question, "model": model, "judge": [judge, prompt], "score": score, "turn": turn}


FOUR = [rating(81, 1, 9), rating(81, 2, 8), rating(111, 1, 4), rating(111, 2, 1)]


def match(winners, question=81, turn=1, one="a", two="b", judge="gpt-4"):
    names = {"model_1": one, "model_2": two, "g1_winner": winners[0], "g2_winner": winners[1]}
    return {"question_id": question, "turn": turn, "judge": [judge, "pair-v2"], **names}


def test_the_average_is_over_questions_and_turns():
    found = single(FOUR, CATEGORIES).models[0]
    assert (found.average.value, found.turns, found.categories) == (
        5.5,
        {1: 6.5, 2: 4.5},
        {"writing": 8.5, "math": 2.5},
    )
    assert found.average.low < 2.5  # two questions say little
    assert found.average.high > 8.5


def test_ratings_at_the_bound_have_the_exact_interval_over_questions():
    best = single([rating(q, turn, 10) for q in (81, 82, 83) for turn in (1, 2)]).models[0].average
    assert (best.low, best.high) == (pytest.approx(1 + 9 * 0.025 ** (1 / 3)), 10.0)
    won = pairwise([match(("model_1", "model_1"), question) for question in (81, 82, 83)]).models[0].win_rate
    assert (won.low, won.high) == (pytest.approx(0.025 ** (1 / 3)), 1.0)


def test_one_question_says_nearly_nothing():
    average = single([rating(81, 1, 7), rating(81, 2, 7)]).models[0].average
    assert (average.low, average.high) == (pytest.approx(7 - 0.975 * 6), pytest.approx(7 + 0.975 * 3))


def test_missing_ratings_are_left_out_and_counted():
    found = single([*FOUR[:3], rating(111, 2, -1)]).models[0]
    assert (found.average.value, found.ratings, found.without_rating) == (7.0, 3, 1)


def test_models_are_ranked():
    better = [rating(81, 1, 10, "n"), rating(81, 2, 10, "n"), rating(111, 1, 10, "n"), rating(111, 2, 10, "n")]
    assert [model.model for model in single([*FOUR, *better]).models] == ["n", "m"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "holds no judgment"),
        (FOUR[:3], "1 of 4 turns are not judged .first: question 111, turn 2"),
        ([*FOUR[:3], rating(111, 2, 11)], "score 11 is not between"),
        ([*FOUR[:3], rating(111, 2, True)], "score True is not between"),
        ([*FOUR[:3], rating(111, 2, "7")], "score '7' is not between"),
        ([*FOUR[:3], rating(111, 3, 7)], "turn 3 is neither"),
        ([*FOUR[:3], rating(111, 2, 7, judge="other")], "2 judges"),
        ([*FOUR[:3], rating(112, 2, 7)], "question 112 is not in the questions file"),
        ([*FOUR[:3], rating(111, 2, 7, prompt="single-v1")], "judges math with a reference"),
        ([rating(81, 1, 9, prompt="single-math-v1"), *FOUR[1:]], "judges writing without a reference"),
        ([{"question_id": 81}], "rating 1: it has no model"),
    ],
)
def test_refuses_ratings_that_do_not_fit(rows, message):
    with pytest.raises(ValueError, match=message):
        single(rows, CATEGORIES)


def test_a_model_without_any_rating_is_refused():
    with pytest.raises(ValueError, match="no rating at all"):
        single([rating(81, 1, -1), rating(81, 2, -1)])


def test_a_model_that_is_judged_twice_is_averaged_as_fastchat_does():
    """FastChat takes the mean over rows; such a file was refused, and every other model of it."""
    again = [*FOUR, *(rating(row["question_id"], row["turn"], 10) for row in FOUR[:3]), rating(111, 2, -1)]
    found = single([*again, *(row | {"model": "n"} for row in FOUR)], CATEGORIES)
    m, n = sorted(found.models, key=lambda model: model.model)
    assert (m.average.value, m.turns[1], m.repeated, m.without_rating) == (pytest.approx(52 / 7), 33 / 4, 4, 1)
    assert (n.average.value, n.repeated) == (5.5, 0)
    rows = [match(("model_1", "model_1")), match(("model_1", "model_1"), turn=2)]
    once, twice = pairwise(rows), pairwise([*rows, match(("model_1", "model_1"), one="b", two="a")])
    assert [model.win_rate.value for model in once.models] == [1.0, 0.0]
    assert (twice.models[0].win_rate.value, twice.repeated, once.repeated) == (pytest.approx(2 / 3), 1, 0)


def test_a_model_that_does_not_fit_does_not_keep_the_others_from_their_scores():
    found = single([*FOUR, rating(81, 1, 11, "n"), rating(81, 1, 7, "o")], CATEGORIES)
    assert [model.model for model in found.models] == ["m"]
    assert "rating 5: score 11" in found.left_out["n"]
    assert "3 of 4 turns are not judged" in found.left_out["o"]


def test_errors_name_the_row_of_the_file(tmp_path):
    """The number was counted after --model had left rows out."""
    path = tmp_path / "judgments.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in [rating(81, 1, 5, "n"), *FOUR[:3], rating(111, 2, 12)]))
    with pytest.raises(ValueError, match=r"judgments.jsonl, row 5: score 12"):
        score_files([path], None, ["m"])


def test_orders_that_disagree_are_a_tie_and_errors_are_left_out():
    rows = [
        match(("model_1", "model_1")),
        match(("model_1", "model_2"), turn=2),
        match(("tie", "tie"), question=82),
        match(("error", "model_2"), question=82, turn=2),
    ]
    found = pairwise(rows)
    a, b = found.models
    assert (a.model, a.wins, a.losses, a.ties, a.win_rate.value) == ("a", 1, 0, 2, pytest.approx(2 / 3))
    assert (b.wins, b.losses, b.ties) == (0, 1, 2)
    assert (found.failed, found.inconsistent) == (1, pytest.approx(1 / 3))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([match(("tie", "tie"), one="b", two="b")], "b is compared with itself"),
        ([match(("a", "tie"))], "winner 'a' is unknown"),
        ([match(("error", "tie"))], "no match has a verdict"),
        ([match(("tie", "tie")), match(("tie", "tie"), turn=2, judge="other")], "2 judges"),
        ([match(("tie", "tie")), match(("tie", "tie"), turn=2), match(("tie", "tie"), one="c")], "not judged"),
    ],
)
def test_refuses_matches_that_do_not_fit(rows, message):
    with pytest.raises(ValueError, match=message):
        pairwise(rows)
