"""TextArena's games of two players (PyPI `textarena`), as SPIRAL (2506.24119) plays them.

The package keeps the rules, the texts and the rewards; this asks whose turn it is, counts moves that the game calls
invalid, and ends games that go on too long, which pay nobody. TextArena draws from Python's global random numbers: each
game gets a state of its own, so that an episode depends on its seed alone. Leaves out: games of one or of more than two
players, rewards outside -1 to 1, games that draw from anything else than `random`.

    TextArena(game="TicTacToe-v0").play(Task("a", ""), seed=0)
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

from pydantic import Field, field_validator

from sparring.environments.environment import Ask, Environment, Outcome, Play, Task
from sparring.environments.sequential import FIRST, ILLEGAL, SECOND

UNFINISHED = "unfinished"
PLAYERS = (FIRST, SECOND)


class TextArena(Environment):
    """Fields of a game of TextArena."""

    about = "a game of two players from TextArena"
    roles = PLAYERS
    most_waves: ClassVar[int] = 512

    game: str = "TicTacToe-v0"
    """its name in TextArena"""
    turns: int = Field(default=40, ge=1, le=500)
    """moves after which a game ends as unfinished, with 0 for both"""

    @field_validator("game")
    @classmethod
    def _known(cls, game: str) -> str:
        known = _textarena().envs.registration.ENV_REGISTRY
        if game not in known:
            near = [name for name in known if name.split("-")[0].lower() == game.split("-")[0].lower()]
            raise ValueError(
                f"environment.game: TextArena has no {game!r}. {f'It has {near}.' if near else ''}".strip()
            )
        return game

    @property
    def packages(self) -> Sequence[str]:
        """TextArena, which keeps rules, texts and rewards."""
        return ("textarena",)

    def play(self, task: Task, seed: int) -> Play:
        """One game."""
        arena, chance = _textarena().make(self.game), Chance(seed)
        with chance.drawn():
            arena.reset(num_players=2, seed=seed)
        movers: list[int] = []
        kinds: list[str] = []
        done = False
        while not done and len(movers) < self.turns:
            with chance.drawn():
                player, told = arena.get_observation()
            ((reply,),) = yield [Ask(PLAYERS[player], [{"role": "user", "content": str(told)}], 1)]
            errors = _errors(arena)
            with chance.drawn():
                done, _ = arena.step(action=reply.text)
            movers.append(player)
            kinds.append(ILLEGAL if _errors(arena) > errors or _forfeited(arena, player) else "")
        with chance.drawn():
            rewards, _ = arena.close()
        if not done or rewards is None:
            return [[Outcome(0.0, kind or UNFINISHED)] for kind in kinds]
        return [[Outcome(float(rewards[player]), kind)] for player, kind in zip(movers, kinds, strict=True)]


class Chance:
    """The global random numbers of one game, which others do not disturb."""

    def __init__(self, seed: int) -> None:
        self._state = random.Random(seed).getstate()

    @contextmanager
    def drawn(self) -> Iterator[None]:
        """Inside, `random` draws this game's numbers."""
        outer = random.getstate()
        random.setstate(self._state)
        try:
            yield
        finally:
            self._state = random.getstate()
            random.setstate(outer)


def _errors(arena: Any) -> int:
    """Invalid moves of the player whose turn it is that the game let pass."""
    return getattr(arena.state, "error_count", 0)


def _forfeited(arena: Any, player: int) -> bool:
    return bool(arena.state.game_info[player].get("invalid_move"))


def _textarena() -> Any:
    try:
        import textarena  # type: ignore[import-not-found]
        import textarena.envs.registration  # type: ignore[import-not-found]
    except ImportError as error:
        raise ValueError(
            "environment: text_arena needs the package textarena: pip install 'sparring[textarena]'."
        ) from error
    return textarena
