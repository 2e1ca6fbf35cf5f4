"""The judge stage: a step's pairing is played against the oracle.

The pairings of many prompts run in step, a wave at a time, so that an oracle sees large batches; verdicts are stored in
shards of prompts, which the workers of a cluster play where the oracle can be built there. Leaves out: which
comparisons are asked (`algorithms/pairing.py`), pairs (`pair.py`).
"""

from __future__ import annotations

import contextlib
import hashlib
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
from jaxtyping import Float

from sparring.algorithms.pairing import Game, Pairing
from sparring.fleet.work import Places, Shards, Work, current
from sparring.models.messages import PromptText
from sparring.oracles.build import build_oracle
from sparring.oracles.guard import Guard, Ledger
from sparring.oracles.on_workers import portable
from sparring.oracles.oracle import Comparison
from sparring.oracles.orders import swapped
from sparring.recipe.recipe import Recipe
from sparring.rounds.policies import Policies
from sparring.rounds.store import Store
from sparring.rounds.tables import VERDICTS, Candidate, ExampleRow, VerdictRow
from sparring.runtime.files import read_table
from sparring.runtime.layout import VERDICT_CACHE, in_evaluation, stage_name
from sparring.runtime.parts import sharded
from sparring.runtime.progress import Progress
from sparring.runtime.randomness import noise_seed

SHARD = 32
"""prompts whose verdicts are asked and stored together"""
Shard = tuple[Sequence[ExampleRow], Sequence[Sequence[Candidate]]]
"""prompts, and the responses to each"""


def training_guard(policies: Policies, section: Mapping[str, Any], progress: Progress) -> Guard:
    """The oracle of a recipe's `section`, which must be the one that judged the run's earlier steps.

    Raises:
        ValueError: another oracle judged them.
    """
    guard = Guard(policies.oracle(section), policies.store.path(VERDICT_CACHE))
    refuse_other_judge(policies.store, guard)
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


def check_judge(policies: Policies, recipe: Recipe) -> None:
    """As `refuse_other_judge`, of the recipe's oracle, before a changed recipe is written."""
    if recipe.oracle is not None and judges_of(policies.store.manifest):
        refuse_other_judge(policies.store, Guard(build_oracle(recipe.oracle, str(policies.base))))


def judge_examples(
    pairing: Pairing,
    examples: Sequence[ExampleRow],
    responses: Sequence[Sequence[Candidate]],
    guard: Guard,
    seed: int,
    target: Path,
    progress: Progress,
    judge: JudgeShards | None = None,
) -> dict[str, Any]:
    """Play every example's pairing against the oracle; verdicts go to `target`. Returns counts and the oracle.

    `judge`: how the workers of a cluster build the oracle; without it this process judges.
    """
    shards = [(examples[i : i + SHARD], responses[i : i + SHARD]) for i in range(0, len(examples), SHARD)]
    keys = [_shard_key(guard, pairing, *shard) for shard in shards]
    guard.expect(_first_wave(pairing, examples, responses, seed))
    with progress.task("judge", len(examples)) as advance:
        if judge is not None and current().shares:
            results = partial(judge_elsewhere, judge, pairing, shards, guard, seed)
        else:
            results = partial(_judge_here, pairing, shards, guard, seed)
        sharded(target, keys, VERDICTS, results, lambda index: advance(len(shards[index][0])), progress.say)
    # Counted on the stored verdicts: the guard's own counts lack what was judged before a kill.
    verdicts: list[VerdictRow] = read_table(target)
    place = {example["example"]: index for index, example in enumerate(examples)}
    prompts = [PromptText(example["messages"]) for example in examples]
    without = [
        Comparison(prompts[e], responses[e][a]["text"], responses[e][b]["text"])
        for e, a, b in ((place[v["example"]], v["a"], v["b"]) for v in verdicts if v["preference"] is None)
    ]
    declined = Counter(filter(None, map(guard.declined, without)))
    failed = len(without) - declined.total()
    judged = dict.fromkeys((place[row["example"]], index) for row in verdicts for index in (row["a"], row["b"]))
    cut = guard.cut((prompts[e], responses[e][index]["text"]) for e, index in judged)
    dropped = {"dropped": dict(declined)} if declined else {}
    return {"comparisons": len(verdicts), "failed": failed, **dropped, **cut, "oracle": guard.identity}


def judge_ahead(
    guard: Guard, ask: Callable[[Guard], object], section: Mapping[str, Any], policies: Policies, progress: Progress
) -> None:
    """Have the verdicts that `ask` will want given and stored, by the workers of a cluster where there are some.

    Only of an oracle that workers can build. One process asks it in the same parts, so its verdicts are the same.
    """
    if not portable(section):
        return
    noting = Noting()
    ask(cast(Guard, noting))
    prompts = list(noting.by_prompt.values())
    parts = [[one for asked in prompts[i : i + SHARD] for one in asked] for i in range(0, len(prompts), SHARD)]
    judge = JudgeShards(section, policies, guard.identity)
    work = Work("evaluate", guard.identity, judge.folders, judge)
    shards = Shards(range(len(parts)), lambda index: AheadTask(parts[index], guard.known(parts[index])))
    with progress.task(f"judge held-out answers, {section['name']}", len(prompts)) as advance:
        if current().shares:
            for index, (_, ledger) in current().results(work, shards):
                guard.merge(ledger)
                advance(len(prompts[index * SHARD : (index + 1) * SHARD]))
            return
        for index, part in enumerate(parts):
            guard.judge(part)
            advance(len(prompts[index * SHARD : (index + 1) * SHARD]))


