"""Claims: verdicts, the ones that take no fit, parts of the others, and the generated page."""

from __future__ import annotations

import functools
import importlib.util
import itertools
import json
import pickle
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import ranks
from sparring.algorithms.algorithm import SHIPPED, DataFacts
from sparring.algorithms.sppo import SPPO
from sparring.certificates.build import build_for_game
from sparring.certificates.claims import fits, gradients, offline, self_play, variants
from sparring.certificates.claims import pairs as pair_claims
from sparring.certificates.claims.check import CLAIMS, SYSTEMS, check
from sparring.certificates.claims.claim import Claim, Effort, agrees, distance, tabulated
from sparring.certificates.players.tabular import TabularPlayer
from sparring.certificates.players.transformer import (
    INDEX,
    PROMPTS,
    SEQUENCES,
    TEXTS,
    MatrixOracle,
    enumerate_policy,
    preference_matrix,
)
from sparring.fleet.work import Here, Shards, Work, using
from sparring.objectives.pairs import (
    AdversarialCritic,
    Batch,
    ChiSquaredLogistic,
    Loss,
    Objective,
    margins,
    relative_logps,
)
from sparring.objectives.responses import RegularisedResponseSquare, ResponseSquare
from sparring.oracles.oracle import Comparison

DOCS = Path(__file__).parents[2] / "docs"
SPAC_NAMES = ("SPAC theory, last", "SPAC smoothed", "SPAC linear")


@functools.cache
def exact(name: str) -> tuple[Claim, ...]:
    """The claims that need no fit."""
    return tuple(check(name, "exact")[0])


def failing(claims: list[Claim]) -> list[str]:
    return [
        f"{claim.algorithm} {claim.name}: {claim.measured}, not {claim.predicted}"
        for claim in claims
        if claim.holds is False
    ]


@pytest.mark.parametrize("name", [name for name, checks in CLAIMS.items() if any(c.player == "exact" for c in checks)])
def test_exact_claims_hold(name: str):
    rows = exact(name)
    assert rows
    assert not failing(list(rows))
    assert all(row.algorithm == name and row.claim and row.source and row.measured for row in rows)


CLOSED_FORMS = {
    "inpo", "comal", "mpo", "mnpo", "onpo", "egpo", "nash_md", "ipo", "dpo", "chi_po", "spin", "cpo", "simpo",
    "dpo_cov", "xpo", "nash_prox", "dno", "rebel", "space", "t_spin",
}  # fmt: skip
SQUARES = {"sppo", "rspo"}


def test_shared_claims_are_those_of_one_process():
    names = ["sppo", "ipo", "inpo"]
    alone = ranks.certified(names)
    assert [name for name, _ in alone] == names
    assert ranks.on_ranks(2, ranks.certified, names) == alone
    with using(Backwards()):
        assert ranks.certified(names) == alone


class Backwards(Here):
    """Makes the last shard first, as workers may."""

    shares = True

    def results(self, work: Work, shards: Shards) -> Iterator[tuple[int, Any]]:
        with pickle.loads(pickle.dumps(work.open))({}) as make:
            yield from [(index, make(shards.payload(index))) for index in reversed(shards.indices)]


def test_every_algorithm_has_claims_and_pair_differences_have_a_closed_form():
    assert CLAIMS.keys() == SHIPPED.keys()
    assert all(CLAIMS.values())
    assert (fits.CLOSED.keys(), fits.SQUARES.keys()) == (CLOSED_FORMS, SQUARES)


@pytest.mark.parametrize("name", gradients.STATIONARY)
def test_stationarity_where_there_is_no_closed_form(name: str):
    assert not failing(list(gradients.stationarity(name, Effort())))


@pytest.mark.parametrize("name", [*variants.CHECKS, *self_play.CHECKS])
def test_variants_and_newer_methods_are_what_they_are_on_games(name: str):
    rows = [row for family in (variants, self_play) for one in family.CHECKS.get(name, ()) for row in one.run(Effort())]
    assert rows
    assert not failing(rows)


