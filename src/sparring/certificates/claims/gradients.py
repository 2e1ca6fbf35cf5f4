"""Claims where there is no closed form, or the loss misses it: gradients and stationarity of the library's losses.

`loss_gradient`: automatic gradients against central differences, on both sides of every clip. `fit_is_stationary`: the
tabular fit is at a local minimum. Leaves out: closed forms (`fits.py`).

    [claim.measured for claim in gradient("chi_po", Effort())]
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sparring.algorithms.algorithm import SHIPPED, DataFacts, PolicyRef
from sparring.certificates.build import build_for_game, needs_data
from sparring.certificates.claims.claim import Checks, Claim, Effort, by_fits, number, over_seeds, vanishes
from sparring.certificates.players.minimise import stationarity_gradient
from sparring.certificates.players.tabular import TabularPlayer
from sparring.games.built_in import built_in
from sparring.games.game import Array
from sparring.objectives.pairs import DATA, PESSIMISM, Batch, Objective

Settings = Mapping[str, Any]

GRADIENTS: Mapping[str, Sequence[Settings]] = {
    "spac": [{}, {"form": "linear", "bound": 0.5}],
    "rspo": [{"reverse_kl": 0.2, "forward_kl": 0.1, "chi_squared": 0.3, "reference_nll": 0.4, "ratio_bound": 0.5}],
    "opo": [{}, {"form": "approx"}, {"temperature": 0.1}],
    "chi_po": [{"reward_bound": 0.6, "ratio_bound": 0.5}, {}],
    "dpo": [
        {},
        {"reference": "none", "sft_weight": 0.3},
        *({"loss": shape} for shape in ("hinge", "nca", "bco", "apo_zero", "apo_down", "discopop")),
        {"loss": "exo", "label_smoothing": 0.01},
        {"label_smoothing": 0.2, "robust": True},
        *({"divergence": divergence} for divergence in ("forward_kl", "js", "alpha")),
    ],
    "dpo_cov": [{}, {"lambda": 0.6, "eta": 0.3, "omega": 0.2}],
    "xpo": [{}, {"optimism": 0.3}],
    "t_spin": [{}, {"b": 0.3}],
    "tpaw": [{"gamma": 0.0}, {"gamma": 0.0, "eta": 1.0}],  # gamma's weights are constants to the gradient
    "space": [{}, {"mu": 3.0}],
    "spo": [{}, {"soft_labels": False, "clip": 0.6}],
    "rebel": [{}, {"target": "win_rate"}],
    "kto": [{}, {"reference_point": "zero", "lambda_D": 2.0}],
}
"""Settings whose batches lie on both sides of every clip (`tests/certificates/test_claims.py`); other algorithms are
tried with their settings on games"""
CLIPPED = ("spac", "rspo", "chi_po")


@over_seeds(3)
def gradient(name: str, effort: Effort) -> Iterable[Claim]:
    """Automatic gradients of the loss against central differences."""
    worst = 0.0
    variants = GRADIENTS.get(name, [{}])
    for settings in variants:
        for step in build_for_game(name, settings).steps(1, DataFacts(100)):
            for seed in range(3):
                roles = ROLES.get(name, OWN_AND_REFERENCE)
                error = gradient_error(step.objective, tuple(step.anchors), effort.seed * 10 + seed, roles)
                worst = max(worst, error)
    claim = "gradient of the loss against central differences: largest error, relative to the largest entry"
    note = f"{len(variants)} settings, 3 random batches of 2 examples; a wrong formula passes"
    note += "; clips are met on both sides" if name in CLIPPED else ""
    yield vanishes("loss_gradient", claim, worst, 1e-6, note)


OWN_AND_REFERENCE = ("own", "own", "own", "own", "reference")
ROLES: Mapping[str, Sequence[str]] = {"kto": ("desirable", "undesirable", "desirable", "undesirable", "mismatched")}
"""Roles of the five responses of a random example, where they are not own samples and one of the reference"""


def random_batch(anchors: Iterable[str], seed: int, roles: Sequence[str] = OWN_AND_REFERENCE) -> Batch:
    """Two examples of five responses (one a reference sample, unless told) with pairs of both terms, float64."""
    draw = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Float[Tensor, " ..."]:
        return torch.randn(*shape, generator=draw, dtype=torch.float64)

    pairs = torch.tensor([[0, 1], [2, 3], [0, 3], [5, 6], [7, 8], [8, 5]])
    return Batch(
        logps_R=normal(10),
        # Sorted: the order of a set of names differs between processes, and the values would with it.
        anchor_logps={name: normal(10) for name in sorted({*anchors, "reference", "iterate"})},
        lengths_R=torch.ones(10, dtype=torch.long),
        example_R=torch.arange(10) // 5,
        roles=tuple(roles) * 2,
        win_rates_R=torch.rand(10, generator=draw, dtype=torch.float64),
        pairs_P2=pairs,
        preference_P=torch.rand(len(pairs), generator=draw, dtype=torch.float64),
        weight_P=torch.full((len(pairs),), 0.5, dtype=torch.float64),
        term_P=torch.tensor([DATA, PESSIMISM] * 3),
    )


def gradient_error(
    objective: Objective, anchors: Iterable[str], seed: int, roles: Sequence[str] = OWN_AND_REFERENCE
) -> float:
    """Largest difference between the two gradients, over the largest entry."""
    batch = random_batch(anchors, seed, roles)
    leaf = batch.logps_R.clone().requires_grad_()
    (automatic,) = torch.autograd.grad(objective(replace(batch, logps_R=leaf)).total, leaf)
    numeric, size = torch.zeros_like(automatic), 1e-6
    for k in range(len(leaf)):
        up, down = batch.logps_R.clone(), batch.logps_R.clone()
        up[k], down[k] = up[k] + size, down[k] - size
        sides = [float(objective(replace(batch, logps_R=moved)).total) for moved in (up, down)]
        numeric[k] = (sides[0] - sides[1]) / (2 * size)
    return float((automatic - numeric).abs().max() / automatic.abs().max().clamp_min(1e-12))


STATIONARY: Mapping[str, tuple[str, int, Sequence[Settings]]] = {
    "sppo": ("G3", 5, [{}, {"eta": 10.0}, {"labels": "hard"}]),
    "rspo": ("G3", 5, [{}, {"forward_kl": 0.1}, {"chi_squared": 0.1}]),
    "dpo": ("GR:5:1", 2, [{"beta": 1.0}, {"loss": "exo", "label_smoothing": 0.01}, {"divergence": "js", "beta": 2.0}]),
    "simpo": ("GR:5:1", 2, [{}]),
    "cpo": ("GR:5:1", 2, [{}]),
    "orpo": ("GR:5:1", 2, [{}]),
    "t_spin": ("GD", 3, [{}, {"b": 0.3}]),
    "chi_po": ("GR:5:1", 2, [{}, {"beta": 2.0}]),
    "opo": ("GR:5:1", 1, [{"beta": 1.0}]),
    "spac": ("GD", 2, [{}, {"form": "linear", "data_weight": 5.0}]),
}
"""By algorithm: game, rounds, settings"""


@over_seeds(1)
def stationarity(name: str, effort: Effort) -> Iterable[Claim]:
    """Where there is no closed form, the fit is at a local minimum of the loss."""
    spec, rounds, variants = STATIONARY[name] if name in STATIONARY else ("GD" if needs_data(name) else "G3", 2, [{}])
    steepest, lower, tried, without_minimum = 0.0, 0, 0, 0
    for settings in variants:
        player = TabularPlayer(build_for_game(name, settings), built_in(spec))
        gradient, below, count = at_minimum(player, rounds, effort.seed)
        steepest, lower, tried = max(steepest, gradient), lower + below, tried + count
        without_minimum += player.without_minimum
    holds = steepest < 1e-6 and lower == 0
    shown = f"{number(steepest)}; {lower} of {tried} perturbations are lower"
    claim = "no closed form: largest gradient entry at the fit, and random perturbations that lower the loss"
    note = f"{spec}, {len(variants)} settings; says nothing of whether the formula is the paper's"
    if without_minimum:
        note += f"; {without_minimum} fits have no finite minimum and stopped where the loss is flat"
    yield Claim("fit_is_stationary", claim, "derived", "0 (< 1e-6); none", shown, holds, note)


def at_minimum(player: TabularPlayer, rounds: int, seed: int) -> tuple[float, int, int]:
    """The last fit's largest gradient entry; how many perturbations of its logits lower the loss, and of how many."""
    player.play(rounds)
    steps = player.algorithm.steps(rounds - 1, player.data_facts())
    loss = player.loss(steps[-1], steps, 0)
    end = player.policies[PolicyRef(rounds)][0]
    value = float(loss(torch.from_numpy(end)))
    draw = np.random.default_rng(seed)
    moves: list[Array] = [draw.normal(scale=scale, size=len(end)) for scale in (1e-3, 0.05) for _ in range(100)]
    # Lower by more than the rounding of the loss itself.
    least = value - 1e-12 * max(1.0, abs(value))
    lower = sum(float(loss(torch.from_numpy(end + move))) < least for move in moves)
    return stationarity_gradient(loss, end), lower, len(moves)


CHECKS: Checks = {
    name: by_fits(*(partial(run, name) for run in (stationarity, gradient) if run is gradient or name in STATIONARY))
    for name in SHIPPED
}
