"""All claims: per algorithm the rows of its certificate, and one call that computes them.

Leaves out: the computations, one file per family (`claims_*.py`), and what a row is (`claim.py`).

    rows, seconds = check("inpo", "exact")
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial

from sparring.algorithms.algorithm import SHIPPED
from sparring.games import (
    claims_average,
    claims_fit,
    claims_gradient,
    claims_imitation,
    claims_list,
    claims_mirror,
    claims_offline,
    claims_sampled,
)
from sparring.games.certify import build_for_game
from sparring.games.claim import Check, Claim, Effort, g3

__all__ = ["CLAIMS", "Check", "Claim", "Effort", "check"]

FAMILIES = (
    claims_mirror,
    claims_average,
    claims_imitation,
    claims_list,
    claims_fit,
    claims_gradient,
    claims_sampled,
    claims_offline,
)
CLAIMS: dict[str, tuple[Check, ...]] = {
    name: tuple(check for family in FAMILIES for check in family.CHECKS.get(name, ())) for name in SHIPPED
}
"""By algorithm, in the order of the table"""


def check(
    name: str, player: str = "tabular", rounds: int = 20, seed: int = 0, data_sets: int = 6
) -> tuple[Sequence[Claim], float]:
    """An algorithm's claims and the seconds they took; player "exact" computes only what takes no fit.

    A class of yours (`package.module:Class`) gets the checks that need no table: closed form if it has one, gradients.
    """
    began = time.perf_counter()
    effort = Effort(rounds, seed, data_sets)
    checks = CLAIMS[name] if name in CLAIMS else checks_of_any(name)
    found = [claim for one in checks if player == "tabular" or one.player == "exact" for claim in one.run(effort)]
    return found, time.perf_counter() - began


def checks_of_any(name: str) -> list[Check]:
    """For a class that is not shipped: its gradient, and its closed form where it has one on G3."""
    found = [Check(partial(claims_gradient.gradient, name), "tabular")]
    if build_for_game(name, {}).exact_step(g3(), [g3().log_reference]) is not None:
        found.insert(0, Check(partial(claims_fit.closed_form, name), "tabular"))
    return found
