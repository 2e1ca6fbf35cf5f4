"""Ratings: against evalica, on matches with known answers, and on files that cannot be rated."""

from __future__ import annotations

from pathlib import Path

import evalica
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit
from scipy.stats import binomtest

from command import sparring
from sparring.evaluation.ratings import (
    SCALE,
    Unbounded,
    bradley_terry,
    elo,
    fit_finite,
    make_matches,
    rate,
    read_matches,
)

PLAYERS = "abcd"
CYCLE = [(x, y) for x in PLAYERS for y in PLAYERS if x < y]
"""every pair once"""


def random_matches(seed: int, size: int = 60):
    rng = np.random.default_rng(seed)
    pairs = [tuple(rng.choice(list(PLAYERS), 2, replace=False)) for _ in range(size)]
    return pairs, rng.choice([0.0, 0.5, 1.0], size).tolist()


def winners(scores):
    return [{1.0: evalica.Winner.X, 0.0: evalica.Winner.Y, 0.5: evalica.Winner.Draw}[score] for score in scores]


@given(st.integers(0, 10_000))
@settings(max_examples=20)
def test_bradley_terry_is_evalicas(seed):
    pairs, scores = random_matches(seed)
    left, right = zip(*pairs, strict=True)
    theirs = evalica.bradley_terry(left, right, winners(scores), tolerance=1e-13, limit=100_000).scores
    matches = make_matches(pairs, scores)
    log = np.log(np.asarray(theirs[list(matches.names)]))
    np.testing.assert_allclose(bradley_terry(matches), log - log.mean(), atol=1e-6)


@given(st.integers(0, 10_000))
@settings(max_examples=20)
def test_elo_is_evalicas(seed):
    pairs, scores = random_matches(seed)
    left, right = zip(*pairs, strict=True)
    theirs = evalica.elo(left, right, winners(scores)).scores
    matches = make_matches(pairs, scores)
    np.testing.assert_allclose(elo(matches), np.asarray(theirs[list(matches.names)]), atol=1e-9)


def test_two_players_rate_as_their_odds():
    matches = make_matches([("new", "old")] * 4, [1, 1, 1, 0])
    strengths = dict(zip(matches.names, bradley_terry(matches), strict=True))
    assert strengths["new"] - strengths["old"] == pytest.approx(np.log(3))
    rated = rate(make_matches([("new", "old")] * 110, [1] * 100 + [0] * 10), resamples=50).rows
    assert rated[0].rating == pytest.approx(1200)


def test_a_weight_is_that_many_matches():
    pairs, scores = random_matches(3)
    thrice = make_matches(pairs * 3, scores * 3)
    np.testing.assert_allclose(bradley_terry(make_matches(pairs, scores, [3.0] * len(pairs))), bradley_terry(thrice))


def test_intervals_over_prompts_are_wider_than_over_their_repeated_matches():
    rng = np.random.default_rng(0)
    wins = rng.random(40) < 0.6
    pairs, scores = [("a", "b")] * 400, np.repeat(wins, 10).astype(float).tolist()
    prompts = np.repeat([f"p{i}" for i in range(40)], 10).tolist()
    narrow = rate(make_matches(pairs, scores), resamples=200).rows[0]
    wide = rate(make_matches(pairs, scores, prompts=prompts), resamples=200).rows[0]
    assert wide.rating == pytest.approx(narrow.rating)
    assert wide.high - wide.low > 2 * (narrow.high - narrow.low)


def test_intervals_cover_the_truth():
    covered = 0
    for seed in range(30):
        scores = (np.random.default_rng(seed).random(60) < expit(0.6)).astype(float).tolist()
        row = rate(make_matches([("a", "b")] * 60, scores), resamples=60, seed=seed).rows[0]
        covered += row.low <= 1000 + SCALE * 0.3 <= row.high
    assert covered >= 25


