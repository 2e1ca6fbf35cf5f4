"""The verdicts between a target and its attackers, filled in as they are asked for.

    tables = VerdictTables(answers, texts, prompts, judged); tables.ask(range(10), [0, 2]); tables.rows()

Leaves out: which comparisons are worth asking (`looks.py`).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparring.evaluation.decided_by_rule import JUDGE, undecided
from sparring.models.messages import PromptText
from sparring.oracles.oracle import Comparison

Table = NDArray[np.float64]
"""P(attacker's answer i beats the target's answer j); NaN where there is no verdict"""
Judged = Callable[[list[Comparison]], tuple[NDArray[np.float64], list[str]]]
"""P(a wins) of comparisons, and who decided each"""


class VerdictTables:
    """A table for every player, the target first, and prompt: the player's answers against the target's."""

    def __init__(
        self,
        answers: Sequence[Mapping[str, Sequence[str]]],
        texts: Sequence[str],
        prompts: Mapping[str, PromptText],
        judged: Judged,
    ) -> None:
        """`answers`: of every player, by the prompt's text; `texts`: the prompts in their order."""
        self.answers, self.texts, self.prompts, self.judged = answers, texts, prompts, judged
        self.tables = [[np.full((len(own[t]), len(answers[0][t])), math.nan) for t in texts] for own in answers]
        self.compared, self.rules = 0, Counter[str]()

    def ask(self, prompts: Sequence[int], players: Sequence[int]) -> None:
        """Compare all answers of these players to these prompts with the target's."""
        cells = [(n, p, i, j, one) for n in prompts for p in players for i, j, one in self._comparisons(n, p)]
        if not cells:
            return
        preferences, rules = self.judged([comparison for *_, comparison in cells])
        for (n, p, i, j, _), preference in zip(cells, preferences.tolist(), strict=True):
            self.tables[p][n][i, j] = preference
            if p == 0:
                self.tables[p][n][j, i] = 1.0 - preference
        self.compared += len(cells)
        self.rules.update(rule for rule in rules if rule != JUDGE)

    def costs(self) -> NDArray[np.int64]:
        """Comparisons of each prompt and player that need the judge, (N, P)."""
        players = range(len(self.answers))
        return np.array(
            [
                [len(undecided([one for *_, one in self._comparisons(n, p)])) for p in players]
                for n in range(len(self.texts))
            ]
        )

    def rows(self) -> list[dict[str, Any]]:
        """By prompt, its text and the players' tables; null where there is no verdict."""
        by_prompt = zip(self.texts, zip(*self.tables, strict=True), strict=True)
        return [{"instruction": text, "tables": [_plain(table) for table in tables]} for text, tables in by_prompt]

    def _comparisons(self, n: int, player: int) -> list[tuple[int, int, Comparison]]:
        """The answers that meet: each with each, or of the target's own each two once."""
        text, own = self.texts[n], player == 0
        attacker, target = self.answers[player][text], self.answers[0][text]
        return [
            (i, j, Comparison(self.prompts[text], attacker[i], target[j]))
            for i, j in product(range(len(attacker)), range(len(target)))
            if not own or i < j
        ]


def _plain(table: Table) -> list[list[float | None]]:
    return [[None if math.isnan(p) else p for p in row] for row in table.tolist()]
