"""What an oracle may tell beyond its verdicts: optional protocols, each with who asks and what for.

`identity` and `judge` make an oracle (`oracle.py`). One that also has a member named here is asked for it; all that ask
do so by `isinstance`, and look at the oracles inside a wrapper too. Leaves out: the oracles themselves, and the base
class of wrappers (`wrapper.py`).

    if isinstance(oracle, PositionSensitive): oracle.first_shown(comparisons)
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from sparring.endpoints.replies import Estimate
from sparring.oracles.oracle import Comparison, Oracle


@runtime_checkable
class Titled(Protocol):
    """Reports and tables call the oracle by its title; without one, by its name in the recipe."""

    title: str
    """a few words"""


@runtime_checkable
class Described(Protocol):
    """A report says what the oracle is; without a description it shows the identity."""

    about: str
    """one sentence"""


@runtime_checkable
class Wraps(Protocol):
    """Everything that looks for an ability looks at the oracles inside too."""

    @property
    def inside(self) -> Sequence[Oracle]:
        """The oracles that this one asks."""
        ...


@runtime_checkable
class PositionSensitive(Protocol):
    """Contests and audits report how often the order decides; `cached` keeps the verdict on each order.

    `judge` must be `orders.both_orders` of it: those who keep the orders ask `first_shown` only.
    """

    def first_shown(self, comparisons: Sequence[Comparison]) -> np.ndarray:
        """P(a beats b) with a shown first, float64 in [0, 1]."""
        ...


@runtime_checkable
class Counts(Protocol):
    """Audits list the counts; a guard adds them to the error when a first question fails."""

    def counts(self) -> Mapping[str, object]:
        """The work so far: requests, cost, ties that a rule made; values by what they count."""
        ...


@runtime_checkable
class Estimates(Protocol):
    """Contests, audits and studies say what their questions will take before they ask them."""

    def estimate(self, comparisons: Sequence[Comparison]) -> Estimate:
        """Requests, tokens and cost of judging these, at most."""
        ...


@runtime_checkable
class Served(Estimates, Protocol):
    """A run says what a judge that somebody serves may cost in all, before it asks more than first questions."""

    served_model: str
    """the name that messages use"""


@runtime_checkable
class Calibrates(Protocol):
    """Estimates include the labelled pairs; an audit counts the pairs that the oracle has seen."""

    @property
    def asked_first(self) -> Sequence[Comparison]:
        """The comparisons that the oracles inside judge before the first verdict."""
        ...

    @property
    def fitted_on(self) -> Sequence[Comparison]:
        """All labelled comparisons that its verdicts follow from."""
        ...


@runtime_checkable
class Learned(Protocol):
    """An audit counts the prompts that the oracle was trained on."""

    @property
    def train_prompts(self) -> Collection[str]:
        """Their digests (`train.digest`)."""
        ...


@runtime_checkable
class Abstains(Protocol):
    """An audit counts the ties that say nothing."""

    def abstains(self, comparison: Comparison) -> bool:
        """Whether it ties the answers because it knows nothing about the prompt."""
        ...


@runtime_checkable
class CutsAnswers(Protocol):
    """A run shows how many answers were read only in part, in its status and among the report's warnings."""

    def cut(self, pairs: Sequence[tuple[str, str]]) -> int:
        """How many of these (prompt, answer) the oracle reads only in part."""
        ...


@runtime_checkable
class Remedies(Protocol):
    """A guard adds the remedy to its error when the first questions get no verdict."""

    def remedy(self) -> str:
        """What to do about the verdicts that failed so far; empty where none did."""
        ...


@runtime_checkable
class Doubts(Protocol):
    """A guard says the doubt before any work."""

    def doubt(self) -> str:
        """Why the verdicts are not to be trusted, as a line of the log; empty where they are."""
        ...


def nested(oracle: Oracle, first: Sequence[Comparison] = ()) -> Iterator[tuple[Oracle, Sequence[Comparison]]]:
    """The oracle and every oracle inside it, each with what it is asked before its first verdict (labels)."""
    yield oracle, first
    if isinstance(oracle, Calibrates):
        first = [*first, *oracle.asked_first]
    if isinstance(oracle, Wraps):
        for inner in oracle.inside:
            yield from nested(inner, first)


def counts_of(oracle: Oracle) -> dict[str, object]:
    """The counts of an oracle that counts; else none."""
    return dict(oracle.counts()) if isinstance(oracle, Counts) else {}


def announce(oracle: Oracle, comparisons: Sequence[Comparison], say: Callable[[str], None]) -> None:
    """Say what the comparisons will take at most, for every oracle inside that can tell, before anything is paid."""
    for inner, first in nested(oracle):
        if isinstance(inner, Estimates):
            say(f"{inner.identity[:60]}: {inner.estimate([*first, *comparisons])}")
