"""Minima of a loss in the logits of one game: Newton's method, and gradient sampling where there are kinks.

Exact to rounding, on at most some dozens of logits. Leaves out: language models, whose fits are `training/`'s.

    minimise(lambda logits: (logits - 1.0).square().sum(), np.zeros(3))
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from scipy.optimize import nnls
from torch import Tensor

from sparring.games.bounded import minimise_between
from sparring.games.game import Array

Loss = Callable[[Float[Tensor, " n"]], Float[Tensor, ""]]
"""of the logits, float64"""
GRADIENT_TOLERANCE = 1e-13
ROUNDING = 1e-15
"""relative rise of a loss that is no rise"""
NEWTON_STEPS = 200
DESCENT_STEPS = 500
LEAST_FALLS = 1e-12, 0.0
"""of the loss over a radius, that are worth a step of a descent; a second one takes any step, where that is needed"""
NEAR_KINK = 1e-5
"""nats in every logit, that a fit may stop beside a kink"""
SMOOTH = 3.0, 30.0
"""between these, gradients ten times as far away differ ten times as much: a curve, and no kink"""
CONVERGED = 1e-6
"""largest gradient at the end of a fit, relative to that at its start where this is above 1"""
FAR = 10.0
"""nats; a loss that has not risen at this distance beyond a fit has no finite minimum there"""


def minimise(loss: Loss, start: Array) -> Array:
    """Logits (n,) at a minimum: Newton, and where that gets stuck (kinks, no curvature) gradient sampling.

    Raises:
        ValueError: neither method reached a minimum.
    """
    logits, steep = _newton(loss, start), largest_gradient(loss, start)
    enough = CONVERGED * max(1.0, steep)
    left = largest_gradient(loss, logits)
    for least_fall in LEAST_FALLS:
        if left > enough:
            logits = _newton(loss, _descend(loss, logits, least_fall))
            left = _left(loss, logits, enough)
    if not left <= enough:
        raise ValueError(
            f"the fit did not converge: gradient {left:.1e} at its end, {steep:.1e} at its start. The loss may have "
            "jumps, or no minimum; lower the step, or check it on three actions by hand."
        )
    return logits


def _left(loss: Loss, logits: Array, enough: float) -> float:
    """The gradient that is left at the end of a descent, which may have ended beside a kink."""
    left = stationarity_gradient(loss, logits)
    if left > enough and is_beside_kink(loss, logits):
        return stationarity_gradient(loss, logits, NEAR_KINK)
    return left


def has_no_minimum(loss: Loss, start: Array, end: Array) -> bool:
    """Whether the loss is no higher `FAR` nats further along the line from start to end."""
    # A shift common to all logits changes no probability, so it is no move.
    moved = end - start - (end - start).mean()
    if np.abs(moved).max() < 1.0:
        return False
    value, further = (float(loss(torch.from_numpy(end + far * moved))) for far in (0.0, FAR / np.abs(moved).max()))
    return further <= value + 1e-13 * max(1.0, abs(value))


def _newton(loss: Loss, start: Array) -> Array:
    """Saddle-free Newton with backtracking: curvature by absolute value, flat directions left alone."""
    logits, last = torch.from_numpy(start.copy()), (np.inf, np.inf)
    for _ in range(NEWTON_STEPS):
        value, gradient = _value_and_gradient(loss, logits)
        reached = float(value), float(gradient.abs().max())
        # Where an action's probability vanishes, so does its curvature, and further steps change nothing.
        if reached[1] < GRADIENT_TOLERANCE or (reached[0] >= last[0] and reached[1] >= 0.99 * last[1]):
            break
        last = reached
        scales, axes = torch.linalg.eigh(_curvature(loss, logits))
        # Flat directions (the common shift is one) are left alone; a downhill curve is followed as if it rose.
        usable = scales.abs() > 1e-11 * scales.abs().max()
        inverse = torch.where(usable, 1.0 / scales.abs().clamp_min(1e-300), 0.0)
        step = -(axes @ (inverse * (axes.T @ gradient)))
        size = 1.0
        # Near the minimum the loss falls by less than its own rounding, while the gradient still shows the way.
        most = value + ROUNDING * value.abs()
        while size > 1e-6 and not loss(logits + size * step) <= most:
            size /= 2
        moved = logits + size * step
        if size <= 1e-6 or torch.equal(moved, logits):
            break
        logits = moved - moved.mean()
    return logits.numpy()


def largest_gradient(loss: Loss, logits: Array) -> float:
    """Largest entry of the gradient."""
    return float(_value_and_gradient(loss, torch.from_numpy(logits.copy()))[1].abs().max())


def stationarity_gradient(loss: Loss, logits: Array, radius: float = 1e-6) -> float:
    """The largest gradient, but 0 at a kink where gradients nearby can cancel, as at the minimum of a hinge."""
    here = largest_gradient(loss, logits)
    if here <= CONVERGED:
        return here
    left = here
    for draws in (4 * len(logits), 20 * len(logits)):  # the few most often do, and the many take seconds
        near = gradients_near(loss, logits, radius, np.random.default_rng(0), draws)
        left = float(np.abs(_shortest(near)).max())
        if left <= CONVERGED:
            break
    return left


def is_beside_kink(loss: Loss, logits: Array) -> bool:
    """Whether gradients jump within `NEAR_KINK`; on a curve they change by as much as one moves."""
    spreads = []
    for radius in (NEAR_KINK / 10, NEAR_KINK):
        gradients = gradients_near(loss, logits, radius, np.random.default_rng(0), 20 * len(logits))
        spreads.append(float(np.abs(gradients - gradients[0]).max()))
    near, far = spreads
    return far > 0 and not SMOOTH[0] * near < far < SMOOTH[1] * near


def _descend(loss: Loss, start: Array, least_fall: float) -> Array:
    """Gradient sampling (Burke, Lewis & Overton 2005): steps against the shortest mean of nearby gradients."""
    draw, logits, radius = np.random.default_rng(0), start.copy(), 0.1
    value = float(loss(torch.from_numpy(logits)))
    for _ in range(DESCENT_STEPS):
        down = -_shortest(gradients_near(loss, logits, radius, draw, 2 * len(logits)))
        length = float(np.linalg.norm(down))
        size = 1.0 / length if length > max(1e-9, least_fall / radius) else 0.0
        reached = value
        while size * length > radius / 10:
            reached = float(loss(torch.from_numpy(logits + size * down)))
            if reached <= value - 1e-4 * size * length**2:
                break
            size /= 2
        if size * length > radius / 10:
            logits, value = logits + size * down, reached
        elif radius < 1e-7:
            break
        else:
            radius /= 10
    return logits


def gradients_near(loss: Loss, logits: Array, radius: float, draw: np.random.Generator, count: int) -> Array:
    """Gradients (count + 1, n) here and at random points within `radius` in every logit."""
    moves = draw.uniform(-radius, radius, (count, len(logits)))
    points = torch.from_numpy(np.stack([logits, *(logits + moves)]))
    try:
        return torch.func.vmap(torch.func.grad(loss))(points).numpy()
    except RuntimeError:  # a loss of one's own may branch on its values, which all points at once cannot
        return np.stack([_value_and_gradient(loss, point)[1].numpy() for point in points])


def _shortest(gradients: Array) -> Array:
    """The mean of least length over all weights: minimum-norm point of the convex hull."""
    scale = max(float(np.abs(gradients).max()), 1e-300)
    emphasis = 1e3  # of the row that asks for weights of sum 1; they are normalised afterwards
    system = np.vstack([gradients.T / scale, np.full(len(gradients), emphasis)])
    weights, _ = nnls(system, np.append(np.zeros(gradients.shape[1]), emphasis))
    return weights @ gradients / weights.sum()


def minimise_near(loss: Loss, start: Array, bound: float) -> Array:
    """Logits (n,) of the least loss among those within `bound` of the start in every entry."""

    def evaluate(logits: Array) -> tuple[float, Array, Array]:
        at = torch.from_numpy(logits.copy())
        value, gradient = _value_and_gradient(loss, at)
        return float(value), gradient.numpy(), _curvature(loss, at).numpy()

    return minimise_between(evaluate, start, start - bound, start + bound)


def _curvature(loss: Loss, logits: Float[Tensor, " n"]) -> Float[Tensor, "n n"]:
    return torch.autograd.functional.hessian(loss, logits, vectorize=True)  # type: ignore[return-value]


def _value_and_gradient(loss: Loss, logits: Float[Tensor, " n"]) -> tuple[Float[Tensor, ""], Float[Tensor, " n"]]:
    leaf = logits.clone().requires_grad_()
    value = loss(leaf)
    (gradient,) = torch.autograd.grad(value, leaf)
    return value.detach(), gradient
