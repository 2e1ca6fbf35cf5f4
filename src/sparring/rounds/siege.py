"""A siege on disk: a policy's answers, its attackers' answers, and the oracle's verdicts between them.

    out/manifest.json           what was made from what, by hash
    out/answers/0.json          the target's answers by instruction; 1.json, 2.json, ... the attackers'
    out/verdicts.json           by instruction, P(attacker's answer beats the target's answer) as tables
    out/cache/                  every verdict as it came, so that none is paid for twice

Players are given as in a contest: RUN, RUN:ROUND, a model, an answer file. Against a run's policy the run's other
stored iterates attack by default, and held-out answers that its own evaluation stored are taken where they fit. Only
what the gap needs is asked: each attacker's answers against the target's, and the target's among themselves. Empty
and equal answers need no judge, as in a contest. Leaves out: the numbers (`evaluation/exploitability.py`).

    siege = Siege(Path("out"), Progress()); siege.play("runs/mine", [], None, None, {}, None); siege.tables()
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import transformers
from numpy.typing import NDArray

from sparring.algorithms.algorithm import PolicyRef
from sparring.chat import PromptText
from sparring.evaluation.answers import Instruction, read_answers
from sparring.evaluation.rules import JUDGE
from sparring.memory import release_memory
from sparring.oracles.guard import Guard
from sparring.oracles.oracle import Comparison
from sparring.oracles.table import build_oracle
from sparring.progress import Progress
from sparring.rounds.answer import held_out_samples, sample_answers, stored_by_prompt
from sparring.rounds.contest import NO_START, finished_verdicts, judged_in_waves, refuse_other_judge
from sparring.rounds.side import Side, prompts_of
from sparring.rounds.store import Made, Store, read_json, write_json
from sparring.weights import hash_file

VERDICTS = "verdicts.json"
WAVE = 64
"""comparisons judged together; a killed judge loses at most these"""
SAMPLES = 4
"""answers per prompt of a policy whose run does not say"""

Answers = dict[str, list[str]]


class Siege:
    """A folder in which a policy is attacked; see the module."""

    def __init__(self, out: Path, progress: Progress) -> None:
        self.store, self.progress = Store(out), progress

    def play(
        self,
        target: str,
        attackers: Sequence[str],
        prompts: Sequence[Instruction] | None,
        oracle: Mapping[str, Any] | None,
        sampling: Mapping[str, Any],
        samples: int | None,
        seed: int = 0,
    ) -> None:
        """Answer and judge what is not yet answered and judged.

        Raises:
            ValueError: a player or the oracle is not usable; or the folder holds verdicts of another judge.
            OracleError: too many comparisons failed; what was judged is kept.
        """
        transformers.utils.logging.disable_progress_bar()
        with self.store.locked():
            self.store = Store(self.store.root)
            self.store.check()
            sides = self._sides(target, attackers)
            prompts = prompts or next((own for side in sides if (own := prompts_of(side)) is not None), None)
            if prompts is None:
                raise ValueError("--prompts: missing. Name the prompts, or give a player as a run or an answer file.")
            judge: Guard | None = self._guard(oracle, sides)
            if any(side.file is None for side in sides):
                judge = None  # it was built to find its faults early; its memory is for the policies now
                release_memory()
            answers: dict[int, Answers] = {}
            # Files first: those that answer none of the prompts are refused before anything is sampled.
            for k in sorted(range(len(sides)), key=lambda k: sides[k].file is None):
                answers[k] = self._answers(k, sides[k], prompts, sampling, samples, seed)
                if not set.intersection(*map(set, answers.values())):
                    raise ValueError("no prompt was answered by all players (they are joined by the prompt's text).")
            judge = judge or self._guard(oracle, sides)
            asked_for = {prompt.text: prompt.prompt for prompt in prompts}
            self._judge([answers[k] for k in range(len(sides))], asked_for, [side.spec for side in sides], judge)

    def _sides(self, target: str, attackers: Sequence[str]) -> list[Side]:
        """The target, then its attackers, each once."""
        first = Side(target, self.store.root)
        specs = [*iterates(first), *attackers]
        sides = [first, *(Side(spec, self.store.root) for spec in specs)]
        seen = Counter(side.spec for side in sides)
        if repeated := [spec for spec, count in seen.items() if count > 1]:
            raise ValueError(f"--attacker {repeated[0]}: it is there twice, or the target itself.")
        return sides

    # ---- answers ------------------------------------------------------------------------------

    def _answers(
        self,
        number: int,
        side: Side,
        prompts: Sequence[Instruction],
        sampling: Mapping[str, Any],
        samples: int | None,
        seed: int,
    ) -> Answers:
        """A player's answers to `prompts`, in the folder from now on."""
        relative = f"answers/{number}.json"
        settings = side.settings(sampling)
        stored = None if sampling or samples else stored_answers(side, prompts)
        wanted = hashlib.sha256(repr(prompts).encode()).hexdigest()
        inputs = {"from": side.identity, "prompts": wanted}
        count = samples or (side.policies.recipe.evaluation.samples if side.file is None and side.run else SAMPLES)
        how = "" if settings is None else settings.model_dump_json(exclude={"vllm"})
        if stored is not None:
            inputs["from"] += f" {hash_file(stored)}"
        elif how:
            inputs["sampling"] = f"{count} {how} seed {seed}"

        def make() -> Made:
            dropped: Counter[str] = Counter()
            found: Answers = {}
            if side.file is not None:
                given = read_answers(side.file)
                found = {text: [answer] for text, answer in given.texts.items()}
                dropped = given.unusable + Counter(given.unanswered.values())
            elif stored is not None:
                assert side.run is not None
                found = stored_by_prompt(side.run, side.ref.round)
            else:
                assert settings is not None
                parquet = self.store.path(relative).with_suffix(".parquet")
                stream = f"siege/{number}"
                rows, without = sample_answers(side, prompts, settings, seed, count, stream, parquet, self.progress)
                dropped.update(without.values())
                for row in rows:
                    found.setdefault(row["instruction"], []).append(row["text"])
            kept = {prompt.text: found[prompt.text] for prompt in prompts if prompt.text in found}
            if not kept:
                raise ValueError(f"{side.spec} answers none of the {len(prompts)} prompts (joined by text).")
            write_json(self.store.path(relative), kept)
            samples_each = max(map(len, kept.values()))
            facts = {"source": side.spec, "prompts": len(kept), "samples": samples_each, "sampling": how}
            return Made((relative,), {**facts, "stored": stored is not None, "dropped": dict(dropped)})

        self.store.stage(f"answers/{number}", inputs, make)
        return read_json(self.store.root / relative)

    # ---- verdicts -----------------------------------------------------------------------------

    def _guard(self, section: Mapping[str, Any] | None, sides: Sequence[Side]) -> Guard:
        """The judge, which must be the one whose verdicts the folder holds; by default that of the target's run."""
        target = sides[0]
        if section is None:
            section = target.policies.recipe.oracle if target.file is None and target.run else None
        if section is None:
            raise ValueError("--oracle: missing. Name the judge; only a run with an oracle brings its own.")
        start = next((str(side.policies.base) for side in sides if side.file is None), NO_START)
        guard = Guard(build_oracle(section, start), self.store.path("cache/verdicts.jsonl"))
        refuse_other_judge(self.store, guard.identity)
        return guard

    def _judge(
        self, answers: Sequence[Answers], asked_for: Mapping[str, PromptText], names: Sequence[str], guard: Guard
    ) -> None:
        """The verdicts on all prompts that every player answered, in the folder from now on."""
        numbers = range(len(answers))
        inputs = {str(k): self.store.output_hash(f"answers/{k}", f"answers/{k}.json") for k in numbers}
        turns = [asked_for[text].messages for text in sorted(asked_for)]
        prompts = hashlib.sha256(repr(turns).encode()).hexdigest()
        inputs |= {"judge": guard.identity, "players": " ".join(names), "prompts": prompts}

        def make() -> Made:
            shared = [text for text in answers[0] if all(text in other for other in answers)]
            guard.probe(say=self.progress.say)
            asked = [
                Comparison(asked_for[text], a, b)
                for text in shared
                for k in numbers
                for i, j in _places(answers[k][text], answers[0][text], k == 0)
                for a, b in [(answers[k][text][i], answers[0][text][j])]
            ]
            preferences, rules = judged_in_waves(asked, guard, WAVE, self.progress)
            verdicts = iter(preferences.tolist())
            rows = [
                {
                    "instruction": text,
                    "tables": [_table(own[text], answers[0][text], verdicts, own is answers[0]) for own in answers],
                }
                for text in shared
            ]
            write_json(self.store.path(VERDICTS), {"judge": guard.identity, "players": list(names), "prompts": rows})
            # A run's evaluation asks the first of its held-out prompts (evaluation.prompts) and stores every answer.
            stored = [answers[k] for k in numbers if self.store.manifest[f"answers/{k}"]["facts"]["stored"]]
            not_asked = sum(any(text not in one for one in stored) for text in asked_for)
            left_out = len(asked_for) - len(shared) - not_asked
            facts = {"comparisons": len(asked), "failed": guard.failed, "left_out": left_out, "not_asked": not_asked}
            return Made((VERDICTS,), {**facts, "decided_by_rule": Counter(rule for rule in rules if rule != JUDGE)})

        self.store.stage("judge", inputs, make)


