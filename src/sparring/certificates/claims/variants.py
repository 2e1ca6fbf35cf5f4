"""Claims about DPO's variants and about unpaired labels, where these have a closed form on a game.

Robust DPO undoes flipped labels, cDPO is DPO on them, f-DPO and ORPO put the link of the policy at the reward, NCA
doubles what wins, DPO-COV overshoots clear majorities, and KTO turns at a share of desirable labels. Leaves out: other
shapes (`gradients.py`).

    [claim.measured for claim in dpo_variants(Effort())]
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import torch

from sparring.algorithms.algorithm import ANY_DATA
from sparring.certificates.build import build_for_game
from sparring.certificates.certify import play
from sparring.certificates.claims.claim import (
    Checks,
    Claim,
    Effort,
    by_fits,
    distance,
    g3,
    number,
    over_seeds,
    vanishes,
)
from sparring.certificates.claims.fits import LARGEST, fit_error, with_random_start
from sparring.games.built_in import built_in
from sparring.games.game import Array, Game
from sparring.games.probabilities import log_normalise, win_rates
from sparring.objectives.pairs import Batch
from sparring.objectives.responses import DESIRABLE, UNDESIRABLE
from sparring.objectives.variants import CorruptedLogistic, Link, linked

FLIPS = 0.2
BETA = 0.5


def flipped(game: Game) -> Game:
    """The game whose verdicts are turned round with probability `FLIPS`."""
    return replace(game, preference=(1 - FLIPS) * game.preference + FLIPS * (1 - game.preference))


@over_seeds(1)
def dpo_variants(effort: Effort) -> Iterable[Claim]:
    """Noisy labels, divergences and NCA."""
    game = with_random_start(built_in("GBT:5:2"), effort.seed + 1)
    assert game.rewards is not None
    rewards = game.rewards
    robust = build_for_game("dpo", {"label_smoothing": FLIPS, "robust": True})
    worst = fit_error(robust, flipped(game), 3, lambda g, past: log_normalise(past[-1] + rewards / BETA))
    claim = f"robust DPO, labels flipped with probability {FLIPS}: the fit of DPO on the true ones, pi_t exp(r / beta)"
    yield vanishes("robust_dpo_undoes_flips", claim, worst, LARGEST, "GBT:5:2, 3 rounds", "2403.00409")

    smoothed = play(build_for_game("dpo", {"label_smoothing": FLIPS}), game, "tabular", 3)
    noisy = play(build_for_game("dpo", {}), flipped(game), "tabular", 3)
    claim = "conservative DPO (label smoothing): the fit of DPO on labels flipped with that probability"
    error = distance(smoothed.log_policies, noisy.log_policies)
    yield vanishes("smoothing_is_flipped_labels", claim, error, LARGEST, "GBT:5:2, 3 rounds")

    for divergence, alpha in (("forward_kl", 0.5), ("js", 0.5), ("alpha", 0.3)):
        settings = {"divergence": divergence, **({"divergence_alpha": alpha} if divergence == "alpha" else {})}
        policy = play(build_for_game("dpo", {**settings, "beta": 1.0}), game, "tabular", 1).log_policies
        yield from _reward_is_link(divergence, divergence, policy[1] - policy[0], rewards, alpha)  # type: ignore[arg-type]

    def doubled(g: Game, past: Sequence[Array]) -> Array:
        return log_normalise(past[-1] + np.log(2.0 * win_rates(g.preference, np.exp(past[-1]))))

    nca = build_for_game("dpo", {"loss": "nca", "beta": 1.0})
    worst = max(fit_error(nca, with_random_start(g3(), seed), 5, doubled) for seed in range(3))
    claim = "NCA at beta 1 on own i.i.d. pairs: pi_{t+1} = 2 P(y > pi_t) pi_t, which needs no normaliser"
    nca_row = vanishes(
        "nca_doubles_what_wins", claim, worst, LARGEST, "G3, 3 starts, 5 rounds", "derived from 2402.05369"
    )
    yield replace(nca_row, seeds=3)


def _reward_is_link(name: str, link: Link, log_ratio: Array, rewards: Array, alpha: float) -> Iterable[Claim]:
    """Minimum on Bradley-Terry labels: f'(pi/ref) is the reward up to a constant."""
    values = linked(torch.from_numpy(log_ratio[0]), link, alpha).numpy() - rewards[0]
    claim = f"{name} on Bradley-Terry labels, beta 1: link of the fitted policy less reward is one number (its spread)"
    source = "2403.07691" if link == "odds" else "2309.16240"
    yield vanishes(f"link_is_reward_{name}", claim, float(np.ptp(values)), 1e-6, "GBT:5:2", f"derived from {source}")


@over_seeds(1)
def orpo_odds(effort: Effort) -> Iterable[Claim]:
    """ORPO without its likelihood term: log odds are the reward."""
    game = with_random_start(built_in("GBT:5:2"), effort.seed + 1)
    assert game.rewards is not None
    policy = play(build_for_game("orpo", {"sft_weight": 0.0}), game, "tabular", 1).log_policies
    yield from _reward_is_link("odds", "odds", policy[1], game.rewards, 0.5)


@over_seeds(1)
def likelihood_term(name: str, effort: Effort) -> Iterable[Claim]:
    """The winner's likelihood alone, which a pair term of weight nearly 0 leaves: the law of winners."""
    game = with_random_start(g3(), effort.seed + 1)
    settings = {"cpo": {"beta": 1e-7, "sft_weight": 1.0}, "orpo": {"odds_weight": 1e-9, "sft_weight": 1.0}}[name]

    def winners(g: Game, past: Sequence[Array]) -> Array:
        return log_normalise(past[-1] + np.log(2.0 * win_rates(g.preference, np.exp(past[-1]))))

    worst = fit_error(build_for_game(name, settings), game, 3, winners)
    claim = "with hardly any pair term: maximum likelihood of own winners, 2 P(y > pi_t) pi_t"
    yield vanishes("likelihood_term_fits_winners", claim, worst, 1e-5, "G3, 3 rounds")


