"""Run an algorithm on a game with one of four players, and write what happened as plain data.

Players, all on the same algorithm objects: `exact` (closed-form dynamics), `tabular` (the library's objective on
population pairs), `sampled` (real samples and pairings), `transformer` (a tiny Llama through the same stages as any
model). Leaves out: what the papers claim of it (`claims.py`).

    certify(build_for_game("inpo", {"eta": 1.0, "tau": 0.1}), resolve_game("G3"), "tabular", 50)
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal, get_args

import numpy as np
from pydantic import ValidationError

from sparring.algorithms.algorithm import ANY_DATA, Algorithm, find_algorithm
from sparring.algorithms.pairing import KeepingRole
from sparring.certificates.sampled import SampledPlayer
from sparring.certificates.tabular import POPULATION_PAIRINGS, TabularPlayer
from sparring.games.dynamics import Trajectory, trajectory
from sparring.games.equilibrium import duality_gap, log_kl, nash, nash_is_unique, regularised_gap, regularised_nash
from sparring.games.game import Array, Game
from sparring.recipe.explain import explain

Goal = Literal["nash", "regularised", "data", "unknown"]
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
    fields, said = dict(kind.on_games), dict[str, str]()
    for key, value in settings.items():
        symbol = kind.symbols.get(key)
        if symbol is None and key not in kind.model_fields:
            allowed = [*kind.symbols, *kind.model_fields]
            near = difflib.get_close_matches(key, allowed, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"--set {key}: {name!r} has no such symbol or field.{hint} Allowed: {', '.join(allowed)}.")
        field = key if symbol is None else symbol.field
        if field in said:
            raise ValueError(f"--set {said[field]} and --set {key} both give {name}.{field}; leave one out.")
        said[field] = key
        if symbol is None or not symbol.inverse:
            annotation = kind.model_fields[field].annotation
            if isinstance(value, bool) and bool not in (annotation, *get_args(annotation)):
                raise ValueError(f"--set {key}={str(value).lower()}: {name}.{field} takes no truth value.")
            fields[field] = value
        else:
            if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
                raise ValueError(f"--set {key}={value}: give a positive number ({symbol.field} = 1 / {key}).")
            fields[field] = 1.0 / value
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
    seed: int = 0,
    pairs: int = 4000,
) -> Trajectory:
    """Log-policies of rounds 0..rounds.

    Raises:
        NotPlayable: the algorithm has no closed form, or needs something that the game lacks.
    """
    if player == "exact":
        _refuse_selection(algorithm)

        def update(g: Game, history: Any) -> Array:
            made = algorithm.exact_step(g, history)
            if made is None:
                raise NotPlayable(f"{algorithm.about.title}: no closed form on game {g.name}; use --player tabular.")
            return made

        return trajectory(update, game, rounds)
    try:
        if player == "tabular":
            return TabularPlayer(algorithm, game).play(rounds)
        if player == "sampled":
            return SampledPlayer(algorithm, game, prompts=pairs, seed=seed).play(rounds)
    except ValueError as error:
        raise NotPlayable(f"{algorithm.about.title}: {error}") from error
    raise NotPlayable("the transformer player has games of its own: use `sparring certify NAME --player transformer`.")


def selected(algorithm: Algorithm) -> str | None:
    """The pairing of its first round that only samples can show, by name."""
    for step in algorithm.steps(0, ANY_DATA):
        rule = step.pairing
        if isinstance(rule, KeepingRole):
            return f"{type(rule.inner).__name__} with {rule.role} samples beside the pairs"
        if not isinstance(rule, POPULATION_PAIRINGS):
            return type(rule).__name__
    return None


def _refuse_selection(algorithm: Algorithm) -> None:
    """Closed forms assume i.i.d. pairs: with selected ones they would show something that no fit does."""
    rule = selected(algorithm)
    if rule is not None:
        raise NotPlayable(
            f"{algorithm.about.title}: no closed form with pairing {rule}; use pairing = 'iid', or --player sampled."
        )


def goal(algorithm: Algorithm) -> Goal:
    """Which equilibrium its distance is measured from, with the settings that it has."""
    if algorithm.solves == "data":
        return "data"
    tau = algorithm.regularisation()
    if tau is None:
        return "unknown"
    return "regularised" if tau > 0 else "nash"


def equilibrium(algorithm: Algorithm, game: Game) -> Array | None:
    """(C, n): what the algorithm should converge to on this game; None where nobody computes it.

    Raises:
        NotPlayable: it imitates a data policy that the game does not have.
    """
    if algorithm.solves == "data":
        if game.data is None:
            raise NotPlayable(f"game {game.name}: {algorithm.about.title} imitates a data policy; add 'data'.")
        return game.data
    tau = algorithm.regularisation()
    if tau is None:
        return None
    if tau > 0:
        both = zip(game.preference, game.reference, strict=True)
        return np.stack([regularised_nash(P, reference, tau) for P, reference in both])
    return np.stack([nash(P) for P in game.preference])


def certify(
    algorithm: Algorithm, game: Game, player: Player | None, rounds: int, seed: int = 0, pairs: int = 4000
) -> dict[str, Any]:
    """Trajectories from round 0 as plain data: one entry per round, then per context where there are several.

    Without a player: sampled where pairs are selected, else exact where there is a closed form, else tabular.
    """
    target = equilibrium(algorithm, game)
    if player is None:
        rule = selected(algorithm)
        if rule is None:
            try:
                return certify(algorithm, game, "exact", rounds)
            except NotPlayable:
                return certify(algorithm, game, "tabular", rounds)
        played = play(algorithm, game, "sampled", rounds, seed=seed, pairs=pairs)
        why = f"sampled, since pairs of {rule} have no closed form; {pairs} prompts a round, see --pairs."
        return report(algorithm, game, "sampled", replace(played, notes=(why, *played.notes)), target)
    played = play(algorithm, game, player, rounds, seed=seed, pairs=pairs)
    return report(algorithm, game, player, played, target)


def notes_on(algorithm: Algorithm, game: Game, player: str) -> list[str]:
    """What the numbers do not say themselves."""
    found = []
    if player == "exact" and algorithm.exact_is_aim:
        found.append("exact is the update that the loss aims at; the loss misses it, which --player tabular shows.")
    if goal(algorithm) == "unknown":
        found.append("no equilibrium is computed for its regulariser, so there is no target.")
    if not _one_target(algorithm, game):
        found.append("the Nash policy is not unique on this game: one of them is given, and no KL to it.")
    return found


def _one_target(algorithm: Algorithm, game: Game) -> bool:
    return goal(algorithm) != "nash" or all(nash_is_unique(P) for P in game.preference)


def report(algorithm: Algorithm, game: Game, player: str, played: Trajectory, target: Array | None) -> dict[str, Any]:
    """A trajectory and its distances from equilibrium."""
    last, average = played.policies, played.averages
    tau = algorithm.regularisation()

    def plain(values: Array) -> Any:
        """Drop the context axis of a one-context game."""
        return (values[:, 0] if game.n_contexts == 1 else values).tolist()

    distance = None
    if target is not None and _one_target(algorithm, game):
        with np.errstate(divide="ignore"):
            distance = plain(np.stack([log_kl(np.log(target), u) for u in played.log_policies]))
    regularised = None
    if tau:
        regularised = plain(np.stack([regularised_gap(game.preference, p, game.reference, tau) for p in last]))
    return {
        "algorithm": algorithm.about.title,
        "settings": algorithm.model_dump(mode="json"),
        "game": game.name,
        "player": player,
        "rounds": len(last) - 1,
        "solves": goal(algorithm),
        "equilibrium": None if target is None else (target[0] if game.n_contexts == 1 else target).tolist(),
        "policy_last": plain(last),
        "policy_average": plain(average),
        "duality_gap_last": plain(np.stack([duality_gap(game.preference, p) for p in last])),
        "duality_gap_average": plain(np.stack([duality_gap(game.preference, p) for p in average])),
        "regularised_gap": regularised,
        "kl_to_equilibrium": distance,
        "notes": [*notes_on(algorithm, game, player), *played.notes],
    }
