"""The judge stage: a step's pairing is played against the oracle.

The pairings of many prompts run in step, a wave at a time, so that an oracle sees large batches; verdicts are stored in
shards of prompts. Leaves out: which comparisons are asked (`algorithms/pairing.py`), pairs (`pair.py`).
"""

from __future__ import annotations

import contextlib
import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sparring.algorithms.pairing import Pairing
from sparring.models.messages import PromptText
from sparring.oracles.build import build_oracle
from sparring.oracles.guard import Guard
from sparring.oracles.oracle import Comparison
from sparring.rounds.store import Store
from sparring.rounds.tables import VERDICTS, Candidate, ExampleRow, VerdictRow
from sparring.runtime.files import read_table
from sparring.runtime.layout import VERDICT_CACHE, stage_name
from sparring.runtime.parts import sharded
from sparring.runtime.progress import Progress
from sparring.runtime.randomness import noise_seed

SHARD = 32
"""prompts whose verdicts are asked and stored together"""


def training_guard(store: Store, section: Mapping[str, Any], base: Path, progress: Progress) -> Guard:
    """The oracle of a recipe's `section`, which must be the one that judged the run's earlier steps.

    `base`: the start model's folder, for oracles that read it.

    Raises:
        ValueError: another oracle judged them.
    """
    guard = Guard(build_oracle(section, str(base)), store.path(VERDICT_CACHE))
    refuse_other_judge(store, guard)
    if guard.damage:
        progress.say(guard.damage)
    return guard


def refuse_other_judge(store: Store, guard: Guard) -> None:
    """Raise a ValueError where another oracle judged the run's earlier steps."""
    for folder, identity in judges_of(store.manifest).items():
        if identity not in (guard.identity, guard.former_identity):
            raise ValueError(
                f"oracle: {folder} was judged by {identity}, and this is {guard.identity}: "
                "verdicts of two judges do not go into one run. Undo the change, or start anew with another --out."
            )


def judge_examples(
    pairing: Pairing,
    examples: Sequence[ExampleRow],
    responses: Sequence[Sequence[Candidate]],
    guard: Guard,
    seed: int,
    target: Path,
    progress: Progress,
) -> dict[str, Any]:
    """Play every example's pairing against the oracle; verdicts go to `target`. Returns counts and the oracle."""
    shards = [(examples[i : i + SHARD], responses[i : i + SHARD]) for i in range(0, len(examples), SHARD)]
    keys = [_shard_key(guard, pairing, *shard) for shard in shards]
    with progress.task("judge", len(examples)) as advance:
        sharded(
            target,
            keys,
            VERDICTS,
            lambda index: _play_shard(pairing, *shards[index], guard, seed),
            lambda index: advance(len(shards[index][0])),
            progress.say,
        )
    # Counted on the stored verdicts: the guard's own counts lack what was judged before a kill.
    verdicts: list[VerdictRow] = read_table(target)
    failed = sum(row["preference"] is None for row in verdicts)
    place = {example["example"]: index for index, example in enumerate(examples)}
    judged = dict.fromkeys((place[row["example"]], index) for row in verdicts for index in (row["a"], row["b"]))
    cut = guard.cut((PromptText(examples[e]["messages"]), responses[e][index]["text"]) for e, index in judged)
    return {"comparisons": len(verdicts), "failed": failed, **cut, "oracle": guard.identity}


def judges_of(manifest: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Identity of the oracle that judged, by folder of the finished step."""
    judged = {key: entry["facts"]["oracle"] for key, entry in manifest.items() if stage_name(key) == "judge"}
    return {key.removesuffix("/judge"): oracle for key, oracle in judged.items()}


def _shard_key(
    guard: Guard, pairing: Pairing, examples: Sequence[ExampleRow], responses: Sequence[Sequence[Candidate]]
) -> str:
    content = [guard.identity, repr(pairing), [e["prompt"] for e in examples]]
    texts = [[r["text"] for r in rows] for rows in responses]
    return hashlib.sha256(repr([content, texts]).encode()).hexdigest()


def _play_shard(
    pairing: Pairing, examples: Sequence[ExampleRow], responses: Sequence[Sequence[Candidate]], guard: Guard, seed: int
) -> list[VerdictRow]:
    games = [
        pairing.play([r["role"] for r in rows], noise_seed(seed, "pair", e["example"]))
        for e, rows in zip(examples, responses, strict=True)
    ]
    prompts = [PromptText(example["messages"]) for example in examples]
    waves: dict[int, list[tuple[int, int]]] = {i: next(game) for i, game in enumerate(games)}
    verdicts: list[VerdictRow] = []
    while waves:
        flat = [(i, a, b) for i, wave in waves.items() for a, b in wave]
        texts = [(prompts[i], responses[i][a]["text"], responses[i][b]["text"]) for i, a, b in flat]
        preferences = guard.judge([Comparison(*each) for each in texts]).tolist()
        for (i, a, b), p in zip(flat, preferences, strict=True):
            preference = None if math.isnan(p) else p
            verdicts.append({"example": examples[i]["example"], "a": a, "b": b, "preference": preference})
        waves, asked = {}, waves
        for i, wave in asked.items():
            part, preferences = preferences[: len(wave)], preferences[len(wave) :]
            with contextlib.suppress(StopIteration):
                waves[i] = games[i].send(part)
    return sorted(verdicts, key=lambda row: row["example"])
