"""Pairings as games: which comparisons they ask, and what they make of the answers."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparring.algorithms.pairing import (
    Across,
    Against,
    AllPairs,
    BestWorst,
    ChosenRejectedOwn,
    IndependentPairs,
    Knockout,
    Ladder,
    Listwise,
    Pairing,
    Pairs,
    Unpaired,
)
from sparring.objectives.pairs import DATA, PESSIMISM


def play(pairing: Pairing, roles: list[str], oracle, seed: int = 0) -> tuple[Pairs, list[tuple[int, int]]]:
    """Run a game against `oracle(a, b)`; returns the result and all comparisons asked."""
    game, asked = pairing.play(roles, seed), []
    wave = next(game)
    while True:
        asked += wave
        try:
            wave = game.send([oracle(a, b) for a, b in wave])
        except StopIteration as stop:
            return stop.value, asked


def by_rank(a: int, b: int) -> float:
    """Higher index is better."""
    return 1 / (1 + math.exp(a * -1.0 + b))


def test_best_worst_takes_the_extremes():
    pairs, asked = play(BestWorst(), ["own"] * 4, by_rank)
    assert len(asked) == 6
    assert [(p.winner, p.loser) for p in pairs.pairs] == [(3, 0)]
    assert pairs.pairs[0].preference == pytest.approx(by_rank(3, 0))
    assert list(pairs.win_rates) == sorted(pairs.win_rates)


def test_two_judged_responses_are_a_list():
    """The oracle failed on the third."""
    result, asked = play(Listwise(), ["own"] * 3, lambda a, b: 0.9 if (a, b) == (0, 1) else math.nan)
    assert len(asked) == 3
    assert (result.pairs, result.unpaired, result.dropped) == ((), (0, 1), "")


def test_win_rates_count_the_response_itself_as_a_half():
    pairs, _ = play(BestWorst(), ["own"] * 2, lambda a, b: 0.9)
    assert pairs.win_rates == pytest.approx((0.7, 0.3))


def test_knockout_needs_eleven_comparisons_for_eight():
    pairs, asked = play(Knockout(), ["own"] * 8, by_rank)
    assert len(asked) == 11
    assert [(p.winner, p.loser) for p in pairs.pairs] == [(7, 0)]


def test_knockout_ties_go_to_the_first_and_an_unwon_final_drops():
    pairs, _ = play(Knockout(), ["own"] * 4, lambda a, b: 0.5)
    assert pairs.pairs == ()
    assert pairs.dropped == "final not won"


def test_knockout_of_two_is_one_match():
    pairs, asked = play(Knockout(), ["own"] * 2, by_rank)
    assert [(p.winner, p.loser) for p in pairs.pairs] == [(1, 0)]
    assert pairs.pairs[0].preference == pytest.approx(by_rank(1, 0))
    assert asked == [(0, 1)]


def test_knockout_does_not_ask_a_final_twice():
    """0 beats 1, then everybody; 1 loses twice: the finalists have met already."""
    strength = [3, 0, 1, 2]
    pairs, asked = play(Knockout(), ["own"] * 4, lambda a, b: by_rank(strength[a], strength[b]))
    assert asked == [(0, 1), (2, 3), (0, 3), (1, 2)]
    assert [(p.winner, p.loser) for p in pairs.pairs] == [(0, 1)]


@pytest.mark.parametrize("pairing", [BestWorst(), IndependentPairs(), AllPairs(), Knockout()])
def test_a_failed_verdict_never_becomes_a_pair(pairing):
    pairs, _ = play(pairing, ["own"] * 4, lambda a, b: math.nan)
    assert pairs.pairs == ()
    assert pairs.dropped == "no verdict"


def test_all_equal_is_a_tie():
    assert play(BestWorst(), ["own"] * 4, lambda a, b: 0.5)[0].dropped == "tie"


def test_independent_pairs_draw_the_winner_with_its_probability():
    wins = sum(
        play(IndependentPairs(), ["own"] * 2, lambda a, b: 0.8, seed)[0].pairs[0].winner == 0 for seed in range(2000)
    )
    assert wins / 2000 == pytest.approx(0.8, abs=0.03)


def test_independent_pairs_do_not_look_at_each_other():
    pairs, asked = play(IndependentPairs("likelier"), ["own"] * 6, by_rank)
    assert asked == [(0, 1), (2, 3), (4, 5)]
    assert [(p.winner, p.loser) for p in pairs.pairs] == [(1, 0), (3, 2), (5, 4)]
    assert sum(p.weight for p in pairs.pairs) == pytest.approx(1.0)


def test_gold_against_every_own_answer():
    pairs, asked = play(Against("gold", "own"), ["gold", "own", "own"], None)
    assert asked == []
    assert [(p.winner, p.loser, p.weight) for p in pairs.pairs] == [(0, 1, 0.5), (0, 2, 0.5)]


def test_spac_pairs_data_and_own():
    pairs, _ = play(ChosenRejectedOwn(), ["chosen", "rejected", "own"], None)
    found = {(p.winner, p.loser, p.term): p.weight for p in pairs.pairs}
    assert found == {(0, 1, DATA): 1.0, (0, 2, PESSIMISM): 0.5, (1, 2, PESSIMISM): 0.5}


@given(st.permutations(range(6)))
def test_best_worst_does_not_depend_on_order(order):
    """The same responses in another order give the same best and worst."""
    pairs, _ = play(BestWorst(), ["own"] * 6, lambda a, b: by_rank(order[a], order[b]))
    assert (order[pairs.pairs[0].winner], order[pairs.pairs[0].loser]) == (5, 0)


def test_across_two_roles_the_kth_meets_the_kth():
    roles = ["own", "own", "reference", "reference"]
    result, asked = play(Across(label="likelier"), roles, by_rank)
    assert asked == [(0, 2), (1, 3)]
    assert [(p.winner, p.loser, p.weight) for p in result.pairs] == [(2, 0, 0.5), (3, 1, 0.5)]
    assert result.pairs[0].preference == pytest.approx(by_rank(2, 0))
    failed, _ = play(Across(), roles, lambda a, b: math.nan)
    assert (failed.pairs, failed.dropped) == ((), "no verdict")


def test_a_ladder_has_gold_over_own_over_the_start():
    result, asked = play(Ladder(), ["gold", "own", "own", "start", "start"], by_rank)
    assert asked == []
    above = [(p.winner, p.loser) for p in result.pairs if p.term == DATA]
    below = [(p.winner, p.loser) for p in result.pairs if p.term == PESSIMISM]
    assert (above, below) == ([(0, 1), (0, 2)], [(1, 3), (1, 4), (2, 3), (2, 4)])
    assert [sum(p.weight for p in result.pairs if p.term == term) for term in (DATA, PESSIMISM)] == [1.0, 1.0]


def test_unpaired_responses_are_all_kept():
    result, asked = play(Unpaired(), ["desirable", "mismatched"], by_rank)
    assert (result.pairs, result.unpaired, result.dropped, asked) == ((), (0, 1), "", [])
