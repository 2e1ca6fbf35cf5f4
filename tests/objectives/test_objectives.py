"""Closed-form values and gradients of every loss, on numbers small enough to check by hand."""

from __future__ import annotations

import math

import pytest
import torch

from batches import two_pairs
from sparring.algorithms.algorithm import DataFacts
from sparring.algorithms.dpo import DPO
from sparring.algorithms.inpo import INPO
from sparring.algorithms.ipo import IPO
from sparring.algorithms.spac import SPAC
from sparring.algorithms.spin import SPIN
from sparring.objectives.pairs import DATA, PESSIMISM, AdversarialCritic, PairLogistic, PairSquare

DATA_FACTS = DataFacts(num_examples=400)


def sigmoid(z: float) -> float:
    return 1 / (1 + math.exp(-z))


def test_logistic_value_and_gradient():
    batch = two_pairs([-1.0, -3.0], reference=[-2.0, -2.5])
    loss = PairLogistic({"reference": 1.0}, beta=0.5)(batch)
    loss.total.backward()
    margin = (-1.0 + 3.0) - (-2.0 + 2.5)
    assert loss.total.item() == pytest.approx(-math.log(sigmoid(0.5 * margin)))
    slope = -0.5 * sigmoid(-0.5 * margin)
    assert batch.logps_R.grad.tolist() == pytest.approx([slope, -slope])
    assert loss.metrics["margin"].tolist() == pytest.approx([margin])


def test_soft_logistic_is_the_expectation_over_verdicts():
    p = 0.7
    soft = PairLogistic({"reference": 1.0}, 0.5, soft=True)(two_pairs([-1.0, -3.0], reference=[-2, -2.5], preference=p))
    won = PairLogistic({"reference": 1.0}, 0.5)(two_pairs([-1.0, -3.0], reference=[-2, -2.5]))
    lost = PairLogistic({"reference": 1.0}, 0.5)(two_pairs([-3.0, -1.0], reference=[-2.5, -2]))
    assert soft.total.item() == pytest.approx(p * won.total.item() + (1 - p) * lost.total.item())


@pytest.mark.parametrize("unit", [True, False])
@pytest.mark.parametrize(("target", "label"), [("hard", 0.5), ("soft", 0.7 - 0.5), ("win_rate", 0.8 - 0.3)])
def test_square_value_and_gradient(target, label, unit):
    batch = two_pairs(
        [-1.0, -3.0],
        reference=[-2.0, -2.5],
        iterate=[-1.5, -2.0],
        preference=0.7,
        win_rates=[0.8, 0.3],
    )
    loss = PairSquare({"reference": 0.25, "iterate": 0.75}, step_size=4.0, target=target, unit_loss=unit)(batch)
    loss.total.backward()
    residual = 2.0 - 0.25 * 0.5 - 0.75 * 0.5 - 4.0 * label
    scale = 1 / 16 if unit else 1.0
    assert loss.total.item() == pytest.approx(scale * residual**2)
    assert batch.logps_R.grad.tolist() == pytest.approx([2 * scale * residual, -2 * scale * residual])


def critic_batch():
    """chosen, rejected, own; iterate log-probabilities zero, so ratios are the log-probabilities."""
    return two_pairs(
        [0.3, -0.2, 0.9],
        iterate=[0.0, 0.0, 0.0],
        pairs=[(0, 1), (0, 2), (1, 2)],
        weights=[1.0, 0.5, 0.5],
        terms=[DATA, PESSIMISM, PESSIMISM],
    )


def test_spac_smoothed_is_dpo_plus_spin():
    loss = AdversarialCritic(beta=2.0, data_weight=3.0, pessimism_weight=1.0)(critic_batch())
    ell = lambda z: -math.log(sigmoid(z))  # noqa: E731
    data, own = ell(2 * 0.5), 0.5 * (ell(2 * (0.3 - 0.9)) + ell(2 * (-0.2 - 0.9)))
    assert loss.total.item() == pytest.approx((3 * data + own) / 4)


def test_spac_linear_lowers_own_answers_and_is_bounded():
    objective = AdversarialCritic(2.0, 3.0, 1.0, form="linear", bound=1.0)
    batch = critic_batch()
    loss = objective(batch)
    loss.total.backward()
    f = [0.6, -0.4, 1.0]  # 2 * 0.9 is clamped
    data = -math.log(sigmoid(f[0] - f[1]))
    assert loss.total.item() == pytest.approx((3 * data + f[2] - (f[0] + f[1]) / 2) / 4)
    assert float(batch.logps_R.grad[2]) == 0.0  # at the bound nothing more is to be gained
    assert float(loss.metrics["critic_at_bound"].mean()) == pytest.approx(1 / 3)


