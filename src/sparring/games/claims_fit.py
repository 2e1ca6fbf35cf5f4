"""Claims on the code that trains language models: its fits on games are the closed forms.

F1: an algorithm's own steps, pairing and objective, fitted to rounding on population-weighted pairs, give the
policies of its closed form. SPPO's and RSPO's losses miss theirs, by distances that are stated. Leaves out: losses
without a closed form (`claims_gradient.py`), selected and sampled pairs (`claims_sampled.py`).

    [claim.measured for claim in closed_form("inpo", Effort(rounds=5))]
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from sparring.algorithms.algorithm import build_algorithm
from sparring.games.certify import build_for_game, play
from sparring.games.claim import Check, Checks, Claim, Effort, agrees, distance, exact, g3, number
from sparring.games.dynamics import log_normalise, trajectory
from sparring.games.game import Game, built_in
from sparring.games.tabular import TabularPlayer

Settings = Mapping[str, Any]
LARGEST = 1e-8
"""total variation at which a fit counts as its closed form; measured values are 1e-12 and less"""

MIRROR, REWARD, IMITATION = ("G3", "GR:5:1", "GBT:4:0", "two"), ("GBT:4:0", "GBT:6:3"), ("GD",)
CLOSED: Mapping[str, tuple[tuple[str, ...], Sequence[Settings]]] = {
    "inpo": (MIRROR, [{}, {"target": "soft"}, {"target": "win_rate"}, {"schedule": "theorem"}, {"eta": 0.3}]),
    "comal": (MIRROR, [{}, {"M": 3, "target": "soft"}]),
    "mpo": (MIRROR, [{}, {"M": 3, "eta": 3.0}]),
    "mnpo": (MIRROR, [{}, {"lambda": [0.5, 0.3, 0.2], "eta": 1.0}]),
    "onpo": (MIRROR, [{}, {"target": "soft"}]),
    "egpo": (MIRROR, [{}, {"target": "win_rate"}]),
    "nash_md": (MIRROR, [{}, {"schedule": "theorem"}]),
    "ipo": (MIRROR, [{}, {"reference": "start"}, {"soft_labels": True}]),
    "dpo": (REWARD, [{}, {"reference": "start"}, {"soft_labels": True}]),
    "spin": (
        IMITATION,
        [
            {},
            {"lambda": 0.7},
            {"alpha": 0.3},
            {"alpha": 0.3, "sampler": "mixture"},
            {"h": 3},
            {"h": "all"},
        ],
    ),
}
"""By algorithm: games, and settings to try"""


def two_contexts() -> Game:
    """Two random games of five actions in one."""
    a, b = built_in("GR:5:2"), built_in("GR:5:3")
    preference = np.concatenate([a.preference, b.preference])
    return Game("two", preference, np.concatenate([a.reference, b.reference]), None, None, np.array([0.3, 0.7]))


def with_random_start(game: Game, seed: int) -> Game:
    """The game with another reference, which is where every run starts; seed 0 keeps it."""
    if seed == 0:
        return game
    logits = np.random.default_rng(seed).normal(size=game.reference.shape)
    return replace(game, reference=np.exp(log_normalise(logits)))


def closed_form(name: str, effort: Effort) -> Iterable[Claim]:
    """F1: tabular fits equal the closed form, at every round, from three starts."""
    games, variants = CLOSED.get(name, (MIRROR, [{}]))
    worst, runs = 0.0, 0
    for settings in variants:
        algorithm = build_for_game(name, settings)
        for spec in games:
            for start in range(3):
                seed = start and effort.seed * 10 + start
                game = with_random_start(two_contexts() if spec == "two" else built_in(spec), seed)
                fitted, closed = (play(algorithm, game, player, effort.rounds) for player in ("tabular", "exact"))
                worst, runs = max(worst, distance(fitted.log_policies, closed.log_policies)), runs + 1
    names = ", ".join("two contexts" if spec == "two" else spec for spec in games)
    claim = f"own loss and pairing, fitted on population pairs, equal the closed form in {effort.rounds} rounds"
    note = f"{names}; {len(variants)} settings, 3 starts, {runs} runs; largest total variation of any round"
    yield Claim("F1", name, claim, "derived", f"0 (< {LARGEST:g})", number(worst), worst < LARGEST, note)


def data_term(name: str, effort: Effort) -> Iterable[Claim]:
    """F1 for SPAC's data term and offline DPO: on Bradley-Terry data both add r / beta to the anchor."""
    law = np.exp(log_normalise(np.random.default_rng(effort.seed + 1).normal(size=(1, 5))))
    game = replace(built_in("GBT:5:2"), data=law)
    assert game.rewards is not None
    rewards, rounds = game.rewards, 3 if name == "spac" else 1
    section = {"spac": {"pessimism_weight": 0.0}, "dpo": {"source": "pairs"}}[name]
    fitted = TabularPlayer(build_algorithm({"name": name, "beta": 1.0, **section}), game).play(rounds)
    closed = trajectory(lambda g, past: log_normalise(past[-1] + rewards), game, rounds)
    worst = distance(fitted.log_policies, closed.log_policies)
    claim = "offline pairs with Bradley-Terry labels: pi_t exp(r / beta), whatever policy wrote the data"
    note = "; ".join(f"{key}: {value}" for key, value in section.items())
    yield Claim("F1 data", name, claim, "derived", f"0 (< {LARGEST:g})", number(worst), worst < LARGEST, note)


