"""The episodes player: a tiny Llama plays an environment of two seats through the same stages as any model.

Its words are the game's cards and moves, a reply is one word, and `sparring.rounds.run.run` does everything else: so
illegal replies are learnt away first. Exploitability of every round's policy is exact, by best responses over the whole
game. Leaves out: environments without an exact solution.

    certify_episodes("inpo", {"step_size": 2.0}, "kuhn_poker", [(30, 2e-3)], episodes=2048)["exploitability"]
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sparring.algorithms.algorithm import Algorithm, PolicyRef, find_algorithm
from sparring.certificates.build import build_for_game, goal
from sparring.certificates.players.transformer import save_tiny_llama
from sparring.environments.environment import build_environment
from sparring.environments.matrix_game import MatrixGame
from sparring.environments.sequential import SequentialGame, exploitability, observations, value
from sparring.recipe.reading import parse_recipe
from sparring.rounds.policies import Policies
from sparring.rounds.run import run
from sparring.rounds.store import Store
from sparring.runtime.progress import Left, Progress
from sparring.training.packing import Rollout
from sparring.training.scorer import PolicyScorer

SMALL = {"books": 1, "hats": 1}
GAMES: Mapping[str, Mapping[str, Any]] = {
    "kuhn_poker": {"name": "kuhn_poker", "rules": False},
    "negotiation": {"name": "negotiation", "rules": False, "goods": SMALL, "kinds": [[1, 2], [2, 1]], "offers": 2},
    "matching_pennies": {"name": "matrix_game", "game": "matching_pennies", "rules": False},
    "rock_paper_scissors": {"name": "matrix_game", "game": "rock_paper_scissors", "rules": False},
    "tic_tac_toe": {"name": "tic_tac_toe", "rules": False},
}
"""environment sections that are solved exactly, by name; a game in turns of your own is `package.module:Class`"""
DEFAULTS: Mapping[str, Any] = {"samples": 16, "pairing": "iid", "target": "soft", "soft_labels": True}
"""Where an algorithm has such a field and --set does not say otherwise: siblings in groups of 16, whose rewards'
difference is the target"""
LEARNING_RATE = 2e-3
Leg = tuple[int, float]
"""rounds, and the learning rate of their fits"""
Told = tuple[str, str, tuple[str, ...]]
"""seat, what it is told, its moves"""


def section_of(game: str) -> Mapping[str, Any]:
    """The environment section of a game that is solved exactly.

    Raises:
        ValueError: there is no such game, or it is neither in turns nor a matrix.
    """
    if game not in GAMES and ":" not in game:
        raise ValueError(
            f"--game {game}: no game between roles. Choose one of {', '.join(GAMES)}, or give a SequentialGame of your "
            "own as package.module:Class."
        )
    section = GAMES.get(game, {"name": game})
    if not isinstance(build_environment(section), SequentialGame | MatrixGame):
        raise ValueError(f"--game {game}: only a SequentialGame is solved exactly. Derive your class from it.")
    return section


def all_told(environment: SequentialGame | MatrixGame) -> list[Told]:
    """Everything that a seat may be told; a ValueError where a game in turns cannot be solved."""
    if isinstance(environment, MatrixGame):
        return [(role, environment.question(role), environment.moves) for role in environment.roles]
    return [(role, told, legal) for (role, told), legal in observations(environment).items()]


def words_of(told: Sequence[Told]) -> list[str]:
    """Every word that is said or may be replied."""
    return list(dict.fromkeys(word for _, said, moves in told for word in (*moves, *said.split())))


Chances = dict[tuple[str, str], list[float]]
"""by seat and what it is told, the chance of each legal move among them"""


@torch.no_grad()
def read_policy(policies: Policies, t: int, told: Sequence[Told]) -> tuple[Chances, float]:
    """The policy after t rounds, and the least share of its replies that are legal moves."""
    scorer = PolicyScorer(policies.load(PolicyRef(t), torch.float32), "padded")
    chat = policies.chat
    rollouts = [
        Rollout(
            chat.prompt_ids([{"role": "user", "content": said}]),
            [chat.tokenizer(move, add_special_tokens=False)["input_ids"] for move in moves],
        )
        for _, said, moves in told
    ]
    logps = iter(scorer(scorer.pack(rollouts)).double().tolist())
    chances, least = {}, 1.0
    for role, said, moves in told:
        shares = np.exp([next(logps) for _ in moves])
        if not float(shares.sum()) > 0:
            raise ValueError(
                f"after round {t} of a leg the policy gives no move of {role} any probability: its fits diverged. "
                "Lower the learning rate (--legs)."
            )
        least = min(least, float(shares.sum()))
        chances[role, said] = (shares / shares.sum()).tolist()
    return chances, least


def gaps_of(environment: SequentialGame | MatrixGame, chances: Chances) -> tuple[float, float]:
    """Exploitability (mean gain of the seats' best responses) and what the first seat gets."""
    if isinstance(environment, MatrixGame):
        payoffs = environment.payoffs()
        first, second = (np.array(chances[role, environment.question(role)]) for role in environment.roles)
        worth = float(first @ payoffs @ second)
        return (float((payoffs @ second).max()) - float((first @ payoffs).min())) / 2, worth

    def policy(role: str, said: str, legal: Sequence[str]) -> list[float]:
        return chances[role, said]

    return exploitability(environment, policy).exploitability, value(environment, policy, environment.roles[0])


def recipe(
    model: Path, algorithm: Algorithm, name: str, game: str, leg: Leg, episodes: int, seed: int
) -> dict[str, Any]:
    """An ordinary recipe."""
    return {
        "model": {"path": str(model)},
        "data": {
            "train": {"path": "sparring:episodes", "limit": episodes},
            "held_out": {"path": "sparring:episodes", "split": "held_out", "limit": 16},
        },
        "environment": dict(section_of(game)),
        "algorithm": {"name": name, **algorithm.model_dump(mode="json")},
        "rounds": leg[0],
        "seed": seed,
        "sampling": {"max_new_tokens": 1, "batch_size": 4096, "precision": "float32"},
        "fit": {
            "learning_rate": leg[1],
            "epochs": 4,
            "batch_size": 64,
            "precision": "float32",
            "layout": "padded",
            "checkpoint_minutes": 60,
            "tripwires": {"repetition": None, "kl_to_iterate": None, "falling_likelihood": None},
        },
        "evaluation": {"samples": 1, "every_iterate": False},
    }


def build_for_episodes(name: str, settings: Mapping[str, Any]) -> Algorithm:
    """An algorithm at the scale of games."""
    fields = find_algorithm(name).model_fields
    return build_for_game(name, {**{k: v for k, v in DEFAULTS.items() if k in fields}, **settings})


class _RoundsOnly(Progress):
    """Tells of every fit, and of nothing else."""

    def __init__(self, fitted: Callable[[], None]) -> None:
        super().__init__(quiet=True)
        self._fitted = fitted

    def at(self, place: str, left: Left | None = None) -> Progress:
        """The same."""
        return self

    def say(self, text: str) -> None:
        """One round is over with each fit."""
        if text.startswith("fit:"):
            self._fitted()


def certify_episodes(
    name: str,
    settings: Mapping[str, Any],
    game: str,
    legs: Sequence[Leg],
    episodes: int,
    seed: int = 0,
    fitted: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Play the legs' rounds, and the exact exploitability of the start and of every round's policy.

    A leg is a run of its own, with the next seed, whose start and reference are the last policy of the one before: with
    a lower learning rate its fits are nearer to the exact step. `episodes`: of a round; `fitted` is called after each.

    Raises:
        ValueError: the algorithm cannot play roles, or there is no such game.
    """
    environment = build_environment(section_of(game))
    assert isinstance(environment, SequentialGame | MatrixGame)
    algorithm, told = build_for_episodes(name, settings), all_told(environment)
    read: list[tuple[Chances, float]] = []
    with tempfile.TemporaryDirectory() as temporary:
        model = Path(temporary) / "model"
        save_tiny_llama(model, words_of(told), seed)
        for number, leg in enumerate(legs):
            parsed = parse_recipe(recipe(model, algorithm, name, game, leg, episodes, seed + number))
            folder = Path(temporary) / f"leg-{number}"
            run(parsed, folder, _RoundsOnly(fitted))
            policies = Policies(Store(folder), parsed.model)
            read += [read_policy(policies, t, told) for t in range(min(number, 1), leg[0] + 1)]
            model = policies.folder(PolicyRef(leg[0]))
    gaps = [gaps_of(environment, chances) for chances, _ in read]
    return {
        "algorithm": algorithm.about.title,
        "settings": algorithm.model_dump(mode="json"),
        "player": "episodes",
        "game": game,
        "rounds": sum(count for count, _ in legs),
        "legs": [{"rounds": count, "learning_rate": rate} for count, rate in legs],
        "episodes": episodes,
        "solves": goal(algorithm),
        "exploitability": [gap for gap, _ in gaps],
        "value": [worth for _, worth in gaps],
        "least_legal_share": [least for _, least in read],
        "policy": {
            f"{role}: {said}": dict(zip(moves, read[-1][0][role, said], strict=True)) for role, said, moves in told
        },
    }
