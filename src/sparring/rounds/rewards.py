"""Rewards of an environment's replies as preferences between them, for the pair stage.

P(a beats b) = 1/2 + (reward(a) - reward(b)) / (2 span), where the span is that of the environment's rewards: over all
that chance and the other roles may do, its mean is as linear in a reply's value as the methods' targets want it. A
baseline by role is carried from round to round by the manifest, so that a resumed run has the same one.

    Rewards.of(turns, environment, {"first": 0.1}, decay=0.95).judge("first-9f2a-0", [(0, 1)])
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sparring.algorithms.pairing import BASELINE, Wave
from sparring.rounds.tables import TurnRow

Reply = tuple[str, int]
"""a training prompt's name, and a response's place there"""


@dataclass(frozen=True)
class Rewards:
    """Of all replies that are trained on."""

    rewards: Mapping[Reply, float]
    baselines: Mapping[Reply, float]
    """of the reply's role, before its task was played"""
    after: Mapping[str, float]
    """the roles' baselines after all tasks"""
    span: float

    @classmethod
    def of(
        cls, turns: Sequence[TurnRow], bounds: tuple[float, float], before: Mapping[str, float], decay: float | None
    ) -> Rewards:
        """From a stage's turns and the environment's lowest and highest reward.

        `before`: the baselines by role; `decay`: their weight when a task's mean reward is mixed in, None for no
        baseline.
        """
        rewards: dict[Reply, float] = {}
        baselines: dict[Reply, float] = {}
        now = dict(before)
        for _, rows in itertools.groupby(turns, key=lambda turn: turn["task"]):
            got: defaultdict[str, list[float]] = defaultdict(list)
            for turn in rows:
                role, reward, example, index = turn["role"], turn["reward"], turn["example"], turn["index"]
                if reward is None:
                    continue
                got[role].append(reward)
                if example is not None and index is not None:
                    rewards[example, index], baselines[example, index] = reward, now.get(role, 0.0)
            if decay is not None:
                for role, values in got.items():
                    now[role] = decay * now.get(role, 0.0) + (1.0 - decay) * sum(values) / len(values)
        return cls(rewards, baselines, now, bounds[1] - bounds[0])

    def judge(self, example: str, wave: Wave) -> list[float]:
        """P(a beats b) of these matches; b may be the baseline."""
        return [0.5 + (self.rewards[example, a] - self._against(example, a, b)) / (2.0 * self.span) for a, b in wave]

    def _against(self, example: str, a: int, b: int) -> float:
        return self.baselines[example, a] if b == BASELINE else self.rewards[example, b]