@pytest.mark.parametrize("name", SHIPPED)
def test_gradients(name: str):
    assert not failing(list(gradients.gradient(name, Effort())))


def test_response_squares_miss_their_closed_form_by_the_stated_distance():
    rows = [*fits.response_square_aim(Effort()), *fits.rspo_square_aim(Effort())]
    rows += [row for name in ("spac", "dpo") for row in fits.data_term(name, Effort())]
    assert not failing(rows)
    assert [row.verdict for row in rows] == ["holds", "holds", "refuted", "holds", "holds"]


@pytest.mark.parametrize("name", fits.SQUARES)
def test_response_squares_go_where_lambert_says(name: str):
    assert not failing(list(fits.response_form(name, Effort(rounds=4))))


def test_both_terms_of_spac_are_what_they_were_derived_from():
    rows = list(fits.spac_terms(Effort(rounds=4)))
    assert [row.name for row in rows] == ["spac_own_term_is_spin", "spac_linear_is_explicit_critic"]
    assert not failing(rows)


class Doubled(SPPO):
    """SPPO with twice its step in the loss."""

    def squares(self) -> ResponseSquare:
        return replace(super().squares(), step_size=2 * self.step_size)


def test_a_square_minimum_notices_a_wrong_loss():
    algorithm = Doubled(step_size=0.5, pairing="iid", samples=2)
    game = fits.g3()
    fitted = TabularPlayer(algorithm, game).play(1).log_policies[1]
    assert distance(fitted, fits.square_update(algorithm, game, [game.log_reference])) > 0.01


@pytest.mark.parametrize("name", gradients.CLIPPED)
def test_gradient_batches_meet_clips_on_both_sides(name: str):
    settings = gradients.GRADIENTS[name][0 if name == "chi_po" else -1]
    objective = build_for_game(name, settings).steps(1, DataFacts(100))[0].objective
    beyond = [clipped(objective, gradients.random_batch((), seed)) for seed in range(3)]
    for sides in zip(*beyond, strict=True):
        assert (torch.cat(sides) > 0).any()
        assert (torch.cat(sides) < 0).any()


def clipped(objective: Objective, batch: Batch) -> list[torch.Tensor]:
    """How far each clip's argument is beyond it."""
    ratio = relative_logps(batch, {"reference": 1.0})
    if isinstance(objective, ChiSquaredLogistic):
        reward = objective.beta * margins(ratio.clamp_max(objective.ratio_bound).exp() + ratio, batch.pairs_P2)
        return [ratio - objective.ratio_bound, reward.abs() - 2 * objective.reward_bound]
    if isinstance(objective, AdversarialCritic):
        values = objective.beta * relative_logps(batch, {"iterate": 1.0})
        return [values - objective.bound, -values - objective.bound]
    assert isinstance(objective, RegularisedResponseSquare)
    return [ratio - objective.ratio_bound, -ratio - objective.ratio_bound]


def test_pairs_of_two_policies_bias_a_step():
    rows = [row for name in ("inpo", "nash_md", "egpo") for row in pair_claims.two_policies(name, Effort())]
    assert not failing([*rows, *pair_claims.inpo_proposition_6(Effort()), *pair_claims.sppo_labels_shrink(Effort())])


def test_enumerated_pairs_are_those_of_the_sampled_player():
    algorithm = build_for_game("inpo", {"pairing": "best_worst", "samples": 4})
    game = pair_claims.g3()
    enumerated = pair_claims.EnumeratedPlayer(algorithm, game).play(1).policies[1]
    sampled = pair_claims.SampledPlayer(algorithm, game, prompts=4000).play(1).policies[1]
    assert np.abs(enumerated - sampled).sum() / 2 < 0.02


