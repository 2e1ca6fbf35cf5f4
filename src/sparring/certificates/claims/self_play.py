"""Claims about the newer self-play methods beyond their closed forms (`fits.py`): rates, fixed points, gradients.

Nash Prox converges at a step at which INPO's map circles, SPO's loss has the win rate's gradient, SPACE reaches the
data in one round for every mu, T-SPIN has another fixed point than the data, TPAW stops short of them. Leaves out:
language models.

    [claim.measured for claim in nash_prox_rate(Effort())]
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch

from sparring.algorithms.algorithm import ANY_DATA, PolicyRef
from sparring.certificates.build import build_for_game
from sparring.certificates.certify import play
from sparring.certificates.claims.claim import (
    TAU,
    Checks,
    Claim,
    Effort,
    by_fits,
    distance,
    exact,
    kl_path,
    number,
    over_seeds,
    vanishes,
)
from sparring.certificates.claims.fits import LARGEST, with_random_start
from sparring.certificates.players.tabular import TabularPlayer
from sparring.games.built_in import built_in
from sparring.games.probabilities import log_kl, log_normalise

INNER = 40
"""inner rounds that stand for an exact proximal step: their contraction is .35 a round at step 2"""


def nash_prox_rate(effort: Effort) -> Iterable[Claim]:
    """Outer steps divide the KL by 1 + step * tau at least, and inner rounds converge where INPO circles."""
    rows, holds = [], True
    for step in (1.0, 2.0):
        path = kl_path("nash_prox", 10 * INNER, step_size=step, kl_to_reference=TAU, period=INNER)[::INNER]
        worst = float((path[1:] / path[:-1]).max())
        holds &= worst <= 1.0 / (1.0 + step * TAU)
        rows.append((f"step {step:g}: <= {1.0 / (1.0 + step * TAU):.3f}", f"step {step:g}: {worst:.3f}"))
    predicted, measured = (", ".join(row[k] for row in rows) for k in (0, 1))
    claim = f"KL(pi*, pi_k), largest ratio of two outer steps, {INNER} inner rounds each; G3, tau .1"
    yield Claim("nash_prox_rate", claim, "derived", predicted, measured, holds)
    inpo = kl_path("inpo", 400, eta=0.25, tau=TAU)[-1]
    prox = kl_path("nash_prox", 400, step_size=1.0 / 0.15, kl_to_reference=TAU, period=INNER)[-1]
    claim = "with the step 4 in each round, at which INPO's map circles (eta .25): KL after 400 rounds; G3, tau .1"
    shown = f"INPO {number(inpo)}, Nash Prox {number(prox)}"
    yield Claim(
        "nash_prox_where_inpo_circles",
        claim,
        "derived",
        "INPO > .01, Nash Prox < 1e-6",
        shown,
        inpo > 0.01 and prox < 1e-6,
    )


@over_seeds(3)
def spo_gradient(effort: Effort) -> Iterable[Claim]:
    """At the iterate the gradient of SPO's loss is that of minus the win rate against the iterate."""
    worst = 0.0
    for seed in range(3):
        game = with_random_start(built_in("GR:5:1"), effort.seed + seed)
        for soft in (False, True):
            player = TabularPlayer(
                build_for_game("spo", {"soft_labels": soft}), game, policies={PolicyRef(0): game.log_reference}
            )
            (step,) = player.algorithm.steps(0, ANY_DATA)
            leaf = torch.from_numpy(game.log_reference[0].copy()).requires_grad_()
            (found,) = torch.autograd.grad(player.loss(step, (step,), 0)(leaf), leaf)
            rates = torch.from_numpy(game.preference[0] @ game.reference[0])
            (aim,) = torch.autograd.grad(-2.0 * (leaf.softmax(0) @ rates), leaf)
            worst = max(worst, float((found - aim).abs().max()))
    claim = "gradient of the loss at pi_t, against that of -2 P(pi > pi_t)"
    yield vanishes(
        "spo_gradient_is_win_rate", claim, worst, 1e-12, "GR:5:1, 3 starts, hard and soft labels", "2401.04056"
    )