class Noting:
    """Stands for a guard, and notes what it is asked: each comparison once, whichever way round, by prompt."""

    def __init__(self) -> None:
        self.by_prompt: dict[str, list[Comparison]] = {}
        self._seen: set[Comparison] = set()

    def judge(self, comparisons: Sequence[Comparison]) -> Float[np.ndarray, " N"]:
        """As `Guard.judge`; 1/2."""
        for one in comparisons:
            if one not in self._seen and one.a != one.b:
                self._seen.update((one, *swapped([one])))
                self.by_prompt.setdefault(one.prompt, []).append(one)
        return np.full(len(comparisons), 0.5)


def _judge_here(
    pairing: Pairing, shards: Sequence[Shard], guard: Guard, seed: int, indices: Sequence[int]
) -> Iterator[tuple[int, list[VerdictRow]]]:
    for index in indices:
        yield index, play_shard(pairing, *shards[index], guard, seed)


def judge_elsewhere(
    judge: JudgeShards, pairing: Pairing, shards: Sequence[Shard], guard: Guard, seed: int, indices: Sequence[int]
) -> Iterator[tuple[int, list[VerdictRow]]]:
    """The verdicts of these shards from the fleet's workers; the guard stores and counts as if it had asked."""

    def payload(index: int) -> ShardTask:
        examples, responses = shards[index]
        meetings = [
            Comparison(PromptText(example["messages"]), a["text"], b["text"])
            for example, rows in zip(examples, responses, strict=True)
            for a, b in combinations(rows, 2)
        ]
        return ShardTask(pairing, examples, responses, seed, guard.known(meetings))

    work = Work("judge", guard.identity, judge.folders, judge)
    for index, (rows, ledger) in current().results(work, Shards(indices, payload)):
        guard.merge(ledger)
        yield index, rows


class ShardTask(NamedTuple):
    """What a worker gets to judge."""

    pairing: Pairing
    examples: Sequence[ExampleRow]
    responses: Sequence[Sequence[Candidate]]
    seed: int
    known: dict[str, float]
    """verdicts that are not asked for again"""

    def play(self, guard: Guard) -> list[VerdictRow]:
        """The shard's verdicts."""
        return play_shard(*self[:3], guard, self.seed)


class AheadTask(NamedTuple):
    """What a worker gets to judge where all comparisons are known."""

    comparisons: Sequence[Comparison]
    known: dict[str, float]
    """as of `ShardTask`"""

    def play(self, guard: Guard) -> object:
        """Ask the guard."""
        return guard.judge(self.comparisons)


@dataclass(frozen=True, slots=True)
class JudgeShards:
    """Opens the oracle of a recipe's section on a worker, where it must be the controller's."""

    section: Mapping[str, Any]
    policies: Policies
    """whose start model the oracle may read"""
    identity: str

    def folders(self) -> dict[str, Path]:
        """The start model's folder."""
        return self.policies.folders([])

    @contextlib.contextmanager
    def __call__(self, places: Places) -> Iterator[Callable[[ShardTask | AheadTask], tuple[Any, Ledger]]]:
        """A function from a shard to its verdicts and what the guard found out.

        Raises:
            ValueError: the oracle cannot be built here, or is another one.
        """
        guard = Guard(build_oracle(self.section, str(self.policies.at(places).base)), max_failed_share=1.0)
        if guard.identity != self.identity:
            raise ValueError(
                f"oracle: it is {guard.identity} on this machine and {self.identity} where the run is. Put the same "
                "files of its model here."
            )
        yield lambda task: guard.judge_with(task.known, partial(task.play, guard))


def judges_of(manifest: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Identity of the oracle that judged for training, by folder of the finished step."""
    keys = [key for key in manifest if stage_name(key) in ("judge", "sample") and not in_evaluation(key)]
    judged = [(key, manifest[key]["facts"]) for key in keys]  # an environment asks it while episodes are played
    return {key.rpartition("/")[0]: facts["oracle"] for key, facts in judged if "oracle" in facts}


def _shard_key(
    guard: Guard, pairing: Pairing, examples: Sequence[ExampleRow], responses: Sequence[Sequence[Candidate]]
) -> str:
    content = [guard.identity, repr(pairing), [e["prompt"] for e in examples]]
    texts = [[r["text"] for r in rows] for rows in responses]
    return hashlib.sha256(repr([content, texts]).encode()).hexdigest()


def _first_wave(
    pairing: Pairing, examples: Sequence[ExampleRow], responses: Sequence[Sequence[Candidate]], seed: int
) -> Iterator[Comparison]:
    """What the pairing asks of these examples before it knows any verdict."""
    for example, rows in zip(examples, responses, strict=True):
        prompt = PromptText(example["messages"])
        for a, b in next(_game(pairing, example, rows, seed)):
            yield Comparison(prompt, rows[a]["text"], rows[b]["text"])


def _game(pairing: Pairing, example: ExampleRow, rows: Sequence[Candidate], seed: int) -> Game:
    return pairing.play([row["role"] for row in rows], noise_seed(seed, "pair", example["example"]))


def play_shard(
    pairing: Pairing, examples: Sequence[ExampleRow], responses: Sequence[Sequence[Candidate]], guard: Guard, seed: int
) -> list[VerdictRow]:
    """The verdicts on these prompts, their pairings played against the guard in step."""
    games = [_game(pairing, example, rows, seed) for example, rows in zip(examples, responses, strict=True)]
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
