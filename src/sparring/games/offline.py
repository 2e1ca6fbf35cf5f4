"""SPAC of the theory, with an explicit critic, on counted comparisons of a one-context game.

Leaves out: SPAC's loss on a language model (`algorithms/spac.py`).

    spac_theory(observe_pairs(sparse_bandit(400, 0), 400, seed=0), log_start)
"""

from __future__ import annotations

import numpy as np

from sparring.games.bradley_terry import fit_rewards
from sparring.games.game import Array, Game
from sparring.games.probabilities import log_normalise


def observe_pairs(game: Game, n_pairs: int, seed: int) -> Array:
    """Count wins in `n_pairs` labelled comparisons of a one-context game: W[i, j] times i beat j.

    Both responses are i.i.d. from the data policy, the winner is drawn with the game's preference.
    """
    if game.n_contexts != 1:
        raise ValueError(f"observe_pairs: game {game.name} has {game.n_contexts} contexts, needed 1")
    rng = np.random.default_rng(seed)
    data = np.exp(game.log_data[0])
    left, right = rng.choice(len(data), size=(2, n_pairs), p=data / data.sum())
    left_wins = rng.uniform(size=n_pairs) < game.preference[0, left, right]
    wins = np.zeros((len(data), len(data)))
    np.add.at(wins, (np.where(left_wins, left, right), np.where(left_wins, right, left)), 1.0)
    return wins


def pessimistic_critic(
    wins: Array, policy: Array, data_weight: float, bound: float, start: Array | None = None
) -> Array:
    """SPAC's critic: argmin over f in [0, bound]^n of E_policy f - E_data f + data_weight L_D(f).

    L_D is the mean Bradley-Terry loss of the observed pairs, E_data the mean over their responses.
    """
    pairs = wins.sum()
    shift = policy - (wins.sum(axis=0) + wins.sum(axis=1)) / (2 * pairs)
    return fit_rewards(data_weight / pairs * wins, shift, (0.0, bound), start)


def spac_theory(
    wins: Array,
    log_start: Array,
    rounds: int = 40,
    bound: float = 4.0,
    data_weight: float | None = None,
    step_size: float | None = None,
) -> list[Array]:
    """SPAC with an explicit critic (2406.04274, theory version): log-policies 0..T.

    Each round finds the pessimistic critic f_t and moves to pi_t exp(step_size f_t). Defaults:
    data_weight sqrt(n pairs), step_size 2 sqrt(log(n actions) / rounds) / bound. The guarantee is
    for the mean of rounds 1..T; the last iterate did better on the sparse bandit.
    """
    if not wins.sum() > 0:
        raise ValueError("spac_theory: wins holds no comparison; observe at least one pair")
    weight = np.sqrt(wins.sum()) if data_weight is None else data_weight
    step = 2 * np.sqrt(np.log(len(wins)) / rounds) / bound if step_size is None else step_size
    history, critic = [log_normalise(log_start)], None
    for _ in range(rounds):
        critic = pessimistic_critic(wins, np.exp(history[-1]), weight, bound, critic)
        history.append(log_normalise(history[-1] + step * critic))
    return history
