"""Leaderboard tasks in a study: the start, and every method's final policies, on the same documents.

A document's score is averaged over a method's seeds before it is paired with the start's. The start is scored before
any run is made, so that documents which cannot be loaded cost no training. Leaves out: how a task is scored
(`leaderboard.py`).

    tasks = Tasks(("arc", "winogrande"), parse_data(["arc=arc.jsonl"], ("arc", "winogrande")), limit=100, shots=0)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sparring.evaluation.leaderboard import Leaderboard, LocalData, check_local, find_benchmark, pair_documents
from sparring.evaluation.paired import compare
from sparring.runtime.progress import Progress

TaskScores = Mapping[str, Any]
"""a policy's documents of one task, as `Leaderboard.run` gives them"""


@dataclass(frozen=True, slots=True)
class Tasks:
    """What is scored, and for how many of the seeds."""

    names: tuple[str, ...]
    files: LocalData = field(default_factory=dict[str, Mapping[str, Path]])
    limit: int | None = None
    """documents per task of lm-eval, from the first"""
    shots: int | None = None
    """None: the leaderboard's"""
    seeds: int | None = None
    """from the first; None: all"""

    def check(self) -> None:
        """Raise ValueError where there is no task, or a local file cannot be used."""
        if not self.names:
            raise ValueError("--tasks names no task: give for example arc,winogrande.")
        for name, files in self.files.items():
            check_local(name, files)

    def score(self, folder: Path, scores: Path, who: str, progress: Progress) -> list[TaskScores]:
        """A policy's documents per task; what `scores` holds is not run again."""
        board = Leaderboard(folder, scores, self.files, self.limit, self.shots)
        scored = []
        for name in self.names:
            progress.say(f"{who}: task {name}")
            scored.append(board.run(find_benchmark(name)))
        return scored


def task_rows(
    names: Sequence[str], start: Sequence[TaskScores], methods: Mapping[str, Sequence[Sequence[TaskScores]]]
) -> list[dict[str, Any]]:
    """Per method and task both means, their difference with its interval over documents, and p.

    `methods` holds, per method and seed, the documents per task.

    Raises:
        ValueError: two policies were not scored on the same documents.
    """
    rows = []
    for method, seeds in methods.items():
        for place, name in enumerate(names):
            pairs = [pair_documents(start[place], seed[place]) for seed in seeds]
            before, after = pairs[0][0], np.mean([own for _, own in pairs], axis=0).tolist()
            first = start[place]
            task = {"method": method, "task": name, "metric": first["metric"], "shots": first["shots"]}
            documents = {"documents": len(before), "total": find_benchmark(name).documents or first["total"]}
            rows.append({**task, **documents, "seeds": len(seeds), **compare(before, after)})
    return rows
