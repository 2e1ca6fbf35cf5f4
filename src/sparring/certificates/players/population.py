"""A step's pairs in the limit of infinitely many samples, and the batch that its objective sees.

Leaves out: which pairs a pairing draws (`tabular.py`, `sampled.py`).

    population_of([(joint, preference, DATA)], preference @ policy)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int

from sparring.games.game import Array
from sparring.objectives.pairs import Batch


@dataclass(frozen=True, slots=True)
class Population:
    """R responses and P weighted pairs of them, as a step's pairing makes them in one context."""

    actions: Int[np.ndarray, " R"]
    """which action each response is"""
    win_rates: Float[np.ndarray, " R"]
    """of each response against the own samples"""
    pairs: Int[np.ndarray, "P 2"]
    """winner and loser, indices into the responses"""
    weights: Float[np.ndarray, " P"]
    """how often each pair is drawn"""
    preferences: Float[np.ndarray, " P"]
    """P(winner beats loser), NaN where no oracle was asked"""
    terms: Int[np.ndarray, " P"]
    """DATA or PESSIMISM: which term of the loss a pair is for"""
    roles: tuple[str, ...] = ()
    """of the R responses; all "own" where it is empty"""


def population_of(parts: Sequence[tuple[Array, Array, int]], win_rates: Array) -> Population:
    """All n actions, and per part every pair (i, j) that its joint law (n, n) gives a positive weight.

    A part is a joint law of winner and loser, the preferences P (n, n), and the term of the loss that its pairs serve.
    """
    where = [np.nonzero(joint > 0) for joint, _, _ in parts]
    return Population(
        actions=np.arange(len(win_rates)),
        win_rates=win_rates,
        pairs=np.concatenate([np.stack(at, axis=1) for at in where]).astype(np.int64),
        weights=np.concatenate([joint[at] for (joint, _, _), at in zip(parts, where, strict=True)]),
        preferences=np.concatenate([preference[at] for (_, preference, _), at in zip(parts, where, strict=True)]),
        terms=np.concatenate([np.full(len(at[0]), term) for at, (_, _, term) in zip(where, parts, strict=True)]),
    )


def batch_of(population: Population, anchors: Mapping[str, Array]) -> Batch:
    """One context's responses as a batch, each of length 1; anchors' log-probabilities (n,) are given per action, and
    the policy's are still 0."""
    count = len(population.actions)
    return Batch(
        logps_R=torch.zeros(count, dtype=torch.float64),
        anchor_logps={name: torch.from_numpy(values[population.actions]) for name, values in anchors.items()},
        lengths_R=torch.ones(count, dtype=torch.long),
        example_R=torch.zeros(count, dtype=torch.long),
        roles=population.roles or ("own",) * count,
        win_rates_R=torch.from_numpy(population.win_rates.copy()),
        pairs_P2=torch.from_numpy(population.pairs.copy()),
        preference_P=torch.from_numpy(population.preferences.copy()),
        weight_P=torch.from_numpy(population.weights.copy()),
        term_P=torch.from_numpy(population.terms.copy()),
    )
