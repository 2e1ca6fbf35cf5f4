"""A language model that searches (2403.05632): it proposes moves and values positions, UCT improves on both.

`SearchedPosition` searches from one position: replies that name the most visited move get +1, those that name the
worst -1, illegal ones -1, and others are not trained on, so that any loss for pairs learns what search found out. The
paper does not train; this is the step of expert iteration that its search offers. A valuer's reply gets 1 - |said -
found|. `SearchOpponent` is a whole game of a player against a search whose proposer and valuer are other policies
(`partners`). Positions are examined by the exact loss of the moves, by the model alone and by its search. Leaves out:
games with chance or hidden cards, proposals with probabilities.

    SearchedPosition(simulations=8).play(Task("a", ""), seed=0)
"""

from __future__ import annotations

import random
import re
from collections.abc import Generator, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

from pydantic import Field, field_validator

from sparring.environments.environment import (
    Ask,
    Environment,
    Line,
    Outcome,
    Play,
    Replies,
    Reply,
    Task,
    after_examples,
    build_environment,
)
from sparring.environments.sequential import FIRST, ILLEGAL, SECOND, SequentialGame, random_game, read_move
from sparring.environments.tree_search import EXPLORATION, Estimate, Node, loss_of, refuse_unsearchable, search, solved

PROPOSER, VALUER, PLAYER = "proposer", "valuer", "player"
UNREADABLE, NO_PROPOSAL = "unreadable", "no legal proposal, so that all moves are searched"
SEARCHED = "search loses "
"""before the exact loss of the move that search plays, as the kind of an examined proposal"""
WORDS = {"win": 1.0, "draw": 0.0, "lose": -1.0}
VALUE = re.compile(r"\b(win|draw|lose)\b")


class Asked(NamedTuple):
    """A position that search asked about, and the replies."""

    state: Any
    proposals: Sequence[str | None]
    """legal moves; None: it was none"""
    values: Sequence[float | None]


class Searching(Environment):
    """Fields of both environments."""

    about = "a proposer names moves, a valuer values positions, and UCT searches with them"
    roles = (PROPOSER, VALUER)
    most_waves: ClassVar[int] = 1024

    game: Mapping[str, Any] = Field(default_factory=lambda: {"name": "tic_tac_toe"})
    """an environment section: a game in turns without chance or hidden cards"""
    simulations: int = Field(default=8, ge=1, le=256)
    """of a search; each may ask once, for moves and value of one new position"""
    proposals: int = Field(default=4, ge=1, le=16)
    """k, replies of the proposer to a position"""
    valuations: int = Field(default=1, ge=1, le=8)
    """replies of the valuer to a position, whose mean counts"""
    exploration: float = Field(default=EXPLORATION, ge=0)
    """UCT's constant, for values from -1 to 1"""

    @field_validator("game")
    @classmethod
    def _searchable(cls, section: Mapping[str, Any]) -> Mapping[str, Any]:
        game = build_environment(section)
        if not isinstance(game, SequentialGame):
            raise ValueError(f"environment.game: {section['name']!r} is no game in turns. Give one, as tic_tac_toe.")
        refuse_unsearchable(game)
        return dict(section)

    @property
    def inner(self) -> Sequence[Environment]:
        """The game."""
        return (self.board,)

    @cached_property
    def board(self) -> SequentialGame:
        """The game."""
        game = build_environment(self.game)
        assert isinstance(game, SequentialGame)
        return game

    def _search(self, state: Any) -> Generator[list[Ask], Replies, tuple[Node, list[Asked]]]:
        """A search, and what it asked, in order; a position that came up before is not asked again."""
        tree, asked = search(self.board, state, self.simulations, self.exploration), {}
        try:
            wanted = next(tree)
            while True:
                if wanted not in asked:
                    proposed, valued = yield self._asks(wanted)
                    legal = self.board.legal(wanted)
                    moves = [read_move(reply.text, legal) for reply in proposed]
                    asked[wanted] = Asked(wanted, moves, [read_value(reply) for reply in valued])
                wanted = tree.send(self._estimate(asked[wanted]))
        except StopIteration as stop:
            return stop.value, [*asked.values()]

    def _asks(self, state: Any) -> list[Ask]:
        value = after_examples(self._value_of(state), *self._valued(state))
        return [Ask(PROPOSER, self.board.question(state), self.proposals), Ask(VALUER, value, self.valuations)]

    def _value_of(self, state: Any) -> str:
        told = self.board.observation(state)
        return f"{told}\n\nDo not move. If nobody makes a mistake, will you win, draw or lose? Reply with one word."

    def _valued(self, state: Any) -> Iterator[tuple[str, str]]:
        """As many examples as the game shows of its moves: positions of random games with how those went on."""
        rng = random.Random(f"values beside {state}")
        for _ in range(self.board.examples):
            made, paid = random_game(self.board, rng)
            before, _ = rng.choice(made)
            worth = paid[self.board.mover(before) or FIRST] / self.board.rewards[1]
            yield self._value_of(before), ("lose", "draw", "win")[round(worth) + 1]

    def _estimate(self, asked: Asked) -> Estimate:
        moves = [*dict.fromkeys(move for move in asked.proposals if move is not None)]
        values = [value for value in asked.values if value is not None]
        mean = sum(values) / len(values) if values else 0.0
        return Estimate(moves or self.board.legal(asked.state), mean)