def selected(pairing: str, actions: tuple[int, ...], beats: np.ndarray) -> tuple[int, int] | None:
    """Winner and loser of eight actions, written apart from the library."""
    if pairing == "best_worst":
        rates = [sum(beats[a, b] for b in actions) for a in actions]
        pair = actions[rates.index(max(rates))], actions[rates.index(min(rates))]
        return None if max(rates) == min(rates) else pair
    winners, losers = list(actions), list(actions)
    while len(winners) > 1:
        winners = [a if beats[a, b] >= 0.5 else b for a, b in zip(winners[::2], winners[1::2], strict=True)]
        losers = [b if beats[a, b] >= 0.5 else a for a, b in zip(losers[::2], losers[1::2], strict=True)]
    return (winners[0], losers[0]) if beats[winners[0], losers[0]] > 0.5 else None


@pytest.mark.parametrize(
    ("pairing", "step", "limits"),
    [("best_worst", ".0672", (".102", ".162", ".265")), ("knockout", ".0679", (".087", ".252", ".368"))],
)
def test_selected_pairs_by_another_enumeration(pairing: str, step: str, limits: tuple[str, ...]):
    """Weighted least squares on every tuple, without the library's pairing or fit, give the predicted values."""
    game = pair_claims.g3()
    matrix, log_reference = game.preference[0], game.log_reference[0]
    tuples = list(itertools.product(range(3), repeat=8))
    found = [(t, pair) for t in tuples if (pair := selected(pairing, t, matrix)) is not None and pair[0] != pair[1]]
    counts = np.array([[t.count(k) for k in range(3)] for t, _ in found])
    pairs = np.array([pair for _, pair in found])
    rows = np.eye(3)[pairs[:, 0]] - np.eye(3)[pairs[:, 1]]

    def fitted(u: np.ndarray, reference: np.ndarray, eta: float, tau: float) -> np.ndarray:
        anchor = tau / eta * reference + (1 - tau / eta) * u
        root = np.exp(counts @ u / 2)[:, None]
        moved = anchor + np.linalg.lstsq(root * rows, np.full(len(rows), 1 / (2 * eta)) * root[:, 0], rcond=None)[0]
        return moved - np.log(np.exp(moved).sum())

    start = pair_claims.START[0]
    exact = start + matrix @ np.exp(start)
    apart = np.exp(fitted(start, start, 1.0, 1 / 3)) - np.exp(exact) / np.exp(exact).sum()
    assert agrees(np.abs(apart).sum() / 2, step)
    for (eta, tau), text in zip(((1.0, 1 / 3), (1.0, 0.1), (0.3, 0.1)), limits, strict=True):
        u = log_reference
        for _ in range(60):
            u = fitted(u, log_reference, eta, tau)
        target = pair_claims.regularised_target(tau)[0]
        assert agrees(np.abs(np.exp(u) - target).sum() / 2, text)


def test_spac_beats_the_data_policy_on_one_data_set_of_the_sparse_bandit():
    found = offline.table((400,), 1, seed=1)
    for name in SPAC_NAMES:
        assert found[name][400][0] < found["data policy"][400][0] - 0.4


@pytest.mark.more
def test_spac_beats_the_data_policy_on_the_sparse_bandit():
    found = offline.table((400,), 2)
    for name in SPAC_NAMES:
        assert np.mean(found[name][400]) < np.mean(found["data policy"][400]) - 0.4
    wins, even, losses = offline.verdicts(found)
    assert wins + even + len(losses) == 2 * 13


# ---------------------------------------------------------------- verdicts


def test_methods_are_compared_data_set_by_data_set():
    rows = {"SPAC smoothed": (0.1, 0.2), "SPAC linear": (0.5, 0.6), "DPO, beta 1": (0.3, 0.4), "greedy": (0.0, 1.0)}
    wins, even, losses = offline.verdicts({name: {100: values} for name, values in rows.items()})
    assert (wins, even) == (1, 2)
    assert losses == ["SPAC linear against DPO, beta 1 at n=100 (0.20 +- 0.00)"]


