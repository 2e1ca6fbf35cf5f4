"""The pair stage: a step's pairing is replayed on the stored verdicts, and its pairs become training examples.

An example that cannot be trained on is dropped, and the reason is counted. Leaves out: asking the oracle (`judge.py`),
which pairs a pairing makes (`algorithms/pairing.py`).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from sparring.algorithms.algorithm import Column, Reuse, Step
from sparring.algorithms.pairing import Pairing, Pairs, Wave
from sparring.objectives.pairs import Pair, only_differences
from sparring.objectives.responses import UNPAIRED
from sparring.rounds.tables import (
    PAIRS,
    Candidate,
    DataResponse,
    ExampleRow,
    PairResponse,
    PairRow,
    Prompt,
    SampleRow,
    VerdictRow,
    verdicts_by_example,
)
from sparring.runtime.files import write_table
from sparring.runtime.randomness import noise_seed

Judge = Callable[[str, Wave], Sequence[float]]
"""P(a beats b) of an example's matches by the example's name, NaN where it is not known"""


def replay(pairing: Pairing, roles: Sequence[str], seed: int, judge: Callable[[Wave], Sequence[float]]) -> Pairs:
    """The pairing's result for one example; `judge` gives P(a beats b) of every match, NaN where the oracle failed."""
    game = pairing.play(roles, seed)
    wave = next(game)
    while True:
        try:
            wave = game.send(judge(wave))
        except StopIteration as stop:
            return stop.value


def make_pairs(
    step: Step,
    examples: Sequence[Prompt],
    responses: Sequence[Sequence[DataResponse]],
    verdicts: Sequence[VerdictRow] | Judge,
    seed: int,
    target: Path,
    by_role: bool = False,
) -> dict[str, Any]:
    """Write `target` with one row per usable example; returns counts of what is used, and of what is dropped by reason.

    Pairs of identical responses are dropped where the loss sees only differences: they would add nothing to the
    gradient, and the others keep their weights. `dropped_examples` are whole prompts, so that with `examples` they add
    up to all; `dropped_pairs` are pairs, of examples that are used or not. `by_role`: an example is the question to a
    role of an environment, and the reason names the role.
    """
    judge = verdicts if callable(verdicts) else stored_verdicts(verdicts)
    rows: list[PairRow] = []
    dropped_examples, dropped_pairs = Counter[str](), Counter[str]()
    for example, candidates in zip(examples, responses, strict=True):
        name, roles = example["example"], [candidate["role"] for candidate in candidates]
        result = replay(step.pairing, roles, noise_seed(seed, "pair", name), partial(judge, name))
        pairs = _different(result.pairs, candidates) if only_differences(step.objective) else result.pairs
        if identical := len(result.pairs) - len(pairs):
            dropped_pairs["identical responses"] += identical
        # Some objectives need responses and no pairs: then `unpaired` names them.
        if pairs or (result.unpaired and not result.pairs):
            rows.append(_pair_row(example, candidates, Pairs(pairs, result.win_rates, result.unpaired)))
        else:
            reason = result.dropped or "identical responses in every pair"
            if by_role and len(candidates) == 1 and result.dropped == "no verdict":
                reason = "no sibling"
            dropped_examples[f"{example.get('group')}: {reason}" if by_role else reason] += 1
    if not rows:
        counts = [f"{count} x {reason}" for reason, count in dropped_examples.items()]
        reasons = "; ".join(counts) or "no reply has a reward"
        raise ValueError(
            f"no training pair is left: {reasons}. Raise sampling.temperature or algorithm.samples, or "
            f"look at the {'rewards in turns.parquet' if by_role else 'verdicts of the oracle'}."
        )
    write_table(target, rows, PAIRS)
    counts = {"examples": len(rows), "pairs": sum(len(row["pairs"]) for row in rows)}
    return {**counts, "dropped_examples": dict(dropped_examples), "dropped_pairs": dict(dropped_pairs)}


def stored_verdicts(verdicts: Sequence[VerdictRow]) -> Judge:
    """The oracle's stored verdicts as a judge."""
    by_example = verdicts_by_example(verdicts)

    def judge(example: str, wave: Wave) -> list[float]:
        known = by_example.get(example, {})
        return [known.get(match, math.nan) for match in wave]

    return judge


def _different(pairs: Sequence[Pair], candidates: Sequence[DataResponse]) -> tuple[Pair, ...]:
    return tuple(p for p in pairs if candidates[p.winner]["token_ids"] != candidates[p.loser]["token_ids"])


def _pair_row(example: Prompt, candidates: Sequence[DataResponse], result: Pairs) -> PairRow:
    """The pairs, with only the responses that the objective needs: those are renumbered."""
    used = sorted({index for p in result.pairs for index in (p.winner, p.loser)} | set(result.unpaired))
    place = {old: new for new, old in enumerate(used)}
    responses: list[PairResponse] = [
        {
            "role": candidates[i]["role"],
            "text": candidates[i]["text"],
            "token_ids": candidates[i]["token_ids"],
            "win_rate": result.win_rates[i],
        }
        for i in used
    ]
    pairs: list[Any] = [asdict(replace(p, winner=place[p.winner], loser=place[p.loser])) for p in result.pairs]
    return {"example": example["example"], "prompt_ids": example["prompt_ids"], "responses": responses, "pairs": pairs}


def responses_of(step: Step, examples: Sequence[ExampleRow], samples: Sequence[SampleRow]) -> list[list[Candidate]]:
    """Each example's responses in the step's order, from the samples and the data."""
    assert step.responses
    assert not isinstance(step.responses, Reuse)
    drawn: dict[tuple[str, str], list[Candidate]] = {}
    for sample in sorted(samples, key=lambda sample: sample["index"]):
        drawn.setdefault((sample["example"], sample["role"]), []).append(sample)
    # Apart from the samples: a draw may have the name of a column that the data also hold.
    columns: dict[tuple[str, str], list[Candidate]] = {
        (example["example"], response["role"]): [{**response, "finish_reason": "stop"}]
        for example in examples
        for response in example["responses"]
    }
    sources = [(columns if isinstance(source, Column) else drawn, source.role) for source in step.responses]

    def having(name: str) -> list[Candidate]:
        # Of unpaired data an example holds some roles; of other data every one, or this raises.
        found = ((rows.get if role in UNPAIRED else rows.__getitem__)((name, role)) for rows, role in sources)
        return [row for candidates in found for row in candidates or ()]

    return [having(example["example"]) for example in examples]