class SearchedPosition(Searching):
    """A search from one position, drawn by random legal moves."""

    about = "search from a position: its most visited move against its worst is what the proposer learns"

    opening: int = Field(default=5, ge=0)
    """at most so many random moves lead to the position"""

    def play(self, task: Task, seed: int) -> Play:
        """Search, and rewards by what it found at its root."""
        root, asked = yield from self._search(self._position(random.Random(seed)))
        best, worst = root.most_visited, root.worst

        def proposed(move: str | None) -> Outcome:
            if move is None:
                return Outcome(-1.0, ILLEGAL)
            return Outcome({best: 1.0, worst: -1.0}.get(move) if best != worst else None)

        def valued(value: float | None) -> Outcome:
            return Outcome(-1.0, UNREADABLE) if value is None else Outcome(1.0 - abs(value - root.value))

        return _outcomes(asked, [proposed(move) for move in asked[0].proposals], [valued(v) for v in asked[0].values])

    def examine(self, task: Task, seed: int) -> Play:
        """The same search; proposals get 1 minus the exact loss of their move, and the first says what search loses."""
        state, value = self._position(random.Random(seed)), solved(self.board)
        root, asked = yield from self._search(state)
        moves = asked[0].proposals
        rewards = [-1.0 if move is None else 1.0 - loss_of(self.board, value, state, move) for move in moves]
        lost = loss_of(self.board, value, state, root.most_visited)
        kinds = [f"{SEARCHED}{lost:g}", *("" if move else ILLEGAL for move in moves[1:])]
        exact = value(state)
        valued = [Outcome(-1.0, UNREADABLE) if v is None else Outcome(1.0 - abs(v - exact)) for v in asked[0].values]
        return _outcomes(asked, [*map(Outcome, rewards, kinds)], valued)

    def measure(self, episodes: Sequence[Sequence[Line]]) -> dict[str, float]:
        """The mean exact loss of a proposed move, an illegal one counting as 2, and of the move that search plays."""
        lines = [line for episode in episodes for line in episode if line[0] == PROPOSER and line[2] is not None]
        alone = [1.0 - reward for _, _, reward, _ in lines if reward is not None]
        searched = [float(kind.removeprefix(SEARCHED)) for *_, kind in lines if kind.startswith(SEARCHED)]
        named = {"suboptimality, model alone": alone, f"suboptimality, {self.simulations} simulations": searched}
        return {name: sum(values) / len(values) for name, values in named.items() if values}

    def _position(self, rng: random.Random) -> Any:
        """After random legal moves; the last position before the end, where they would end the game."""
        ((_, state),) = self.board.starts()
        for _ in range(rng.randint(0, self.opening)):
            after = self.board.after(state, rng.choice(self.board.legal(state)))
            if self.board.mover(after) is None:
                break
            state = after
        return state


class SearchOpponent(Searching):
    """A whole game against a search."""

    about = "a player meets an opponent that searches with the moves and values of other policies"
    roles = (PLAYER, PROPOSER, VALUER)

    def play(self, task: Task, seed: int) -> Play:
        """The player takes the first seat in one half of the games."""
        game, seat = self.board, random.Random(seed).choice((FIRST, SECOND))
        ((_, state),) = game.starts()
        outcomes: list[Sequence[Outcome]] = []
        moved: list[int] = []
        while (mover := game.mover(state)) is not None:
            if mover != seat:
                root, asked = yield from self._search(state)
                outcomes += _outcomes(asked, None, None)
                state = game.after(state, root.most_visited)
                continue
            ((reply,),) = yield [Ask(PLAYER, game.question(state), 1)]
            moved.append(len(outcomes))
            outcomes.append([])
            move = read_move(reply.text, game.legal(state))
            if move is None:
                return _ended(outcomes, moved, -1.0, ILLEGAL)
            state = game.after(state, move)
        return _ended(outcomes, moved, game.returns(state)[seat] / game.rewards[1], "")

    def measure(self, episodes: Sequence[Sequence[Line]]) -> dict[str, float]:
        """The player's shares of won, drawn and lost games."""
        last = [[reward for role, _, reward, _ in episode if role == PLAYER][-1] for episode in episodes]
        ends = {"won": 1.0, "drawn": 0.0, "lost": -1.0}
        return {name: sum(reward == end for reward in last) / len(last) for name, end in ends.items() if last}


def read_value(reply: Reply) -> float | None:
    """The only one of win, draw and lose that a reply names."""
    said = set(VALUE.findall(reply.text.lower()))
    return WORDS[said.pop()] if len(said) == 1 else None


def _outcomes(
    asked: Sequence[Asked], proposed: Sequence[Outcome] | None, valued: Sequence[Outcome] | None
) -> list[Sequence[Outcome]]:
    """By question; only the root's replies may have a reward, what went wrong is counted everywhere."""
    outcomes: list[Sequence[Outcome]] = []
    for place, one in enumerate(asked):
        moves = [Outcome(None, ILLEGAL if move is None else "") for move in one.proposals]
        if not any(one.proposals):
            moves[0] = Outcome(None, NO_PROPOSAL)
        values = [Outcome(None, UNREADABLE if value is None else "") for value in one.values]
        outcomes += [proposed or moves, valued or values] if place == 0 else [moves, values]
    return outcomes


def _ended(
    outcomes: list[Sequence[Outcome]], moved: Sequence[int], reward: float, kind: str
) -> list[Sequence[Outcome]]:
    """The player's moves get what the game paid; the last one its kind."""
    for place in moved:
        outcomes[place] = [Outcome(reward, kind if place == moved[-1] else "")]
    return outcomes