def test_digits_decide():
    assert agrees(0.0768675, ".0769")
    assert not agrees(0.0770, ".0769")
    assert agrees(4.349e-5, "4.35e-5")
    row = tabulated("name", "claim", "source", [("T=1", ".10", 0.104), ("T=2", ".20", 0.21)])
    assert (row.holds, row.verdict) == (False, "FAILS")
    assert replace(row, holds=None).verdict == "measured"
    assert replace(row, holds=True).verdict == "holds"
    assert replace(row, holds=True, refutes=True).verdict == "refuted"
    assert replace(row, holds=False, refutes=True).verdict == "FAILS"


class Detached:
    """A square whose gradient is wrong by a constant factor."""

    def __call__(self, batch: Batch) -> Loss:
        return Loss((batch.logps_R * batch.logps_R.detach()).sum())


def test_a_wrong_gradient_is_noticed():
    assert gradients.gradient_error(Detached(), (), 0) > 0.1


def test_a_class_of_ones_own_is_checked():
    rows, _ = check("sparring.algorithms.inpo:INPO", "tabular", rounds=2)
    assert [row.name for row in rows] == ["fit_is_closed_form", "loss_gradient"]
    assert not failing(list(rows))


def test_an_entry_in_the_table_is_enough(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(SHIPPED, "mine", "sparring.algorithms.inpo:INPO")
    rows, _ = check("mine", "tabular", rounds=2)
    assert [row.name for row in rows] == ["fit_is_closed_form", "loss_gradient"]
    assert not failing(list(rows))


# ---------------------------------------------------------------- the transformer's game


def test_the_response_space_is_complete():
    assert len(SEQUENCES) == len(set(SEQUENCES)) == len(set(TEXTS)) == 1 + 15 + 225
    assert [TEXTS.index(text) for text in ("", "a", "ab")] == [INDEX[""], INDEX["a"], INDEX["ab"]]


def test_the_matrix_oracle_is_a_preference():
    matrix = preference_matrix(PROMPTS[0], 0)
    assert np.abs(matrix + matrix.T - 1).max() < 1e-12
    assert not np.array_equal(matrix, preference_matrix(PROMPTS[1], 0))
    oracle = MatrixOracle(0)
    asked = [Comparison(PROMPTS[0], "ab", "c"), Comparison(PROMPTS[0], "c", "ab"), Comparison("?", "longer", "a")]
    first, second, unknown = oracle.judge(asked)
    assert first == pytest.approx(1 - second) == matrix[INDEX["ab"], INDEX["c"]]
    assert unknown == 0.5
    assert oracle.identity != MatrixOracle(1).identity


def test_enumeration_matches_the_models_own_logits(tmp_path: Path):
    from transformers import AutoModelForCausalLM

    from sparring.certificates.players.transformer import write_model

    write_model(tmp_path, 0)
    model = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    prompt = [0, 1, 15]
    probabilities = np.exp(enumerate_policy(model, [prompt])[0])
    assert probabilities.sum() == pytest.approx(1.0)
    with torch.no_grad():
        first = model(torch.tensor([prompt])).logits[0, -1].softmax(-1)
        after = model(torch.tensor([[*prompt, 3]])).logits[0, -1].softmax(-1)
    assert probabilities[0] == pytest.approx(float(first[15]), abs=1e-6)
    assert probabilities[INDEX["d"]] == pytest.approx(float(first[3] * after[15]), abs=1e-6)
    assert probabilities[INDEX["da"]] == pytest.approx(float(first[3] * after[0]), abs=1e-6)


# ---------------------------------------------------------------- the page


def test_the_page_is_generated_from_its_data():
    spec = importlib.util.spec_from_file_location("make_certificates", DOCS / "make_certificates.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    data = json.loads((DOCS / "certificates.json").read_text(encoding="utf-8"))
    message = "run: python docs/make_certificates.py --cached"
    assert (DOCS / "certificates.md").read_text(encoding="utf-8") == module.page(data), message
    assert not failing(module.claims_of(data))
    assert {row["algorithm"] for row in data["claims"]} == SHIPPED.keys() | SYSTEMS.keys()
    stored = {(row["algorithm"], row["name"]) for row in data["claims"]}
    now = {(row.algorithm, row.name) for name in SHIPPED for row in exact(name)}
    assert now <= stored
