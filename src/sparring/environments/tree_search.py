"""UCT over a solved or unsolved game whose moves are proposed and whose positions are valued by somebody (2403.05632).

At a new position the guide names k promising moves (the pruner) and says what the position is worth (the critic) in
place of a rollout; UCT picks the way down, values are backed up, and the most visited move is played. Deterministic
games of two seats with perfect information and opposite pay-offs. Leaves out: who the guide is (`searched_game.py`: a
language model; `certificates/claims/tree_search.py`: one of known errors), rollouts, priors.

    root = run_search(TicTacToe(), "." * 9, guide, simulations=100)
    root.most_visited  ->  "5"
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
from functools import cache
from typing import Any, NamedTuple

from sparring.environments.sequential import SequentialGame

EXPLORATION = math.sqrt(2.0)
"""UCT's constant for values from -1 to 1"""


class Estimate(NamedTuple):
    """What a guide says of a position."""

    moves: Sequence[str]
    """legal moves worth a look, each once; the others are not searched"""
    value: float
    """of the position to the seat that moves, from -1 to 1"""


Guide = Callable[[Any], Estimate]
Search = Generator[Any, Estimate, "Node"]
"""yields positions, receives their estimates, returns the root"""


class Node:
    """A position in the tree."""

    def __init__(self, game: SequentialGame, state: Any) -> None:
        self.state, self.mover = state, game.mover(state)
        self.visits = 0
        self.total = 0.0
        """of the values seen below, to the first seat"""
        self.children: dict[str, Node] = {}

    @property
    def sign(self) -> float:
        """Turns a value to the first seat into one to the mover."""
        return 1.0 if self.mover == "first" else -1.0

    @property
    def value(self) -> float:
        """The mean value to the seat that moves."""
        return self.sign * self.total / self.visits if self.visits else 0.0

    def value_of(self, move: str) -> float:
        """The mean value of a move to the seat that makes it; 0 if it was never tried."""
        child = self.children[move]
        return self.sign * child.total / child.visits if child.visits else 0.0

    @property
    def most_visited(self) -> str:
        """The move that search plays; of equals the one of the higher value, then the one named first."""
        return max(self.children, key=lambda move: (self.children[move].visits, self.value_of(move)))

    @property
    def worst(self) -> str:
        """The tried move of the lowest value; of equals the least visited."""
        tried = [move for move, child in self.children.items() if child.visits]
        return min(tried or self.children, key=lambda move: (self.value_of(move), self.children[move].visits))

    def choose(self, exploration: float) -> Node:
        """UCT's choice: untried moves first, in the order in which they were named."""
        log = math.log(max(1, self.visits))

        def bound(move: str) -> float:
            tries = self.children[move].visits
            return self.value_of(move) + exploration * math.sqrt(log / tries) if tries else math.inf

        return self.children[max(self.children, key=bound)]


def search(game: SequentialGame, state: Any, simulations: int, exploration: float = EXPLORATION) -> Search:
    """The tree after so many simulations beside the root's own estimate."""
    root = Node(game, state)
    for _ in range(simulations + 1):
        path = [root]
        while path[-1].children:
            path.append(path[-1].choose(exploration))
        leaf = path[-1]
        if leaf.mover is None:
            value = game.returns(leaf.state)["first"] / game.rewards[1]
        else:
            estimate = yield leaf.state
            value = leaf.sign * estimate.value
            leaf.children = {move: Node(game, game.after(leaf.state, move)) for move in estimate.moves}
        for node in path:
            node.visits += 1
            node.total += value
    return root


def run_search(
    game: SequentialGame, state: Any, guide: Guide, simulations: int, exploration: float = EXPLORATION
) -> Node:
    """The same with a guide that is a function."""
    tree = search(game, state, simulations, exploration)
    try:
        asked = next(tree)
        while True:
            asked = tree.send(guide(asked))
    except StopIteration as stop:
        return stop.value


def solved(game: SequentialGame, moves: Callable[[Any], Sequence[str]] | None = None) -> Callable[[Any], float]:
    """The exact value of a position to the seat that moves, from -1 to 1; of the game in which only `moves` are made.

    At the end it is the value to the first seat.
    """
    allowed = moves or game.legal

    @cache
    def to_first(state: Any) -> float:
        mover = game.mover(state)
        if mover is None:
            return game.returns(state)["first"] / game.rewards[1]
        return (max if mover == "first" else min)(to_first(game.after(state, move)) for move in allowed(state))

    return lambda state: to_first(state) * (-1.0 if game.mover(state) == "second" else 1.0)


def loss_of(game: SequentialGame, value: Callable[[Any], float], state: Any, move: str) -> float:
    """How much of the position's exact value a move gives away, from 0 to 2."""
    after = game.after(state, move)
    sign = 1.0 if game.mover(after) in (None, "first") else -1.0
    to_first = sign * value(after)
    return value(state) - (to_first if game.mover(state) == "first" else -to_first)


def refuse_unsearchable(game: SequentialGame) -> None:
    """Raise a ValueError where chance or hidden cards would make the tree another game."""
    low, high = game.rewards
    if len(game.starts()) > 1 or low != -high:
        raise ValueError(
            f"environment.game: {type(game).__name__} begins by chance, hides something, or its pay-offs are not "
            "opposite. Search plays games of perfect information without chance, such as tic_tac_toe."
        )
