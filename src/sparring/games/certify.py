"""Run an algorithm on a game with one of four players, and write what happened as plain data.

Players, all on the same algorithm objects: `exact` (closed-form dynamics), `tabular` (the library's objective on
population pairs), `sampled` (real samples and pairings), `transformer` (a tiny Llama through the same stages as any
model). Leaves out: what the papers claim of it (`claims.py`).

    certify(build_for_game("inpo", {"eta": 1.0, "tau": 0.1}), resolve_game("G3"), "tabular", 50)
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from pydantic import ValidationError

from sparring.algorithms.algorithm import Algorithm, find_algorithm
from sparring.explain import explain
from sparring.games.dynamics import Trajectory, trajectory
from sparring.games.equilibrium import duality_gap, log_kl, nash, regularised_gap, regularised_nash
from sparring.games.game import Array, Game
from sparring.games.sampled import SampledPlayer
from sparring.games.tabular import TabularPlayer

Player = Literal["exact", "tabular", "sampled", "transformer"]
PLAYERS: tuple[Player, ...] = ("exact", "tabular", "sampled", "transformer")


class NotPlayable(ValueError):
    """This player or game does not suit this algorithm; says why."""


def build_for_game(name: str, settings: Mapping[str, Any]) -> Algorithm:
    """An algorithm at the scale of exact games, changed by the paper's symbols or our field names.

    Raises:
        ValueError: unknown symbol or field (with those allowed), or a value out of range.
    """
    kind = find_algorithm(name)
    fields = dict(kind.on_games)
    for key, value in settings.items():
        symbol = kind.symbols.get(key)
        if symbol is None and key not in kind.model_fields:
            allowed = [*kind.symbols, *kind.model_fields]
            near = difflib.get_close_matches(key, allowed, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"--set {key}: {name!r} has no such symbol or field.{hint} Allowed: {', '.join(allowed)}.")
        if symbol is None:
            fields[key] = value
        elif symbol.inverse:
            if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
                raise ValueError(f"--set {key}={value}: give a positive number ({symbol.field} = 1 / {key}).")
            fields[symbol.field] = 1.0 / value
        else:
            fields[symbol.field] = value
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        lines = explain(error, kind, fields, f"{name}.")
    raise ValueError("\n".join(lines))


def play(
    algorithm: Algorithm,
    game: Game,
    player: Player,
    rounds: int,
    start: Array | None = None,
    seed: int = 0,
    pairs: int = 4000,
) -> Trajectory:
    """Log-policies of rounds 0..rounds.

    Raises:
        NotPlayable: the algorithm has no closed form, or needs something that the game lacks.
    """
    if player == "exact":

        def update(g: Game, history: Any) -> Array:
            made = algorithm.exact_step(g, history)
            if made is None:
                raise NotPlayable(f"{algorithm.about.title}: no closed form on game {g.name}; use --player tabular.")
            return made

        return trajectory(update, game, rounds, start)
    try:
        if player == "tabular":
            return TabularPlayer(algorithm, game).play(rounds, start)
        if player == "sampled":
            return SampledPlayer(algorithm, game, prompts=pairs, seed=seed).play(rounds, start)
    except ValueError as error:
        raise NotPlayable(f"{algorithm.about.title}: {error}") from error
    raise NotPlayable("the transformer player has games of its own: use `sparring certify NAME --player transformer`.")


def equilibrium(algorithm: Algorithm, game: Game) -> Array:
    """(C, n): what the algorithm should converge to on this game.

    Raises:
        NotPlayable: it imitates a data policy that the game does not have.
    """
    if algorithm.solves == "data":
        if game.data is None:
            raise NotPlayable(f"game {game.name}: {algorithm.about.title} imitates a data policy; add 'data'.")
        return game.data
    tau = algorithm.regularisation()
    if tau > 0:
        both = zip(game.preference, game.reference, strict=True)
        return np.stack([regularised_nash(P, reference, tau) for P, reference in both])
    return np.stack([nash(P) for P in game.preference])


def certify(
    algorithm: Algorithm, game: Game, player: Player, rounds: int, seed: int = 0, pairs: int = 4000
) -> dict[str, Any]:
    """Trajectories from round 0 as plain data: one entry per round, then per context where there are several."""
    target = equilibrium(algorithm, game)
    played = play(algorithm, game, player, rounds, seed=seed, pairs=pairs)
    return report(algorithm, game, player, played, target)


def report(algorithm: Algorithm, game: Game, player: str, played: Trajectory, target: Array) -> dict[str, Any]:
    """A trajectory and its distances from equilibrium."""
    last, average = played.policies, played.averages
    tau = algorithm.regularisation()

    def plain(values: Array) -> Any:
        """Drop the context axis of a one-context game."""
        return (values[:, 0] if game.n_contexts == 1 else values).tolist()

    with np.errstate(divide="ignore"):
        distance = np.stack([log_kl(np.log(target), u) for u in played.log_policies])
    regularised = None
    if tau > 0:
        regularised = plain(np.stack([regularised_gap(game.preference, p, game.reference, tau) for p in last]))
    return {
        "algorithm": algorithm.about.title,
        "settings": algorithm.model_dump(mode="json"),
        "game": game.name,
        "player": player,
        "rounds": len(last) - 1,
        "solves": algorithm.solves,
        "equilibrium": (target[0] if game.n_contexts == 1 else target).tolist(),
        "policy_last": plain(last),
        "policy_average": plain(average),
        "duality_gap_last": plain(np.stack([duality_gap(game.preference, p) for p in last])),
        "duality_gap_average": plain(np.stack([duality_gap(game.preference, p) for p in average])),
        "regularised_gap": regularised,
        "kl_to_equilibrium": plain(distance),
    }
