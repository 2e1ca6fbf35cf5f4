"""The judge and pair stages: a step's responses, its pairing played against the oracle, then replayed.

Judging runs the pairings of many prompts in step, a wave at a time, so that an oracle sees large batches;
verdicts are kept in shards of prompts. Pairing replays the same generators on the stored verdicts, and drops,
with a reason that is counted, what cannot be trained on. Leaves out: which comparisons are asked (`pairing.py`).
"""

from __future__ import annotations

import contextlib
import hashlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sparring.algorithms.algorithm import Column, Draw, Step
from sparring.algorithms.pairing import Pair, Pairing, Pairs
from sparring.models.chat import PromptText
from sparring.objectives.pairs import only_differences
from sparring.oracles.guard import Guard
from sparring.oracles.oracle import Comparison
from sparring.rounds.tables import PAIRS, VERDICTS
from sparring.runtime.files import read_table, sharded, write_table
from sparring.runtime.progress import Progress
from sparring.runtime.randomness import noise_seed

Rows = list[dict[str, Any]]
SHARD = 32
"""prompts judged together and kept together"""


def gather(step: Step, examples: Rows, samples: Rows) -> list[Rows]:
    """Each example's responses in the step's order: {role, text, token_ids, finish_reason}."""
    drawn: dict[tuple[str, str], Rows] = {}
    for sample in samples:
        drawn.setdefault((sample["example"], sample["role"]), []).append(sample)
    gathered: list[Rows] = []
    assert not isinstance(step.responses, tuple) or step.responses
    for example in examples:
        held = {r["role"]: {**r, "finish_reason": "stop"} for r in example["responses"]}
        rows: Rows = []
        for source in step.responses if isinstance(step.responses, tuple) else ():
            if isinstance(source, Column):
                rows.append(held[source.role])
            elif isinstance(source, Draw):
                rows += sorted(drawn[example["example"], source.role], key=lambda s: s["index"])
        gathered.append(rows)
    return gathered


def judge_examples(
    pairing: Pairing,
    examples: Rows,
    responses: list[Rows],
    guard: Guard,
    seed: int,
    target: Path,
    progress: Progress,
) -> dict[str, Any]:
    """Play every example's pairing against the oracle; verdicts go to `target`. Returns facts."""
    spans = [range(begin, min(begin + SHARD, len(examples))) for begin in range(0, len(examples), SHARD)]

    def make(index: int) -> Rows:
        part = spans[index]
        return _play_shard(pairing, [examples[i] for i in part], [responses[i] for i in part], guard, seed)

    with progress.task(f"{target.parent.name}  judge", len(examples)) as advance:
        keys = [_shard_key(guard, pairing, [examples[i] for i in s], [responses[i] for i in s]) for s in spans]
        sharded(target, keys, VERDICTS, make, lambda index: advance(len(spans[index])))
    # Counted on the stored verdicts: the guard's own counts lack what was judged before a kill.
    verdicts = read_table(target)
    failed = sum(row["preference"] is None for row in verdicts)
    place = {example["example"]: index for index, example in enumerate(examples)}
    judged = dict.fromkeys((place[row["example"]], index) for row in verdicts for index in (row["a"], row["b"]))
    cut = guard.cut((PromptText(examples[e]["messages"]), responses[e][index]["text"]) for e, index in judged)
    return {"comparisons": len(verdicts), "failed": failed, **cut, "oracle": guard.identity}


