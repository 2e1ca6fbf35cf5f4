"""The sample stage: draw each step's responses from its policies.

A draw's requests are cut into shards of one batch each; a killed stage goes on at the next shard. Several devices
make the same shards, some each, so the responses do not depend on their number. A served engine gets all requests of a
policy at once, and what it answers is journalled response by response. Arithmetic mixtures give each response to one
policy by its weight, policies are loaded one after the other. Leaves out: how tokens are chosen (`sampling/`).
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from sparring.algorithms.algorithm import Draw, PolicyRef
from sparring.data.text import repeating_share
from sparring.recipe.sections import SamplingConfig
from sparring.rounds.engines import PolicyEngines
from sparring.rounds.policies import Policies
from sparring.rounds.tables import SAMPLES, Prompt, SampleRow
from sparring.runtime import devices
from sparring.runtime.files import join_shards, make_shards, read_journal, read_table, write_table
from sparring.runtime.progress import QUIET, Advance, Progress
from sparring.runtime.randomness import noise_seed
from sparring.sampling.engine import Request, Response
from sparring.sampling.vllm_engine import VllmEngine

Place = tuple[int, int]
"""which example, and which of its responses"""


def sample_draws(
    policies: Policies,
    draws: Sequence[Draw],
    examples: Sequence[Prompt],
    settings: SamplingConfig,
    seed: int,
    stream: str,
    target: Path,
    inputs: Mapping[str, str],
    progress: Progress,
) -> dict[str, Any]:
    """All responses of a step's draws, written to `target`; returns counts.

    `inputs`: the stage's. Draws that a killed run finished are not drawn again while those are the same.
    """
    if len(draws) == 1:
        rows = sample_draw(policies, draws[0], examples, settings, seed, f"{stream}/{draws[0].role}", target, progress)
        return _counts(rows)
    digest = hashlib.sha256(repr(sorted(inputs.items())).encode()).hexdigest()[:12]
    parts = {draw.role: target.with_name(f"samples.{draw.role}.{digest}.partial.parquet") for draw in draws}
    rows = []
    for draw in draws:
        if (part := parts[draw.role]).exists():
            rows += read_table(part)
        else:
            rows += sample_draw(policies, draw, examples, settings, seed, f"{stream}/{draw.role}", part, progress)
    write_table(target, rows, SAMPLES)
    for part in parts.values():
        part.unlink()
    return _counts(rows)


def _counts(rows: Sequence[SampleRow]) -> dict[str, Any]:
    texts = [row["text"] for row in rows]
    return {
        "responses": len(rows),
        "tokens": sum(len(row["token_ids"]) for row in rows),
        "cut_off": sum(row["finish_reason"] == "length" for row in rows),
        "empty": sum(not text.strip() for text in texts),
        "repeating_share": repeating_share(texts),
    }


def assign(
    draw: Draw, examples: Sequence[Prompt], seed: int, stream: str
) -> list[tuple[tuple[PolicyRef, ...], list[Place]]]:
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
    examples: Sequence[Prompt],
    settings: SamplingConfig,
    seed: int,
    stream: str,
    target: Path,
    progress: Progress,
) -> list[SampleRow]:
    """All responses of a draw, written to `target` in shards; `stream` separates the noise of draws of one seed."""
    arguments = policies, draw, examples, settings, seed, stream, target
    if settings.engine == "transformers":
        keys = devices.on_all_ranks(make_draw, *arguments, progress=progress)
    else:
        keys = make_draw(*arguments, alone=True, progress=progress)
    join_shards(target, keys, SAMPLES)
    return read_table(target)


def make_draw(
    policies: Policies,
    draw: Draw,
    examples: Sequence[Prompt],
    settings: SamplingConfig,
    seed: int,
    stream: str,
    target: Path,
    alone: bool = False,
    progress: Progress = QUIET,
) -> list[str]:
    """This rank's shards of a draw, or all of them `alone`; returns the keys of all."""
    served = settings.engine != "transformers"
    jobs: list[tuple[tuple[PolicyRef, ...], list[Place]]] = []
    for refs, rows in assign(draw, examples, seed, stream):
        # Long prompts first and together: little padding, and the slowest batch shows at once.
        rows.sort(key=lambda row: (-len(examples[row[0]]["prompt_ids"]), row))
        size = max(1, len(rows)) if served else settings.batch_size
        jobs += [(refs, rows[begin : begin + size]) for begin in range(0, len(rows), size)]
    engines = PolicyEngines(policies, draw, settings)
    keys = [_key(policies, draw, settings, refs, rows, examples, seed, stream) for refs, rows in jobs]
    own_jobs = range(len(jobs)) if alone else devices.share(range(len(jobs)))
    portion = "" if alone else devices.portion()
    total = sum(len(jobs[index][1]) for index in own_jobs)
    with progress.task(f"{target.parent.name}  sample {draw.role} from {_names(draw)}{portion}", total) as advance:

        def make(index: int) -> list[SampleRow]:
            refs, rows = jobs[index]
            requests = [
                Request(examples[e]["prompt_ids"], _seed(settings, seed, stream, examples[e]["example"], k))
                for e, k in rows
            ]
            if served:
                journal = target.with_name(f"{target.stem}.partial") / f"{keys[index][:16]}.jsonl"
                responses = _streamed(partial(engines.serve, refs), requests, journal, advance, progress)
            else:
                responses = engines.get(refs).sample(requests)
            return [
                _sample_row(policies, draw, examples[e], k, refs, request.seed, response)
                for (e, k), request, response in zip(rows, requests, responses, strict=True)
            ]

        make_shards(
            target, keys, own_jobs, SAMPLES, make, lambda index: None if served else advance(len(jobs[index][1]))
        )
    return keys