def test_without_pessimism_spac_is_dpo_against_the_iterate():
    spac = AdversarialCritic(0.7, 5.0, 0.0)(critic_batch())
    dpo = PairLogistic({"iterate": 1.0}, 0.7)(two_pairs([0.3, -0.2], iterate=[0.0, 0.0]))
    assert spac.total.item() == pytest.approx(dpo.total.item())


def only_objective(algorithm, t=0):
    return algorithm.steps(t, DATA_FACTS)[0].objective


def test_alpha_zero_is_spin_and_alpha_one_a_fixed_reference():
    logps = {"reference": [-2.0, -2.5], "iterate": [-1.5, -2.0]}
    spin = PairLogistic({"iterate": 1.0}, 0.1)(two_pairs([-1.0, -3.0], **logps))
    fixed = PairLogistic({"reference": 1.0}, 0.1)(two_pairs([-1.0, -3.0], **logps))
    assert only_objective(SPIN(alpha=0.0), 3)(two_pairs([-1.0, -3.0], **logps)).total.item() == spin.total.item()
    assert only_objective(SPIN(alpha=1.0), 3)(two_pairs([-1.0, -3.0], **logps)).total.item() == fixed.total.item()


def test_inpo_without_tau_has_no_reference_term():
    objective = only_objective(INPO(step_size=4.0, kl_to_reference=0.0))
    values = {
        objective(two_pairs([-1.0, -3.0], reference=[r, 0.0], iterate=[-1.5, -2.0])).total.item() for r in (0.0, 50.0)
    }
    assert len(values) == 1


def test_inpo_weights_belong_to_reference_and_iterate():
    """A published table swaps them: tau/eta is the reference's."""
    objective = only_objective(INPO(step_size=10.0, kl_to_reference=0.03))
    assert objective.anchors == pytest.approx({"reference": 0.3, "iterate": 0.7})
    assert only_objective(INPO()).anchors["reference"] == pytest.approx(1 / 3)


def test_inpo_schedule_of_theorem_4():
    algorithm = INPO(schedule="theorem", kl_to_reference=0.1)
    assert [algorithm.step_size_at(t) for t in (0, 1, 8)] == pytest.approx([10.0, 2 / 0.3, 2.0])


@pytest.mark.parametrize(
    ("algorithm", "expected"),
    [
        (DPO(), math.log(2)),
        (SPIN(alpha=0.4), math.log(2)),
        (INPO(step_size=4.0, kl_to_reference=0.1, unit_loss=False), 4.0),
        (INPO(step_size=4.0, kl_to_reference=0.1), 0.25),
        (IPO(kl_to_reference=0.1, unit_loss=False), 25.0),
    ],
)
def test_first_loss_is_its_closed_form(algorithm, expected):
    same = [-1.25, -3.5]
    assert only_objective(algorithm)(two_pairs(same, reference=same, iterate=same)).total.item() == pytest.approx(
        expected
    )


def test_spac_first_loss():
    objective = only_objective(SPAC())
    assert objective.data_weight == pytest.approx(20.0)
    batch = two_pairs([-1.0, -2.0, -3.0], iterate=[-1.0, -2.0, -3.0], pairs=[(0, 1), (0, 2), (1, 2)],
                      weights=[1, 0.5, 0.5], terms=[DATA, PESSIMISM, PESSIMISM])  # fmt: skip
    assert objective(batch).total.item() == pytest.approx(math.log(2))


def test_losses_add_up_over_examples():
    """The sum over a big batch is the sum of its parts, so micro-batches cannot change a gradient."""
    objective = PairSquare({"reference": 1.0}, 3.0)
    one = objective(two_pairs([-1.0, -3.0], reference=[-2.0, -2.5])).total
    other = objective(two_pairs([-4.0, -2.0], reference=[-1.0, -2.0])).total
    both = objective(two_pairs([-1.0, -3.0, -4.0, -2.0], reference=[-2.0, -2.5, -1.0, -2.0], pairs=[(0, 1), (2, 3)]))
    assert torch.allclose(both.total, one + other)


def test_shapes_are_checked_in_tests():
    """The import hook in conftest is on: a response too few is caught where the batch is made."""
    from dataclasses import replace

    batch = two_pairs([-1.0, -3.0], reference=[-2.0, -2.5])
    with pytest.raises(Exception, match=r"(?i)type|shape"):
        replace(batch, win_rates_R=batch.win_rates_R[:1])