@pytest.mark.parametrize("count", [1, 12])
def test_ties_alone_are_no_surer_than_their_number(count):
    """They gave 1000 to 1000, one single tie too: the chance of winning is 0.025^(1/n) / 2 at least."""
    winner = rate(make_matches([("a", "b")] * count, [0.5] * count), resamples=4000).rows[0]
    low = SCALE * logit(0.5 * 0.025 ** (1 / count)) / 2
    assert (winner.rating, winner.low, winner.high) == pytest.approx((1000.0, 1000 + low, 1000 - low), abs=30)


def test_elo_claims_no_interval_before_it_has_arrived_nor_where_no_resample_differs(tmp_path):
    early, alike = (
        rate(make_matches([("a", "b")] * n, s), "elo", 20) for n, s in ((60, [1.0, 0.0] * 30), (500, [0.5] * 500))
    )
    assert [row.low for row in (*early.rows, *alike.rows)] == [None] * 4
    arrived = rate(make_matches([("a", "b")] * 500, [1.0, 0.0] * 250), "elo", 20).rows[0]
    assert arrived.low < arrived.rating < arrived.high
    rows = "".join(f"{i},a,b,tie\n" for i in range(500))
    path = write(tmp_path / "ties.csv", f"prompt,left,right,winner\n{rows}")
    shown = sparring("evaluate", "ratings", path, "--method", "elo", "--resamples", "20")
    assert (shown.code, "every resample of the 500 prompts gives the same rating" in shown.out) == (0, True)


@pytest.mark.parametrize("scores", [[1.0, 1.0, 1.0, 0.5, 0.5, 0.5], [1.0] * 6])
def test_somebody_who_never_lost_has_no_rating(scores):
    with pytest.raises(Unbounded, match=r"a won or lost every match|no finite rating"):
        bradley_terry(make_matches(CYCLE, scores))


def test_players_who_never_met_have_no_rating():
    with pytest.raises(ValueError, match="never met"):
        rate(make_matches([("a", "b"), ("b", "a"), ("c", "d"), ("d", "c")], [1, 1, 1, 1]))


@pytest.mark.parametrize(("won", "of"), [(63, 64), (57, 60), (12, 24)])
def test_two_players_are_covered_as_clopper_and_pearson_do(won, of):
    """63 of 64 gave 1360 (1258 to no bound): infinite ratings of resamples without a loss."""
    winner, loser = rate(make_matches([("a", "b")] * of, [1.0] * won + [0.0] * (of - won)), resamples=4000).rows
    exact = binomtest(won, of).proportion_ci(0.95, "exact")
    ends = [1000 + SCALE * logit(end) / 2 for end in (exact.low, exact.high)]
    assert winner.low == pytest.approx(ends[0], abs=8)
    assert expit(2 * (winner.high - 1000) / SCALE) == pytest.approx(exact.high, abs=0.003)
    assert (loser.low, loser.high) == pytest.approx((2000 - winner.high, 2000 - winner.low))


def test_one_who_nearly_always_wins_leaves_the_others_their_intervals():
    rng = np.random.default_rng(0)
    pairs = [("a", "b")] * 30 + [("a", "c")] * 30 + [("b", "c")] * 30
    scores = [1.0] * 29 + [0.0] + [1.0] * 30 + (rng.random(30) < 0.5).astype(float).tolist()
    found = rate(make_matches(pairs, scores), resamples=300)
    first, *others = found.rows
    assert first.name == "a"
    assert 1000 < first.low < first.rating < first.high
    assert all(row.low < row.rating < row.high < 1000 for row in others)


def test_who_can_be_either_is_so_shown():
    """c met the others in four matches; the others' own forty are not in doubt for that."""
    rng = np.random.default_rng(0)
    pairs = [("a", "b")] * 40 + [("a", "c")] * 2 + [("b", "c")] * 2
    scores = [*(rng.random(40) < 0.5).astype(float), 1.0, 0.0, 0.0, 1.0]
    by_name = {row.name: row for row in rate(make_matches(pairs, scores), resamples=200).rows}
    a, c = by_name["a"], by_name["c"]
    assert c.low < a.low < a.rating < a.high < c.high
    assert c.high - c.low > 1.5 * (a.high - a.low) > 0


