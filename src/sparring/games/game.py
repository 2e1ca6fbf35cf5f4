"""Finite preference games: what they are made of, checked once, on construction.

A game holds, per context (a prompt) and over a finite set of actions (responses), the matrix
P[i, j] = probability that action i is preferred to action j, the reference policy and, for methods
that imitate or learn offline, the data policy. Leaves out: the built-in games (`built_in.py`), games in files
(`files.py`), solving a game (`equilibrium.py`), playing it (`dynamics.py`).

    one_context("coin", [[0.5, 0.6], [0.4, 0.5]], [0.5, 0.5])
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

# Decimal files rarely hold exact complements; anything above this is a mistake and not rounding.
TOLERANCE = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class Game:
    """A symmetric preference game over C contexts and n actions; arrays are read-only float64."""

    name: str
    preference: Array
    """(C, n, n): P[c, i, j] is the probability that i beats j in context c; P + P^T = 1."""
    reference: Array
    """(C, n): the frozen starting policy, strictly positive."""
    data: Array | None
    """(C, n): the policy that wrote the dataset; None where a game has no dataset."""
    rewards: Array | None
    """(C, n): the Bradley-Terry rewards behind `preference`; None where there are none."""
    context_weights: Array
    """(C,): how often each context is met; sums to one."""

    def __post_init__(self) -> None:
        """Check every field and freeze the arrays."""
        arrays = {
            field: to_array(f"{self.name}: {field}", value)
            for field in ("preference", "reference", "data", "rewards", "context_weights")
            if (value := getattr(self, field)) is not None
        }
        _check_preferences(self.name, arrays["preference"])
        contexts, actions = arrays["preference"].shape[:2]
        for field in ("reference", "data"):
            if field in arrays:
                _check_policies(f"{self.name}: {field}", arrays[field], (contexts, actions))
        if "rewards" in arrays:
            _check_shape(f"{self.name}: rewards", arrays["rewards"], (contexts, actions))
        weights = arrays["context_weights"]
        _check_policies(f"{self.name}: context_weights", weights[None], (1, contexts))
        for field, array in arrays.items():
            array.flags.writeable = False
            object.__setattr__(self, field, array)

    @property
    def n_contexts(self) -> int:
        """How many contexts (prompts) the game has."""
        return self.preference.shape[0]

    @property
    def n_actions(self) -> int:
        """How many actions (responses) each context has."""
        return self.preference.shape[1]

    @property
    def log_reference(self) -> Array:
        """Log-probabilities of the reference, (C, n)."""
        return np.log(self.reference)

    @property
    def log_data(self) -> Array:
        """Log-probabilities of the data policy, (C, n)."""
        if self.data is None:
            raise ValueError(f"game {self.name} has no data policy; use GD or SB, or give `data` in the file")
        return np.log(self.data)


def one_context(
    name: str,
    preference: ArrayLike,
    reference: ArrayLike,
    data: ArrayLike | None = None,
    rewards: ArrayLike | None = None,
) -> Game:
    """A game of one context, from arrays without the context axis."""

    def wrap(value: ArrayLike | None) -> Any:
        return None if value is None else np.asarray(value, dtype=np.float64)[None]

    return Game(name, wrap(preference), wrap(reference), wrap(data), wrap(rewards), np.ones(1))


def square_matrix(P: ArrayLike) -> Array:
    """P as one float64 matrix; refuses stacks of contexts and empty ones."""
    preference = np.asarray(P, dtype=np.float64)
    if preference.ndim != 2 or preference.shape[0] != preference.shape[1] or not preference.size:
        raise ValueError(f"P has shape {preference.shape}; give one n x n matrix, e.g. game.preference[context]")
    return preference


def to_array(label: str, value: ArrayLike) -> Array:
    """Copy to float64; refuse ragged rows, text and non-finite numbers."""
    try:
        array = np.array(value, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(
            f"{label} is not a rectangular table of numbers ({error}); give rows of equal length that hold numbers only"
        ) from None
    if not np.isfinite(array).all():
        where = tuple(int(k) for k in np.argwhere(~np.isfinite(array))[0])
        raise ValueError(f"{label}{list(where)} = {array[where]}; every entry must be a finite number")
    return array


def _check_shape(label: str, array: Array, shape: tuple[int, ...]) -> None:
    if array.shape != shape:
        raise ValueError(f"{label} has shape {array.shape}, needed {shape}: row per context, number per action")


def _check_preferences(name: str, preference: Array) -> None:
    if preference.ndim != 3 or preference.shape[1] != preference.shape[2]:
        raise ValueError(
            f"{name}: preference has shape {preference.shape}; give (contexts, n, n), row i and "
            "column j for `i beats j`"
        )
    if preference.shape[0] == 0 or preference.shape[1] == 0:
        raise ValueError(f"{name}: preference is empty; give at least one context and one action")
    for context, matrix in enumerate(preference):
        _check_matrix(f"{name}: preference of context {context}", matrix)


def _check_matrix(label: str, matrix: Array) -> None:
    """Refuse entries outside [0, 1], a diagonal other than 1/2 and P + P^T other than 1."""
    outside = np.maximum(-matrix, matrix - 1.0)
    i, j = _worst(outside)
    if outside[i, j] > 0:
        raise ValueError(f"{label}: P[{i}][{j}] = {matrix[i, j]} lies outside [0, 1]")
    off_half = np.abs(np.diag(matrix) - 0.5)
    i = int(off_half.argmax())
    if off_half[i] > TOLERANCE:
        raise ValueError(f"{label}: P[{i}][{i}] = {matrix[i, i]}; an action ties with itself, give 0.5")
    excess = np.abs(matrix + matrix.T - 1.0)
    i, j = _worst(excess)
    if excess[i, j] > TOLERANCE:
        raise ValueError(
            f"{label}: P[{i}][{j}] = {matrix[i, j]} and P[{j}][{i}] = {matrix[j, i]} sum to "
            f"{matrix[i, j] + matrix[j, i]}; they must sum to 1, so give P[{j}][{i}] = "
            f"{1.0 - matrix[i, j]:.12g}"
        )


def _worst(errors: Array) -> tuple[int, int]:
    i, j = np.unravel_index(int(errors.argmax()), errors.shape)
    return int(i), int(j)


def _check_policies(label: str, policies: Array, shape: tuple[int, int]) -> None:
    _check_shape(label, policies, shape)
    for context, policy in enumerate(policies):
        lowest = int(policy.argmin())
        if policy[lowest] <= 0:
            raise ValueError(
                f"{label} of context {context}: entry {lowest} is {policy[lowest]}; every entry "
                "must be above 0, because its logarithm is used (try 1e-6)"
            )
        if abs(policy.sum() - 1.0) > TOLERANCE:
            raise ValueError(f"{label} of context {context} sums to {policy.sum():.12g}; divide it by its sum")
