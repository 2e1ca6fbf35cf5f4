"""The tabular player: softmax logits on a game, fitted with the library's own objectives and steps.

It runs the same `Algorithm.steps` as a language model, makes the batch that infinitely many samples would give
(every pair of actions, weighted by its probability), and minimises the same objective to rounding. What it
certifies is therefore the code that trains language models. Leaves out: selected pairs (best-worst, knockout),
whose distribution has no closed form here, and samples kept beside pairs; the sampled player draws both.

    TabularPlayer(INPO(step_size=1.0, kl_to_reference=0.1, pairing="iid"), g3()).play(50).gaps()

Shapes: n actions of the game, R responses and P pairs of a step in one context.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.optimize import minimize, nnls
from torch import Tensor

from sparring.algorithms.algorithm import Algorithm, Column, Draw, Facts, PolicyRef, Reuse, Step
from sparring.algorithms.pairing import (
    Against,
    AllPairs,
    ChosenRejectedOwn,
    IndependentPairs,
    KeepingRole,
    Listwise,
    Pairing,
)
from sparring.games.dynamics import Trajectory
from sparring.games.equilibrium import log_normalise
from sparring.games.game import Array, Game
from sparring.objectives.pairs import DATA, PESSIMISM, Batch

GRADIENT_TOLERANCE = 1e-13
NEWTON_STEPS = 200
DESCENT_STEPS = 500
CONVERGED = 1e-6
"""largest gradient at the end of a fit, relative to that at its start where this is above 1"""
FAR = 10.0
"""nats; a loss that does not rise when a fit goes on by so much has no finite minimum there"""
POPULATION_PAIRINGS = (IndependentPairs, AllPairs, Against, ChosenRejectedOwn, Listwise)
"""pairings whose pairs have a distribution that can be written down; others are sampled"""
MANY_EXAMPLES = 1_000_000
"""what a step is told where the data are a population"""
Policies = dict[PolicyRef, Array]
LogitsLoss = Callable[[Float[Tensor, " n"]], Float[Tensor, ""]]
"""a loss as a function of one context's logits, float64"""


@dataclass(frozen=True, slots=True)
class Population:
    """Responses (R) and weighted pairs of them (P), as a step's pairing would make them in one context."""

    actions: Int[np.ndarray, " R"]
    """which action each response is"""
    win_rates: Float[np.ndarray, " R"]
    """mean preference of each response over the first draw"""
    pairs: Int[np.ndarray, "P 2"]
    """winner and loser, indices into the responses"""
    weights: Float[np.ndarray, " P"]
    """of each pair in the loss"""
    preferences: Float[np.ndarray, " P"]
    """P(winner beats loser), NaN where no oracle was asked"""
    terms: Int[np.ndarray, " P"]
    """which term of the loss a pair belongs to"""
    roles: tuple[str, ...] = ()
    """R names; empty where all are "own\""""


