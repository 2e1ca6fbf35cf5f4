"""Run an algorithm on a game with one of four players; the result is plain data.

Players, all on the same algorithm objects: `exact` (closed-form dynamics), `tabular` (the library's objective on
population pairs), `sampled` (real samples and pairings), `transformer` (a tiny Llama through the same stages as any
model). Leaves out: what the papers claim of it (`claims/`).

    certify(build_for_game("inpo", {"eta": 1.0, "tau": 0.1}), resolve_game("G3"), "tabular", 50)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import numpy as np

from sparring.algorithms.algorithm import ANY_DATA, Algorithm
from sparring.algorithms.pairing import KeepingRole
from sparring.certificates.build import NotPlayable, build_for_game, exact_step, goal
from sparring.certificates.players.sampled import SampledPlayer
from sparring.certificates.players.tabular import POPULATION_PAIRINGS, TabularPlayer
from sparring.games.equilibrium import duality_gap, nash, nash_is_unique, regularised_gap, regularised_nash
from sparring.games.files import resolve_game
from sparring.games.game import Array, Game
from sparring.games.probabilities import log_kl, log_normalise
from sparring.games.trajectory import Trajectory, trajectory
from sparring.runtime.shown import Shown, View

Player = Literal["exact", "tabular", "sampled", "transformer", "episodes"]
PLAYERS: tuple[Player, ...] = ("exact", "tabular", "sampled", "transformer", "episodes")
DISTANCES = ("duality_gap_last", "duality_gap_average", "regularised_gap", "kl_to_equilibrium")
"""keys of a result with a number per round and context"""


def play(algorithm: Algorithm, game: Game, player: Player, rounds: int, seed: int = 0, pairs: int = 4000) -> Trajectory:
    """Log-policies of rounds 0..rounds.

    Raises:
        NotPlayable: the algorithm has no closed form, or needs something that the game lacks.
    """
    if player == "exact":
        _refuse_selection(algorithm)
        return trajectory(partial(exact_step, algorithm), game, rounds)
    try:
        if player == "tabular":
            return TabularPlayer(algorithm, game).play(rounds)
        if player == "sampled":
            return SampledPlayer(algorithm, game, prompts=pairs, seed=seed).play(rounds)
    except ValueError as error:
        raise NotPlayable(f"{algorithm.about.title}: {error}") from error
    raise NotPlayable(f"the {player} player has games of its own: use `sparring certify NAME --player {player}`.")


def selecting_pairing(algorithm: Algorithm) -> str | None:
    """The name of the pairing of its first round that only samples can show; None where there is a closed form."""
    for step in algorithm.steps(0, ANY_DATA):
        rule = step.pairing
        if isinstance(rule, KeepingRole):
            return f"{type(rule.inner).__name__} with {rule.role} samples beside the pairs"
        if not isinstance(rule, POPULATION_PAIRINGS):
            return type(rule).__name__
    return None


def _refuse_selection(algorithm: Algorithm) -> None:
    """Closed forms assume i.i.d. pairs: with selected ones they would show something that no fit does."""
    rule = selecting_pairing(algorithm)
    if rule is not None:
        raise NotPlayable(
            f"{algorithm.about.title}: no closed form with pairing {rule}; use pairing = 'iid', or --player sampled."
        )


def equilibrium(algorithm: Algorithm, game: Game) -> Array | None:
    """(C, n): the policy to which the algorithm should converge on this game; None where it is not computed.

    Raises:
        NotPlayable: it imitates a data policy that the game does not have.
    """
    if algorithm.solves == "data":
        if game.data is None:
            raise NotPlayable(f"game {game.name}: {algorithm.about.title} imitates a data policy; add 'data'.")
        weight = algorithm.base_weight()
        if weight is None:
            return None
        with np.errstate(divide="ignore"):
            log_data = np.log(game.data)
        return np.exp(log_normalise(weight * game.log_reference + (1 - weight) * log_data))
    tau = algorithm.regularisation()
    if tau is None:
        return None
    if tau > 0:
        contexts = zip(game.preference, game.reference, strict=True)
        return np.stack([regularised_nash(P, reference, tau) for P, reference in contexts])
    return np.stack([nash(P) for P in game.preference])


def certify(
    algorithm: Algorithm, game: Game, player: Player | None, rounds: int, seed: int = 0, pairs: int = 4000
) -> dict[str, Any]:
    """Trajectories from round 0 as plain data: one entry per round, then per context where there are several.

    Without a player: sampled where pairs are selected, else exact where there is a closed form, else tabular.
    """
    target = equilibrium(algorithm, game)
    if player is None:
        rule = selecting_pairing(algorithm)
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


def certify_all(
    names: Sequence[str],
    game: str,
    player: Player | None,
    settings: Mapping[str, Any],
    skip: bool = False,
    **options: int,
) -> tuple[Game, dict[str, dict[str, Any]]]:
    """The game that is named, and `certify` on it by algorithm; `options` are its rounds, seed and pairs.

    Args:
        settings: symbols of the papers or fields of ours, for every algorithm.
        skip: an algorithm that cannot be played has the result {"skipped": reason}, unless none can be.

    Raises:
        ValueError: the game, a setting or an algorithm cannot be used.
    """
    resolved = resolve_game(game)
    results: dict[str, dict[str, Any]] = {}
    for name in names:
        try:
            results[name] = certify(build_for_game(name, settings), resolved, player, **options)
        except ValueError as error:
            if not skip:
                raise
            results[name] = {"skipped": str(error)}
    if skip and all("skipped" in result for result in results.values()):
        raise ValueError("nothing could be played: " + next(iter(results.values()))["skipped"])
    return resolved, results


def last_values(result: Mapping[str, Any], game: Game) -> dict[str, float | None]:
    """Where a result's distances ended, mean over contexts by weight; None for a distance that it does not have."""
    ends = {key: None if result[key] is None else np.atleast_1d(result[key][-1]) for key in DISTANCES}
    return {key: None if end is None else float(end @ game.context_weights) for key, end in ends.items()}


