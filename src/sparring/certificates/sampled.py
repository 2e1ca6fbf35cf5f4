"""The sampled player: the tabular player with finitely many prompts, real samples and the real pairing.

Each round draws responses of `prompts` prompts from the step's policies, plays the algorithm's own pairing against
probabilities read from the game, and fits the objective on what came out: each response with the win rate that it
had among its prompt's. What a data set holds is drawn once and met again in every round. Its errors shrink as
1/sqrt(pairs), and selected pairs (best-worst, knockout) show their bias. Leaves out: tokens, lists.

    SampledPlayer(INPO(samples=8, pairing="knockout"), g3(), prompts=1000, seed=0).play(20)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sparring.algorithms.algorithm import Column, DataFacts, Reuse, Step
from sparring.algorithms.pairing import Listwise, Pairing, Pairs
from sparring.certificates.tabular import Population, TabularPlayer
from sparring.games.game import Array


@dataclass
class SampledPlayer(TabularPlayer):
    """A `TabularPlayer` whose pairs are drawn; deterministic in `seed`."""

    prompts: int = 1000
    seed: int = 0

    def data_facts(self) -> DataFacts:
        """Every prompt is an example."""
        return DataFacts(self.prompts)

    def population(self, step: Step, context: int) -> Population:
        """The responses and pairs of this round's samples."""
        draw = np.random.default_rng([self.seed, context, len(self.policies)])
        preference = self.game.preference[context]
        if isinstance(step.pairing, Listwise):
            raise ValueError("lists are not played with samples; the tabular player fits one list of all actions")
        roles, actions = self._responses(step, context, draw)
        made: list[Pairs] = []
        for mine in actions:
            made.append(play(step.pairing, roles, mine, preference, int(draw.integers(2**31))))
        return _joined(made, roles, actions)

    def _responses(self, step: Step, context: int, draw: np.random.Generator) -> tuple[list[str], NDArray[np.int64]]:
        """Roles, and prompts x responses actions; those of data columns are the same in every round."""
        assert not isinstance(step.responses, Reuse)
        given = np.random.default_rng([self.seed, context, 0])
        held = self._columns(step, context)
        count = self.game.n_actions
        roles: list[str] = []
        columns: list[NDArray[np.int64]] = []
        joint = held.get("joint")
        picks = None if joint is None else given.choice(count * count, self.prompts, p=joint.ravel() / joint.sum())
        for source in step.responses:
            if not isinstance(source, Column):
                law = np.exp(self._mixture(source, context))
                roles += [source.role] * source.count
                columns.append(draw.choice(count, (self.prompts, source.count), p=law / law.sum()))
            elif source.role == "gold":
                roles.append("gold")
                columns.append(given.choice(count, (self.prompts, 1), p=held["gold"] / held["gold"].sum()))
            else:
                assert picks is not None
                roles.append(source.role)
                columns.append((picks // count if source.role == "chosen" else picks % count)[:, None])
        return roles, np.concatenate(columns, axis=1)


def _joined(made: list[Pairs], roles: list[str], actions: NDArray[np.int64]) -> Population:
    """All prompts' pairs as one population, each prompt of equal weight; only responses that a loss needs."""
    rows: dict[tuple[int, int], int] = {}

    def row(prompt: int, index: int) -> int:
        return rows.setdefault((prompt, index), len(rows))

    found = [
        (row(prompt, pair.winner), row(prompt, pair.loser), pair.weight, pair.preference, pair.term)
        for prompt, result in enumerate(made)
        for pair in result.pairs
    ]
    for prompt, result in enumerate(made):
        for index in result.kept:
            row(prompt, index)
    table = np.array(found, dtype=np.float64).reshape(-1, 5)
    return Population(
        np.array([actions[key] for key in rows], dtype=np.int64),
        np.array([made[prompt].win_rates[index] for prompt, index in rows], dtype=np.float64),
        table[:, :2].astype(np.int64),
        table[:, 2] / len(made),
        table[:, 3],
        table[:, 4].astype(np.int64),
        tuple(roles[index] for _, index in rows),
    )


def play(pairing: Pairing, roles: list[str], actions: NDArray[np.int64], preference: Array, seed: int) -> Pairs:
    """One prompt's pairing, its comparisons answered with the game's probabilities."""
    game = pairing.play(roles, seed)
    wave = next(game)
    while True:
        try:
            wave = game.send([float(preference[actions[a], actions[b]]) for a, b in wave])
        except StopIteration as stop:
            return stop.value
