"""The sampled player: the tabular player with finitely many prompts, real samples and the real pairing.

Each round draws responses of `prompts` prompts from the step's policies, plays the algorithm's own pairing against
probabilities read from the game, and fits the objective on the pairs that result; a response's win rate is that among
its prompt's responses. A data set is drawn once, and every round sees the same. Errors shrink as 1/sqrt(pairs), and
selected pairs (best-worst, knockout) show their bias. Leaves out: tokens, lists.

    SampledPlayer(INPO(samples=8, pairing="knockout"), g3(), prompts=1000, seed=0).play(20)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sparring.algorithms.algorithm import Column, DataFacts, Reuse, Step
from sparring.algorithms.pairing import Listwise, Pairing, Pairs
from sparring.certificates.players.population import Population
from sparring.certificates.players.tabular import TabularPlayer
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
        by_prompt = [play_pairing(step.pairing, roles, row, preference, int(draw.integers(2**31))) for row in actions]
        return _joined(by_prompt, roles, actions)

    def _responses(self, step: Step, context: int, draw: np.random.Generator) -> tuple[list[str], NDArray[np.int64]]:
        """Roles (K), and actions (prompts, K); those of data columns are the same in every round."""
        assert not isinstance(step.responses, Reuse)
        data = _draw_columns(self._columns(step, context), self.prompts, np.random.default_rng([self.seed, context, 0]))
        roles: list[str] = []
        columns: list[NDArray[np.int64]] = []
        for source in step.responses:
            if isinstance(source, Column):
                roles.append(source.role)
                columns.append(data[source.role][:, None])
            else:
                law = np.exp(self._mixture(source, context))
                roles += [source.role] * source.count
                columns.append(draw.choice(len(law), (self.prompts, source.count), p=law / law.sum()))
        return roles, np.concatenate(columns, axis=1)


def _draw_columns(laws: Mapping[str, Array], prompts: int, draw: np.random.Generator) -> dict[str, NDArray[np.int64]]:
    """Actions (prompts,) of the data's columns by role, drawn from their laws (see `TabularPlayer._columns`)."""

    def sample(law: Array) -> NDArray[np.int64]:
        return draw.choice(law.size, prompts, p=law.ravel() / law.sum())

    columns: dict[str, NDArray[np.int64]] = {}
    if "joint" in laws:
        # Chosen and rejected depend on each other: they are drawn as one pair, numbered chosen * n + rejected.
        columns["chosen"], columns["rejected"] = np.divmod(sample(laws["joint"]), len(laws["joint"]))
    if "gold" in laws:
        columns["gold"] = sample(laws["gold"])
    return columns


def _joined(by_prompt: list[Pairs], roles: list[str], actions: NDArray[np.int64]) -> Population:
    """All prompts' pairs as one population, each prompt of equal weight; only responses that a loss needs."""
    rows: dict[tuple[int, int], int] = {}

    def row(prompt: int, index: int) -> int:
        """The response's place among those of the population, which are numbered as they are met."""
        return rows.setdefault((prompt, index), len(rows))

    pairs = [
        (row(prompt, pair.winner), row(prompt, pair.loser), pair.weight, pair.preference, pair.term)
        for prompt, result in enumerate(by_prompt)
        for pair in result.pairs
    ]
    for prompt, result in enumerate(by_prompt):
        for index in result.unpaired:
            row(prompt, index)
    table = np.array(pairs, dtype=np.float64).reshape(-1, 5)
    return Population(
        actions=np.array([actions[key] for key in rows], dtype=np.int64),
        win_rates=np.array([by_prompt[prompt].win_rates[index] for prompt, index in rows], dtype=np.float64),
        pairs=table[:, :2].astype(np.int64),
        weights=table[:, 2] / len(by_prompt),
        preferences=table[:, 3],
        terms=table[:, 4].astype(np.int64),
        roles=tuple(roles[index] for _, index in rows),
    )


def play_pairing(pairing: Pairing, roles: list[str], actions: NDArray[np.int64], preference: Array, seed: int) -> Pairs:
    """One prompt's pairing, its comparisons answered with the game's probabilities."""
    game = pairing.play(roles, seed)
    wave = next(game)
    while True:
        try:
            wave = game.send([float(preference[actions[a], actions[b]]) for a, b in wave])
        except StopIteration as stop:
            return stop.value
