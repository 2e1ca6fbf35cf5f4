"""The tabular player: softmax logits on a game, fitted with the library's own objectives and steps.

It runs the same `Algorithm.steps` as a language model, makes the batch that infinitely many samples would give
(every pair of actions, weighted by its probability), and minimises the same objective to rounding. It
therefore certifies the code that trains language models. Leaves out: selected pairs (best-worst, knockout),
whose distribution has no closed form here, and samples kept beside pairs; the sampled player draws both.

    TabularPlayer(INPO(step_size=1.0, kl_to_reference=0.1, pairing="iid"), g3()).play(50).gaps()
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sparring.algorithms.algorithm import Algorithm, Column, DataFacts, Draw, PolicyRef, Reuse, Step
from sparring.algorithms.pairing import (
    Across,
    Against,
    AllPairs,
    ChosenRejectedOwn,
    IndependentPairs,
    KeepingRole,
    Ladder,
    Listwise,
    Pairing,
)
from sparring.certificates.players.minimise import FAR, Loss, has_no_minimum, minimise, minimise_near
from sparring.certificates.players.population import Population, batch_of, population_of
from sparring.games.game import Array, Game
from sparring.games.probabilities import log_normalise
from sparring.games.trajectory import Trajectory
from sparring.objectives.pairs import DATA, PESSIMISM
from sparring.objectives.responses import UNPAIRED

POPULATION_PAIRINGS = (IndependentPairs, AllPairs, Across, Against, ChosenRejectedOwn, Ladder, Listwise)
"""pairings whose pairs have a distribution that can be written down; others are sampled"""
MANY_EXAMPLES = 1_000_000
"""the size of the data set where the data are a population"""


@dataclass
class TabularPlayer:
    """Plays an algorithm on a game; `wins[i, j]` counts replace the population of chosen-rejected pairs."""

    algorithm: Algorithm
    game: Game
    wins: Array | None = None
    log_ratio_bound: float | None = None
    """keeps each fitted log-ratio to the step's start within +-bound (a bounded function class)"""
    policies: dict[PolicyRef, Array] = field(default_factory=dict)
    without_minimum: int = 0
    """number of fits whose loss fell without end, or was flat, in the direction of the fit"""

    def data_facts(self) -> DataFacts:
        """The number of comparisons counted in `wins`, or very many."""
        return DataFacts(MANY_EXAMPLES if self.wins is None else int(self.wins.sum()))

    def play(self, rounds: int) -> Trajectory:
        """Log-policies of rounds 0..rounds; round 0 is the game's reference."""
        self.policies = {PolicyRef(0): self.game.log_reference}
        for t in range(rounds):
            steps = self.algorithm.steps(t, self.data_facts())
            for step in steps:
                made = PolicyRef(t + 1, step.trains)
                self.policies[made] = np.stack([self.fit(step, steps, c) for c in range(self.game.n_contexts)])
        log_policies = np.stack([self._policy(PolicyRef(t)) for t in range(rounds + 1)])
        if not self.without_minimum:
            return Trajectory(self.game, log_policies)
        note = f"{self.without_minimum} fit(s) have no finite minimum: the loss does not rise {FAR:g} nats further on, "
        note += "so probabilities that vanish are where the fit stopped."
        return Trajectory(self.game, log_policies, (note,))

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
            return log_normalise(minimise_near(loss, start, self.log_ratio_bound))
        logits = minimise(loss, start)
        self.without_minimum += has_no_minimum(loss, start, logits)
        return log_normalise(logits)

    def loss(self, step: Step, steps: tuple[Step, ...], context: int) -> Loss:
        """The step's objective as a function of the logits (n,) of one context."""
        source = steps[step.responses.step] if isinstance(step.responses, Reuse) else step
        population = self.population(source, context)
        anchors = {name: self._policy(ref)[context] for name, ref in step.anchors.items()}
        batch, actions = batch_of(population, anchors), torch.from_numpy(population.actions)

        def total(logits: Float[Tensor, " n"]) -> Float[Tensor, ""]:
            return step.objective(replace(batch, logps_R=logits.log_softmax(0)[actions])).total

        return total

    def population(self, step: Step, context: int) -> Population:
        """Every pair that a step's pairing would draw, and each action's win rate against the own samples."""
        preference = self.game.preference[context]
        laws: dict[str, Array] = {draw.role: np.exp(self._mixture(draw, context)) for draw in step.draws()}
        own: Array = laws["own"] if "own" in laws else np.exp(self._policy(step.start)[context])
        parts = _weighted_pairs(step.pairing, preference, own, laws, self._columns(step, context))
        return population_of(parts, preference @ own)

    def _mixture(self, draw: Draw, context: int) -> Array:
        """Log-probabilities (n,) of a draw's mixture."""
        weights = [(self._policy(ref)[context], weight) for ref, weight in draw.policies.items()]
        if draw.mixture == "token_geometric":
            return log_normalise(np.sum([w * u for u, w in weights], axis=0))
        return log_normalise(np.logaddexp.reduce(np.stack([u + np.log(w) for u, w in weights]), axis=0))

    def _columns(self, step: Step, context: int) -> Mapping[str, Array]:
        """The data's laws: `gold` (n,) of gold actions, `joint` (n, n) of (chosen, rejected); none if not needed."""
        if isinstance(step.responses, Reuse) or not any(isinstance(r, Column) for r in step.responses):
            return {}
        if any(isinstance(r, Column) and r.role in UNPAIRED for r in step.responses):
            raise ValueError("it learns from answers with a label each, which no game here has.")
        if self.wins is not None:
            return {"joint": self.wins / self.wins.sum()}
        if self.game.data is None:
            raise ValueError(f"game {self.game.name}: it has no data policy, which this algorithm needs; add 'data'.")
        data = self.game.data[context]
        return {"gold": data, "joint": 2.0 * data[:, None] * data[None, :] * self.game.preference[context]}


