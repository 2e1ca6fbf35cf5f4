"""The tabular player: softmax logits on a game, fitted with the library's own objectives and steps.

It runs the same `Algorithm.steps` as a language model, makes the batch that infinitely many samples would give
(every pair of actions, weighted by its probability), and minimises the same objective to rounding. What it
certifies is therefore the code that trains language models. Leaves out: selected pairs (best-worst, knockout),
whose distribution has no closed form here, and samples kept beside pairs; the sampled player draws both.

    TabularPlayer(INPO(step_size=1.0, kl_to_reference=0.1, pairing="iid"), g3()).play(50).gaps()
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor

from sparring.algorithms.algorithm import Algorithm, Column, Draw, Facts, PolicyRef, Reuse, Step
from sparring.games.dynamics import Trajectory
from sparring.games.equilibrium import log_normalise
from sparring.games.game import Array, Game
from sparring.objectives import DATA, PESSIMISM, Batch
from sparring.pairing import Against, AllPairs, ChosenRejectedOwn, IndependentPairs, Listwise

GRADIENT_TOLERANCE = 1e-13
NEWTON_STEPS = 200
MANY_EXAMPLES = 1_000_000
"""what a step is told where the data are a population"""
Policies = dict[PolicyRef, Array]


@dataclass(frozen=True, slots=True)
class Population:
    """Responses (R) and weighted pairs of them (P), as a step's pairing would make them in one context."""

    actions: NDArray[np.int64]
    """(R,) which action each response is"""
    win_rates: Array
    """(R,)"""
    pairs: NDArray[np.int64]
    """(P, 2) winner and loser, indices into the responses"""
    weights: Array
    """(P,)"""
    preferences: Array
    """(P,) P(winner beats loser), NaN where no oracle was asked"""
    terms: NDArray[np.int64]
    """(P,)"""
    roles: tuple[str, ...] = ()
    """(R,); all "own" unless given"""


@dataclass
class TabularPlayer:
    """Plays an algorithm on a game; `wins[i, j]` counts replace the population of chosen-rejected pairs."""

    algorithm: Algorithm
    game: Game
    wins: Array | None = None
    log_ratio_bound: float | None = None
    """keeps each fitted log-ratio to the step's start within +-bound (a bounded function class)"""
    policies: Policies = field(default_factory=dict)

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
        return Trajectory(self.game, np.stack([self._policy(PolicyRef(t)) for t in range(rounds + 1)]))

    def _policy(self, ref: PolicyRef) -> Array:
        """A policy by round and seat; in round 0 every seat is the reference."""
        return self.policies[ref if ref in self.policies else PolicyRef(0)]

    def fit(self, step: Step, steps: tuple[Step, ...], context: int) -> Array:
        """The log-policy (n,) that minimises the step's objective in one context, from the step's start."""
        loss, start = self.loss(step, steps, context), self._policy(step.start)[context]
        if self.log_ratio_bound is not None:
            return log_normalise(_bounded(loss, start, self.log_ratio_bound))
        return log_normalise(_newton(loss, start))

    def loss(self, step: Step, steps: tuple[Step, ...], context: int) -> Callable[[Tensor], Tensor]:
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
            raise ValueError(
                f"pairing {type(rule).__name__}: the distribution of its pairs has no closed form. Use pairing = 'iid' "
                "and no samples beside the pairs with this player, or the sampled player."
            )
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


def batch_of(logps: Tensor, population: Population, anchors: Mapping[str, Array]) -> Batch:
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


def _newton(loss: Callable[[Tensor], Tensor], start: Array) -> Array:
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


def _bounded(loss: Callable[[Tensor], Tensor], start: Array, bound: float) -> Array:
    def evaluate(logits: Array) -> tuple[float, Array]:
        value, gradient = _value_and_gradient(loss, torch.from_numpy(logits.copy()))
        return float(value), gradient.numpy()

    limits = [(u - bound, u + bound) for u in start]
    options = {"maxiter": 2000, "ftol": 1e-15, "gtol": 1e-10}
    return minimize(evaluate, start, jac=True, method="L-BFGS-B", bounds=limits, options=options).x


def _value_and_gradient(loss: Callable[[Tensor], Tensor], logits: Tensor) -> tuple[Tensor, Tensor]:
    leaf = logits.clone().requires_grad_()
    value = loss(leaf)
    (gradient,) = torch.autograd.grad(value, leaf)
    return value.detach(), gradient