@dataclass
class TabularPlayer:
    """Plays an algorithm on a game; `wins[i, j]` counts replace the population of chosen-rejected pairs."""

    algorithm: Algorithm
    game: Game
    wins: Array | None = None
    log_ratio_bound: float | None = None
    """keeps each fitted log-ratio to the step's start within +-bound (a bounded function class)"""
    policies: Policies = field(default_factory=dict)
    endless: int = 0
    """fits whose loss fell for ever, or was flat, in the direction in which they went"""

    def facts(self) -> Facts:
        """What a step may know of the data."""
        return Facts(MANY_EXAMPLES if self.wins is None else int(self.wins.sum()))

    def play(self, rounds: int) -> Trajectory:
        """Log-policies of rounds 0..rounds; round 0 is the game's reference."""
        self.policies = {PolicyRef(0): self.game.log_reference}
        for t in range(rounds):
            steps = self.algorithm.steps(t, self.facts())
            for step in steps:
                made = PolicyRef(t + 1, step.trains)
                self.policies[made] = np.stack([self.fit(step, steps, c) for c in range(self.game.n_contexts)])
        notes = ()
        if self.endless:
            notes = (
                f"{self.endless} fit(s) have no finite minimum: the loss does not rise {FAR:g} nats further on, so "
                "probabilities that vanish are where the fit stopped.",
            )
        return Trajectory(self.game, np.stack([self._policy(PolicyRef(t)) for t in range(rounds + 1)]), notes)

    def _policy(self, ref: PolicyRef) -> Array:
        """A policy by round and seat; in round 0 every seat is the reference."""
        return self.policies[ref if ref in self.policies else PolicyRef(0)]

    def fit(self, step: Step, steps: tuple[Step, ...], context: int) -> Array:
        """The log-policy (n,) that minimises the step's objective in one context, from the step's start.

        Raises:
            ValueError: the fit stopped where the loss is not at a minimum.
        """
        loss, start = self.loss(step, steps, context), self._policy(step.start)[context]
        if self.log_ratio_bound is not None:
            return log_normalise(_bounded(loss, start, self.log_ratio_bound))
        found = minimise(loss, start)
        self.endless += _endless(loss, start, found)
        return log_normalise(found)

    def loss(self, step: Step, steps: tuple[Step, ...], context: int) -> LogitsLoss:
        """The step's objective as a function of the logits (n,) of one context."""
        source = steps[step.responses.step] if isinstance(step.responses, Reuse) else step
        population = self.population(source, context)
        anchors = {name: self._policy(ref)[context] for name, ref in step.anchors.items()}
        return lambda logits: step.objective(batch_of(logits.log_softmax(0), population, anchors)).total

    def population(self, step: Step, context: int) -> Population:
        """Every pair that a step's pairing would draw, and each action's win rate against the first draw."""
        preference = self.game.preference[context]
        unjudged = np.full_like(preference, np.nan)
        drawn = {d.role: self._mixture(d, context) for d in step.draws()}
        own: Array = np.exp(drawn["own"] if "own" in drawn else self._policy(step.start)[context])
        held = self._columns(step, context)
        rule = step.pairing
        if isinstance(rule, IndependentPairs | AllPairs):
            wins = preference if rule.label == "sampled" else (np.sign(preference - 0.5) + 1.0) / 2.0
            parts = [(2.0 * own[:, None] * own[None, :] * wins, preference, DATA)]
        elif isinstance(rule, Against):
            laws = {role: np.exp(law) for role, law in drawn.items()}
            parts = [(_given(rule, held, laws), unjudged, DATA)]
        elif isinstance(rule, ChosenRejectedOwn):
            given = (held["joint"].sum(0) + held["joint"].sum(1)) / 2
            parts = [(held["joint"], unjudged, DATA), (given[:, None] * own[None, :], unjudged, PESSIMISM)]
        elif isinstance(rule, Listwise):
            parts = [(np.zeros_like(preference), preference, DATA)]  # one list of all actions, no pairs
        else:
            raise ValueError(_unknown(rule))
        return population_of(parts, preference @ own)

    def _mixture(self, draw: Draw, context: int) -> Array:
        """Log-probabilities (n,) of a draw's mixture."""
        weights = [(self._policy(ref)[context], weight) for ref, weight in draw.policies.items()]
        if draw.mixture == "token_geometric":
            return log_normalise(np.sum([w * u for u, w in weights], axis=0))
        return log_normalise(np.logaddexp.reduce(np.stack([u + np.log(w) for u, w in weights]), axis=0))

    def _columns(self, step: Step, context: int) -> Mapping[str, Array]:
        """Distribution of gold actions, and joint distribution of (chosen, rejected)."""
        roles = (
            {r.role for r in step.responses if isinstance(r, Column)}
            if not isinstance(step.responses, Reuse)
            else set()
        )
        if not roles:
            return {}
        if self.wins is not None:
            return {"joint": self.wins / self.wins.sum()}
        if self.game.data is None:
            raise ValueError(f"game {self.game.name}: it has no data policy, which this algorithm needs; add 'data'.")
        data = self.game.data[context]
        return {
            "gold": data,
            "joint": 2.0 * data[:, None] * data[None, :] * self.game.preference[context],
        }


