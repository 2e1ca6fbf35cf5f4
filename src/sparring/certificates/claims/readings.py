"""Which reading of SPAC's single-network loss is a pessimistic one: those that texts about it suggest, on the sparse
bandit, and the least-squares critic of its theory's neighbour PACLE beside the explicit one.

The paper's body was not available to us (docs/algorithms/spac.md): this is evidence about sense, not about wording.
Leaves out: the shipped forms through the library's own loss (`offline.py`), which `smoothed` and `linear` equal.

    suboptimality(400, seed=0)["literal"]
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import cache

import numpy as np

from sparring.certificates.claims.claim import (
    Checks,
    Claim,
    Effort,
    by_fits,
    mean_and_interval,
    number,
    vanishes,
)
from sparring.certificates.claims.offline import Table, differences, show
from sparring.games.built_in import sparse_bandit
from sparring.games.game import Array
from sparring.games.offline import observe_pairs, spac_theory
from sparring.games.probabilities import log_kl, log_normalise
from sparring.games.readings import READINGS, Reading, least_squares_play, play_reading, reading_loss

COUNTS = (400, 6400)
TERMS: dict[Reading, str] = {
    "none": "no second term: DPO against the iterate",
    "literal": "+ f(y'), as a note on the paper has it",
    "own ratio": "ell(-f(y')), a sigmoid around the own ratio alone",
    "smoothed": "mean of ell(f(y+) - f(y')) and ell(f(y-) - f(y'))",
    "linear": "f(y') - (f(y+) + f(y-))/2",
    "per answer": "ell(-f(y')) + mean of ell(f(y+)) and ell(f(y-)), as SPACE has it",
}
WITH_DATA = ("smoothed", "linear", "per answer")
"""readings that put the data's answers against own ones"""


@cache
def suboptimality(n_pairs: int, seed: int) -> dict[str, float]:
    """Every reading and critic on one data set."""
    game = sparse_bandit(n_pairs, 0)
    wins, start = observe_pairs(game, n_pairs, seed), game.log_data[0]
    assert game.data is not None
    assert game.rewards is not None
    squares, explicit = np.exp(least_squares_play(wins, start)), np.exp(spac_theory(wins, start))
    policies: dict[str, Array] = {name: np.exp(play_reading(name, wins, start)) for name in READINGS}
    policies |= {"data policy": game.data[0], "least-squares critic": squares[-1], "explicit critic": explicit[-1]}
    rewards = game.rewards[0]
    return {name: float(rewards.max() - policy @ rewards) for name, policy in policies.items()}


def table(data_sets: int, seed: int) -> Table:
    """Suboptimality by reading, number of pairs and data set."""
    cells = {n: [suboptimality(n, seed + k) for k in range(data_sets)] for n in COUNTS}
    return {name: {n: [cell[name] for cell in cells[n]] for n in COUNTS} for name in cells[COUNTS[0]][0]}


def gains(results: Table, name: str, other: str) -> list[tuple[float, float]]:
    """How much lower a method's suboptimality is, by data set, and half its 95 % interval, by number of pairs."""
    return [mean_and_interval(differences(results, name, other, n)) for n in COUNTS]


def readings(effort: Effort) -> Iterable[Claim]:
    """All readings on the same data sets, and which are pessimistic."""
    results, seeds = table(effort.data_sets, effort.seed), effort.data_sets
    for name in READINGS:
        claim = f"second term {TERMS[name]}: suboptimality on SB"
        yield Claim("spac_reading", claim, "derived", "-", show(results[name]), None, seeds=seeds)
    for group, better in ((WITH_DATA, True), (("literal", "own ratio"), False)):
        others = ("none", "data policy") if better else ("data policy",)
        against = {(a, b): gains(results, a, b) for a in group for b in others}
        lead = [mean - half for pair in against.values() for mean, half in pair]
        most = max(mean + half for pair in against.values() for mean, half in pair)
        holds = all(low > 0 for low in lead) if better else most <= 0 or (None if max(lead) <= 0 else False)
        kind = "with the data's answers" if better else "of own answers alone"
        claim = f"readings {kind} against the {' and '.join(others)}, at n = 400 and 6400, paired by data set"
        shown = (
            f"lowest lead less its interval {min(lead):.2f}"
            if better
            else f"leads between {max(lead):.2f} and {most:.2f}"
        )
        row = "spac_readings_with_data" if better else "spac_readings_without_data"
        yield Claim(
            row, claim, "derived", f"{'above' if better else 'nowhere above'} 0 (95 %)", shown, holds, seeds=seeds
        )
    claim = "last policy against a critic from an ellipsoid (least squares) on SB, and against the explicit critic"
    shown = f"{show(results['least-squares critic'])}; explicit {show(results['explicit critic'])}"
    note = "our transfer of its critic to comparisons; radius 2 sqrt(40) from the labels' range, not tuned"
    yield Claim("least_squares_critic", claim, "2108.08812, transferred", "-", shown, None, note, seeds=seeds)


def literal_penalty(effort: Effort) -> Iterable[Claim]:
    """The literal penalty is -KL(iterate || policy), so that the loss falls as the policy leaves the iterate."""
    draw, worst = np.random.default_rng(effort.seed), 0.0
    for _ in range(20):
        own, other = (log_normalise(row) for row in draw.normal(size=(2, 8)) * 2)
        worst = max(worst, abs(float(np.exp(own) @ (other - own) + log_kl(own, other))))
    claim = "E over own answers of log(pi/pi_t) is -KL(pi_t || pi): as a penalty it rewards leaving pi_t"
    yield replace(vanishes("spac_literal_penalty_is_kl", claim, worst, 1e-12), seeds=20)
    game = sparse_bandit(400, 0)
    loss = reading_loss("literal", observe_pairs(game, 400, effort.seed), game.log_data[0], bound=np.inf)
    away = np.eye(len(game.log_data[0]))[-1]
    values = [loss(game.log_data[0] - far * away)[0] for far in (0.0, 1e3, 1e6)]
    claim = "without a bound the literal loss has no minimum: its value as one rare arm's logit falls by 0, 1e3, 1e6"
    shown, falls = ", ".join(map(number, values)), values[0] > values[1] > values[2]
    yield Claim("spac_literal_is_unbounded", claim, "derived", "falls", shown, falls, seeds=1)


CHECKS: Checks = {"spac": by_fits(readings, literal_penalty)}
