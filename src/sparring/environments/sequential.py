"""Games of two seats that move in turn, with chance at the start: how they are played in words, and solved exactly.

A subclass says who moves, what the mover sees, which moves are legal and what the end pays. The same rules then serve
language models (`play`) and exact best responses (`exploitability`). A reply that is no legal move forfeits the game,
and is counted as illegal. Leaves out: simultaneous moves (`matrix_game.py`).

    exploitability(KuhnPoker(), uniform)  ->  Gaps(first=0.5, second=0.41...)
"""

from __future__ import annotations

import math
import random
import re
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, ClassVar, NamedTuple

from pydantic import Field

from sparring.environments.environment import Ask, Environment, Line, Message, Outcome, Play, Task, after_examples

State = Hashable
FIRST, SECOND = "first", "second"
ILLEGAL = "illegal"
MOST_STATES = 1_000_000
"""of a game that is solved exactly"""
BRACKETS = re.compile(r"\[([^\[\]]*)\]")


class SequentialGame(Environment):
    """Two seats in turn; a state is any hashable value."""

    roles = (FIRST, SECOND)
    zero_sum: ClassVar[bool] = True

    examples: int = Field(default=0, ge=0, le=8)
    """positions of random play, each with a random move, shown before a question: the form of a move, not its worth"""
    list_moves: bool = False
    """name the legal moves at the end of a question"""

    def starts(self) -> Sequence[tuple[float, State]]:
        """The states that chance may begin with, with their probabilities."""
        raise NotImplementedError

    def mover(self, state: Any) -> str | None:
        """The seat whose turn it is; None at the end."""
        raise NotImplementedError

    def observation(self, state: Any) -> str:
        """What the mover is told; equal for all states that it cannot tell apart."""
        raise NotImplementedError

    def legal(self, state: Any) -> Sequence[str]:
        """The mover's moves."""
        raise NotImplementedError

    def after(self, state: Any, move: str) -> State:
        """The state after a legal move."""
        raise NotImplementedError

    def returns(self, state: Any) -> Mapping[str, float]:
        """At the end, what each seat gets."""
        raise NotImplementedError

    def play(self, task: Task, seed: int) -> Play:
        """One game; every move of a seat gets what the seat gets in the end."""
        chances, states = zip(*self.starts(), strict=True)
        state = random.Random(seed).choices(states, chances)[0]
        movers: list[str] = []
        while (role := self.mover(state)) is not None:
            ((reply,),) = yield [Ask(role, self.question(state), 1)]
            movers.append(role)
            move = read_move(reply.text, self.legal(state))
            if move is None:
                return self._forfeited(movers)
            state = self.after(state, move)
        returns = self.returns(state)
        return [[Outcome(returns[role])] for role in movers]

    def measure(self, episodes: Sequence[Sequence[Line]]) -> dict[str, float]:
        """Shares of games that each seat won, and that an illegal reply ended."""
        ends = [(mover, paid or 0.0, kind) for mover, _, paid, kind in (episode[-1] for episode in episodes)]
        roles = self.roles if self.zero_sum else ()  # else the last mover's pay says nothing of the other's
        shares = {
            f"games won by {role}": [(paid if mover == role else -paid) > 0 for mover, paid, _ in ends]
            for role in roles
        }
        shares["games ended by an illegal reply"] = [kind == ILLEGAL for *_, kind in ends]
        return {name: sum(values) / len(values) for name, values in shares.items() if values}

    def question(self, state: Any) -> list[Message]:
        """What the mover is asked: what it is told, after examples where there are any.

        Examples depend on what the mover is told alone, so that positions it cannot tell apart stay one prompt.
        """
        rng = random.Random(f"examples of {self.observation(state)}")
        shown = (rng.choice(random_game(self, rng)[0]) for _ in range(self.examples))
        return after_examples(self._asked(state), *((self._asked(before), move) for before, move in shown))

    def _asked(self, state: Any) -> str:
        told = self.observation(state)
        return f"{told}\nYour moves: {', '.join(self.legal(state))}" if self.list_moves else told

    def _forfeited(self, movers: Sequence[str]) -> list[list[Outcome]]:
        """The last mover's reply was no legal move: it loses as much as the game can cost."""
        low, high = self.rewards
        *before, last = movers
        return [*([Outcome(low if role == last else high)] for role in before), [Outcome(low, ILLEGAL)]]


def random_game(game: SequentialGame, rng: random.Random) -> tuple[list[tuple[State, str]], Mapping[str, float]]:
    """A game of random legal moves: each position with the move made there, and what the end pays."""
    chances, states = zip(*game.starts(), strict=True)
    (state,), made = rng.choices(states, chances), []
    while game.mover(state) is not None:
        made.append((state, rng.choice(game.legal(state))))
        state = game.after(*made[-1])
    return made, game.returns(state)


def read_move(text: str, legal: Sequence[str]) -> str | None:
    """The legal move that a reply is, or that it last names in square brackets; None where there is none."""
    bracketed = BRACKETS.findall(text)
    said = (bracketed[-1] if bracketed else text).strip(" \n\t.!\"'").casefold()
    return next((move for move in legal if move.casefold() == said), None)


Policy = Callable[[str, str, Sequence[str]], Sequence[float]]
"""seat, observation and legal moves to the moves' probabilities"""


def uniform(role: str, observation: str, legal: Sequence[str]) -> list[float]:
    """Every legal move alike."""
    return [1.0 / len(legal)] * len(legal)