def _unknown(rule: Pairing) -> str:
    """Why pairs cannot be weighted."""
    if isinstance(rule, KeepingRole):
        return (
            f"its loss needs {rule.role!r} samples beside the pairs, which population pairs do not hold. Use --player "
            "sampled, or leave out the field that asks for them."
        )
    return (
        f"pairs of {type(rule).__name__} have no closed form. Use --player sampled, or independent pairs: pairing = "
        "'iid' in algorithms that have this field, IndependentPairs() in steps() of your own."
    )


def _given(rule: Against, held: Mapping[str, Array], drawn: Mapping[str, Array]) -> Array:
    """Joint law (n, n) of winner and loser where roles decide; only chosen and rejected depend on each other."""
    if (rule.winner, rule.loser) == ("chosen", "rejected"):
        return held["joint"]
    laws = dict(drawn)
    if "joint" in held:
        laws |= {"chosen": held["joint"].sum(1), "rejected": held["joint"].sum(0)}
    if "gold" in held:
        laws["gold"] = held["gold"]
    for role in (rule.winner, rule.loser):
        if role not in laws:
            raise ValueError(f"pairing {rule}: the step has no responses of role {role!r}; it has {', '.join(laws)}.")
    return laws[rule.winner][:, None] * laws[rule.loser][None, :]


def population_of(parts: Sequence[tuple[Array, Array, int]], win_rates: Array) -> Population:
    """Joint distributions (n, n) with preferences and term, as pairs of positive weight among all n actions."""
    index = [np.argwhere(joint > 0) for joint, _, _ in parts]
    at = [tuple(i.T) for i in index]
    return Population(
        np.arange(len(win_rates)),
        win_rates,
        np.concatenate(index).astype(np.int64),
        np.concatenate([joint[a] for (joint, _, _), a in zip(parts, at, strict=True)]),
        np.concatenate([preference[a] for (_, preference, _), a in zip(parts, at, strict=True)]),
        np.concatenate([np.full(len(i), term) for i, (_, _, term) in zip(index, parts, strict=True)]),
    )


