"""Black-box games: their known equilibria, bounds that hold, and what choosing is worth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sparring.certificates.claims import arise
from sparring.certificates.claims.check import check
from sparring.certificates.claims.claim import Effort
from sparring.games.arise import FIRST, search
from sparring.games.black_box import contest, cournot, nash_gap


def test_exploitability_is_zero_at_the_known_equilibrium_and_only_there():
    """Cournot's grid adds two neighbours: to 11/30 the best replies 9/30 and 10/30 are as good as each other."""
    for game, place, count in ((cournot(31), (10, 10), 3), (contest(13), (6, 6, 6), 1)):
        gap = game.exploitability()
        assert game.knobs[place] == pytest.approx(game.nash)
        assert gap[place] == pytest.approx(0.0, abs=1e-12)
        assert (gap >= -1e-12).all()
        assert (gap < 1e-9).sum() == count


def test_exploitability_of_a_profile_by_hand():
    """q = (0, 0): either gains 1/4 by 1/2. q = (1/2, 0): the first is at its best, the second gains 1/16 by 1/4."""
    gap = cournot(5).exploitability()
    assert gap[0, 0] == pytest.approx(0.5)
    assert gap[2, 0] == pytest.approx(1 / 16)
    assert contest(13).payoff(np.array([1.0, 1.0, 2.0])) == pytest.approx([0.25 - 1, 0.25 - 1, 0.5 - 2])


def test_bounds_of_payoffs_bound_the_gap():
    rng, game = np.random.default_rng(0), cournot(7)
    true = game.payoff(game.knobs)
    slack = rng.random(true.shape) * 0.1
    low, high = nash_gap(true - slack, true + slack), nash_gap(true + slack, true - slack)
    assert (low <= game.exploitability() + 1e-12).all()
    assert (high >= game.exploitability() - 1e-12).all()
    assert (high - low).max() < 0.1 * 2 * 2 * 2


def test_arise_comes_near_the_equilibrium_with_few_evaluations():
    """Random profiles do so too on this smooth game; an even grid of two points a player does not."""
    pytest.importorskip("sklearn", reason="needs scikit-learn: pip install 'sparring[lab]'")
    game = contest(9, noise=0.005)
    gap = game.exploitability()
    found = {d: np.mean([gap[search(game, 24, d, seed).profile] for seed in range(2)]) for d in ("arise", "grid")}
    assert found["arise"] < 0.03 < gap.mean()
    assert found["arise"] < found["grid"] / 2


def test_a_search_asks_what_it_says_and_is_the_same_again():
    pytest.importorskip("sklearn", reason="needs scikit-learn: pip install 'sparring[lab]'")
    game = cournot(10, noise=0.01)
    one, again = search(game, 10, seed=1), search(game, 10, seed=1)
    assert one == again
    assert len(one.asked) == 10
    assert len(set(one.asked[:FIRST])) == FIRST
    assert len(set(search(game, 9, "grid").asked)) == 9
    assert 1 <= one.region <= 100
    assert search(game, 10, "uniform", 1).asked[:FIRST] != search(game, 10, "uniform", 2).asked[:FIRST]


@pytest.mark.parametrize(
    ("evaluations", "design", "message"),
    [
        (6, "arise", "too few; 6 are asked at random"),
        (20, "best", "one of arise, uniform, grid"),
        (101, "arise", "100"),
    ],
)
def test_what_cannot_be_searched_is_refused(evaluations, design, message):
    with pytest.raises(ValueError, match=message):
        search(cournot(10), evaluations, design)


def test_its_certificate(monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("sklearn", reason="needs scikit-learn: pip install 'sparring[lab]'")
    monkeypatch.setattr(arise, "SEEDS", 3)
    monkeypatch.setattr(arise, "EVALUATIONS", 10)
    monkeypatch.setattr(arise, "GAMES", (cournot(13, 0.01),))
    (bound, worth), _ = check("arise", "exact")
    assert (bound.algorithm, bound.verdict, worth.verdict) == ("arise", "holds", "measured")
    monkeypatch.setattr(arise, "search", lambda *words: replace(search(*words), high=-1.0))
    assert next(iter(arise.searches(Effort()))).verdict == "FAILS"
