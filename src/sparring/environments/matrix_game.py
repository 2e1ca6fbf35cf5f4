"""Matrix games in words: rock-paper-scissors and matching pennies, both seats moving at once.

Every reply of a seat meets every reply of the other, so a task of K replies each is K x K games.

    MatrixGame(game="matching_pennies").moves  ->  ("heads", "tails")
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Float

from sparring.environments.environment import Ask, Environment, Outcome, Play, Task
from sparring.environments.sequential import FIRST, ILLEGAL, SECOND, read_move

PAYOFFS: Mapping[str, Mapping[str, Mapping[str, float]]] = {
    "rock_paper_scissors": {
        "rock": {"rock": 0.0, "paper": -1.0, "scissors": 1.0},
        "paper": {"rock": 1.0, "paper": 0.0, "scissors": -1.0},
        "scissors": {"rock": -1.0, "paper": 1.0, "scissors": 0.0},
    },
    "matching_pennies": {"heads": {"heads": 1.0, "tails": -1.0}, "tails": {"heads": -1.0, "tails": 1.0}},
}
"""what the first seat gets, by its move and the second's"""


class MatrixGame(Environment):
    """Fields of a matrix game."""

    about = "a matrix game: both seats name a move at once"
    roles = (FIRST, SECOND)
    zero_sum: ClassVar[bool] = True

    game: Literal["rock_paper_scissors", "matching_pennies"] = "rock_paper_scissors"
    """which"""
    rules: bool = True
    """explain the game in every question; false: only the seat, for tiny models"""

    @property
    def moves(self) -> tuple[str, ...]:
        """The moves of either seat."""
        return tuple(PAYOFFS[self.game])

    def payoffs(self) -> Float[np.ndarray, "n n"]:
        """n x n: what the first seat gets, by its move and the second's."""
        return np.array([list(row.values()) for row in PAYOFFS[self.game].values()])

    def question(self, role: str) -> str:
        """What a seat is told."""
        if not self.rules:
            return role
        name = self.game.replace("_", " ")
        return f"We play {name}. You are the {role} player. Reply with one word: {', '.join(self.moves)}."

    def play(self, task: Task, seed: int) -> Play:
        """All replies of the seats against each other."""
        asks = [Ask(role, [{"role": "user", "content": self.question(role)}]) for role in self.roles]
        first, second = yield asks
        ours, theirs = ([read_move(reply.text, self.moves) for reply in replies] for replies in (first, second))
        table = [[self._pays(a, b) for b in theirs] for a in ours]
        rows = [_outcome(move, row) for move, row in zip(ours, table, strict=True)]
        turned = [[-payoff for payoff in column] for column in zip(*table, strict=True)]
        columns = [_outcome(move, column) for move, column in zip(theirs, turned, strict=True)]
        return [rows, columns]

    def _pays(self, ours: str | None, theirs: str | None) -> float:
        """What the first seat gets; a reply that is no move loses, and two of them are a draw."""
        if ours is None or theirs is None:
            return float(ours is not None) - float(theirs is not None)
        return PAYOFFS[self.game][ours][theirs]


def _outcome(move: str | None, payoffs: Sequence[float]) -> Outcome:
    return Outcome(sum(payoffs) / len(payoffs), ILLEGAL if move is None else "")