def _weighted_pairs(
    rule: Pairing, preference: Array, own: Array, laws: Mapping[str, Array], columns: Mapping[str, Array]
) -> list[tuple[Array, Array, int]]:
    """Per term of a loss: the joint law (n, n) of winner and loser, the preferences that it knows, and the term.

    `laws` are the policies (n,) of the sampled roles, `own` among them; `columns` are the data's.
    """
    unjudged = np.full_like(preference, np.nan)
    if isinstance(rule, IndependentPairs | AllPairs):
        # The label: "sampled" calls i the winner with probability P_ij, "likelier" where P_ij > 1/2.
        wins = preference if rule.label == "sampled" else (np.sign(preference - 0.5) + 1.0) / 2.0
        return [(2.0 * own[:, None] * own[None, :] * wins, preference, DATA)]
    if isinstance(rule, Across):
        one, other = (laws[role] for role in (rule.first, rule.second))
        wins = preference if rule.label == "sampled" else (np.sign(preference - 0.5) + 1.0) / 2.0
        return [((one[:, None] * other[None, :] + other[:, None] * one[None, :]) * wins, preference, DATA)]
    if isinstance(rule, Ladder):
        steps = ((columns["gold"], own, DATA), (own, laws["start"], PESSIMISM))
        return [(above[:, None] * below[None, :], unjudged, term) for above, below, term in steps]
    if isinstance(rule, Against):
        return [(_law_by_roles(rule, laws, columns), preference if rule.soft else unjudged, DATA)]
    if isinstance(rule, ChosenRejectedOwn):
        joint = columns["joint"]
        # SPAC's second term pairs either response of a data pair with an own sample.
        either = (joint.sum(0) + joint.sum(1)) / 2
        return [(joint, unjudged, DATA), (either[:, None] * own[None, :], unjudged, PESSIMISM)]
    if isinstance(rule, Listwise):
        return [(np.zeros_like(preference), preference, DATA)]  # one list of all actions, no pairs
    raise ValueError(_why_unweighted(rule))


def _why_unweighted(rule: Pairing) -> str:
    if isinstance(rule, KeepingRole):
        return (
            f"its loss needs {rule.role!r} samples beside the pairs, which population pairs do not hold. Use --player "
            "sampled, or leave out the field that asks for them."
        )
    return (
        f"pairs of {type(rule).__name__} have no closed form. Use --player sampled, or independent pairs: pairing = "
        "'iid' in algorithms that have this field, IndependentPairs() in steps() of your own."
    )


def _law_by_roles(rule: Against, drawn: Mapping[str, Array], columns: Mapping[str, Array]) -> Array:
    """Joint law (n, n) where roles decide who wins: independent draws, but chosen and rejected come as a pair."""
    if (rule.winner, rule.loser) == ("chosen", "rejected"):
        return columns["joint"]
    laws = dict(drawn)
    if "joint" in columns:
        laws |= {"chosen": columns["joint"].sum(1), "rejected": columns["joint"].sum(0)}
    if "gold" in columns:
        laws["gold"] = columns["gold"]
    for role in (rule.winner, rule.loser):
        if role not in laws:
            raise ValueError(f"pairing {rule}: the step has no responses of role {role!r}; it has {', '.join(laws)}.")
    return laws[rule.winner][:, None] * laws[rule.loser][None, :]
