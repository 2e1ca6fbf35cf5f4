"""All claims: per algorithm the rows of its certificate, and one call that computes them.

Leaves out: the computations, one file per family, and what a row is (`claim.py`).

    rows, seconds = check("inpo", "exact")
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from sparring.algorithms.algorithm import SHIPPED
from sparring.certificates.build import build_for_game, needs_data
from sparring.certificates.claims import averages, fits, gradients, imitation, lists, offline, pairs, regularised
from sparring.certificates.claims.claim import Check, Claim, Effort, g3
from sparring.certificates.players.tabular import TabularPlayer
from sparring.games.game import built_in

FAMILIES = (regularised, averages, imitation, lists, fits, gradients, pairs, offline)
CLAIMS: dict[str, tuple[Check, ...]] = {
    name: tuple(check for family in FAMILIES for check in family.CHECKS.get(name, ())) for name in SHIPPED
}
"""By algorithm, in the order of the table"""


def check(name: str, player: str = "tabular", rounds: int = 20, seed: int = 0) -> tuple[Sequence[Claim], float]:
    """An algorithm's claims and the seconds they took; player "exact" computes only what takes no fit.

    A class of yours (`package.module:Class`) gets the checks that need no table: its closed form, or else stationarity,
    and its gradient.
    """
    began = time.perf_counter()
    effort = Effort(rounds, seed)
    checks = CLAIMS[name] if name in CLAIMS else checks_of_any(name)
    affordable = [one for one in checks if player == "tabular" or one.player == "exact"]
    return [
        replace(claim, algorithm=name) for one in affordable for claim in one.run(effort)
    ], time.perf_counter() - began


def checks_of_any(name: str) -> list[Check]:
    """For a class that is not shipped: its gradient; its closed form where it has one, else stationarity."""
    algorithm, game = build_for_game(name, {}), built_in("GD") if needs_data(name) else g3()
    gradient = Check(partial(gradients.gradient, name), "tabular")
    try:
        TabularPlayer(algorithm, game).play(1)
    except ValueError as error:
        claim = "own loss and pairing, fitted on population pairs"
        row = Claim("fit_is_closed_form", claim, "derived", "-", f"not played on {game.name}: {error}", None)
        return [Check(lambda effort: [row], "tabular"), gradient]
    closed = algorithm.exact_step(game, [game.log_reference]) is not None
    fitted = fits.closed_form if closed else gradients.stationarity
    return [Check(partial(fitted, name), "tabular"), gradient]
