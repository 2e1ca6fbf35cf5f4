"""Losses and gradients agree with TRL's on the same log-probabilities; its numbers are in trl_values.json."""

from __future__ import annotations

import importlib.util
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from sparring.algorithms.algorithm import ANY_DATA, build_algorithm
from sparring.objectives.pairs import Batch

FILE = Path(__file__).with_name("trl_values.json")
TRL = json.loads(FILE.read_text(encoding="utf-8"))
GIVEN, LOSSES = TRL["given"], TRL["losses"]
NO_REFERENCE = {"reference": "none"}

OURS: dict[str, dict[str, Any]] = {
    "sigmoid": {"name": "dpo"},
    "hinge": {"name": "dpo", "loss": "hinge"},
    "ipo": {"name": "ipo", "kl_to_reference": 0.1, "per_token": True, "unit_loss": False},
    "exo_pair": {"name": "dpo", "loss": "exo", "label_smoothing": 0.001},
    "nca_pair": {"name": "dpo", "loss": "nca"},
    "robust": {"name": "dpo", "label_smoothing": 0.1, "robust": True},
    "bco_pair": {"name": "dpo", "loss": "bco"},
    "sppo_hard": {"name": "sppo", "labels": "hard", "step_size": 10.0, "unit_loss": False},
    "apo_zero": {"name": "dpo", "loss": "apo_zero"},
    "apo_down": {"name": "dpo", "loss": "apo_down"},
    "discopop": {"name": "dpo", "loss": "discopop"},
    "sigmoid_norm": {"name": "dpo", "per_token": True},
    "sigmoid and sft": {"name": "dpo", "sft_weight": 0.7},
    "forward_kl": {"name": "dpo", "divergence": "forward_kl"},
    "js_divergence": {"name": "dpo", "divergence": "js"},
    "alpha_divergence": {"name": "dpo", "divergence": "alpha", "divergence_alpha": 0.3},
    "hinge, js_divergence": {"name": "dpo", "loss": "hinge", "divergence": "js"},
    "sigmoid_norm, forward_kl": {"name": "dpo", "per_token": True, "divergence": "forward_kl"},
    "cpo": {"name": "cpo"},
    "cpo, label_smoothing": {"name": "cpo", "label_smoothing": 0.2},
    "cpo, hinge": {"name": "cpo", "loss": "hinge"},
    "cpo, ipo": {"name": "ipo", "kl_to_reference": 0.1, "per_token": True, "unit_loss": False, **NO_REFERENCE},
    "simpo": {"name": "simpo", "margin": 0.5},
    "cpo-simpo": {"name": "simpo", "margin": 0.5, "sft_weight": 0.8},
    "orpo": {"name": "orpo"},
    "kto": {"name": "kto"},
    "kto, weights": {"name": "kto", "desirable_weight": 1.5, "undesirable_weight": 0.5},
    "kto, kl below 0": {"name": "kto"},
    "apo_zero_unpaired": {"name": "kto", "reference_point": "zero"},
}
SCALE = {"sppo_hard": 2.0}
"""TRL's loss over ours"""


def paired() -> Batch:
    """The six responses as three pairs: winners first."""
    return batch_of(GIVEN["tokens"], GIVEN["reference"], GIVEN["lengths"], ("own",) * 6, [[0, 3], [1, 4], [2, 5]])


def unpaired(raised: float) -> Batch:
    """Five labelled responses, and five to other prompts, whose reference log-probabilities are raised."""
    count = len(TRL["labels"])
    tokens = [*GIVEN["tokens"][:count], *([value] for value in GIVEN["kl_policy"])]
    reference = [*GIVEN["reference"][:count], *(value + raised for value in GIVEN["kl_reference"])]
    roles = ["desirable" if label else "undesirable" for label in TRL["labels"]]
    return batch_of(tokens, reference, [1] * 2 * count, (*roles, *["mismatched"] * count), [])


def batch_of(
    tokens: list[list[float]],
    reference: list[float],
    lengths: list[int],
    roles: tuple[str, ...],
    pairs: list[list[int]],
) -> Batch:
    """A batch with one anchor under both names; the policy's log-probabilities carry a gradient."""
    count, anchor = len(roles), torch.tensor(reference)
    return Batch(
        logps_R=torch.tensor([sum(row) for row in tokens], requires_grad=True),
        anchor_logps={"reference": anchor, "iterate": anchor},
        lengths_R=torch.tensor(lengths),
        example_R=torch.zeros(count, dtype=torch.long),
        roles=roles,
        win_rates_R=torch.full((count,), math.nan),
        pairs_P2=torch.tensor(pairs, dtype=torch.long).reshape(-1, 2),
        preference_P=torch.full((len(pairs),), math.nan),
        weight_P=torch.ones(len(pairs)),
        term_P=torch.zeros(len(pairs), dtype=torch.long),
    )


def test_every_loss_of_the_file_is_compared() -> None:
    assert OURS.keys() == LOSSES.keys()


@pytest.mark.parametrize("name", OURS)
def test_loss_and_gradient_agree(name: str) -> None:
    section = OURS[name]
    batch = unpaired(9.0 if name == "kto, kl below 0" else 0.0) if section["name"] == "kto" else paired()
    count = len(TRL["labels"]) if section["name"] == "kto" else 3
    loss = build_algorithm(section).steps(0, ANY_DATA)[0].objective(batch).total * SCALE.get(name, 1.0) / count
    loss.backward()
    assert batch.logps_R.grad is not None
    gradient = batch.logps_R.grad.tolist()
    expected = LOSSES[name]
    assert loss.item() == pytest.approx(expected["loss"], rel=1e-6, abs=1e-5)
    assert gradient[: len(expected["gradient"])] == pytest.approx(expected["gradient"], rel=1e-5, abs=1e-5)
    assert max(map(abs, gradient[len(expected["gradient"]) :]), default=0.0) == 0.0


def test_the_file_is_what_this_trl_computes() -> None:
    pytest.importorskip("trl", reason="trl is not installed; the numbers of trl_values.json are compared above")
    spec = importlib.util.spec_from_file_location("trl_values", FILE.with_suffix(".py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    now = module.compute()
    assert now["losses"].keys() == LOSSES.keys()
    for name, values in now["losses"].items():
        assert values["loss"] == pytest.approx(LOSSES[name]["loss"], abs=1e-6)
        assert values["gradient"] == pytest.approx(LOSSES[name]["gradient"], abs=1e-6)