def iterates(target: Side) -> list[str]:
    """The other policies of the target's run that are on disk, oldest first."""
    if target.file is not None or target.run is None:
        return []
    rounds = range(target.policies.recipe.rounds + 1)
    refs = [PolicyRef(t) for t in rounds if t != target.ref.round]
    return [f"{target.run}:{ref.round}" for ref in refs if target.policies.exists(ref)]


def stored_answers(side: Side, prompts: Sequence[Instruction]) -> Path | None:
    """The file of held-out answers that the side's run stored, where these are the prompts."""
    if side.file is not None or side.run is None:
        return None
    path = held_out_samples(side.run, side.ref.round)
    return path if path.exists() and side.held_out() == list(prompts) else None


def _table(
    ours: Sequence[str], theirs: Sequence[str], verdicts: Iterator[float], own: bool
) -> list[list[float | None]]:
    """The next verdicts as P(ours beats theirs); null where there is none."""
    table = np.full((len(ours), len(theirs)), math.nan)
    for i, j in _places(ours, theirs, own):
        table[i, j] = next(verdicts)
        if own:
            table[j, i] = 1.0 - table[i, j]
    return [[None if math.isnan(p) else p for p in row] for row in table.tolist()]


def _places(ours: Sequence[str], theirs: Sequence[str], own: bool) -> list[tuple[int, int]]:
    """Which answers meet: all, or of the target's own each two once."""
    return [(i, j) for i, j in product(range(len(ours)), range(len(theirs))) if not own or i < j]


def read_siege(folder: Path) -> tuple[dict[str, Any], list[str], list[list[NDArray[np.float64]]]]:
    """(facts, players, tables by player and prompt) of a finished siege, its files compared with their hashes.

    Raises:
        ValueError: the folder holds none, or a file of it was altered.
    """
    store = Store(folder)
    entry = finished_verdicts(store, VERDICTS, "siege")
    store.check()
    found = json.loads((folder / VERDICTS).read_text(encoding="utf-8"))
    players = found["players"]
    told = [store.manifest[f"answers/{k}"] for k in range(len(players))]
    facts = {
        "judge": found["judge"],
        "target": players[0],
        "players": [{**one["facts"], "from": one["inputs"]["from"]} for one in told],
        **entry["facts"],
    }
    tables = [[np.array(row["tables"][k], dtype=np.float64) for row in found["prompts"]] for k in range(len(players))]
    return facts, players, tables
