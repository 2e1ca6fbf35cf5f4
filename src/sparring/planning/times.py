"""Seconds of every stage, for responses of a given length: the bound at their limit, the expectation at a typical one.

A pass costs `2 P` operations per token forward and `4 P` backward, for P parameters. Sampling reads all weights once
per step of a batch, and a batch has as many steps as its longest response. Speeds and shares: `machine.py`. Leaves out:
the oracle, served models, and what devices tell each other.

    Times(recipe, machine, parameters, layers).fit(tokens=50_000)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from sparring.planning.machine import (
    FIT_SECONDS,
    LAYER_SECONDS,
    LOAD_SECONDS,
    PASS_SHARE,
    READ_SHARE,
    SAMPLE_SHARE,
    Machine,
)
from sparring.recipe.recipe import Recipe

FORWARD, BACKWARD = 2, 4
"""operations per weight and token"""
BYTES = {"bfloat16": 2, "float32": 4}
TYPICAL_SHARE = 0.7
"""Mean length of sampled responses over `sampling.max_new_tokens`, where that cuts: 0.68 in the demo's run."""
TYPICAL_TOKENS = 400
"""Mean length of a chat model's responses where the limit does not cut. Assumed."""


def typical_response(recipe: Recipe) -> int:
    """Tokens that a sampled response is expected to have."""
    return max(1, min(round(TYPICAL_SHARE * recipe.sampling.max_new_tokens), TYPICAL_TOKENS))


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds of one recipe's stages on one machine."""

    recipe: Recipe
    machine: Machine
    parameters: int
    layers: int

    def sample(self, responses: int, tokens: int) -> float:
        """Sampling `responses` with `tokens` in all; a batch goes on until its longest response ends."""
        machine, settings = self.machine, self.recipe.sampling
        devices = machine.count if settings.engine == "transformers" else 1
        rows = math.ceil(responses / devices)
        steps = math.ceil(rows / settings.batch_size) * settings.max_new_tokens
        arithmetic = FORWARD * self.parameters / (machine.speed(settings.precision) * SAMPLE_SHARE[machine.kind])
        read = self.parameters * BYTES[settings.precision] / (machine.bandwidth * READ_SHARE[machine.kind])
        least = max(read, self.layers * LAYER_SECONDS[machine.kind])
        return self.load() + steps * least + math.ceil(tokens / devices) * arithmetic

    def load(self) -> float:
        """Loading the policy."""
        return 4 * self.parameters * LOAD_SECONDS

    def forward(self, tokens: int) -> float:
        """Log-probabilities of `tokens` under one policy."""
        return self.load() + self._passes(FORWARD * tokens)

    def fit(self, tokens: int, looked_at: int = 0) -> float:
        """Optimiser steps over `tokens` in all, and forward passes over `looked_at` more."""
        operations = FORWARD + BACKWARD + (FORWARD if self.recipe.fit.gradient_checkpointing else 0)
        return self.fit_overhead + self._passes(operations * tokens + FORWARD * looked_at)

    @property
    def fit_overhead(self) -> float:
        """Seconds of a fit beside its passes."""
        return 4 * self.parameters * FIT_SECONDS

    def _passes(self, operations: float) -> float:
        speed = self.machine.speed(self.recipe.fit.precision) * PASS_SHARE[self.machine.kind] * self.machine.count
        return operations * self.parameters / speed
