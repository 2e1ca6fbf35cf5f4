"""One row of a certificate, how a value is compared with its prediction, and the runs on G3 that most rows are about.

Leaves out: the claims themselves (one file per family) and the table of them (`check.py`).

    tabulated("egpo_linear_rate", "KL shrinks", "2503.08942", [("eta .3", ".937", 0.9372)])
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import wraps
from typing import Any, Literal, NamedTuple

import numpy as np
from scipy.stats import t as student

from sparring.certificates.build import build_for_game
from sparring.certificates.certify import play
from sparring.games.built_in import built_in
from sparring.games.equilibrium import nash, regularised_nash
from sparring.games.game import Array, Game
from sparring.games.trajectory import Trajectory

TAU = 0.1
"""the regularisation of most rows on G3"""


@dataclass(frozen=True, slots=True)
class Claim:
    """A statement of a paper or a derivation, the predicted and the measured values, and the verdict."""

    name: str
    """what is claimed, with its source where a paper has one: `inpo_theorem_4`"""
    claim: str
    source: str
    predicted: str
    measured: str
    holds: bool | None
    """None: a number to know, with nothing to hold it against"""
    note: str = ""
    refutes: bool = False
    """a published statement fails here; `holds` then says whether that failure was reproduced"""
    algorithm: str = ""
    """whose certificate the row stands in; `check` fills it in"""
    seeds: int = 0
    """random draws (starts, data sets, batches, samples) that the measured values are over; 0: nothing is random"""
    checked: bool = True
    """False: it could not be, and `measured` says why"""

    def __post_init__(self) -> None:
        """Make numpy's booleans plain ones, which JSON can hold."""
        if self.holds is not None:
            object.__setattr__(self, "holds", bool(self.holds))

    @property
    def verdict(self) -> str:
        """One word for the table."""
        if not self.checked:
            return "not checked"
        if self.holds is None:
            return "measured"
        if not self.holds:
            return "FAILS"
        return "refuted" if self.refutes else "holds"


@dataclass(frozen=True, slots=True)
class Effort:
    """How much a check may spend."""

    rounds: int = 20
    """of every run from a random start"""
    seed: int = 0
    data_sets: int = 12
    """of the sparse bandit, per number of pairs"""


def over_seeds(count: int | None = None) -> Callable[[Callable[..., Iterable[Claim]]], Callable[..., Iterable[Claim]]]:
    """Say of a computation's rows how many random draws they are over, where they do not say so themselves.

    None: as many as the effort has data sets.
    """

    def marked(run: Callable[..., Iterable[Claim]]) -> Callable[..., Iterable[Claim]]:
        @wraps(run)
        def within(*arguments: Any, **options: Any) -> Iterable[Claim]:
            for claim in run(*arguments, **options):
                draws = arguments[-1].data_sets if count is None else count
                yield claim if claim.seeds else replace(claim, seeds=draws)

        return within

    return marked


class Check(NamedTuple):
    """A function that computes claims, and the cheapest player it needs."""

    run: Callable[[Effort], Iterable[Claim]]
    player: Literal["exact", "tabular"] = "exact"


Checks = Mapping[str, Sequence[Check]]
"""By algorithm"""


def by_fits(*runs: Callable[[Effort], Iterable[Claim]]) -> tuple[Check, ...]:
    """Checks that need the tabular player."""
    return tuple(Check(run, "tabular") for run in runs)


def g3() -> Game:
    """The cyclic game of three arms."""
    return built_in("G3")


def regularised_target(tau: float = TAU) -> Array:
    """(1, 3): the regularised Nash policy of G3."""
    return regularised_nash(g3().preference[0], g3().reference[0], tau)[None]


def nash_target() -> Array:
    """(1, 3): the Nash policy of G3."""
    return nash(g3().preference[0])[None]


def exact(name: str, rounds: int, game: Game | None = None, **settings: Any) -> Trajectory:
    """The algorithm's own closed form, through its fields."""
    return play(build_for_game(name, settings), game or g3(), "exact", rounds)


def kl_path(name: str, rounds: int, **settings: Any) -> Array:
    """(T + 1,): KL(pi*, pi_t) of the closed form on G3, pi* the Nash policy regularised by `TAU`."""
    return exact(name, rounds, **settings).kl_from(regularised_target())


def distance(p: Array, q: Array) -> float:
    """Total variation of log-policies, the largest over rounds and contexts."""
    return float(np.abs(np.exp(p) - np.exp(q)).sum(axis=-1).max() / 2)


def slope(xs: Sequence[float] | Array, ys: Sequence[float] | Array) -> float:
    """Least-squares slope of log y against log x."""
    return float(np.polyfit(np.log(np.asarray(xs, float)), np.log(np.asarray(ys, float)), 1)[0])


def mean_and_error(values: Sequence[float] | Array) -> tuple[float, float]:
    """Mean and its standard error."""
    array = np.asarray(values, dtype=np.float64)
    return float(array.mean()), float(array.std(ddof=1) / np.sqrt(len(array)))


def mean_and_interval(values: Sequence[float] | Array) -> tuple[float, float]:
    """Mean and half its 95 % interval, by Student's t."""
    mean, error = mean_and_error(values)
    return mean, float(student.ppf(0.975, len(values) - 1)) * error


def number(value: float) -> str:
    """The value to three significant digits."""
    return f"{value:.3g}"


def agrees(value: float, text: str) -> bool:
    """Whether a number rounds to the digits of the text."""
    mantissa, _, exponent = text.partition("e")
    unit = 10.0 ** (int(exponent or 0) - len(mantissa.partition(".")[2]))
    return bool(abs(value - float(text)) <= unit * (0.5 + 1e-9))


def tabulated(
    name: str,
    claim: str,
    source: str,
    values: Sequence[tuple[str, str, float]],
    within_bound: bool = True,
    bound: str = "",
    note: str = "",
) -> Claim:
    """Values (label, predicted digits, measured) that must round to those digits, and a bound checked beside them."""
    predicted = ", ".join(f"{label}: {text}" for label, text, _ in values)
    measured = ", ".join(f"{label}: {float(value):.6g}" for label, _, value in values)
    holds = within_bound and all(agrees(float(value), text) for _, text, value in values)
    return Claim(name, claim, source, f"{predicted}{'; ' + bound if bound else ''}", measured, holds, note)


def vanishes(name: str, claim: str, value: float, limit: float, note: str = "", source: str = "derived") -> Claim:
    """The claim that a value is 0 but for rounding: it must be below `limit`."""
    return Claim(name, claim, source, f"0 (< {limit:g})", number(value), value < limit, note)
