"""Which matches to play next: between equals, on new prompts, for a table that is sure with fewer of them."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from sparring.evaluation.next_matches import next_matches
from sparring.evaluation.ratings import Matches, make_matches, strengths_of, wins_of


def won(*results: tuple[str, str, float, int]) -> Matches:
    """Matches (left, right, share won by left, how often)."""
    pairs = [(a, b) for a, b, _, times in results for _ in range(times)]
    return make_matches(pairs, [share for *_, share, times in results for _ in range(times)])


def test_of_equal_players_the_pair_that_met_least_is_next():
    played = won(("a", "b", 0.5, 20), ("a", "c", 0.5, 20), ("b", "c", 0.5, 5))
    (found,) = next_matches(played, 1)
    assert ({found.left, found.right}, found.prompt) == ({"b", "c"}, None)


def test_no_name_has_a_side_of_its_own():
    """A judge that likes a side must not move the ratings by the names."""
    played = won(("a", "b", 0.5, 2), ("a", "c", 0.5, 2), ("b", "c", 0.5, 2))
    lefts = [one.left for one in next_matches(played, 60)]
    assert {name: lefts.count(name) > 10 for name in "abc"} == dict.fromkeys("abc", True)


def test_who_met_nobody_yet_is_asked_first():
    played = won(("a", "b", 0.5, 50), ("a", "c", 0.5, 50), ("b", "c", 0.5, 50), ("a", "d", 0.5, 1))
    first = [set(one[:2]) for one in next_matches(played, 3)]
    assert all("d" in pair for pair in first)
    assert {"d", "a"} != first[0]


def test_the_gain_is_that_of_the_inverse():
    """The rank-one formula against inverting the information with one match more."""
    from sparring.evaluation import next_matches as module

    played = won(("a", "b", 0.7, 5), ("b", "c", 0.6, 3), ("a", "c", 0.8, 2))
    strength = strengths_of(wins_of(played) + 0.5 * (1 - np.eye(3)))
    before = module._information(played, strength)
    for i, j in combinations(range(3), 2):
        x = np.eye(3)[i] - np.eye(3)[j]
        p = 1 / (1 + np.exp(strength[j] - strength[i]))
        after = before + p * (1 - p) * np.outer(x, x)
        gain = np.trace(np.linalg.pinv(before)) - np.trace(np.linalg.pinv(after))
        assert module._gain(np.linalg.pinv(before), strength, (i, j)) == pytest.approx(gain)


def test_no_pair_meets_twice_on_a_prompt():
    pairs = list(combinations("abc", 2))
    played = make_matches(pairs, [1.0, 0.5, 0.0], prompts=["one", "two", "two"])
    found = next_matches(played, 10)
    assert len(found) == 3
    assert {("".join(sorted(one[:2])), one.prompt) for one in found} == {("ab", "two"), ("ac", "one"), ("bc", "one")}
    more = next_matches(played, 10, prompts=["one", "two", "three"])
    assert len(more) == 6
    assert next_matches(played, 10) == found
    with pytest.raises(ValueError, match="--next 0: give 1 or more"):
        next_matches(played, 0)


def test_chosen_matches_make_ratings_as_sure_with_fewer():
    """Eight players 300 points apart: a smaller sum of variances than a round robin's 280 matches with 80 % of them."""
    rng, strength = np.random.default_rng(0), np.arange(8) * 300 * np.log(10) / 400
    names, pairs = "abcdefgh", list(combinations(range(8), 2))

    def play(i: int, j: int) -> float:
        return float(rng.random() < 1 / (1 + np.exp(strength[j] - strength[i])))

    def sure(wins: np.ndarray) -> float:
        played = wins + wins.T
        p = 1 / (1 + np.exp(strength[None] - strength[:, None]))
        told = played * p * (1 - p)
        return float(np.trace(np.linalg.pinv(np.diag(told.sum(1)) - told)))

    results = [(i, j, play(i, j)) for i, j in pairs]
    while len(results) < 224:
        table = make_matches([(names[i], names[j]) for i, j, _ in results], [r for *_, r in results])
        chosen = [(names.index(one.left), names.index(one.right)) for one in next_matches(table, 14)]
        results += [(i, j, play(i, j)) for i, j in chosen]
    adaptive = make_matches([(names[i], names[j]) for i, j, _ in results], [r for *_, r in results])
    robin = make_matches([(names[i], names[j]) for i, j in pairs * 10], [1.0] * 280)
    assert sure(wins_of(adaptive)) < sure(wins_of(robin))
