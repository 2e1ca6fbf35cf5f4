"""All claims: per algorithm the rows of its certificate, and one call that computes them.

Leaves out: the computations, one file per family, and what a row is (`claim.py`).

    rows, seconds = check("inpo", "exact")
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch

from sparring.algorithms.algorithm import SHIPPED
from sparring.certificates.build import build_for_game, needs_data
from sparring.certificates.claims import (
    arise,
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
from sparring.fleet.work import Make, Places, Shards, Work, current
from sparring.games.built_in import built_in
from sparring.runtime import devices

FAMILIES = (regularised, averages, imitation, lists, fits, gradients, pairs, offline, readings, variants, self_play)
CLAIMS: dict[str, tuple[Check, ...]] = {
    name: tuple(check for family in FAMILIES for check in family.CHECKS.get(name, ())) for name in SHIPPED
}
"""The checks that the families list for each algorithm, in the order of the table"""


SYSTEMS = {**tree_search.CHECKS, **arise.CHECKS}
"""What is certified and is no algorithm"""
SLOW = {"spac": 60, "inpo": 20}
"""about how many times as long an algorithm takes as most do, so that devices get as much each"""
Row = tuple[str, Sequence[Claim], float]
"""an algorithm, its claims and the seconds they took"""


@dataclass(frozen=True, slots=True)
class Checked:
    """Checks algorithms, in this process or on a cluster's worker."""

    player: str = "tabular"
    rounds: int = 20
    seed: int = 0

    def __call__(self, name: str) -> Row:
        """One algorithm's row."""
        return (name, *check(name, self.player, self.rounds, self.seed))

    @contextlib.contextmanager
    def opened(self, _: Places) -> Iterator[Make]:
        """As a worker opens it: there is nothing to load."""
        yield self


def check_all(names: Sequence[str], how: Checked, report: Callable[[Row], None]) -> list[Row]:
    """The algorithms' rows in the order of their names; shared out over the devices or workers that there are.

    `report` gets each row as soon as it is there, of several devices those of the first.
    """
    fleet = current()
    if not fleet.shares:
        return devices.on_all_ranks(_shared, names, how, report=report)
    rows: list[Row] = []
    work = Work("claims", f"claims {how}", dict, how.opened)
    for _, row in fleet.results(work, Shards(range(len(names)), names.__getitem__)):
        report(row)
        rows.append(row)
    return _in_order(names, rows)


def _shared(names: Sequence[str], how: Checked, report: Callable[[Row], None] = lambda _: None) -> list[Row]:
    own: list[Row] = []
    for index in devices.deal([SLOW.get(name, 1) for name in names]):
        own.append(how(names[index]))
        report(own[-1])
    return _in_order(names, [row for part in devices.all_gather(own) for row in part])


def _in_order(names: Sequence[str], rows: Sequence[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: names.index(row[0]))


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
