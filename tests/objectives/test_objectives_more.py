"""Closed forms of the response, link and list losses."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from batches import two_pairs
from sparring.objectives.lists import ListNDCG, approx_ndcg, discounts, ideal_dcg, neural_ndcg, relaxed_permutation
from sparring.objectives.pairs import ChiSquaredLogistic
from sparring.objectives.responses import RegularisedResponseSquare, ResponseSquare


def batch(**changes):
    facts = {"iterate": [-1.5, -2.0], "reference": [-2.0, -2.5], "win_rates": [0.8, 0.3]}
    return two_pairs([-1.0, -3.0], **{**facts, **changes})


@pytest.mark.parametrize(("labels", "winner", "loser"), [("soft", 0.8, 0.3), ("hard", 1.0, 0.0)])
def test_sppo_value_and_gradient(labels, winner, loser):
    given_batch = batch()
    loss = ResponseSquare(4.0, labels, unit_loss=False)(given_batch)
    loss.total.backward()
    residuals = [0.5 - 4 * (winner - 0.5), -1.0 - 4 * (loser - 0.5)]
    assert loss.total.item() == pytest.approx(0.5 * sum(r * r for r in residuals))
    assert given_batch.logps_R.grad.tolist() == pytest.approx(residuals)


def test_unit_loss_divides_by_the_step_squared():
    paper, unit = (ResponseSquare(4.0, "soft", unit)(batch()).total.item() for unit in (False, True))
    assert paper == pytest.approx(16 * unit)


def test_rspo_adds_each_divergence():
    d = [1.0, -0.5]
    sppo = ResponseSquare(4.0, "soft", unit_loss=False)
    plain = sppo(batch()).total.item()
    expected = {
        "reverse_kl": sum(x * x for x in d),
        "forward_kl": sum(math.exp(-x) for x in d),
        "chi_squared": sum(math.exp(x) for x in d),
    }
    for name, value in expected.items():
        found = RegularisedResponseSquare(sppo, **{name: 0.7})(batch()).total.item()
        assert found == pytest.approx(plain + 0.7 * value)


def test_rspo_bounds_the_ratio():
    far = batch(reference=[-100.0, -2.5])
    loss = RegularisedResponseSquare(ResponseSquare(4.0), chi_squared=1.0, ratio_bound=3.0).penalty(far)
    assert loss.item() == pytest.approx(math.exp(3.0) + math.exp(-0.5))


def test_chi_po_value_and_clip():
    phi = [math.exp(1.0) + 1.0, math.exp(-0.5) - 0.5]
    loss = ChiSquaredLogistic(beta=0.5)(batch())
    assert loss.total.item() == pytest.approx(math.log1p(math.exp(-0.5 * (phi[0] - phi[1]))))
    clipped = batch()
    loss = ChiSquaredLogistic(beta=0.5, reward_bound=0.1)(clipped)
    loss.total.backward()
    assert clipped.logps_R.grad.tolist() == [0.0, 0.0]
    assert loss.metrics["reward_clipped"].tolist() == [1.0]


def exact_ndcg(scores: torch.Tensor, gains: torch.Tensor) -> float:
    order = scores.argsort(descending=True)
    return float((gains[order] * discounts(len(gains), gains)).sum() / ideal_dcg(gains))


SCORES = torch.tensor([0.3, -1.2, 2.0, 0.9, -0.4], dtype=torch.float64)
GAINS = torch.tensor([0.2, 0.9, 0.5, 0.1, 0.7], dtype=torch.float64)


def test_relaxations_become_exact():
    assert neural_ndcg(SCORES, GAINS, 1e-3).item() == pytest.approx(exact_ndcg(SCORES, GAINS), abs=1e-6)
    assert approx_ndcg(SCORES, GAINS, 1e4).item() == pytest.approx(exact_ndcg(SCORES, GAINS), abs=1e-6)


def test_the_ideal_order_does_not_have_to_be_given():
    """The authors' code assumes that lists arrive sorted by label."""
    assert neural_ndcg(GAINS, GAINS, 1e-4).item() == pytest.approx(1.0)
    assert approx_ndcg(GAINS, GAINS, 1e5).item() == pytest.approx(1.0)


@given(st.lists(st.floats(-3, 3), min_size=2, max_size=8), st.floats(0.05, 2.0))
def test_relaxed_permutations_are_doubly_stochastic(scores, temperature):
    matrix = relaxed_permutation(torch.tensor(scores, dtype=torch.float64), temperature)
    assert torch.allclose(matrix.sum(1), torch.ones(len(scores), dtype=torch.float64), atol=1e-6)
    assert float((matrix.sum(0) - 1).abs().max()) < 0.05


@pytest.mark.parametrize("form", ["neural", "approx"])
def test_list_loss_is_bounded_equivariant_and_finite_at_ties(form):
    def loss(order, logps):
        facts = {"reference": [0.0] * 4, "win_rates": [[0.9, 0.2, 0.6, 0.4][i] for i in order]}
        made = two_pairs([logps[i] for i in order], pairs=[], weights=[], terms=[], **facts)
        total = ListNDCG(form, beta=1.0)(made).total
        total.backward()
        return total.item(), made.logps_R.grad

    logps = [1.0, -1.0, 0.5, 0.5]
    first, gradient = loss([0, 1, 2, 3], logps)
    second, permuted = loss([3, 1, 0, 2], logps)
    assert -1.0 <= first <= 0.0
    assert second == pytest.approx(first, abs=1e-6)
    assert torch.allclose(gradient[[3, 1, 0, 2]], permuted, atol=1e-5)
    _, tied = loss([0, 1, 2, 3], [0.0] * 4)
    assert torch.isfinite(tied).all()
    assert tied[0] < 0 < tied[1]
