"""TRL's losses and their gradients on fixed log-probabilities, by its own code: writes trl_values.json.

Stands alone: it needs torch and trl, and nothing of ours. Its trainers' loss functions are called on a stand-in for the
trainer and for the model, so that nothing is downloaded or trained. Leaves out: AOT and WPO, which have no counterpart.

    python tests/objectives/trl_values.py
"""

from __future__ import annotations

import json
import os
import sys
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")

import torch

CHOSEN, REJECTED = (3, 3, 3), (4, 2, 6)
"""response tokens of each pair; winners of one length, since TRL averages their likelihood over a batch's tokens"""
PAIRS = len(CHOSEN)
LABELS = (True, False, True, False, False)
"""of unpaired answers: the first five of the six responses"""

DPO: dict[str, dict[str, Any]] = {
    "sigmoid": {},
    "hinge": {"loss_types": ["hinge"]},
    "ipo": {"loss_types": ["ipo"]},
    "exo_pair": {"loss_types": ["exo_pair"], "label_smoothing": 0.001},
    "nca_pair": {"loss_types": ["nca_pair"]},
    "robust": {"loss_types": ["robust"], "label_smoothing": 0.1},
    "bco_pair": {"loss_types": ["bco_pair"]},
    "sppo_hard": {"loss_types": ["sppo_hard"]},
    "apo_zero": {"loss_types": ["apo_zero"]},
    "apo_down": {"loss_types": ["apo_down"]},
    "discopop": {"loss_types": ["discopop"]},
    "sigmoid_norm": {"loss_types": ["sigmoid_norm"]},
    "sigmoid and sft": {"loss_types": ["sigmoid", "sft"], "loss_weights": [1.0, 0.7]},
    "forward_kl": {"f_divergence_type": "forward_kl"},
    "js_divergence": {"f_divergence_type": "js_divergence"},
    "alpha_divergence": {"f_divergence_type": "alpha_divergence", "f_alpha_divergence_coef": 0.3},
    "hinge, js_divergence": {"loss_types": ["hinge"], "f_divergence_type": "js_divergence"},
    "sigmoid_norm, forward_kl": {"loss_types": ["sigmoid_norm"], "f_divergence_type": "forward_kl"},
}
CPO: dict[str, dict[str, Any]] = {
    "cpo": {},
    "cpo, label_smoothing": {"label_smoothing": 0.2},
    "cpo, hinge": {"loss_type": "hinge"},
    "cpo, ipo": {"loss_type": "ipo", "cpo_alpha": 0.0},
    "simpo": {"loss_type": "simpo", "simpo_gamma": 0.5, "beta": 2.0, "cpo_alpha": 0.0},
    "cpo-simpo": {"loss_type": "simpo", "simpo_gamma": 0.5, "beta": 2.0, "cpo_alpha": 0.8},
}
KTO: dict[str, dict[str, Any]] = {
    "kto": {},
    "kto, weights": {"desirable_weight": 1.5, "undesirable_weight": 0.5},
    "kto, kl below 0": {"ref_kl": 9.0},
    "apo_zero_unpaired": {"loss_type": "apo_zero_unpaired"},
}


def given() -> dict[str, Any]:
    """Log-probabilities: of every response token under the policy (padded with 0), of responses under the reference."""
    draw = torch.Generator().manual_seed(7)
    lengths = [*CHOSEN, *REJECTED]
    tokens = -torch.rand(len(lengths), max(lengths), generator=draw) * 1.5 - 0.05
    mask = torch.arange(max(lengths))[None, :] < torch.tensor(lengths)[:, None]
    logps = (tokens * mask).sum(1)
    return {
        "lengths": lengths,
        "tokens": (tokens * mask).tolist(),
        "reference": (logps + torch.randn(len(lengths), generator=draw) * 1.2).tolist(),
        "kl_policy": [-4.0, -6.5, -5.0, -7.0, -3.0],
        "kl_reference": [-4.5, -7.5, -5.2, -7.4, -4.0],
    }


def accelerator() -> Any:
    """One process."""
    same = lambda x: x  # noqa: E731
    return SimpleNamespace(device=torch.device("cpu"), gather=same, gather_for_metrics=same)


def model_of(tokens: torch.Tensor) -> Any:
    """A model whose output is these log-probabilities."""
    zeros = torch.zeros_like(tokens)
    outputs = {"log_probs": tokens, "entropy": zeros, "mean_logits": zeros, "is_top1": zeros.bool()}
    return lambda **_: SimpleNamespace(**outputs)


def inputs_of(values: dict[str, Any], rows: int) -> dict[str, torch.Tensor]:
    """Token ids and masks: a prompt token, then the response's."""
    lengths = torch.tensor(values["lengths"])[:rows]
    mask = (torch.arange(1 + max(values["lengths"]))[None, :] <= lengths[:, None]).long()
    completion = mask.clone()
    completion[:, 0] = 0
    return {"input_ids": torch.ones_like(mask), "attention_mask": mask, "completion_mask": completion}


