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
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from sparring.algorithms.algorithm import Draw, PolicyRef
from sparring.recipe.sections import SamplingConfig
from sparring.rounds.policies import Policies
from sparring.rounds.tables import SAMPLES
from sparring.runtime import devices
from sparring.runtime.files import join_shards, make_shards, read_journal, read_table
from sparring.runtime.memory import release_memory
from sparring.runtime.progress import QUIET, Advance, Progress
from sparring.runtime.randomness import noise_seed
from sparring.sampling.engine import Request, Response
from sparring.sampling.transformers_engine import TransformersEngine
from sparring.sampling.vllm_engine import ServedPolicy, VllmEngine

Rows = list[dict[str, Any]]
PROBE_PROMPTS, PROBE_TOKENS = 4, 24
"""what a served policy is recognised by"""
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
    arguments = policies, draw, examples, settings, stream, target
    if settings.engine == "transformers":
        keys = devices.on_all_ranks(make_draw, *arguments, progress=progress)
    else:
        keys = make_draw(*arguments, alone=True, progress=progress)
    join_shards(target, keys, SAMPLES)
    return read_table(target)


def make_draw(
    policies: Policies,
    draw: Draw,
    examples: Rows,
    settings: SamplingConfig,
    stream: str,
    target: Path,
    alone: bool = False,
    progress: Progress = QUIET,
) -> list[str]:
    """This rank's shards of a draw, or all of them `alone`; returns the keys of all."""
    recipe = policies.recipe
    served = settings.engine != "transformers"
    jobs: list[tuple[tuple[PolicyRef, ...], list[tuple[int, int]]]] = []
    for refs, rows in assign(draw, examples, recipe.seed, stream):
        # Long prompts first and together: little padding, and the slowest batch shows at once.
        rows.sort(key=lambda row: (-len(examples[row[0]]["prompt_ids"]), row))
        size = max(1, len(rows)) if served else settings.batch_size
        jobs += [(refs, rows[begin : begin + size]) for begin in range(0, len(rows), size)]
    engines = _Engines(policies, draw, settings)
    keys = [_key(policies, draw, settings, refs, rows, examples, stream) for refs, rows in jobs]
    mine = range(len(jobs)) if alone else devices.share(range(len(jobs)))
    portion = "" if alone else devices.portion()
    total = sum(len(jobs[index][1]) for index in mine)
    with progress.task(f"{target.parent.name}  sample {draw.role} from {_names(draw)}{portion}", total) as advance:

        def make(index: int) -> Rows:
            refs, rows = jobs[index]
            requests = [
                Request(examples[e]["prompt_ids"], _seed(settings, recipe.seed, stream, examples[e]["example"], k))
                for e, k in rows
            ]
            if served:
                journal = target.with_name(f"{target.stem}.partial") / f"{keys[index][:16]}.jsonl"
                found = _streamed(partial(engines.serve, refs), requests, journal, advance, progress)
            else:
                found = engines.get(refs).sample(requests)
            return [
                _sample_row(policies, draw, examples[e], k, refs, request.seed, response)
                for (e, k), request, response in zip(rows, requests, found, strict=True)
            ]

        make_shards(target, keys, mine, SAMPLES, make, lambda index: None if served else advance(len(jobs[index][1])))
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
    example: dict[str, Any],
    k: int,
    refs: Sequence[PolicyRef],
    seed: int,
    response: Response,
) -> dict[str, Any]:
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
    rows: Sequence[tuple[int, int]],
    examples: Rows,
    stream: str,
) -> str:
    """Hash of everything a shard depends on."""
    parts = [
        [policies.hash(ref) for ref in refs],
        [draw.policies[ref] for ref in refs],
        settings.model_dump_json(exclude={"vllm"}),
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

    def serve(self, refs: tuple[PolicyRef, ...], requests: Sequence[Request]) -> VllmEngine:
        """vLLM for one policy, with log-probabilities of some prompts to recognise it by."""
        (ref,) = refs
        # On the CPU: vLLM may cut a policy over several devices because one cannot hold it.
        model = self.policies.load(ref, DTYPES[self.settings.precision], torch.device("cpu"))
        folder, adapter = self.policies.stored(ref)
        lora = self.policies.recipe.model.lora
        probe_ids = _probe_ids(requests)
        policy = ServedPolicy(
            name=str(ref),
            folder=folder,
            adapter=adapter,
            adapter_rank=0 if lora is None else lora.rank,
            trust_remote_code=self.policies.recipe.model.trust_remote_code,
            vocabulary=model.config.get_text_config().vocab_size,
            probe_ids=probe_ids,
            probe_logps=[_prompt_logps(model, ids) for ids in probe_ids],
        )
        end_ids = self.policies.chat.end_ids(model.generation_config)
        del model
        release_memory()  # vLLM wants the device for itself
        return VllmEngine(policy, self.settings, end_ids, self.policies.store.root / "logs/vllm.log")


def _probe_ids(requests: Sequence[Request]) -> list[list[int]]:
    """The first tokens of a few different prompts, at least two each."""
    distinct = dict.fromkeys(tuple(request.prompt_ids[:PROBE_TOKENS]) for request in requests)
    return [list(ids) for ids in distinct if len(ids) > 1][:PROBE_PROMPTS]


@torch.inference_mode()
def _prompt_logps(model: PreTrainedModel, ids: list[int]) -> list[float]:
    """Log-probability of every token but the first."""
    tokens = torch.tensor([ids], device=model.device)
    logps = model(input_ids=tokens).logits[0, :-1].float().log_softmax(-1)
    return logps.gather(1, tokens[0, 1:, None])[:, 0].tolist()
