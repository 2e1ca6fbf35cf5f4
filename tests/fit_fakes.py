"""Six tiny training examples, and the models and settings of fits on them."""

from __future__ import annotations

import torch

from conftest import tiny_llama
from sparring.algorithms.algorithm import Algorithm, DataFacts
from sparring.algorithms.spac import SPAC
from sparring.objectives.pairs import DATA, PESSIMISM, Pair
from sparring.recipe.sections import FitConfig, LoraConfig
from sparring.training.adapters import with_adapter
from sparring.training.batches import TrainingExample
from sparring.training.packing import Rollout
from sparring.training.rollout_logps import rollout_logps
from sparring.training.scorer import PolicyScorer

ROLLOUTS = [
    Rollout([1 + i, 2, 3 + i][: 1 + i % 3], [[4, 5 + i, 256], [7, 8, 9, 10 + i], [11 + i, 256]]) for i in range(6)
]
SPAC_PAIRS = (
    Pair(0, 1, 0.7, 1.0, DATA),
    Pair(0, 2, 0.6, 0.5, PESSIMISM),
    Pair(1, 2, 0.4, 0.5, PESSIMISM),
)


def exact(**changes) -> FitConfig:
    """Float32, no clipping to speak of."""
    defaults = {
        "precision": "float32",
        "learning_rate": 1e-3,
        "batch_size": 6,
        "max_grad_norm": 1e9,
        "warmup": 0.0,
    }
    return FitConfig(**{**defaults, **changes})


def examples_for(model: torch.nn.Module, algorithm: Algorithm) -> list[TrainingExample]:
    """Every anchor is the model itself, as in round 0."""
    names = algorithm.steps(0, DataFacts(400))[0].anchors
    logps = rollout_logps(PolicyScorer(model), ROLLOUTS, budget=40, precision="float32")
    pairs = SPAC_PAIRS if isinstance(algorithm, SPAC) else SPAC_PAIRS[:1]
    anchors = {"reference", "iterate", *names}
    return [
        TrainingExample(str(i), rollout, ("own",) * 3, (0.7, 0.5, 0.3), dict.fromkeys(anchors, row), pairs)
        for i, (rollout, row) in enumerate(zip(ROLLOUTS, logps, strict=True))
    ]


def model_of(kind: str, seed: int = 0) -> torch.nn.Module:
    """All weights trainable, or an adapter ("lora"), or one with dropout ("noisy")."""
    if kind == "full":
        return tiny_llama(seed)
    return with_adapter(tiny_llama(seed), LoraConfig(rank=4, dropout=0.5 if kind == "noisy" else 0.0))