@over_seeds(1)
def space_reaches_data(effort: Effort) -> Iterable[Claim]:
    """One fitted round gives the data policy, for any mu; SPIN's round at beta .1 is far away."""
    game = with_random_start(built_in("GD"), effort.seed + 1)
    values = [
        float(
            log_kl(game.log_data, play(build_for_game("space", {"mu": mu}), game, "tabular", 1).log_policies[1]).max()
        )
        for mu in (0.2, 1.0, 7.0)
    ]
    spin = float(log_kl(game.log_data, exact("spin", 1, game, beta=0.1).log_policies[1]).max())
    claim = "KL(data, pi_1) after one fitted round, mu .2, 1, 7; SPIN's exact round at beta .1 beside it"
    shown = ", ".join(map(number, values)) + f"; SPIN {number(spin)}"
    yield Claim("space_reaches_data", claim, "derived from 2512.07175", "0 (< 1e-12)", shown, max(values) < 1e-12, "GD")


def t_spin_fixed_points(effort: Effort) -> Iterable[Claim]:
    """Without a reference the data policy is no fixed point."""
    game = built_in("GD")
    start = game.log_reference
    first = play(build_for_game("t_spin", {"b": 0.5, "beta": 2.0}), game, "tabular", 1).log_policies[1]
    aim = log_normalise(np.log(np.exp(game.log_data - start) + 0.5) / 2.0)
    claim = "first round: (data / pi_0 + b)^(1/beta), normalised; b .5, beta 2"
    yield vanishes("t_spin_first_round", claim, distance(first, aim), LARGEST, "GD", "derived from 2601.08198")
    end = exact("t_spin", 200, game, b=0.0, beta=2.0).log_policies[-1]
    claim = "history weight 0: the limit is data^(1 / (1 + beta)), normalised, and not the data; beta 2"
    error = distance(end, log_normalise(game.log_data / 3.0))
    note = f"GD; total variation of that limit from the data: {number(distance(end, game.log_data))}"
    yield vanishes("t_spin_limit_without_history", claim, error, 1e-10, note, "derived from 2601.08198")
    shown = []
    for beta in (1.0, 2.0):
        run = play(build_for_game("t_spin", {"b": 1.0, "beta": beta}), game, "tabular", 20).log_policies
        kls = [float(log_kl(game.log_data, policy).max()) for policy in run]
        shown.append(f"beta {beta:g}: " + ", ".join(number(kls[t]) for t in (0, 1, 5, 20)))
    claim = "history weight 1: KL(data, pi_t) of the fits at t = 0, 1, 5, 20; GD"
    yield Claim("t_spin_distance_from_data", claim, "2601.08198", "-", "; ".join(shown), None)


def tpaw_stops_short(effort: Effort) -> Iterable[Claim]:
    """TPAW ends where the answers' ratios data/pi are within the factor eta of each other."""
    game, spreads, shown = built_in("GD"), [], []
    for eta, rounds in ((1.5, 25), (3.0, 25)):
        for team in (1, 3):
            algorithm = build_for_game("tpaw", {"eta": eta, "team": team})
            last = play(algorithm, game, "tabular", rounds).log_policies[-1]
            spread = float(np.exp(np.ptp(game.log_data - last)))
            spreads.append(abs(spread / eta - 1.0))
            shown.append(f"eta {eta:g}, team {team}: {number(spread)}")
    claim = "largest over smallest ratio data/pi_25 of two answers is eta: data within that factor are not approached"
    start = float(np.exp(np.ptp(game.log_data - game.log_reference)))
    note = f"GD, beta 1, gamma .5; at the start {number(start)}, so the paper's eta 6 hardly moves there"
    yield Claim(
        "tpaw_stops_short", claim, "derived from 2605.09922", "eta (1 %)", "; ".join(shown), max(spreads) < 0.01, note
    )
    plain = play(build_for_game("tpaw", {"eta": 1.0, "team": 1}), game, "tabular", 3).log_policies
    spin = exact("spin", 3, game, beta=1.0).log_policies
    claim = "eta 1 and a team of one: the fits are SPIN's exact rounds"
    error = max(distance(one, other) for one, other in zip(plain, spin, strict=True))
    yield vanishes("tpaw_without_its_parts_is_spin", claim, error, LARGEST, "GD, beta 1, 3 rounds")


CHECKS: Checks = {
    "nash_prox": by_fits(nash_prox_rate),
    "spo": by_fits(spo_gradient),
    "space": by_fits(space_reaches_data),
    "t_spin": by_fits(t_spin_fixed_points),
    "tpaw": by_fits(tpaw_stops_short),
}
