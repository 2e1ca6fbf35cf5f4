"""What an oracle may offer beyond its verdicts: optional protocols, each with who asks for it and why.

`identity` and `judge` make an oracle (`oracle.py`). An oracle with all members of a protocol has that ability; callers
test for it with `isinstance`, also in the oracles inside a wrapper. Leaves out: the base class of wrappers
(`wrapper.py`).

    if isinstance(oracle, PositionSensitive): oracle.first_shown(comparisons)
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from sparring.endpoints.replies import Estimate
from sparring.oracles.oracle import Comparison, Oracle


@runtime_checkable
class Described(Protocol):
    """Reports name and explain the oracle by these; without them, by its name in the recipe and its identity."""

    title: str
    """a few words"""
    about: str
    """one sentence"""


@runtime_checkable
class Wraps(Protocol):
    """Abilities are looked for in the oracles inside too."""

    @property
    def inside(self) -> Sequence[Oracle]:
        """The oracles that this one asks."""
        ...


@runtime_checkable
class PositionSensitive(Protocol):
    """Contests and audits report how often the order decides; `cached` keeps the verdict on each order.

    `judge` must be `orders.both_orders` of it: `Recorded` and `Cached` call `first_shown` only.
    """

    def first_shown(self, comparisons: Sequence[Comparison]) -> Float[np.ndarray, " N"]:
        """P(a beats b) of N comparisons with a shown first, float64 in [0, 1]."""
        ...


@runtime_checkable
class Counts(Protocol):
    """Audits list the counts; a guard adds them to its error when a first question fails."""

    def counts(self) -> Mapping[str, object]:
        """The work so far: requests, cost, ties that a rule made; values by what they count."""
        ...


@runtime_checkable
class Estimates(Protocol):
    """Runs, contests, audits and studies show what their questions will cost before they ask them."""

    served_model: str | None
    """name of the model behind an endpoint, which a run prices in full; None for a model in this process"""

    def estimate(self, comparisons: Sequence[Comparison]) -> Estimate:
        """Upper bounds of requests, tokens and cost of judging these."""
        ...


@runtime_checkable
class Calibrates(Protocol):
    """Estimates include the labelled pairs; an audit counts the pairs that the oracle has seen."""

    @property
    def asked_first(self) -> Sequence[Comparison]:
        """Comparisons that the oracles inside judge before the first verdict."""
        ...

    @property
    def fitted_on(self) -> Sequence[Comparison]:
        """All labelled comparisons that the verdicts depend on."""
        ...


@runtime_checkable
class Learned(Protocol):
    """An audit counts the prompts that the oracle was trained on."""

    @property
    def train_prompts(self) -> Collection[str]:
        """Digests of the prompts (`train.digest`)."""
        ...


@runtime_checkable
class Abstains(Protocol):
    """An audit counts the ties that carry no judgment."""

    def abstains(self, comparison: Comparison) -> bool:
        """Whether the answers tie because the oracle knows nothing about the prompt."""
        ...


@runtime_checkable
class CutsAnswers(Protocol):
    """A run shows how many answers were read only in part, in its status and among the report's warnings."""

    def cut(self, pairs: Sequence[tuple[str, str]]) -> int:
        """How many of these (prompt, answer) pairs the oracle reads only in part."""
        ...


@runtime_checkable
class Diagnoses(Protocol):
    """A guard logs the diagnosis before any work, and adds it to its error when a first question fails."""

    def diagnosis(self) -> str:
        """What is wrong with the verdicts so far, and the remedy; empty where nothing is."""
        ...


@runtime_checkable
class AsksPeople(Protocol):
    """A guard sends it no first questions and counts what people declined apart from failures.

    `judge` waits for people. The judge stage says beforehand what it will ask, so that nobody waits between two waves.
    """

    def try_database(self) -> None:
        """Open what a recipe names, before any work; raises where it cannot be used."""
        ...

    def keep_votes_in(self, folder: Path) -> None:
        """Where votes are kept if nothing else was named."""
        ...

    def expect(self, comparisons: Sequence[Comparison]) -> None:
        """These will be asked for."""
        ...

    def declined(self, comparison: Comparison) -> str:
        """Why people gave no preference; empty where they gave one, or have yet to."""
        ...


@runtime_checkable
class StopsAsking(Protocol):
    """A run that stops while a thread asks the oracle has it ask nothing more."""

    def stop_asking(self) -> None:
        """Called from another thread: what is asked already may be answered, whatever comes later raises."""
        ...


def nested(oracle: Oracle, first: Sequence[Comparison] = ()) -> Iterator[tuple[Oracle, Sequence[Comparison]]]:
    """The oracle and every oracle inside it, each with the labelled comparisons that it judges first."""
    yield oracle, first
    if isinstance(oracle, Calibrates):
        first = [*first, *oracle.asked_first]
    if isinstance(oracle, Wraps):
        for inner in oracle.inside:
            yield from nested(inner, first)


def counts_of(oracle: Oracle) -> dict[str, object]:
    """The counts of an oracle that counts; empty for others."""
    return dict(oracle.counts()) if isinstance(oracle, Counts) else {}


def announce(oracle: Oracle, comparisons: Sequence[Comparison], say: Callable[[str], None]) -> None:
    """Show what the comparisons will cost at most, for each oracle inside that estimates, before anything is paid."""
    for inner, first in nested(oracle):
        if isinstance(inner, Estimates):
            say(f"{inner.identity[:60]}: {inner.estimate([*first, *comparisons])}")
