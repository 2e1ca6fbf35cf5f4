"""Held-out play: win rates, pools, gaps, intervals and cycles, against hand-made oracles."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Sequence
from itertools import combinations

import numpy as np
import pytest

from sparring.data.text import distinct_trigrams, repeating_share
from sparring.evaluation.duality_gap import nash_mixture, play_pool, pool_gap
from sparring.evaluation.intervals import SHARE, CountedInterval, Interval, interval
from sparring.evaluation.intransitivity import cyclic_triples, measure
from sparring.evaluation.win_rates import head_to_head
from sparring.oracles.guard import Guard
from sparring.oracles.oracle import Comparison
from sparring.oracles.preferences import wins


class Rule:
    """An oracle from a function of two texts."""

    identity = "rule"

    def __init__(self, rule: Callable[[str, str], float]) -> None:
        self.rule = rule

    def judge(self, comparisons: Sequence[Comparison]) -> np.ndarray:
        return np.array([self.rule(c.a, c.b) for c in comparisons])


def longer(a: str, b: str) -> float:
    return 0.5 if len(a) == len(b) else 0.9 if len(a) > len(b) else 0.1


def scissors(a: str, b: str) -> float:
    """Rock, paper, scissors by first letter."""
    order = "rps"
    return 0.5 if a[0] == b[0] else 0.8 if (order.index(a[0]) - order.index(b[0])) % 3 == 1 else 0.2


def test_wins_count_ties_half_and_keep_unknowns():
    assert wins(np.array([0.2, 0.5, 0.51])).tolist() == [0, 0.5, 1]
    assert np.isnan(wins(np.array([np.nan]))).all()


def test_head_to_head_meets_every_sample_pair():
    outcome = head_to_head(["p", "q"], [["aaa", "a"], ["aa"]], [["aa", "aa"], ["aa"]], Guard(Rule(longer)))
    assert outcome.wins == [0.5, 0.5]
    assert outcome.preferences == pytest.approx([0.5, 0.5])
    assert outcome.failed == 0


def test_failed_comparisons_are_left_out_not_ties():
    guard = Guard(Rule(lambda a, b: np.nan if "x" in a + b else longer(a, b)))
    outcome = head_to_head(["p"] * 30, [["aaa"]] * 29 + [["x"]], [["a"]] * 30, guard)
    assert outcome.wins == [1.0] * 29
    assert outcome.preferences_by_prompt == [pytest.approx(0.9)] * 29 + [None]
    assert outcome.failed == 1


def test_empty_and_equal_answers_are_decided_without_the_oracle():
    """Also where it cannot judge them, or prefers silence."""
    guard = Guard(Rule(lambda a, b: np.nan if not a.strip() or not b.strip() else longer(b, a)))
    ours, theirs = [["", "aa"], ["aa"]], [["a", " "], ["aa"]]
    outcome = head_to_head(["p", "q"], ours, theirs, guard)
    assert outcome.wins_by_prompt == [(0 + 0.5 + 0 + 1) / 4, 0.5]
    assert (outcome.failed, guard.failed, guard.asked) == (0, 0, 1)
    pool = play_pool(["p", "q"], {"start": theirs, "1": ours}, guard)
    assert pool.matrix()["win_rate"][1][0] == pytest.approx((0.375 + 0.5) / 2)
    assert (guard.failed, guard.asked) == (0, 1)


def test_interval_is_over_prompts():
    assert interval([0.5] * 10) == Interval(0.5, 0.5, 0.5)
    wide, narrow = interval([0.0, 1.0] * 10), interval([0.0, 1.0] * 1000)
    assert wide.low < 0.35 < narrow.low < 0.5 < narrow.high < 0.65 < wide.high
    with pytest.raises(ValueError, match="at least one"):
        interval([])


def test_interval_covers_the_truth():
    """At least 95 of 100 intervals hold the true mean; 90 allows for chance."""
    draw = np.random.default_rng(0)
    found = [interval((draw.random(40) < 0.7).astype(float).tolist(), SHARE) for _ in range(100)]
    assert sum(i.low <= 0.7 <= i.high for i in found) >= 90


def test_pool_matrix_and_gap_of_a_transitive_oracle():
    texts = {"start": [["a"]] * 4, "1": [["aa"]] * 4, "2": [["aaa"]] * 4}
    pool = play_pool(["p", "q", "r", "s"], texts, Guard(Rule(longer)))
    assert pool.names == ("start", "1", "2")
    assert pool.matrix()["win_rate"] == [[0.5, 0, 0], [1, 0.5, 0], [1, 1, 0.5]]
    assert nash_mixture(pool) == pytest.approx({"2": 1.0})
    assert pool_gap(pool, "2").value == pytest.approx(0.0)
    assert pool_gap(pool, "start").value == pytest.approx(0.8)
    few = 1 - 0.0125**0.25  # of two others, each on four prompts: all alike says little
    assert pool_gap(pool, "start").low == pytest.approx(0.8 - 1.8 * few)


def test_pool_of_a_cycle_mixes_and_everybody_has_a_gap():
    texts = {"start": [["r"]] * 3, "1": [["p"]] * 3, "2": [["s"]] * 3}
    pool = play_pool(["x", "y", "z"], texts, Guard(Rule(scissors)))
    assert nash_mixture(pool) == pytest.approx(dict.fromkeys(("start", "1", "2"), 1 / 3))
    assert [pool_gap(pool, name).value for name in texts] == pytest.approx([0.6] * 3)


def test_the_best_of_several_samples_is_an_attacker():
    texts = {"start": [["a", "aaaa"]] * 3, "1": [["aa", "aaa"]] * 3}
    pool = play_pool(["x", "y", "z"], texts, Guard(Rule(longer)))
    assert pool.names == ("start", "1", "start best of 2", "1 best of 2")
    assert pool.matrix()["policies"] == ["start", "1"]
    assert pool.matrix()["win_rate"][1][0] == pytest.approx(0.5)
    best = pool.names.index("start best of 2")
    assert pool.preferences[:, best, 1] == pytest.approx([0.9] * 3)


def noise(a: str, b: str) -> float:
    """A fixed coin for every pair of texts, with P(a, b) + P(b, a) = 1: nobody is better than anybody."""
    low, high = sorted((a, b))
    p = np.random.default_rng([int(low), int(high)]).random()
    return p if a == low else 1 - p


def test_noise_alone_gives_no_gap():
    """Chosen and scored on the same comparisons, the best of four wins 57 % here, and every gap is near .23."""
    draw = np.random.default_rng(0)
    texts = {name: [[str(draw.integers(10**9)) for _ in range(4)] for _ in range(200)] for name in ("start", "1", "2")}
    pool = play_pool(["p"] * 200, texts, Guard(Rule(noise)))
    means = pool.preferences.mean(axis=0)
    assert means[3:, :3] == pytest.approx(np.full((3, 3), 0.5), abs=0.04)
    assert means[3:, :3].mean() == pytest.approx(0.5, abs=0.015)
    for name in texts:
        gap = pool_gap(pool, name)
        assert gap.low < 0.03
        assert gap.low <= gap.value <= gap.high
        assert gap.value == pytest.approx(0.0, abs=0.08)


def test_the_best_of_its_own_samples_attacks_a_policy():
    """Each sample meets the best of the other three: the longest always loses, the rest lose to it."""
    texts = {"start": [["a", "aa", "aaa", "aaaa"]] * 2, "1": [["a"] * 4] * 2}
    pool = play_pool(["x", "y"], texts, Guard(Rule(longer)))
    best = pool.names.index("start best of 4")
    assert pool.preferences[:, best, 0] == pytest.approx([0.7] * 2)
    assert pool.preferences[:, 0, best] == pytest.approx([0.3] * 2)
    assert pool_gap(pool, "start").value == pytest.approx(0.4)


def test_a_member_without_verdicts_attacks_nobody():
    unknown = Guard(Rule(lambda a, b: np.nan if "x" in a + b else longer(a, b)))
    pool = play_pool(["p"] * 20, {"start": [["a"]] * 20, "1": [["x"]] * 1 + [["aa"]] * 19}, unknown)
    assert pool_gap(pool, "start").value == pytest.approx(0.8)
    assert pool_gap(play_pool(["p"], {"start": [["a"]], "1": [["aa"]]}, Guard(Rule(longer))), "start").value == 0.8


def test_cyclic_triples():
    assert cyclic_triples({(0, 1): 0.9, (1, 2): 0.9, (0, 2): 0.2}) == (1, 1)
    assert cyclic_triples({(0, 1): 0.9, (1, 2): 0.9, (0, 2): 0.8}) == (0, 1)
    assert cyclic_triples({(0, 1): 0.9, (1, 2): 0.5, (0, 2): 0.2}) == (0, 0)
    assert cyclic_triples({(0, 1): 0.9, (1, 2): 0.9}) == (0, 0)
    assert cyclic_triples({(1, 0): 0.1, (1, 2): 0.9, (2, 0): 0.8}) == (1, 1)


@pytest.mark.parametrize("seed", range(5))
def test_cyclic_triples_are_those_that_can_be_counted_one_by_one(seed):
    rng = np.random.default_rng(seed)
    verdicts = {(i, j): float(rng.choice([0.2, 0.5, 0.9], p=[0.45, 0.1, 0.45])) for i, j in combinations(range(9), 2)}
    for match in list(verdicts)[:: 7 + seed]:
        del verdicts[match]
    cyclic = count = 0
    for a, b, c in combinations(range(9), 3):
        three = [verdicts.get((a, b)), verdicts.get((b, c)), verdicts.get((a, c))]
        if None not in three and 0.5 not in three:
            count += 1
            cyclic += (three[0] > 0.5) == (three[1] > 0.5) != (three[2] > 0.5)
    assert cyclic_triples(verdicts) == (cyclic, count)


def test_cycles_of_many_samples_take_little_memory_and_one_pass():
    """A tuple for each of 41,664 triples of 64 samples was kept until the end of the run."""
    rng = np.random.default_rng(0)
    prompts = ({m: float(rng.random()) for m in combinations(range(64), 2)} for _ in range(6))
    tracemalloc.start()
    found = measure(prompts)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found is not None
    assert found["cyclic"].count == 6 * 41_664
    assert peak < 5e6


def test_intransitivity_in_words():
    cycle = {(0, 1): 0.9, (1, 2): 0.9, (0, 2): 0.2}
    order = {(0, 1): 0.8, (1, 2): 0.8, (0, 2): 16 / 17}
    found, none = measure([cycle, order]), measure([order])
    assert found is not None
    assert none is not None
    assert found["cyclic"] == CountedInterval(0.5, pytest.approx(1 - 0.975**0.5), pytest.approx(0.975**0.5), 2)
    assert none["cyclic"] == CountedInterval(0.0, 0.0, pytest.approx(0.975), 1)
    assert "1 of 2 triples are cyclic (95 % interval 1.3% to 98.7%)." in found["words"]
    assert found["nash_support"] == 2.0
    assert "too few triples to tell" in found["words"]
    assert none["bradley_terry_distance"] == pytest.approx(0.0, abs=1e-5)
    assert none["nash_support"] == 1.0
    assert "too few triples to tell" in none["words"]
    many = measure([order] * 80)
    assert many is not None
    assert "a reward method could do as well" in many["words"]
    cycles = measure([cycle] * 10 + [order] * 10)
    assert cycles is not None
    assert "of taste or of noise" in cycles["words"]
    assert "a game-theoretic method can gain" in cycles["words"]
    assert measure([{(0, 1): 0.9}]) is None
    tied_at_the_top = measure([{(0, 1): 0.5, (0, 2): 0.9, (1, 2): 0.9, (0, 3): 0.9, (1, 3): 0.9, (2, 3): 0.9}])
    assert tied_at_the_top is not None
    assert "on 0% of the prompts no single sample is unbeaten" in tied_at_the_top["words"]


@pytest.mark.parametrize(("cyclic", "count"), [(0, 20), (1, 20), (0, 71), (1, 100)])
def test_few_triples_tell_nothing(cyclic, count):
    """Of 20 triples, none cyclic was "close to transitive" and one was "has cycles": 5 % makes either."""
    found = measure([{(0, 1): 0.9, (1, 2): 0.9, (0, 2): 0.1 if i < cyclic else 0.9} for i in range(count)])
    assert found is not None
    assert found["cyclic"].value == cyclic / count
    assert "too few triples to tell" in found["words"]


def test_text_measures():
    assert distinct_trigrams("a b c d") == 1.0
    assert distinct_trigrams("a b c a b c a b c a b c") == pytest.approx(3 / 10)
    assert repeating_share(["a b c a b c a b c a b c", "one two three four"]) == 0.5
