"""The files of every comparison of players, and the order in which they are made: answers first, then verdicts.

    out/manifest.json           each file's hash, and the hashes of the files that it was made from
    out/answers/NAME.json       a player's answers
    out/cache/                  every verdict as it came, so that none is paid for twice

The same command goes on where it was stopped. Leaves out: which answers meet, and the form of the files
(`head_to_head_folder.py`, `exploitability_folder.py`).
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
import transformers
from numpy.typing import NDArray

from sparring.contests.players import Player, PolicyPlayer
from sparring.contests.sample_answers import Questions
from sparring.evaluation.answers import Instruction
from sparring.evaluation.decided_by_rule import decide, undecided
from sparring.oracles.abilities import announce
from sparring.oracles.guard import Guard
from sparring.oracles.oracle import Comparison, Oracle
from sparring.rounds.store import Store
from sparring.runtime.layout import VERDICT_CACHE
from sparring.runtime.locks import locked_folder
from sparring.runtime.memory import release_memory
from sparring.runtime.progress import Progress

Stored = TypeVar("Stored")
"""a player's answers, as its file holds them"""


class ContestFolder(ABC, Generic[Stored]):
    """The folder of a comparison; see the module."""

    verdicts: ClassVar[str]
    """file of the verdicts, in the folder"""
    wave: ClassVar[int]
    """comparisons judged together; a killed judge loses at most these"""

    def __init__(self, out: Path, progress: Progress) -> None:
        self.store, self.progress = Store(out), progress

    @abstractmethod
    def _answers(self, name: str, player: Player, questions: Questions) -> Stored:
        """A player's answers, stored in the folder."""

    def _refuse_disjoint(self, answers: Mapping[str, Stored]) -> None:
        """Raise ValueError where the players so far answered no prompt in common."""

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Lock the folder, whose files must be those that were written."""
        transformers.utils.logging.disable_progress_bar()
        with locked_folder(self.store.root), self.store.locked() as store:
            self.store = store
            with self.store.first_work():
                self.store.check()
                yield

    def _answered(
        self, players: Mapping[str, Player], questions: Questions, judge: Callable[[], Guard]
    ) -> tuple[dict[str, Stored], Guard]:
        # Built now to find its faults before any work; policies need its memory, so after them it is built again.
        guard: Guard | None = judge()
        if any(isinstance(player, PolicyPlayer) for player in players.values()):
            guard = None
            release_memory()
        answers: dict[str, Stored] = {}
        # Files first: one that answers none of the prompts is refused before anything is sampled.
        for name in sorted(players, key=lambda name: isinstance(players[name], PolicyPlayer)):
            answers[name] = self._answers(name, players[name], questions)
            self._refuse_disjoint(answers)
        return {name: answers[name] for name in players}, guard or judge()

    def _guarded(self, oracle: Oracle) -> Guard:
        """The judge, which must be the one whose verdicts the folder holds."""
        guard = Guard(oracle, self.store.path(VERDICT_CACHE))
        before = self.store.manifest.get("judge", {}).get("inputs", {}).get("judge", guard.identity)
        if before not in (guard.identity, guard.former_identity):
            raise ValueError(
                f"{self.store.root} holds verdicts of the judge {before}, asked is {guard.identity}: verdicts of "
                "different judges cannot be compared. Give another --out."
            )
        return guard

    def _answer_hashes(self, names: Sequence[str]) -> dict[str, str]:
        return {name: self.store.output_hash(f"answers/{name}", answer_path(name)) for name in names}

    def _judged(self, comparisons: Sequence[Comparison], guard: Guard) -> tuple[NDArray[np.float64], list[str]]:
        """P(a wins) of each comparison, NaN where the judge failed, and who decided it; the cost is announced first."""
        announce(guard.oracle, undecided(comparisons), self.progress.say)
        guard.expect(undecided(comparisons))
        preferences, rules = np.zeros(len(comparisons)), list[str]()
        with self.progress.task(f"judge {guard.identity[:40]}", len(comparisons)) as advance:
            for begin in range(0, len(comparisons), self.wave):
                part = comparisons[begin : begin + self.wave]
                preferences[begin : begin + self.wave], names = decide(part, guard)
                rules += names
                advance(len(part))
        return preferences, rules

    def _finished(self) -> dict[str, Any]:
        """The manifest's entry of the verdicts.

        Raises:
            ValueError: there are none, or they are on other answers than the folder holds now; or a file was altered.
        """
        root, entry = self.store.root, self.store.manifest.get("judge")
        if entry is None or not (root / self.verdicts).exists():
            raise ValueError(f"{root} holds no finished contest (no {self.verdicts} in its manifest.json).")
        for name in entry["inputs"].keys() - {"judge", "players", "prompts", "design"}:
            outputs = self.store.manifest.get(f"answers/{name}", {}).get("outputs", {})
            if outputs.get(answer_path(name)) != entry["inputs"][name]:
                raise ValueError(
                    f"{root} holds no finished contest: {self.verdicts} is on other answers than those there now. Run "
                    "the last command again, to its end."
                )
        self.store.check()
        return entry


def answer_path(name: str) -> str:
    """File of a player's answers, relative to the folder."""
    return f"answers/{name}.json"


def need_prompts(prompts: Sequence[Instruction] | None) -> Sequence[Instruction]:
    """The prompts, which the user named or a player brought along.

    Raises:
        ValueError: there are none.
    """
    if prompts is None:
        raise ValueError("--prompts: missing. Name the prompts, or an answer file or a run, which bring their own.")
    return prompts
