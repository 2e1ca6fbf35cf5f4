"""The sample stage: draw each step's responses from its policies.

A draw's requests are cut into shards of one batch each; a killed stage goes on at the next shard. Arithmetic
mixtures give each response to one policy by its weight, policies are loaded one after the other. Leaves
out: how tokens are chosen (`sampling/`).
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from sparring.algorithms.algorithm import Draw, PolicyRef
from sparring.progress import Progress
from sparring.recipe import SamplingConfig
from sparring.rounds.policies import Policies
from sparring.rounds.store import read_table, sharded
from sparring.rounds.tables import SAMPLES
from sparring.sampling.engine import Request, Response, noise_seed
from sparring.sampling.transformers_engine import TransformersEngine

Rows = list[dict[str, Any]]
DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}


def assign(
    draw: Draw, examples: Rows, seed: int, stream: str
) -> list[tuple[tuple[PolicyRef, ...], list[tuple[int, int]]]]:
    """Which (example, index) rows come from which policies; one entry per policy to load.

    Deterministic in seed and stream; a token-geometric mixture is one entry with all its policies.
    """
    rows = [(e, k) for e in range(len(examples)) for k in range(draw.count)]
    refs = list(draw.policies)
    if draw.mixture == "token_geometric" or len(refs) == 1:
        return [(tuple(refs), rows)]
    weights = [draw.policies[ref] for ref in refs]
    chosen = [
        random.Random(noise_seed(seed, stream, "policy", examples[e]["example"], k)).choices(refs, weights)[0]
        for e, k in rows
    ]
    return [((ref,), [row for row, who in zip(rows, chosen, strict=True) if who == ref]) for ref in refs]


def sample_draw(
    policies: Policies,
    draw: Draw,
    examples: Rows,
    settings: SamplingConfig,
    stream: str,
    target: Path,
    progress: Progress,
) -> Rows:
    """All responses of a draw, written to `target` in shards; `stream` separates the noise of draws."""
    recipe = policies.recipe
    jobs: list[tuple[tuple[PolicyRef, ...], list[tuple[int, int]]]] = []
    for refs, rows in assign(draw, examples, recipe.seed, stream):
        # Long prompts first and together: little padding, and the slowest batch shows at once.
        rows.sort(key=lambda row: (-len(examples[row[0]]["prompt_ids"]), row))
        size = settings.batch_size
        jobs += [(refs, rows[begin : begin + size]) for begin in range(0, len(rows), size)]
    engines = _Engines(policies, draw, settings)
    keys = [_key(policies, draw, settings, refs, rows, examples, stream) for refs, rows in jobs]
    total = sum(len(rows) for _, rows in jobs)
    with progress.task(f"{target.parent.name}  sample {draw.role} from {_names(draw)}", total) as advance:

        def make(index: int) -> Rows:
            refs, rows = jobs[index]
            requests = [
                Request(
                    examples[e]["prompt_ids"],
                    noise_seed(recipe.seed, stream, examples[e]["example"], k),
                )
                for e, k in rows
            ]
            found = engines.get(refs).sample(requests)
            return [
                _sample_row(policies, draw, examples[e], k, refs, response)
                for (e, k), response in zip(rows, found, strict=True)
            ]

        sharded(target, keys, SAMPLES, make, lambda index: advance(len(jobs[index][1])))
    return read_table(target)


def _names(draw: Draw) -> str:
    return " + ".join(map(str, draw.policies))


def _sample_row(
    policies: Policies,
    draw: Draw,
    example: dict[str, Any],
    k: int,
    refs: Sequence[PolicyRef],
    response: Response,
) -> dict[str, Any]:
    return {
        "example": example["example"],
        "role": draw.role,
        "index": k,
        "policy": " + ".join(map(str, refs)),
        "text": policies.chat.decode(response.token_ids),
        "token_ids": response.token_ids,
        "finish_reason": response.finish_reason,
    }


def _key(
    policies: Policies,
    draw: Draw,
    settings: SamplingConfig,
    refs: Sequence[PolicyRef],
    rows: Sequence[tuple[int, int]],
    examples: Rows,
    stream: str,
) -> str:
    """Hash of everything a shard depends on."""
    parts = [
        [policies.hash(ref) for ref in refs],
        [draw.policies[ref] for ref in refs],
        settings.model_dump_json(),
        policies.recipe.seed,
        stream,
        [(examples[e]["prompt_ids"], k) for e, k in rows],
    ]
    return hashlib.sha256(repr(parts).encode()).hexdigest()


class _Engines:
    """The engine of the policies last asked for: one policy (or mixture) in memory at a time."""

    def __init__(self, policies: Policies, draw: Draw, settings: SamplingConfig) -> None:
        self.policies, self.draw, self.settings = policies, draw, settings
        self.current: tuple[PolicyRef, ...] = ()
        self.engine: TransformersEngine | None = None

    def get(self, refs: tuple[PolicyRef, ...]) -> TransformersEngine:
        if self.engine is None or refs != self.current:
            self.engine = None  # frees the policy before the next one is loaded
            self.engine, self.current = self._make(refs), refs
        return self.engine

    def _make(self, refs: tuple[PolicyRef, ...]) -> TransformersEngine:
        dtype = DTYPES[self.settings.precision]
        models = [(self.policies.load(ref, dtype), self.draw.policies[ref]) for ref in refs]
        end_ids = self.policies.chat.end_ids(models[0][0].generation_config)
        return TransformersEngine(models, self.settings, end_ids)
