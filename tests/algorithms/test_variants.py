"""DPO's variants by fields: which objective they choose, and which fields are refused beside which."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from batches import two_pairs
from sparring.algorithms.algorithm import ANY_DATA, build_algorithm
from sparring.objectives.pairs import Objective, PairLogistic, only_differences
from sparring.objectives.variants import PairVariant


def objective(**section: Any) -> Objective:
    return build_algorithm({"name": "dpo", **section}).steps(0, ANY_DATA)[0].objective


def test_plain_dpo_keeps_its_own_objective() -> None:
    assert objective(beta=0.3) == PairLogistic({"reference": 1.0}, 0.3)
    assert objective(reference="none") == PairLogistic({}, 0.1)
    assert isinstance(objective(margin=0.5), PairVariant)


def test_a_plain_variant_is_dpo() -> None:
    batch = two_pairs([-1.0, -3.0], reference=[-2.0, -2.5], preference=0.7)
    for soft in (False, True):
        plain, variant = PairLogistic({"reference": 1.0}, 0.5, soft), PairVariant({"reference": 1.0}, 0.5, soft=soft)
        assert variant(batch).total.item() == pytest.approx(plain(batch).total.item())


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"loss": "nca", "per_token": True}, "per_token = True with loss = 'nca', which does not use it"),
        ({"loss": "bco", "margin": 1.0}, "give loss: logistic or hinge or exo or discopop"),
        ({"loss": "apo_zero", "divergence": "js"}, "divergence = 'js' with loss = 'apo_zero'"),
        ({"loss": "hinge", "label_smoothing": 0.1}, "give loss: logistic or exo"),
        ({"loss": "hinge", "source": "own", "soft_labels": True}, "soft_labels = True with loss = 'hinge'"),
        ({"loss": "exo"}, "label_smoothing = 0 with loss = 'exo', which needs it: give a share, such as 0.001"),
        ({"robust": True}, "label_smoothing = 0 with robust = true"),
        ({"label_smoothing": 0.5}, "less than 0.5"),
        ({"source": "own", "soft_labels": True, "label_smoothing": 0.1}, "leave one of them out"),
        ({"divergence": "js", "reference": "none"}, "give reference: start or iterate"),
        ({"divergence": "alpha", "divergence_alpha": 1.0}, "is the reverse KL: leave both out"),
        ({"divergence_alpha": 0.3}, "divergence_alpha = 0.3 with divergence = 'reverse_kl'"),
        ({"discopop_temperature": 0.1}, "with loss = 'logistic', which does not use it"),
        ({"loss": "aot"}, "logistic"),
        ({"name": "simpo", "reference": "start"}, "none"),
        ({"name": "simpo", "loss": "nca"}, "per_token = True with loss = 'nca'"),
        ({"name": "orpo", "source": "own", "soft_labels": True}, "whose labels are verdicts"),
        ({"name": "chi_po", "reference": "none"}, "start"),
        ({"name": "dpo_cov", "reference": "none"}, "start"),
        ({"name": "dpo_cov", "soft_labels": True}, "its labels are verdicts, some of them wrong: leave it out"),
        ({"name": "dpo_cov", "noise_weight": 1.5}, "less than or equal to 1"),
        ({"name": "kto", "beta": 0.0}, "greater than 0"),
        ({"name": "kto", "source": "own"}, "Extra inputs"),
        ({"name": "mnpo", "weights": [0.6, 0.3]}, "they sum to 0.9, but must sum to 1. In this ratio: [0.666666667"),
        ({"name": "mnpo", "weights": [0.0, 1.0]}, "the first (iterate's) positive"),
    ],
)
def test_fields_that_do_not_apply_are_refused(section: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        build_algorithm({"name": "dpo", **section})
    assert message in str(caught.value)


def test_which_variants_see_only_differences() -> None:
    """Pairs of identical responses are dropped where they have no gradient, and only there."""
    for fields, expected in (
        ({}, True),
        ({"loss": "hinge"}, True),
        ({"loss": "nca"}, False),
        ({"sft_weight": 0.1}, False),
    ):
        batch = two_pairs([-1.5, -1.5], reference=[-2.0, -2.0])
        chosen = objective(**fields)
        chosen(batch).total.backward()
        assert only_differences(chosen) is expected
        # The gradient of two responses that are one and the same is the sum of both entries.
        assert (float(batch.logps_R.grad.sum()) == 0.0) is expected
    assert only_differences(build_algorithm({"name": "ipo", "per_token": True}).steps(0, ANY_DATA)[0].objective)


@pytest.mark.parametrize("loss", ["logistic", "hinge", "nca", "bco", "apo_zero", "apo_down", "discopop"])
@pytest.mark.parametrize("far", [1e3, -1e3])
def test_far_margins_stay_finite(loss: str, far: float) -> None:
    """Float32: TRL's DiscoPOP is NaN from a margin of -89 on."""
    logps = torch.tensor([far, -far], requires_grad=True)
    batch = two_pairs([0.0, 0.0], reference=[0.0, 0.0])
    value = PairVariant({}, 1.0, shape=loss)  # type: ignore[arg-type]
    from dataclasses import replace

    total = value(replace(batch, logps_R=logps)).total
    total.backward()
    assert torch.isfinite(total)
    assert torch.isfinite(logps.grad).all()


