"""Projected Newton (Bertsekas, 1982): minima of a smooth, convex loss between bounds, to rounding.

Entries that their slope holds at a bound stay there; the others take a Newton step, cut off at the bounds and halved
until the loss falls enough. Leaves out: losses with kinks (`certificates/players/minimise.py`).

    minimise_between(lambda x: (x @ x / 2, x, np.eye(len(x))), np.ones(3), 0.5, 2.0)  ->  [.5, .5, .5]
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sparring.games.game import Array

Evaluate = Callable[[Array], tuple[float, Array, Array]]
"""of x (n,): value, gradient (n,) and Hessian (n, n)"""
STEPS = 200
SLOPE = 1e-11
"""largest step along the negative gradient, cut off at the bounds, that counts as no step"""
NEAR = 1e-9
"""how close to a bound an entry counts as held there; keeps the projected step from zigzagging"""
HALVINGS = 50
"""of a step, until none lowers the loss"""
ROUNDING = 1e-15
"""relative rise of a loss that is no rise: without it the final steps could never be accepted"""


def minimise_between(evaluate: Evaluate, start: Array, low: Array | float, high: Array | float) -> Array:
    """x (n,) of the least loss with low <= x <= high; bounds are numbers or (n,).

    Raises:
        ValueError: no minimum was reached.
    """
    x = np.clip(start, low, high)
    loss, slope, curvature = evaluate(x)
    for _ in range(STEPS):
        if np.abs(np.clip(x - slope, low, high) - x).max() < SLOPE:
            return x
        direction = _free_newton_step(x, slope, curvature, low, high)
        for _ in range(HALVINGS):
            moved = np.clip(x + direction, low, high)
            reached = evaluate(moved)
            if reached[0] <= loss + 1e-4 * slope @ (moved - x) + ROUNDING * (1 + abs(loss)):
                break
            direction = direction / 2
        else:
            raise ValueError(f"no step lowers the loss of {loss:g}; it is not convex, or no number")
        x, (loss, slope, curvature) = moved, reached
    raise ValueError(f"no minimum in {STEPS} Newton steps between {np.min(low):g} and {np.max(high):g}")


def _free_newton_step(x: Array, slope: Array, curvature: Array, low: Array | float, high: Array | float) -> Array:
    """The Newton step of entries that are free to move, and the negative slope of those that a bound stops."""
    stopped = ((x <= low + NEAR) & (slope > 0)) | ((x >= high - NEAR) & (slope < 0))
    free = np.flatnonzero(~stopped)
    # A common shift of all free entries may change nothing: without the ridge the block is singular.
    block = curvature[np.ix_(free, free)] + 1e-10 * np.eye(len(free))
    direction = -slope
    direction[free] = -np.linalg.solve(block, slope[free])
    return direction