def notes_on(algorithm: Algorithm, game: Game, player: str) -> list[str]:
    """Cautions that the numbers alone do not give."""
    notes = []
    if player == "exact" and algorithm.exact_is_aim:
        notes.append("exact is the update that the loss aims at; the loss misses it, which --player tabular shows.")
    if goal(algorithm) == "unknown":
        notes.append("no equilibrium is computed for it with these settings, so there is no target.")
    if goal(algorithm) == "data and base":
        notes.append("its limit is biased to the base, and is what the KL is to; it is not the data policy.")
    if not _one_target(algorithm, game):
        notes.append("the Nash policy is not unique on this game: one of them is given, and no KL to it.")
    return notes


def _one_target(algorithm: Algorithm, game: Game) -> bool:
    return goal(algorithm) != "nash" or all(nash_is_unique(P) for P in game.preference)


def report(algorithm: Algorithm, game: Game, player: str, played: Trajectory, target: Array | None) -> dict[str, Any]:
    """A trajectory and its distances from equilibrium, as plain data."""
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
    result = {
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
    return Shown(result, partial(view, weights=game.context_weights))


def view(result: Mapping[str, Any], weights: Array) -> View:
    """Where a trajectory began and ended, in a Python shell or a notebook."""
    rows = [("mean over contexts", "round 0", f"round {result['rounds']}")]
    for key in DISTANCES:
        if result[key] is not None:
            ends = [float(np.atleast_1d(result[key][place]) @ weights) for place in (0, -1)]
            rows.append((key.replace("_", " "), f"{ends[0]:.3g}", f"{ends[1]:.3g}"))
    sentence = f"{result['algorithm']} on {result['game']}, {result['player']} player, {result['rounds']} rounds"
    return View(sentence, rows, [f"note: {note}" for note in result["notes"]])