@pytest.mark.parametrize("divergence", ["forward_kl", "js", "alpha"])
def test_far_log_ratios_stay_finite(divergence: str) -> None:
    batch = two_pairs([-200.0, 200.0], reference=[0.0, 0.0])
    total = objective(divergence=divergence)(batch).total
    total.backward()
    assert torch.isfinite(total)
    assert torch.isfinite(batch.logps_R.grad).all()


def test_a_certain_answer_has_finite_odds() -> None:
    batch = two_pairs([0.0, -1.0])
    loss = build_algorithm({"name": "orpo"}).steps(0, ANY_DATA)[0].objective(batch).total
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(batch.logps_R.grad).all()


@pytest.mark.parametrize("z", [-30.0, -2.0, -0.5, 0.0, 0.5, 3.0])
@pytest.mark.parametrize("noise_weight", [0.2, 0.7, 1.0])
def test_no_pair_of_dpo_cov_pulls_with_more_than_lambda(z: float, noise_weight: float) -> None:
    """The winner is two tokens shorter, so that beta D is 0.4 above z."""
    fields = {"name": "dpo_cov", "beta": 0.5, "noise_weight": noise_weight, "pessimism": 0.3, "length_penalty": 0.2}
    batch = replace(two_pairs([2 * (z + 0.4), 0.0], reference=[0.0, 0.0]), lengths_R=torch.tensor([1, 3]))
    loss = build_algorithm(fields).steps(0, ANY_DATA)[0].objective(batch)
    loss.total.backward()
    pull = min(noise_weight, 1 / (1 + math.exp(z)))
    assert batch.logps_R.grad is not None
    assert batch.logps_R.grad.tolist() == pytest.approx([-0.5 * (pull + 0.3), 0.5 * pull], abs=1e-12)
    assert loss.metrics["label_noisy"].item() == (noise_weight < 1 / (1 + math.exp(z)))


def test_dpo_cov_without_its_three_parts_is_dpo() -> None:
    fields = {"name": "dpo_cov", "beta": 0.3, "noise_weight": 1, "pessimism": 0, "length_penalty": 0}
    batch = replace(two_pairs([-1.0, -3.0], reference=[-2.0, -2.5]), lengths_R=torch.tensor([1, 3]))
    found = build_algorithm(fields).steps(0, ANY_DATA)[0].objective
    assert found(batch).total.item() == objective(beta=0.3)(batch).total.item()
    assert only_differences(found)
    assert not only_differences(build_algorithm({"name": "dpo_cov"}).steps(0, ANY_DATA)[0].objective)