def trainer(**settings: Any) -> Any:
    """A stand-in that has what the loss functions read."""
    common = {
        "model": SimpleNamespace(training=True),
        "accelerator": accelerator(),
        "aux_loss_enabled": False,
        "beta": 0.1,
        "label_smoothing": 0.0,
        "precompute_ref_logps": True,
        "_metrics": {"train": defaultdict(list)},
        "_total_train_tokens": 0,
        "_tp_size": 1,
    }
    return SimpleNamespace(**{**common, **settings})


def with_gradient(loss: torch.Tensor, tokens: torch.Tensor) -> dict[str, Any]:
    """The loss, and its derivative by each response's log-probability (that by any of its tokens)."""
    (gradient,) = torch.autograd.grad(loss, tokens)
    return {"loss": loss.item(), "gradient": gradient[:, 0].tolist()}


def dpo(values: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """`DPOTrainer`'s loss."""
    from trl import DPOTrainer  # type: ignore[import-not-found]

    tokens = torch.tensor(values["tokens"], requires_grad=True)
    defaults = {
        "loss_types": ["sigmoid"],
        "loss_weights": [1.0] * 2,
        "f_divergence_type": "reverse_kl",
        "f_alpha_divergence_coef": 0.5,
        "ld_alpha": None,
        "use_weighting": False,
        "args": SimpleNamespace(discopop_tau=0.05),
    }
    self = trainer(**{**defaults, **settings})
    self.loss_weights = self.loss_weights[: len(self.loss_types)]
    inputs = inputs_of(values, 2 * PAIRS)
    reference = torch.tensor(values["reference"])
    inputs |= {"ref_chosen_logps": reference[:PAIRS], "ref_rejected_logps": reference[PAIRS:]}
    return with_gradient(DPOTrainer._compute_loss(self, model_of(tokens), inputs, False), tokens)


def cpo(values: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """`CPOTrainer`'s loss: of pairs by its `cpo_loss`, of winners the mean over all their tokens, as it takes it."""
    from trl.experimental.cpo import CPOTrainer  # type: ignore[import-not-found]

    self = trainer(**{"loss_type": "sigmoid", "simpo_gamma": 0.5, "alpha": 0.0, "cpo_alpha": 1.0, **settings})
    tokens = torch.tensor(values["tokens"], requires_grad=True)
    averaged = self.loss_type in ("ipo", "simpo")
    logps = tokens.sum(1) / (torch.tensor(values["lengths"]) if averaged else 1)
    losses, _, _ = CPOTrainer.cpo_loss(self, logps[:PAIRS], logps[PAIRS:])
    return with_gradient(losses.mean() + self.cpo_alpha * likelihood(tokens), tokens)


def likelihood(tokens: torch.Tensor) -> torch.Tensor:
    """Negative log-likelihood of the winners, mean over all their tokens."""
    return -tokens[:PAIRS].sum() / sum(CHOSEN)


def orpo(values: dict[str, Any]) -> dict[str, Any]:
    """`ORPOTrainer`'s loss with the winners' likelihood over response tokens alone."""
    from trl.experimental.orpo import ORPOTrainer  # type: ignore[import-not-found]

    tokens = torch.tensor(values["tokens"], requires_grad=True)
    means = tokens.sum(1) / torch.tensor(values["lengths"])
    losses = ORPOTrainer.odds_ratio_loss(trainer(), means[:PAIRS], means[PAIRS:])[0]
    return with_gradient(likelihood(tokens) - losses.mean(), tokens)


def kto(values: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """`KTOTrainer`'s loss."""
    from trl import KTOTrainer  # type: ignore[import-not-found]

    raised = settings.pop("ref_kl", 0.0)
    defaults = {"loss_type": "kto", "desirable_weight": 1.0, "undesirable_weight": 1.0}
    self = trainer(**{**defaults, **settings})
    self.calculate_KL = self.loss_type == "kto"
    self._compute_kl_logps = lambda *_: torch.tensor(values["kl_policy"])
    tokens = torch.tensor(values["tokens"][: len(LABELS)], requires_grad=True)
    inputs: dict[str, Any] = inputs_of(values, len(LABELS))
    inputs |= {
        "label": torch.tensor(LABELS),
        "ref_logps": torch.tensor(values["reference"][: len(LABELS)]),
        "ref_KL_logps": torch.tensor(values["kl_reference"]) + raised,
    }
    return with_gradient(KTOTrainer._compute_loss(self, model_of(tokens), inputs, False), tokens)


def compute() -> dict[str, Any]:
    """Inputs and every loss."""
    import trl  # type: ignore[import-not-found]

    values = given()
    losses = {name: dpo(values, settings) for name, settings in DPO.items()}
    losses |= {name: cpo(values, settings) for name, settings in CPO.items()}
    losses |= {"orpo": orpo(values), **{name: kto(values, dict(settings)) for name, settings in KTO.items()}}
    return {"trl": trl.__version__, "labels": list(LABELS), "given": values, "losses": losses}


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_suffix(".json")
    target.write_text(json.dumps(compute(), indent=1) + "\n", encoding="utf-8")