def observations(game: SequentialGame) -> dict[tuple[str, str], tuple[str, ...]]:
    """The legal moves by seat and observation, over the whole game, which must be one that can be solved exactly.

    Raises:
        ValueError: chances at the start that do not add up to 1; a mover who is no seat or has no moves; an observation
            with two sets of moves; an end that does not pay both seats; a game that comes back to a state, or has too
            many.
    """
    name, starts = type(game).__name__, game.starts()
    chances = [chance for chance, _ in starts]
    if not all(chance >= 0 for chance in chances) or not math.isclose(math.fsum(chances), 1.0, abs_tol=1e-9):
        raise ValueError(f"game {name}: starts() gives the chances {chances!r:.80}. Let them add up to 1.")
    told: dict[tuple[str, str], tuple[str, ...]] = {}
    done: set[State] = set()
    path: dict[State, Iterator[str]] = {}
    """the states on the way to the one that is looked at, each with its moves that are left"""
    for _, start in starts:
        open_states = [start]
        while open_states or path:
            if open_states:
                state = open_states.pop()
                if state in path:
                    raise ValueError(f"game {name}: it comes back to the state {state!r:.80}. Let every game end.")
                if state in done:
                    continue
                if len(done) + len(path) >= MOST_STATES:
                    raise ValueError(f"game {name}: over {MOST_STATES:,} states, or it never ends. Make it smaller.")
                path[state] = iter(_checked_moves(game, state, told))
            else:
                state, moves = next(reversed(path.items()))
                move = next(moves, None)
                if move is None:
                    del path[state]
                    done.add(state)
                else:
                    open_states.append(game.after(state, move))
    return told


def _checked_moves(game: SequentialGame, state: Any, told: dict[tuple[str, str], tuple[str, ...]]) -> Sequence[str]:
    """A state's moves, none at an end; `told` gets the moves of each observation."""
    where, role = f"game {type(game).__name__}, state {state!r:.80}", game.mover(state)
    if role is None:
        returns = game.returns(state)
        if not all(isinstance(returns.get(seat), float | int) and math.isfinite(returns[seat]) for seat in game.roles):
            raise ValueError(f"{where}: returns() gives {dict(returns)!r:.80}. Give a number for each of {game.roles}.")
        return ()
    if role not in game.roles:
        raise ValueError(f"{where}: mover() gives {role!r}. Give one of {game.roles}, or None at the end.")
    legal, observation = game.legal(state), game.observation(state)
    if not legal:
        raise ValueError(f"{where}: legal() gives no move. Let mover() be None where the game ends.")
    if set(told.setdefault((role, observation), tuple(legal))) != set(legal):
        raise ValueError(
            f"{where}: its moves are {list(legal)}, and those of another state that the seat {role!r} cannot tell from "
            f"it are {sorted(told[role, observation])}. Let observation() say what differs."
        )
    return legal


def value(game: SequentialGame, policy: Policy, role: str) -> float:
    """What a seat gets on average when both play `policy`."""

    @cache
    def of(state: State) -> float:
        mover = game.mover(state)
        if mover is None:
            return game.returns(state)[role]
        legal = game.legal(state)
        chances = policy(mover, game.observation(state), legal)
        return sum(p * of(game.after(state, move)) for p, move in zip(chances, legal, strict=True))

    return sum(chance * of(state) for chance, state in game.starts())


def best_response_value(game: SequentialGame, policy: Policy, role: str) -> float:
    """What a seat gets at most against `policy` in the other seat; exact for players who forget nothing."""
    reached = _reached(game, policy, role)

    @cache
    def of(state: State) -> float:
        mover = game.mover(state)
        if mover is None:
            return game.returns(state)[role]
        told, legal = game.observation(state), game.legal(state)
        if mover == role:
            return of(game.after(state, best(told)))
        chances = policy(mover, told, legal)
        return sum(p * of(game.after(state, move)) for p, move in zip(chances, legal, strict=True) if p > 0)

    @cache
    def best(told: str) -> str:
        states = reached[told]
        legal = game.legal(next(iter(states)))
        return max(legal, key=lambda move: sum(p * of(game.after(state, move)) for state, p in states.items()))

    return sum(chance * of(state) for chance, state in game.starts())


def _reached(game: SequentialGame, policy: Policy, role: str) -> defaultdict[str, defaultdict[State, float]]:
    """By what the seat is told, the states in which it moves and the chance that all others let it get there."""
    reached: defaultdict[str, defaultdict[State, float]] = defaultdict(lambda: defaultdict(float))
    layer: Mapping[State, float] = {state: chance for chance, state in game.starts()}
    while layer:
        below: defaultdict[State, float] = defaultdict(float)
        for state, chance in layer.items():
            mover = game.mover(state)
            if mover is None:
                continue
            legal, told = game.legal(state), game.observation(state)
            if mover == role:
                reached[told][state] += chance
            chances = [1.0] * len(legal) if mover == role else policy(mover, told, legal)
            for p, move in zip(chances, legal, strict=True):
                if p > 0:
                    below[game.after(state, move)] += chance * p
        layer = below
    return reached


class Gaps(NamedTuple):
    """What each seat would gain by its best response; both are 0 at an equilibrium."""

    first: float
    second: float

    @property
    def exploitability(self) -> float:
        """Their mean, as OpenSpiel defines it; their sum is NashConv."""
        return (self.first + self.second) / 2


def exploitability(game: SequentialGame, policy: Policy) -> Gaps:
    """How far a policy in both seats is from an equilibrium."""
    gains = (best_response_value(game, policy, role) - value(game, policy, role) for role in game.roles)
    return Gaps(*gains)
