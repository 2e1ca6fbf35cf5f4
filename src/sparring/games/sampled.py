"""The sampled player: the tabular player with finitely many prompts, real samples and the real pairing.

Each round draws responses of `prompts` prompts from the step's policies, plays the algorithm's own pairing against
verdicts drawn or read from the game, and fits the objective on what came out. Its errors shrink as 1/sqrt(pairs), and
selected pairs (best-worst, knockout) show their bias. Leaves out: tokens.

    SampledPlayer(INPO(samples=8, pairing="knockout"), g3(), prompts=1000, seed=0).play(20)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sparring.algorithms.algorithm import Column, Reuse, Step
from sparring.games.game import Array
from sparring.games.tabular import PopulationPairs, TabularPlayer
from sparring.pairing import Listwise, Pairing, Pairs


@dataclass
class SampledPlayer(TabularPlayer):
    """A `TabularPlayer` whose pairs are drawn; deterministic in `seed`."""

    prompts: int = 1000
    seed: int = 0

    def population(self, step: Step, context: int) -> tuple[PopulationPairs, Array]:
        """The pairs of this round's samples, and each action's mean win rate among them."""
        draw = np.random.default_rng([self.seed, context, len(self.policies)])
        preference = self.game.preference[context]
        if isinstance(step.pairing, Listwise):
            raise ValueError("lists are not played with samples; the tabular player fits one list of all actions")
        roles, actions = self._responses(step, context, draw)
        found: list[tuple[int, int, float, float, int]] = []
        rates = np.zeros((2, len(preference)))
        for index in range(self.prompts):
            mine = actions[index]
            result = play(step.pairing, roles, mine, preference, int(draw.integers(2**31)))
            for pair in result.pairs:
                found.append((mine[pair.winner], mine[pair.loser], pair.weight, pair.preference, pair.term))
            for action, rate in zip(mine, result.win_rates, strict=True):
                if not np.isnan(rate):
                    rates[:, action] += (rate, 1.0)
        table = np.array(found, dtype=np.float64).reshape(-1, 5)
        pairs = PopulationPairs(
            table[:, :2].astype(np.int64), table[:, 2] / self.prompts, table[:, 3], table[:, 4].astype(np.int64)
        )
        return pairs, np.where(rates[1] > 0, rates[0] / np.maximum(rates[1], 1), 0.5)

    def _responses(self, step: Step, context: int, draw: np.random.Generator) -> tuple[list[str], NDArray[np.int64]]:
        """Roles, and prompts x responses actions."""
        assert not isinstance(step.responses, Reuse)
        held = self._columns(step, context)
        count = self.game.n_actions
        roles: list[str] = []
        columns: list[NDArray[np.int64]] = []
        joint = held.get("joint")
        picks = None if joint is None else draw.choice(count * count, self.prompts, p=joint.ravel() / joint.sum())
        for source in step.responses:
            if not isinstance(source, Column):
                law = np.exp(self._mixture(source, context))
                roles += [source.role] * source.count
                columns.append(draw.choice(count, (self.prompts, source.count), p=law / law.sum()))
            elif source.role == "gold":
                roles.append("gold")
                columns.append(draw.choice(count, (self.prompts, 1), p=held["gold"] / held["gold"].sum()))
            else:
                assert picks is not None
                roles.append(source.role)
                columns.append((picks // count if source.role == "chosen" else picks % count)[:, None])
        return roles, np.concatenate(columns, axis=1)


def play(pairing: Pairing, roles: list[str], actions: NDArray[np.int64], preference: Array, seed: int) -> Pairs:
    """One prompt's pairing, its comparisons answered with the game's probabilities."""
    game = pairing.play(roles, seed)
    wave = next(game)
    while True:
        try:
            wave = game.send([float(preference[actions[a], actions[b]]) for a, b in wave])
        except StopIteration as stop:
            return stop.value