def _seed(settings: SamplingConfig, seed: int, stream: str, example: str, k: int) -> int:
    """The seed of response k; a served engine's follow each other, so that K samples are one request."""
    if settings.engine == "transformers":
        return noise_seed(seed, stream, example, k)
    return noise_seed(seed, stream, example) // 2 + k


def _streamed(
    serve: Callable[[Sequence[Request]], VllmEngine],
    requests: Sequence[Request],
    journal: Path,
    advance: Advance,
    progress: Progress,
) -> list[Response]:
    """One response per request; each is in the journal as soon as it is there, and those are not asked again."""
    known = {place: Response(*response) for place, *response in read_journal(journal)}
    advance(len(known))
    missing = [place for place in range(len(requests)) if place not in known]
    if missing:
        wanted = [requests[place] for place in missing]
        engine = serve(wanted)
        with journal.open("a", encoding="utf-8") as lines:
            for index, response in engine.stream(wanted):
                known[missing[index]] = response
                lines.write(json.dumps([missing[index], *response]) + "\n")
                lines.flush()
                advance(1)
        progress.say(engine.note)
    return [known[place] for place in range(len(requests))]


def _names(draw: Draw) -> str:
    return " + ".join(map(str, draw.policies))


def _sample_row(
    policies: Policies,
    draw: Draw,
    example: Prompt,
    k: int,
    refs: Sequence[PolicyRef],
    seed: int,
    response: Response,
) -> SampleRow:
    return {
        "example": example["example"],
        "role": draw.role,
        "index": k,
        "policy": " + ".join(map(str, refs)),
        "weights": " + ".join(map(policies.hash, refs)),
        "seed": seed,
        "text": policies.chat.decode(response.token_ids),
        "token_ids": response.token_ids,
        "finish_reason": response.finish_reason,
    }


def _key(
    policies: Policies,
    draw: Draw,
    settings: SamplingConfig,
    refs: Sequence[PolicyRef],
    rows: Sequence[Place],
    examples: Sequence[Prompt],
    seed: int,
    stream: str,
) -> str:
    """Hash of everything a shard depends on."""
    parts = [
        [policies.hash(ref) for ref in refs],
        [draw.policies[ref] for ref in refs],
        settings.model_dump_json(exclude={"vllm"}),
        seed,
        stream,
        [(examples[e]["prompt_ids"], k) for e, k in rows],
    ]
    return hashlib.sha256(repr(parts).encode()).hexdigest()
