"""Kuhn poker: three cards, one each, one bet. Worth -1/18 to the first seat; a family of equilibria is known.

KuhnPoker().starts()[0]  ->  (1/6, (("J", "Q"), ()))
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import permutations
from typing import ClassVar

from pydantic import Field

from sparring.environments.sequential import FIRST, SECOND, SequentialGame

CARDS = ("J", "Q", "K")
PASS, BET = "pass", "bet"
Cards = tuple[str, str]
Moves = tuple[str, ...]
ENDS = {(PASS, PASS): 1.0, (BET, PASS): 1.0, (PASS, BET, PASS): 1.0, (BET, BET): 2.0, (PASS, BET, BET): 2.0}
"""finished games and their stakes"""


class KuhnPoker(SequentialGame):
    """Fields of Kuhn poker."""

    about = "Kuhn poker: each seat has one of three cards, passes or bets, and the higher card wins the stakes"
    rewards: ClassVar = (-2.0, 2.0)

    rules: bool = Field(default=True)
    """explain the game in every question; false: only card and moves, for tiny models"""

    def starts(self) -> Sequence[tuple[float, tuple[Cards, Moves]]]:
        """Six deals, all as likely."""
        return [(1 / 6, (cards, ())) for cards in permutations(CARDS, 2)]

    def mover(self, state: tuple[Cards, Moves]) -> str | None:
        """The seats take turns."""
        moves = state[1]
        return None if moves in ENDS else (FIRST, SECOND)[len(moves) % 2]

    def observation(self, state: tuple[Cards, Moves]) -> str:
        """One's own card, and all moves."""
        cards, moves = state
        card = cards[len(moves) % 2]
        if not self.rules:
            return " ".join((card, *moves))
        return (
            "We play Kuhn poker with the cards J, Q and K (K is the highest). Each of two players has put 1 chip into "
            f"the pot and holds one card. You are the {self.mover(state)} player and hold the {card}. Moves so far: "
            f"{', '.join(moves) or 'none'}. A bet costs 1 chip; to pass after a bet gives up the pot. Reply with one "
            "word, bet or pass."
        )

    def legal(self, state: tuple[Cards, Moves]) -> Sequence[str]:
        """Always the same two."""
        return PASS, BET

    def after(self, state: tuple[Cards, Moves], move: str) -> tuple[Cards, Moves]:
        """The same cards, one move more."""
        return state[0], (*state[1], move)

    def returns(self, state: tuple[Cards, Moves]) -> Mapping[str, float]:
        """Who passed after a bet loses; else the higher card wins."""
        cards, moves = state
        if moves[-1] == PASS and BET in moves:
            won = len(moves) % 2 == 0  # the last mover gave up: the second after two moves, the first after three
        else:
            won = CARDS.index(cards[0]) > CARDS.index(cards[1])
        stakes = ENDS[moves] if won else -ENDS[moves]
        return {FIRST: stakes, SECOND: -stakes}
