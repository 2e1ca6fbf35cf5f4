"""A negotiation over a few goods: two seats value them differently, make offers in turn, and accept or let it fail.

The third kind of game of SPIRAL (2506.24119), of our own making, and small enough to be solved exactly. Each seat knows
its own values alone, which chance draws so that all goods together are worth 1. An offer says what the mover takes; who
accepts gets the rest. A seat is paid its own share minus the other's (SPIRAL's winner is who gained more), and nobody
anything where the last offer is refused.

    Negotiation().legal((("3 1", "1 2"), ()))  ->  ("take 0 0", ..., "take 2 1")
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import product
from typing import NamedTuple

from pydantic import Field, field_validator

from sparring.environments.sequential import FIRST, SECOND, SequentialGame

ACCEPT, REFUSE = "accept", "refuse"
NUMBER = re.compile(r"\d+")


class Table(NamedTuple):
    """A negotiation as it stands."""

    values: tuple[tuple[int, ...], tuple[int, ...]]
    """what one piece of each good is worth to the first seat, and to the second"""
    moves: tuple[str, ...]


class Negotiation(SequentialGame):
    """Fields of the negotiation."""

    about = "a negotiation: two seats divide goods that they value differently, by offers in turn"

    goods: Mapping[str, int] = Field(default_factory=lambda: {"books": 2, "hats": 1})
    """how many there are of each"""
    kinds: Sequence[Sequence[int]] = ((1, 2), (2, 1), (1, 4))
    """what a seat's pieces may be worth, one of these for each seat, all pairs alike"""
    offers: int = Field(default=3, ge=2, le=6)
    """at most; after the last one accepts or refuses"""
    rules: bool = True
    """explain the game in every question; false: values and moves alone, an offer a word, for tiny models"""

    @field_validator("goods")
    @classmethod
    def _some_goods(cls, goods: Mapping[str, int]) -> Mapping[str, int]:
        if not goods or any(count < 1 for count in goods.values()):
            raise ValueError(f"environment.goods = {dict(goods)}: give goods, at least one of each.")
        return dict(goods)

    @field_validator("kinds")
    @classmethod
    def _worth_something(cls, kinds: Sequence[Sequence[int]]) -> tuple[tuple[int, ...], ...]:
        if not kinds or any(value < 0 for kind in kinds for value in kind) or any(sum(kind) < 1 for kind in kinds):
            raise ValueError(f"environment.kinds = {kinds}: give lists of values from 0 on, not all 0.")
        return tuple(tuple(kind) for kind in kinds)

    def starts(self) -> Sequence[tuple[float, Table]]:
        """All pairs of values.

        Raises:
            ValueError: there are not as many values as goods.
        """
        if any(len(kind) != len(self.goods) for kind in self.kinds):
            raise ValueError(f"environment.kinds = {self.kinds}: give one value for each of {list(self.goods)}.")
        pairs = [(tuple(a), tuple(b)) for a, b in product(self.kinds, repeat=2)]
        return [(1 / len(pairs), Table(pair, ())) for pair in pairs]

    def mover(self, state: Table) -> str | None:
        """The seats take turns until one accepts or refuses."""
        over = bool(state.moves) and state.moves[-1] in (ACCEPT, REFUSE)
        return None if over else (FIRST, SECOND)[len(state.moves) % 2]

    def observation(self, state: Table) -> str:
        """One's own values, and all offers."""
        own = state.values[len(state.moves) % 2]
        if not self.rules:
            return " ".join((*map(str, own), *state.moves))
        names = list(self.goods)
        pool = ", ".join(f"{count} {name}" for name, count in self.goods.items())
        worth = ", ".join(f"a piece of {name} {value}" for name, value in zip(names, own, strict=True))
        said = "; ".join(
            f"{'you' if (len(state.moves) - i) % 2 == 0 else 'the other'}: {move}" for i, move in enumerate(state.moves)
        )
        form = " ".join(f"<{name}>" for name in names)
        last = len(state.moves) == self.offers
        how = f"'{ACCEPT}' or '{REFUSE}'" if last else f"'take {form}' with the numbers that you want"
        accept = f", or with '{ACCEPT}'" if state.moves and not last else ""
        return (
            f"Two players divide {pool}. To you are worth: {worth}. The other values them differently. You want a "
            "larger share of your values than the other gets of its own; without an agreement nobody gets anything. "
            f"Offers so far: {said or 'none'}. Reply with {how}{accept}."
        )

    def legal(self, state: Table) -> Sequence[str]:
        """Offers, and to accept the one on the table; after the last offer to accept or refuse it."""
        if len(state.moves) == self.offers:
            return ACCEPT, REFUSE
        begin, between = ("take ", " ") if self.rules else ("", "-")
        counts = product(*(range(count + 1) for count in self.goods.values()))
        offers = tuple(begin + between.join(map(str, taken)) for taken in counts)
        return (ACCEPT, *offers) if state.moves else offers

    def after(self, state: Table, move: str) -> Table:
        """One move more."""
        return Table(state.values, (*state.moves, move))

    def returns(self, state: Table) -> Mapping[str, float]:
        """The own share of values minus the other's, after an agreement."""
        if state.moves[-1] == REFUSE:
            return {FIRST: 0.0, SECOND: 0.0}
        *_, offer, _ = state.moves
        proposer = len(state.moves) % 2  # of the last offer: the second seat's moves have odd places
        taken = [int(number) for number in NUMBER.findall(offer)]
        left = [n - k for n, k in zip(self.goods.values(), taken, strict=True)]
        shares = [self._share(state.values[seat], taken if seat == proposer else left) for seat in (0, 1)]
        return {FIRST: shares[0] - shares[1], SECOND: shares[1] - shares[0]}

    def _share(self, values: Sequence[int], pieces: Sequence[int]) -> float:
        worth = sum(v * k for v, k in zip(values, pieces, strict=True))
        return worth / sum(v * n for v, n in zip(values, self.goods.values(), strict=True))
