"""Tic-tac-toe: a draw between players who make no mistake.

TicTacToe().legal("." * 9)  ->  ("1", ..., "9")
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sparring.environments.sequential import FIRST, SECOND, SequentialGame

LINES = ((0, 1, 2), (3, 4, 5), (6, 7, 8), (0, 3, 6), (1, 4, 7), (2, 5, 8), (0, 4, 8), (2, 4, 6))
FREE = "."


class TicTacToe(SequentialGame):
    """Fields of tic-tac-toe; a state is the board as nine characters."""

    about = "tic-tac-toe: the first seat plays x, the second o; three in a row win"

    rules: bool = True
    """explain the game in every question; false: only the board, for tiny models"""

    def starts(self) -> Sequence[tuple[float, str]]:
        """The empty board."""
        return [(1.0, FREE * 9)]

    def mover(self, state: str) -> str | None:
        """The seats take turns until somebody has won or the board is full."""
        if _winner(state) or FREE not in state:
            return None
        return (FIRST, SECOND)[(9 - state.count(FREE)) % 2]

    def observation(self, state: str) -> str:
        """The board."""
        board = "\n".join(" ".join(state[row : row + 3]) for row in (0, 3, 6))
        if not self.rules:
            return board
        mark = "x" if self.mover(state) == FIRST else "o"
        return (
            f"We play tic-tac-toe. You play {mark}. The squares are numbered 1 to 9, row by row; '.' is a free one."
            f"\n{board}\nReply with the number of a free square."
        )

    def legal(self, state: str) -> Sequence[str]:
        """The free squares' numbers."""
        return tuple(str(i + 1) for i, mark in enumerate(state) if mark == FREE)

    def after(self, state: str, move: str) -> str:
        """The mover's mark on a square."""
        place, mark = int(move) - 1, "x" if self.mover(state) == FIRST else "o"
        return state[:place] + mark + state[place + 1 :]

    def returns(self, state: str) -> Mapping[str, float]:
        """1 for the winner, -1 for the loser, 0 for both in a draw."""
        score = {"x": 1.0, "o": -1.0, None: 0.0}[_winner(state)]
        return {FIRST: score, SECOND: -score}


def _winner(board: str) -> str | None:
    return next((board[a] for a, b, c in LINES if board[a] != FREE and board[a] == board[b] == board[c]), None)