@over_seeds(1)
def dpo_cov_noise(effort: Effort) -> Iterable[Claim]:
    """DPO-COV's noise: the best one for each pair, and what it makes of a majority."""
    worst, noise = 0.0, np.linspace(-12.0, 12.0, 240_001)
    for weight in (0.2, 0.5, 0.7, 1.0):
        objective = CorruptedLogistic({}, 1.0, weight)
        for margin in (-6.0, -0.7, 0.0, 0.4, 3.0):
            searched = (weight * np.abs(noise) + np.logaddexp(0.0, -(margin + noise))).min()
            worst = max(worst, abs(float(objective(_one_pair(margin)).total) - searched))
    claim = "the loss is the least, over the noise of a label, of the likelihood with it and lambda times its size"
    note = "lambda .2, .5, .7, 1; 5 margins; the least on a grid of 1e-4"
    yield vanishes("dpo_cov_noise_is_best", claim, worst, 1e-8, note, "2510.05526, Prop. 1")

    start, (likely, weight) = np.log(np.full((1, 2), 0.5)), (0.9, 0.7)
    game = Game("two", np.array([[[0.5, likely], [1 - likely, 0.5]]]), np.exp(start), None, None, np.ones(1))
    policy = play(build_for_game("dpo_cov", {"lambda": weight, "beta": 1.0}), game, "tabular", 1).log_policies[1][0]
    pull = (1 - likely) * weight / likely
    aim = np.log(1 / pull - 1)
    claim = "two answers, P = .9 > lambda = .7, beta 1: log odds of the fit log(P/((1 - P) lambda) - 1), less that"
    note = f"{number(float(aim))}, where DPO's are logit P = {number(float(np.log(likely / (1 - likely))))}"
    note += ": the minority counts as noise, in part, and a majority above lambda is overshot"
    error = abs(float(policy[0] - policy[1]) - float(aim))
    yield vanishes("dpo_cov_overshoots_majorities", claim, error, 1e-6, note, "derived from 2510.05526")


def _one_pair(margin: float) -> Batch:
    """One pair of two responses whose log-probabilities are `margin` apart."""
    zeros = torch.zeros(2, dtype=torch.float64)
    return Batch(
        logps_R=torch.tensor([margin, 0.0], dtype=torch.float64),
        anchor_logps={},
        lengths_R=torch.ones(2, dtype=torch.long),
        example_R=torch.zeros(2, dtype=torch.long),
        roles=("own", "own"),
        win_rates_R=zeros,
        pairs_P2=torch.tensor([[0, 1]]),
        preference_P=zeros[:1],
        weight_P=torch.ones(1, dtype=torch.float64),
        term_P=torch.zeros(1, dtype=torch.long),
    )


def kto_threshold(effort: Effort) -> Iterable[Claim]:
    """KTO raises an answer where its share of desirable labels is above lambda_U / (lambda_D + lambda_U)."""
    rows, holds = [], True
    for settings in ({}, {"lambda_D": 1.5, "lambda_U": 0.5}, {"lambda_D": 0.4}):
        algorithm = build_for_game("kto", settings)
        objective = algorithm.steps(0, ANY_DATA)[0].objective
        up, down = algorithm.desirable_weight, algorithm.undesirable_weight  # type: ignore[attr-defined]
        share = down / (up + down)
        beta = algorithm.beta  # type: ignore[attr-defined]
        for desirable in (0.25, 0.5, 0.75):
            moved = float(_answer_gradient(objective, desirable))
            expected = -beta / 4 * (up * desirable - down * (1 - desirable))
            holds &= abs(moved - expected) < 1e-12
        rows.append(f"({up:g}, {down:g}): {number(share)}")
    claim = "gradient at the reference, a share q of labels desirable: -beta/4 (lambda_D q - lambda_U (1 - q))"
    note = "so an answer is raised where q > lambda_U / (lambda_D + lambda_U): " + ", ".join(rows)
    yield Claim(
        "kto_threshold", claim, "derived from 2402.01306", "equal (< 1e-12)", "equal" if holds else "not", holds, note
    )


def _answer_gradient(objective: object, desirable: float) -> float:
    """Derivative, by the log-probability of one answer, of the mean loss over 100 labels of it."""
    count, total = round(100 * desirable), 100
    leaf = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    zeros = torch.zeros(total, dtype=torch.float64)
    batch = Batch(
        logps_R=leaf.expand(total),
        anchor_logps={"reference": zeros, "iterate": zeros},
        lengths_R=torch.ones(total, dtype=torch.long),
        example_R=torch.arange(total),
        roles=(DESIRABLE,) * count + (UNDESIRABLE,) * (total - count),
        win_rates_R=zeros,
        pairs_P2=torch.zeros((0, 2), dtype=torch.long),
        preference_P=zeros[:0],
        weight_P=zeros[:0],
        term_P=torch.zeros(0, dtype=torch.long),
    )
    (gradient,) = torch.autograd.grad(objective(batch).total / total, leaf)  # type: ignore[operator]
    return float(gradient)


CHECKS: Checks = {
    "dpo": by_fits(dpo_variants),
    "dpo_cov": by_fits(dpo_cov_noise),
    "cpo": by_fits(lambda effort: likelihood_term("cpo", effort)),
    "orpo": by_fits(orpo_odds, lambda effort: likelihood_term("orpo", effort)),
    "kto": by_fits(kto_threshold),
}