@pytest.mark.parametrize(("count", "told"), [(20, True), (500, False)])
def test_elo_that_has_not_arrived_is_told(tmp_path, count, told):
    """After 20 matches 191 points show as 35, and the interval is around those."""
    rows = "".join(f"{i},a,b,{'right' if i % 4 == 0 else 'left'}\n" for i in range(count))
    path = write(tmp_path / "m.csv", f"prompt,left,right,winner\n{rows}")
    shown = sparring("evaluate", "ratings", path, "--method", "elo", "--resamples", "20").out
    assert ("a, b have fewer than 500 matches" in shown) is told
    assert "under way" not in sparring("evaluate", "ratings", path, "--resamples", "20").out


def test_separated_outcomes_do_not_converge():
    with pytest.raises(Unbounded, match="separated"):
        fit_finite(np.array([[1.0], [-1.0]]), np.array([1.0, 0.0]), np.ones(2))


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_reads_both_column_names_and_prompts(tmp_path):
    ours = read_matches(write(tmp_path / "a.csv", "left,right,winner\na,b,left\nb,a,tie\n"))
    arena = '{"question_id": 1, "model_a": "a", "model_b": "b", "winner": "model_b", "judge": "j", "weight": 3}\n'
    theirs = read_matches(write(tmp_path / "b.jsonl", arena))
    assert (ours.unit, ours.score_M.tolist()) == ("matches", [1.0, 0.5])
    assert (theirs.unit, theirs.judge, theirs.weight_M.tolist()) == ("prompts", "j", [3.0])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("left,right\na,b\n", "needs left, right"),
        ("left,right,winner\n", "holds no match"),
        ("left,right,winner\na,b,a\n", "match 1: winner 'a' is unknown"),
        ("left,right,winner\na,a,left\n", "compared with itself"),
        ("left,right,winner,weight\na,b,left,-1\n", "weight '-1' is not a positive"),
        ("prompt,left,right,winner\n1,a,b,left\n1,a,b,left\n", "match 2 repeats match 1"),
        ("left,right,winner,judge\na,b,left,x\nb,a,left,y\n", r"2 judges \(x, y\)"),
        ("left,right,winner,judge\na,b,left,x\nb,a,left,\n", r"2 judges \(one that is not named, x\).*one file per"),
        ("left,right,winner,annotator\na,b,left,x\nb,a,left,y\n", r"2 judges \(x, y\)"),
    ],
)
def test_refuses_what_cannot_be_rated(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        read_matches(write(tmp_path / "matches.csv", text))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('{"prompt": 2, "left": "a", "right": "b"}', "match 2: it has no winner"),
        ('{"prompt": 2, "left": "a", "winner": "left"}', "match 2: it has no right"),
        ('{"left": "a", "right": "b", "winner": "left"}', "match 2: it has no prompt"),
        ('{"prompt": 2, "left": "", "right": "b", "winner": "left"}', "match 2: it has no left"),
        ('{"prompt": 2, "left": null, "right": "b", "winner": "left"}', "match 2: it has no left"),
        ('{"prompt": 2, "left": "a", "right": "b", "winner": ["left"]}', "match 2: winner .* is unknown"),
        ('{"prompt": 2, "left": "a", "right": "b", "winner": "left", "weight": 1%s}' % ("0" * 400), "not a positive"),
    ],
)
def test_a_row_unlike_the_first_is_an_error_with_its_number(tmp_path, row, message):
    first = '{"prompt": 1, "left": "a", "right": "b", "winner": "right"}\n'
    with pytest.raises(ValueError, match=message):
        read_matches(write(tmp_path / "matches.jsonl", first + row + "\n"))
