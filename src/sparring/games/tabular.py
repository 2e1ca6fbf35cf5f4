"""The tabular player: softmax logits on a game, fitted with the library's own objectives and steps.

It runs the same `Algorithm.steps` as a language model, makes the batch that infinitely many samples would give
(every pair of actions, weighted by its probability), and minimises the same objective to rounding. What it
certifies is therefore the code that trains language models. Leaves out: selected pairs (best-worst, knockout),
whose distribution has no closed form here; the sampled player draws them.

    TabularPlayer(INPO(step_size=1.0, kl_to_reference=0.1, pairing="iid"), g3()).play(50).gaps()
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
from sparring.objectives import DATA, PESSIMISM, Batch, Objective
from sparring.pairing import Against, AllPairs, ChosenRejectedOwn, IndependentPairs, Listwise

GRADIENT_TOLERANCE = 1e-13
NEWTON_STEPS = 200
Policies = dict[PolicyRef, Array]


@dataclass(frozen=True, slots=True)
class PopulationPairs:
    """All pairs of n actions with their probabilities: arrays of length P."""

    pairs: NDArray[np.int64]
    """(P, 2) winner and loser"""
    weights: Array
    preferences: Array
    terms: NDArray[np.int64]


@dataclass
class TabularPlayer:
    """Plays an algorithm on a game; `wins[i, j]` counts replace the population of chosen-rejected pairs."""

    algorithm: Algorithm
    game: Game
    wins: Array | None = None
    log_ratio_bound: float | None = None
    """keeps each fitted log-ratio to the step's start within +-bound (a bounded function class)"""
    policies: Policies = field(default_factory=dict)

    def play(self, rounds: int, start: Array | None = None) -> Trajectory:
        """Log-policies of rounds 0..rounds; round 0 is the game's reference unless `start` (C, n) is given."""
        self.policies = {PolicyRef(0): self.game.log_reference if start is None else log_normalise(start)}
        facts = Facts(int(self.wins.sum()) if self.wins is not None else 1_000_000)
        for t in range(rounds):
            steps = self.algorithm.steps(t, facts)
            for step in steps:
                made = PolicyRef(t + 1, step.trains)
                self.policies[made] = np.stack([self.fit(step, steps, c) for c in range(self.game.n_contexts)])
        return Trajectory(self.game, np.stack([self._policy(PolicyRef(t)) for t in range(rounds + 1)]))

    def _policy(self, ref: PolicyRef) -> Array:
        """A policy by round and seat; in round 0 every seat is the reference."""
        return self.policies[ref if ref in self.policies else PolicyRef(0)]

    def fit(self, step: Step, steps: tuple[Step, ...], context: int) -> Array:
        """The log-policy (n,) that minimises the step's objective in one context."""
        source = steps[step.responses.step] if isinstance(step.responses, Reuse) else step
        pairs, win_rates = self.population(source, context)
        anchors = {name: self._policy(ref)[context] for name, ref in step.anchors.items()}
        start = self._policy(step.start)[context]
        return minimise(step.objective, pairs, anchors, win_rates, start, self.log_ratio_bound)

    def population(self, step: Step, context: int) -> tuple[PopulationPairs, Array]:
        """Every pair that a step's pairing would draw, and each action's win rate against the first draw."""
        preference = self.game.preference[context]
        drawn = {d.role: self._mixture(d, context) for d in step.draws()}
        own: Array = np.exp(drawn["own"] if "own" in drawn else self._policy(step.start)[context])
        held = self._columns(step, context)
        rule = step.pairing
        if isinstance(rule, IndependentPairs | AllPairs):
            wins = preference if rule.label == "sampled" else (np.sign(preference - 0.5) + 1.0) / 2.0
            found = _pairs((2.0 * own[:, None] * own[None, :] * wins, preference, DATA))
        elif isinstance(rule, Against) and rule.winner == "gold":
            found = _pairs((held["gold"][:, None] * own[None, :], preference * np.nan, DATA))
        elif isinstance(rule, Against):
            found = _pairs((held["joint"], preference, DATA))
        elif isinstance(rule, ChosenRejectedOwn):
            given = (held["joint"].sum(0) + held["joint"].sum(1)) / 2
            found = _pairs(
                (held["joint"], preference * np.nan, DATA),
                (given[:, None] * own[None, :], preference * np.nan, PESSIMISM),
            )
        elif isinstance(rule, Listwise):
            found = _pairs((np.zeros_like(preference), preference, DATA))  # one list of all actions, no pairs
        else:
            raise ValueError(
                f"pairing {type(rule).__name__}: the distribution of selected pairs has no closed form. Use "
                "pairing = 'iid' with this player, or the sampled player."
            )
        return found, preference @ own

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


def _pairs(*parts: tuple[Array, Array, int]) -> PopulationPairs:
    """Joint distributions (n, n) as flat lists of pairs with positive weight."""
    index = [np.argwhere(joint > 0) for joint, _, _ in parts]
    at = [tuple(i.T) for i in index]
    return PopulationPairs(
        np.concatenate(index).astype(np.int64),
        np.concatenate([joint[a] for (joint, _, _), a in zip(parts, at, strict=True)]),
        np.concatenate([preference[a] for (_, preference, _), a in zip(parts, at, strict=True)]),
        np.concatenate([np.full(len(i), term) for i, (_, _, term) in zip(index, parts, strict=True)]),
    )


def batch_of(logps: Tensor, pairs: PopulationPairs, anchors: Mapping[str, Array], win_rates: Array) -> Batch:
    """One context's actions as a batch: every action is a response of length 1."""
    count = len(logps)
    return Batch(
        logps_R=logps,
        anchor_logps={name: torch.from_numpy(values.copy()) for name, values in anchors.items()},
        lengths_R=torch.ones(count, dtype=torch.long),
        example_R=torch.zeros(count, dtype=torch.long),
        roles=("own",) * count,
        win_rates_R=torch.from_numpy(win_rates.copy()),
        pairs_P2=torch.from_numpy(pairs.pairs.copy()),
        preference_P=torch.from_numpy(pairs.preferences.copy()),
        weight_P=torch.from_numpy(pairs.weights.copy()),
        term_P=torch.from_numpy(pairs.terms.copy()),
    )


def minimise(
    objective: Objective,
    pairs: PopulationPairs,
    anchors: Mapping[str, Array],
    win_rates: Array,
    start: Array,
    bound: float | None = None,
) -> Array:
    """The log-policy (n,) at a minimum of the objective, from `start`; optionally within +-bound of it."""

    def loss(logits: Tensor) -> Tensor:
        return objective(batch_of(logits.log_softmax(0), pairs, anchors, win_rates)).total

    if bound is not None:
        return log_normalise(_bounded(loss, start, bound))
    return log_normalise(_newton(loss, start))


def _newton(loss: Callable[[Tensor], Tensor], start: Array) -> Array:
    """Saddle-free Newton with backtracking: curvature by absolute value, flat directions left alone."""
    logits = torch.from_numpy(start.copy())
    for _ in range(NEWTON_STEPS):
        value, gradient = _value_and_gradient(loss, logits)
        if gradient.abs().max() < GRADIENT_TOLERANCE:
            break
        curvature = torch.autograd.functional.hessian(loss, logits)
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