def judges_of(manifest: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Identity of the oracle that judged, by folder of the finished step."""
    stages = {key.removesuffix("/judge"): entry for key, entry in manifest.items() if key.endswith("/judge")}
    return {folder: entry["facts"]["oracle"] for folder, entry in stages.items()}


def _shard_key(guard: Guard, pairing: Pairing, examples: Rows, responses: list[Rows]) -> str:
    content = [guard.identity, repr(pairing), [e["prompt"] for e in examples]]
    texts = [[r["text"] for r in rows] for rows in responses]
    return hashlib.sha256(repr([content, texts]).encode()).hexdigest()


def _play_shard(pairing: Pairing, examples: Rows, responses: list[Rows], guard: Guard, seed: int) -> Rows:
    games = [
        pairing.play([r["role"] for r in rows], noise_seed(seed, "pair", e["example"]))
        for e, rows in zip(examples, responses, strict=True)
    ]
    prompts = [PromptText(example["messages"]) for example in examples]
    waves: dict[int, list[tuple[int, int]]] = {i: next(game) for i, game in enumerate(games)}
    verdicts: Rows = []
    while waves:
        flat = [(i, a, b) for i, wave in waves.items() for a, b in wave]
        answers = guard.judge(
            [Comparison(prompts[i], responses[i][a]["text"], responses[i][b]["text"]) for i, a, b in flat]
        ).tolist()
        for (i, a, b), p in zip(flat, answers, strict=True):
            row = {"example": examples[i]["example"], "a": a, "b": b}
            verdicts.append({**row, "preference": None if math.isnan(p) else p})
        waves, sent = {}, waves
        for i, wave in sent.items():
            part, answers = answers[: len(wave)], answers[len(wave) :]
            with contextlib.suppress(StopIteration):
                waves[i] = games[i].send(part)
    return sorted(verdicts, key=lambda row: row["example"])


def replay(pairing: Pairing, roles: Sequence[str], seed: int, verdicts: Mapping[tuple[int, int], float]) -> Pairs:
    """The pairing's result on stored verdicts (missing ones are NaN)."""
    game = pairing.play(roles, seed)
    wave = next(game)
    while True:
        try:
            wave = game.send([verdicts.get(match, math.nan) for match in wave])
        except StopIteration as stop:
            return stop.value


def make_pairs(
    step: Step, examples: Rows, responses: list[Rows], verdicts: Rows, seed: int, target: Path
) -> dict[str, Any]:
    """Write `target` with one row per usable example; facts count what is used, and what is dropped by reason.

    Pairs of identical responses are dropped where the loss sees only differences. The others keep their weights: those
    would add nothing to the gradient. `dropped_examples` are whole prompts, so that with `examples` they add up to all;
    `dropped_pairs` are pairs, of examples that are used or not.
    """
    known: dict[str, dict[tuple[int, int], float]] = {}
    for row in verdicts:
        p = math.nan if row["preference"] is None else row["preference"]
        known.setdefault(row["example"], {})[row["a"], row["b"]] = p
    rows: Rows = []
    blind = only_differences(step.objective)
    examples_out, pairs_out = Counter[str](), Counter[str]()
    for example, given in zip(examples, responses, strict=True):
        seed_here, verdicts_here = noise_seed(seed, "pair", example["example"]), known.get(example["example"], {})
        result = replay(step.pairing, [r["role"] for r in given], seed_here, verdicts_here)
        kept = _different(result.pairs, given) if blind else result.pairs
        if identical := len(result.pairs) - len(kept):
            pairs_out["identical responses"] += identical
        if kept or (result.kept and not result.pairs):
            rows.append(_pair_row(example, given, Pairs(kept, result.win_rates, result.kept)))
        else:
            examples_out[result.dropped or "identical responses in every pair"] += 1
    if not rows:
        reasons = "; ".join(f"{count} x {reason}" for reason, count in examples_out.items())
        raise ValueError(
            f"no training pair is left: {reasons}. Raise sampling.temperature or algorithm.samples, or "
            "look at the oracle's verdicts."
        )
    write_table(target, rows, PAIRS)
    facts = {"examples": len(rows), "pairs": sum(len(row["pairs"]) for row in rows)}
    return {**facts, "dropped_examples": dict(examples_out), "dropped_pairs": dict(pairs_out)}


def _different(pairs: Sequence[Pair], given: Rows) -> tuple[Pair, ...]:
    return tuple(p for p in pairs if given[p.winner]["token_ids"] != given[p.loser]["token_ids"])


def _pair_row(example: dict[str, Any], given: Rows, result: Pairs) -> dict[str, Any]:
    """Only the responses that the objective needs are kept; indices are renumbered."""
    used = sorted({index for p in result.pairs for index in (p.winner, p.loser)} | set(result.kept))
    place = {old: new for new, old in enumerate(used)}
    responses = [
        {k: given[i][k] for k in ("role", "text", "token_ids")} | {"win_rate": result.win_rates[i]} for i in used
    ]
    pairs = [
        {
            "winner": place[p.winner],
            "loser": place[p.loser],
            "preference": p.preference,
            "weight": p.weight,
            "term": p.term,
        }
        for p in result.pairs
    ]
    return {
        "example": example["example"],
        "prompt_ids": example["prompt_ids"],
        "responses": responses,
        "pairs": pairs,
    }
