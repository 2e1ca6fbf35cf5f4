"""All claims: per algorithm the rows of its certificate, and one call that computes them.

Leaves out: the computations, one file per family, and what a row is (`claim.py`).

    rows, seconds = check("inpo", "exact")
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial

import torch

from sparring.algorithms.algorithm import SHIPPED
from sparring.certificates.build import build_for_game, needs_data
from sparring.certificates.claims import (
    averages,
    fits,
    gradients,
    imitation,
    lists,
    offline,
    pairs,
    readings,
    regularised,
    self_play,
    tree_search,
    variants,
)
from sparring.certificates.claims.claim import Check, Claim, Effort, by_fits, g3
from sparring.certificates.players.tabular import TabularPlayer
from sparring.games.built_in import built_in

FAMILIES = (regularised, averages, imitation, lists, fits, gradients, pairs, offline, readings, variants, self_play)
CLAIMS: dict[str, tuple[Check, ...]] = {
    name: tuple(check for family in FAMILIES for check in family.CHECKS.get(name, ())) for name in SHIPPED
}
"""The checks that the families list for each algorithm, in the order of the table"""


SYSTEMS = tree_search.CHECKS
"""What is certified and is no algorithm"""


def check(name: str, player: str = "tabular", rounds: int = 20, seed: int = 0) -> tuple[Sequence[Claim], float]:
    """An algorithm's claims and the seconds they took; player "exact" computes only those that take no fit."""
    began = time.perf_counter()
    affordable = [one for one in checks_of(name) if player == "tabular" or one.player == "exact"]
    with _one_thread():
        claims = [replace(claim, algorithm=name) for one in affordable for claim in one.run(Effort(rounds, seed))]
    return claims, time.perf_counter() - began


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Fits of some dozens of logits: more threads of torch would only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def left_out(name: str, player: str) -> int:
    """How many of an algorithm's checks need fits, which this player does not make."""
    return 0 if player == "tabular" else sum(one.player == "tabular" for one in checks_of(name))


def checks_of(name: str) -> list[Check]:
    """The checks of a shipped algorithm, or of a class of yours (`package.module:Class`).

    Every algorithm gets a check of its gradient and of its fit, also one that no family lists.
    """
    if name in SYSTEMS:
        return [*SYSTEMS[name]]
    listed = CLAIMS[name] if name in CLAIMS else by_fits(partial(gradients.gradient, name))
    known = name in fits.CHECKS or name in gradients.STATIONARY
    return [*listed] if known else [*by_fits(partial(fit_of_any, name)), *listed]


def fit_of_any(name: str, effort: Effort) -> Iterable[Claim]:
    """Where no family lists its games and settings: the closed form if it has one, else stationarity."""
    algorithm, game = build_for_game(name, {}), built_in("GD") if needs_data(name) else g3()
    try:
        TabularPlayer(algorithm, game).play(1)
    except ValueError as error:
        claim, shown = "own loss and pairing, fitted on population pairs", f"not played on {game.name}: {error}"
        return [Claim("fit_is_closed_form", claim, "derived", "-", shown, None, checked=False)]
    closed = algorithm.exact_step(game, [game.log_reference]) is not None
    return (fits.closed_form if closed else gradients.stationarity)(name, effort)