def batch_of(logps: Float[Tensor, " n"], population: Population, anchors: Mapping[str, Array]) -> Batch:
    """One context's responses as a batch, each of length 1; log-probabilities (n,) are given per action."""
    count = len(population.actions)
    return Batch(
        logps_R=logps[torch.from_numpy(population.actions)],
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


def minimise(loss: LogitsLoss, start: Array) -> Array:
    """Logits (n,) at a minimum: Newton, and where that gets stuck (kinks, no curvature) gradient sampling.

    Raises:
        ValueError: neither found one.
    """
    logits, steep = _newton(loss, start), largest_gradient(loss, start)
    enough = CONVERGED * max(1.0, steep)
    if largest_gradient(loss, logits) > enough:
        logits = _descend(loss, logits)
    left = stationarity_gradient(loss, logits)
    if not left <= enough:
        raise ValueError(
            f"the fit did not converge: gradient {left:.1e} at its end, {steep:.1e} at its start. The loss may have "
            "jumps, or no minimum; lower the step, or check it on three actions by hand."
        )
    return logits


def _endless(loss: LogitsLoss, start: Array, end: Array) -> bool:
    """Whether the loss is no higher `FAR` nats further from the start."""
    moved = end - start - (end - start).mean()
    if np.abs(moved).max() < 1.0:
        return False
    value, further = (float(loss(torch.from_numpy(end + far * moved))) for far in (0.0, FAR / np.abs(moved).max()))
    return further <= value + 1e-13 * max(1.0, abs(value))


def _newton(loss: LogitsLoss, start: Array) -> Array:
    """Saddle-free Newton with backtracking: curvature by absolute value, flat directions left alone."""
    logits, last = torch.from_numpy(start.copy()), (np.inf, np.inf)
    for _ in range(NEWTON_STEPS):
        value, gradient = _value_and_gradient(loss, logits)
        reached = float(value), float(gradient.abs().max())
        # Where an action's probability vanishes, so does its curvature, and steps go on without getting anywhere.
        if reached[1] < GRADIENT_TOLERANCE or (reached[0] >= last[0] and reached[1] >= 0.99 * last[1]):
            break
        last = reached
        curvature = torch.autograd.functional.hessian(loss, logits, vectorize=True)
        scales, axes = torch.linalg.eigh(curvature)  # type: ignore[arg-type]
        usable = scales.abs() > 1e-11 * scales.abs().max()
        inverse = torch.where(usable, 1.0 / scales.abs().clamp_min(1e-300), 0.0)
        step = -(axes @ (inverse * (axes.T @ gradient)))
        size = 1.0
        while size > 1e-6 and not loss(logits + size * step) <= value:
            size /= 2
        moved = logits + size * step
        if size <= 1e-6 or torch.equal(moved, logits):
            break
        logits = moved - moved.mean()
    return logits.numpy()


def largest_gradient(loss: LogitsLoss, logits: Array) -> float:
    """Largest entry of the gradient."""
    return float(_value_and_gradient(loss, torch.from_numpy(logits.copy()))[1].abs().max())


def stationarity_gradient(loss: LogitsLoss, logits: Array, radius: float = 1e-6) -> float:
    """The same, but at a kink 0 where gradients nearby can cancel, as at the minimum of a hinge."""
    here = largest_gradient(loss, logits)
    if here <= CONVERGED:
        return here
    near = _gradients_near(loss, logits, radius, np.random.default_rng(0), 20 * len(logits))
    return float(np.abs(_shortest(near)).max())


def _descend(loss: LogitsLoss, start: Array) -> Array:
    """Gradient sampling (Burke, Lewis & Overton 2005): steps against the shortest mean of nearby gradients."""
    draw, logits, radius = np.random.default_rng(0), start.copy(), 0.1
    value = float(loss(torch.from_numpy(logits)))
    for _ in range(DESCENT_STEPS):
        down = -_shortest(_gradients_near(loss, logits, radius, draw, 2 * len(logits)))
        length = float(np.linalg.norm(down))
        size = 1.0 / length if length > 1e-9 else 0.0
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


def _gradients_near(loss: LogitsLoss, logits: Array, radius: float, draw: np.random.Generator, count: int) -> Array:
    """Gradients (count + 1, n) here and at random points within `radius` in every logit."""
    moves = draw.uniform(-radius, radius, (count, len(logits)))
    points = [logits, *(logits + moves)]
    return np.stack([_value_and_gradient(loss, torch.from_numpy(x.copy()))[1].numpy() for x in points])


def _shortest(gradients: Array) -> Array:
    """The mean of least length over all weights: minimum-norm point of the convex hull."""
    scale = max(float(np.abs(gradients).max()), 1e-300)
    many = 1e3  # how much the weights' sum counts; they are normalised afterwards
    system = np.vstack([gradients.T / scale, np.full(len(gradients), many)])
    weights, _ = nnls(system, np.append(np.zeros(gradients.shape[1]), many))
    return weights @ gradients / weights.sum()


def _bounded(loss: LogitsLoss, start: Array, bound: float) -> Array:
    def evaluate(logits: Array) -> tuple[float, Array]:
        value, gradient = _value_and_gradient(loss, torch.from_numpy(logits.copy()))
        return float(value), gradient.numpy()

    limits = [(u - bound, u + bound) for u in start]
    options = {"maxiter": 2000, "ftol": 1e-15, "gtol": 1e-10}
    return minimize(evaluate, start, jac=True, method="L-BFGS-B", bounds=limits, options=options).x


def _value_and_gradient(loss: LogitsLoss, logits: Float[Tensor, " n"]) -> tuple[Float[Tensor, ""], Float[Tensor, " n"]]:
    leaf = logits.clone().requires_grad_()
    value = loss(leaf)
    (gradient,) = torch.autograd.grad(value, leaf)
    return value.detach(), gradient
