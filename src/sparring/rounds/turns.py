"""What is stored of episodes: every turn, and the replies that are trained on as prompts with responses.

Replies of one role to one prompt, wherever it came up, are siblings: in groups of K they are the responses of one
training prompt. Leaves out: playing (`play.py`), pairs (`pair.py`).
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sparring.data.text import repeating_share
from sparring.environments.environment import Ask, Line
from sparring.models.messages import prompt_text
from sparring.rounds.episode import Episode, Episodes
from sparring.rounds.tables import ExampleRow, NotesRow, SampleRow, TurnRow
from sparring.runtime.words import counted

OWN = "own"
"""the role, in the algorithm's sense, of every response that is trained on"""


def tables(
    how: Episodes, episodes: Sequence[Episode], trained: Sequence[str]
) -> tuple[list[ExampleRow], list[SampleRow], list[TurnRow]]:
    """Training prompts with their samples, and every turn of every whole episode."""
    groups = _Groups(how.siblings, how.count)
    turns: list[TurnRow] = []
    for episode in episodes:
        for place, (ask, outcomes) in enumerate(zip(episode.asks, episode.outcomes or (), strict=False)):
            for row, outcome in zip(episode.rows[place], outcomes, strict=True):
                used = ask.role in trained and outcome.reward is not None
                example, index = groups.add(ask, episode.taught[place], row) if used else (None, None)
                turns.append(
                    {
                        "task": episode.task.name,
                        "turn": place,
                        "reply": row["index"],
                        "role": ask.role,
                        "policy": row["policy"],
                        "text": row["text"],
                        "reward": outcome.reward,
                        "kind": outcome.kind,
                        "example": example,
                        "index": index,
                    }
                )
    return groups.examples, groups.samples, turns


def notes_of(how: Episodes, episodes: Sequence[Episode]) -> list[NotesRow]:
    """Every task's notes after these episodes, the last `remembers` of them."""
    notes = {task: [*before] for task, before in how.notes.items()}
    for episode in episodes:
        new = how.environment.note(lines_of(episode)) if episode.outcomes is not None else ()
        notes[episode.task.name] = [*episode.task.notes, *new][-how.environment.remembers :]
    return [{"task": task, "notes": kept} for task, kept in notes.items()]


def lines_of(episode: Episode) -> list[Line]:
    """The replies of a finished episode, in order."""
    return [
        (ask.role, row["text"], outcome.reward, outcome.kind)
        for ask, rows, outcomes in zip(episode.asks, episode.rows, episode.outcomes or (), strict=True)
        for row, outcome in zip(rows, outcomes, strict=True)
    ]


class _Groups:
    """Siblings in groups, in the order in which they came up."""

    def __init__(self, size: int | None, count: int) -> None:
        self.size, self.count = size, count
        self.examples: list[ExampleRow] = []
        self.samples: list[SampleRow] = []
        self._open: dict[tuple[str, tuple[int, ...]], tuple[str, int]] = {}
        self._made: Counter[tuple[str, tuple[int, ...]]] = Counter()

    def add(self, ask: Ask, prompt_ids: list[int], row: SampleRow) -> tuple[str, int]:
        """The reply's training prompt, and its place there."""
        key = ask.role, tuple(prompt_ids)
        size = max(self.count, ask.count or 1) if self.size is None else self.size
        example, index = self._open.get(key, ("", size))
        if index >= size:
            example, index = self._begin(ask, key), 0
        self.samples.append({**row, "example": example, "index": index, "role": OWN})
        self._open[key] = example, index + 1
        return example, index

    def _begin(self, ask: Ask, key: tuple[str, tuple[int, ...]]) -> str:
        name = f"{ask.role}-{hashlib.sha256(repr(key).encode()).hexdigest()[:16]}-{self._made[key]}"
        self._made[key] += 1
        messages: list[Any] = [dict(message) for message in (ask.taught or ask.messages)]
        self.examples.append(
            {
                "example": name,
                "messages": messages,
                "prompt": prompt_text(messages),
                "prompt_ids": list(key[1]),
                "responses": [],
                "check": None,
                "group": ask.role,
            }
        )
        return name


def counts_of(episodes: Sequence[Episode], turns: Sequence[TurnRow], responses: Sequence[SampleRow]) -> dict[str, Any]:
    """Counts of the stage; rewards are means by role."""
    texts = [turn["text"] for turn in turns]
    by_role: defaultdict[str, list[float]] = defaultdict(list)
    for turn in turns:
        if turn["reward"] is not None:
            by_role[turn["role"]].append(turn["reward"])
    return {
        "tasks": sum(not episode.dropped for episode in episodes),
        "dropped_tasks": dict(Counter(episode.dropped for episode in episodes if episode.dropped)),
        "turns": len(turns),
        "trained": len(responses),
        "tokens": sum(len(row["token_ids"]) for episode in episodes for rows in episode.rows for row in rows),
        "empty": sum(not text.strip() for text in texts),
        "cut_off": sum(row["finish_reason"] == "length" for e in episodes for rows in e.rows for row in rows),
        "repeating_share": repeating_share(texts),
        "rewards": {role: float(np.mean(values)) for role, values in by_role.items()},
        "kinds": dict(Counter(f"{turn['role']}: {turn['kind']}" for turn in turns if turn["kind"])),
    }


def verdict_counts(episodes: Sequence[Episode]) -> dict[str, int]:
    """Comparisons that the oracle was asked, and how many of them got no preference."""
    verdicts = [verdict for episode in episodes for verdict in episode.verdicts]
    return {"comparisons": len(verdicts), "failed": verdicts.count(None)}


def played(counts: Mapping[str, Any]) -> str:
    """The counts in a line."""
    rewards = ", ".join(f"{role} {reward:+z.3f}" for role, reward in counts["rewards"].items())
    kinds = "".join(f", {count} x {kind}" for kind, count in counts["kinds"].items())
    drops = "".join(f", dropped {counted(count, 'task')}: {why}" for why, count in counts["dropped_tasks"].items())
    replies = counted(counts["turns"], "reply", "replies")
    judged = f", {counts['failed']} of {counts['comparisons']} comparisons failed" if counts.get("failed") else ""
    return f"play: {counted(counts['tasks'], 'task')}, {replies}; {rewards}{kinds}{judged}{drops}"
