"""Claims on tree search (2403.05632): value error and move loss against simulations, on solved positions.

The guide has known errors: it keeps the k legal moves that it ranks highest by a noisy value, and values a position by
the exact value plus noise within +- e. Noise is a hash of the position, so that the pruned game has an exact value too.
Leaves out: a language model as the guide (`environments/searched_game.py`).

    curve(errors=Errors(critic=0.5, kept=3), positions=positions(20), counts=(1, 4, 16))
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from sparring.certificates.claims.claim import Check, Claim, Effort, over_seeds
from sparring.environments.sequential import SequentialGame
from sparring.environments.tic_tac_toe import TicTacToe
from sparring.environments.tree_search import Estimate, Guide, loss_of, run_search, solved

COUNTS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
"""simulations"""
POSITIONS = 60


class Errors(NamedTuple):
    """How wrong a guide is."""

    critic: float
    """values are exact +- this"""
    kept: int
    """moves that are searched at a position, best first; where there are no more, all, in the game's own order"""
    pruner: float = 0.0
    """the ranking of moves is exact +- this"""


GUIDES = {
    "exact": Errors(0.0, 9),
    "critic +- 0.5": Errors(0.5, 9),
    "critic +- 1": Errors(1.0, 9),
    "3 moves kept, ranked +- 1; critic +- 0.5": Errors(0.5, 3, 1.0),
}


class Curve(NamedTuple):
    """Means over the positions, by number of simulations."""

    counts: Sequence[int]
    value_error: Sequence[float]
    """|the root's mean value - the exact value|"""
    move_loss: Sequence[float]
    """of exact value, by the most visited move"""
    pruner_error: float
    """|value of the pruned game - the exact value|"""
    moves: float
    """searched at the root"""

    def excess(self, critic: float) -> list[float]:
        """sqrt(N) / moves times the value error beyond both errors: what the bound's constant must cover."""
        errors = self.pruner_error + critic
        return [
            max(0.0, e - errors) * math.sqrt(n) / self.moves for n, e in zip(self.counts, self.value_error, strict=True)
        ]


def noise(text: str) -> float:
    """From -1 to 1, by a hash."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**63 - 1.0


def positions(count: int, seed: int = 0, game: SequentialGame | None = None) -> list[str]:
    """Different positions after 0 to 5 random moves that leave at least two moves."""
    game, rng, found = game or TicTacToe(), random.Random(seed), dict[str, None]()
    while len(found) < count:
        state = "." * 9
        for _ in range(rng.randint(0, 5)):
            after: Any = game.after(state, rng.choice(game.legal(state)))
            if game.mover(after) is None:
                break
            state = after
        found[state] = None
    return list(found)


def guide_of(game: SequentialGame, errors: Errors) -> Guide:
    """A guide with these errors."""
    exact = solved(game)

    def kept(state: str) -> list[str]:
        def rank(move: str) -> float:
            return -loss_of(game, exact, state, move) + errors.pruner * noise(f"move {state} {move}")

        legal = game.legal(state)
        return [*legal] if errors.kept >= len(legal) else sorted(legal, key=rank, reverse=True)[: errors.kept]

    def guide(state: str) -> Estimate:
        value = exact(state) + errors.critic * noise(f"value {state}")
        return Estimate(kept(state), value)

    return guide


def curve(errors: Errors, positions: Sequence[str], counts: Sequence[int]) -> Curve:
    """Search from every position with every number of simulations."""
    game = TicTacToe()
    guide, exact = guide_of(game, errors), solved(game)
    pruned = solved(game, lambda state: guide(state).moves)
    roots = [[run_search(game, state, guide, n) for state in positions] for n in counts]
    values = np.array([exact(state) for state in positions])
    return Curve(
        counts,
        [float(np.abs(np.array([root.value for root in row]) - values).mean()) for row in roots],
        [float(np.mean([loss_of(game, exact, r.state, r.most_visited) for r in row])) for row in roots],
        float(np.mean([abs(pruned(state) - exact(state)) for state in positions])),
        float(np.mean([len(guide(state).moves) for state in positions])),
    )


@over_seeds(POSITIONS)
def bound(effort: Effort) -> Iterable[Claim]:
    """The bound with constant 1 and no logarithm, guide by guide, and the loss of the moves that are played."""
    chosen = positions(POSITIONS, effort.seed)
    for label, errors in GUIDES.items():
        result = curve(errors, chosen, COUNTS)
        shown = ", ".join(f"N={n}: {e:.3f}" for n, e in zip(COUNTS, result.value_error, strict=True))
        constant = max(result.excess(errors.critic))
        title = f"tic-tac-toe, {POSITIONS} positions, guide: {label}; mean error of the root's value"
        predicted = f"<= C moves / sqrt(N) + {result.pruner_error:.3f} + {errors.critic:g}, with C <= 1"
        yield Claim("search_value_bound", title, "2403.05632", predicted, f"{shown}; C = {constant:.3f}", constant <= 1)
        lost = ", ".join(f"N={n}: {e:.3f}" for n, e in zip(COUNTS, result.move_loss, strict=True))
        title = f"the same: exact value that the most visited move gives away, {errors.kept} moves at most"
        yield Claim("search_move_loss", title, "measured", "-", lost, None)


CHECKS = {"tree_search": (Check(bound),)}