# ---------------------------------------------------------------- response squares


def response_square(effort: Effort) -> Iterable[Claim]:
    """M3: SPPO's per-response square against multiplicative weights."""
    values = {}
    for eta in (1.0, 10.0):
        runs = [play(build_for_game("sppo", {"eta": eta}), g3(), player, 1) for player in ("tabular", "exact")]
        values[eta] = distance(runs[0].log_policies, runs[1].log_policies)
    shown = ", ".join(f"eta {eta:g}: {value:.3g}" for eta, value in values.items())
    holds = agrees(values[1.0], "4e-4") and agrees(values[10.0], ".13")
    claim = "its fit is multiplicative weights: one-step total variation from it, G3"
    note = "log Z is replaced by eta/2 (U1); the pair-difference form with the same step (IPO) is exact"
    yield Claim("M3", "sppo", claim, "2405.00675", "4e-4, .13; published: 0", shown, holds, note, refutes=True)
    runs = [play(build_for_game("ipo", {"tau": 0.1}), g3(), player, 1) for player in ("tabular", "exact")]
    pair = distance(runs[0].log_policies, exact("sppo", 1, eta=10.0).log_policies)
    claim = "the pair-difference square at eta 10 is multiplicative weights"
    yield Claim("M3 pair", "sppo", claim, "derived", f"0 (< {LARGEST:g})", number(pair), pair < LARGEST)


def rspo_square(effort: Effort) -> Iterable[Claim]:
    """R3: RSPO's loss against magnetic mirror descent."""
    values = {}
    for eta in (0.5, 10.0):
        algorithm = build_for_game("rspo", {"eta": eta, "c": 0.05 * eta})
        runs = [play(algorithm, g3(), player, 1) for player in ("tabular", "exact")]
        values[eta] = distance(runs[0].log_policies, runs[1].log_policies)
    shown = ", ".join(f"eta {eta:g}: {value:.3g}" for eta, value in values.items())
    claim = "reverse-KL fit against magnetic mirror descent with tau = 2 c/eta = .1: one-step total variation, G3"
    note = "it contains SPPO's square; so R1 certifies the ideal map and not this loss"
    yield Claim("R3", "rspo", claim, "2503.00030", "not 0", shown, bool(values[10.0] > 1e-3), note, refutes=True)


CHECKS: Checks = {
    **{name: (Check(partial(closed_form, name), "tabular"),) for name in CLOSED},
    "dpo": (Check(partial(closed_form, "dpo"), "tabular"), Check(partial(data_term, "dpo"), "tabular")),
    "spac": (Check(partial(data_term, "spac"), "tabular"),),
    "sppo": (Check(response_square, "tabular"),),
    "rspo": (Check(rspo_square, "tabular"),),
}
