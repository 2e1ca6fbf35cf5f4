"""Claims on ARISE (2405.08318) on black-box games of known equilibrium: its bound, and what choosing is worth.

Both games lie on grids, so that the exploitability of every answer is known exactly. Needs scikit-learn. Leaves out:
the paper's regret bound, whose widths grow with time.

    [claim.measured for claim in searches(Effort())]
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from sparring.certificates.claims.claim import Check, Claim, Effort, mean_and_interval, number, over_seeds
from sparring.games.arise import WIDTH, search
from sparring.games.black_box import contest, cournot

SEEDS, EVALUATIONS, NOISE = 20, 24, 0.01
GAMES = (cournot(31, NOISE), contest(13, NOISE))


@over_seeds(SEEDS)
def searches(effort: Effort) -> Iterable[Claim]:
    """Of each game: how often the bound held, and what chosen settings left beside settings drawn at random."""
    seeds = range(effort.seed * SEEDS, effort.seed * SEEDS + SEEDS)
    for game in GAMES:
        gap, title = game.exploitability(), f"{game.name}, {EVALUATIONS} evaluations with noise {NOISE:g}"
        found = [search(game, EVALUATIONS, "arise", seed) for seed in seeds]
        true, bound = np.array([gap[one.profile] for one in found]), np.array([one.high for one in found])
        held = float((true <= bound).mean())
        claim = f"{title}: the answer's exploitability is below the bound that is shown with it"
        shown = f"{held:.0%}; on average {number(float(true.mean()))}, bound {number(float(bound.mean()))}"
        predicted = f">= 90% of searches ({WIDTH:g} standard deviations)"
        yield Claim("arise_bound", claim, "2405.08318", predicted, shown, held >= 0.9)
        drawn = np.array([gap[search(game, EVALUATIONS, "uniform", seed).profile] for seed in seeds])
        less, half = mean_and_interval(true - drawn)
        claim = f"{title}: exploitability of the answer, chosen settings less drawn ones"
        means = (number(float(values.mean())) for values in (true, drawn, gap))
        note = "chosen {}, drawn {}, of all settings {} on average".format(*means)
        yield Claim("arise_chosen_less_drawn", claim, "measured", "-", f"{less:+.4f} ± {half:.4f}", None, note)


CHECKS = {"arise": (Check(searches),)}
