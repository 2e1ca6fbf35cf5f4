"""The sample stage: draw each step's responses from its policies.

A draw's requests are cut into shards of one batch each; a killed stage goes on at the next shard. Several devices,
and the workers of a cluster, make the same shards, some each, so the responses do not depend on their number. A served
engine of this process gets all requests of a policy at once, and its responses are journalled one by one; those of a
cluster's workers get large shards. An arithmetic mixture gives
each response to one policy by its weight; policies are loaded one after the other. Leaves out: how tokens are chosen
(`sampling/`).

    sample_draw(policies, draw, examples, recipe.sampling, recipe.seed, "evaluation/1", target, progress)
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import random
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from sparring.algorithms.algorithm import Draw, PolicyRef
from sparring.data.text import repeats_itself
from sparring.fleet.work import Places, Shards, Work, current
from sparring.recipe.sections import SamplingConfig
from sparring.rounds.engines import PolicyEngines
from sparring.rounds.policies import Policies
from sparring.rounds.tables import SAMPLES, Prompt, SampleRow
from sparring.runtime import devices
from sparring.runtime.files import join_tables, stream_rows
from sparring.runtime.layout import VLLM_LOG
from sparring.runtime.lines import append_lines, as_line, damage, read_lines
from sparring.runtime.parts import find_part, join_shards, keep_part, make_shards
from sparring.runtime.progress import QUIET, Advance, Progress
from sparring.runtime.randomness import noise_seed
from sparring.sampling.engine import Request, Response, as_response
from sparring.sampling.transformers_engine import TransformersEngine
from sparring.sampling.vllm_engine import VllmEngine
from sparring.sampling.watch import Watch

Place = tuple[int, int]
"""which example, and which of its responses"""
Refs = tuple[PolicyRef, ...]
Job = tuple[Refs, list[Place]]
"""responses that are sampled together, and their policies"""
Batch = tuple[Refs, list[Request]]
"""what a shard is made of: its policies and its requests"""
Answer = tuple[Response, str]
"""a response as tokens, and as text"""
OnRows = Callable[[Sequence[SampleRow]], None]
"""is called with responses as they come"""
MOST_CUT = 0.5
"""share of responses cut off, beyond which a warning is due: judges and fits see beginnings"""


@dataclass(frozen=True)
class DrawTask:
    """One draw: who samples, for which prompts, how, and the file that gets the responses."""

    policies: Policies
    draw: Draw
    examples: Sequence[Prompt]
    settings: SamplingConfig
    seed: int
    stream: str
    """separates the noise of draws of one seed"""
    target: Path

    @property
    def served(self) -> bool:
        """Whether an engine of its own samples, which gets all requests of a policy at once."""
        return self.settings.engine != "transformers"

    def jobs(self) -> list[Job]:
        """The batches of the draw."""
        jobs: list[Job] = []
        for refs, rows in self.assigned():
            # Long prompts first and together: little padding, and the slowest batch shows at once.
            rows.sort(key=lambda row: (-len(self.examples[row[0]]["prompt_ids"]), row))
            size = self._shard_size(len(rows))
            jobs += [(refs, rows[begin : begin + size]) for begin in range(0, len(rows), size)]
        return jobs

    def _shard_size(self, rows: int) -> int:
        if not self.served:
            return self.settings.batch_size
        # One process journals a served engine's responses one by one; workers send back whole shards.
        return self.settings.vllm.shard_size if current().shares else max(1, rows)

    def assigned(self) -> list[Job]:
        """The responses of each policy, one entry per policy to load; deterministic in seed and stream.

        A token-geometric mixture is one entry with all its policies.
        """
        rows = [(e, k) for e in range(len(self.examples)) for k in range(self.draw.count)]
        refs = list(self.draw.policies)
        if self.draw.mixture == "token_geometric" or len(refs) == 1:
            return [(tuple(refs), rows)]
        weights = [self.draw.policies[ref] for ref in refs]
        seeds = [noise_seed(self.seed, self.stream, "policy", self.examples[e]["example"], k) for e, k in rows]
        chosen = [random.Random(seed).choices(refs, weights)[0] for seed in seeds]
        return [((ref,), [row for row, who in zip(rows, chosen, strict=True) if who == ref]) for ref in refs]

    def keys(self, jobs: Sequence[Job]) -> list[str]:
        """For each batch, the hash of everything that its shard depends on."""
        names = {ref: (self.policies.hash(ref), self.policies.files_hash(ref)) for ref in self.draw.policies}
        return [self._key([names[ref] for ref in refs], refs, rows) for refs, rows in jobs]

    def _key(self, names: Sequence[tuple[str, str]], refs: Refs, rows: Sequence[Place]) -> str:
        parts = [
            names,
            [self.draw.policies[ref] for ref in refs],
            self.settings.model_dump_json(exclude={"vllm"}),
            self.seed,
            self.stream,
            [(self.examples[e]["prompt_ids"], k) for e, k in rows],
        ]
        return hashlib.sha256(repr(parts).encode()).hexdigest()

    def request(self, e: int, k: int) -> Request:
        """The request of response k; a served engine's seeds follow each other, so that K samples are one request."""
        example = self.examples[e]
        parts = self.seed, self.stream, example["example"]
        seed = noise_seed(*parts) // 2 + k if self.served else noise_seed(*parts, k)
        return Request(example["prompt_ids"], seed)

    def rows(self, refs: Refs, places: Sequence[Place], answers: Sequence[Answer]) -> list[SampleRow]:
        """The responses of a job as rows of samples.parquet."""
        return [self._row(place, refs, *answer) for place, answer in zip(places, answers, strict=True)]

    def _row(self, place: Place, refs: Refs, response: Response, text: str) -> SampleRow:
        return {
            "example": self.examples[place[0]]["example"],
            "role": self.draw.role,
            "index": place[1],
            "policy": _names(refs),
            "weights": " + ".join(map(self.policies.hash, refs)),
            "seed": self.request(*place).seed,
            "text": text,
            "token_ids": response.token_ids,
            "finish_reason": response.finish_reason,
        }


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
    on_rows: OnRows | None = None,
) -> dict[str, Any]:
    """Write all responses of a step's draws to `target`; returns counts.

    `inputs`: the stage's. Draws that a killed run finished are not drawn again while those are the same; `on_rows`
    gets neither what it left nor what other ranks draw.
    """

    def sample(draw: Draw, file: Path) -> None:
        sample_draw(policies, draw, examples, settings, seed, f"{stream}/{draw.role}", file, progress, on_rows)

    if len(draws) == 1:
        sample(draws[0], target)
        return _counts(target, settings, progress)
    digest = hashlib.sha256(repr(sorted(inputs.items())).encode()).hexdigest()[:12]
    parts: list[Path] = []
    for draw in draws:
        part = target.with_name(f"samples.{draw.role}.{digest}.partial.parquet")
        parts.append(find_part(part, progress.say) or keep_part(part, partial(sample, draw)))
    join_tables(target, parts, SAMPLES)
    for part in parts:
        part.unlink()
    return _counts(target, settings, progress)


def _counts(samples: Path, settings: SamplingConfig, progress: Progress) -> dict[str, Any]:
    """Counts of responses; says when most of them had no room to end."""
    counts = dict.fromkeys(("responses", "tokens", "cut_off", "empty"), 0)
    repeating = 0
    for row in stream_rows(samples, ["text", "token_ids", "finish_reason"]):
        counts["responses"] += 1
        counts["tokens"] += len(row["token_ids"])
        counts["cut_off"] += row["finish_reason"] == "length"
        counts["empty"] += not row["text"].strip()
        repeating += repeats_itself(row["text"])
    if counts["cut_off"] > MOST_CUT * counts["responses"]:
        progress.say(
            f"warning  {counts['cut_off']} of {counts['responses']} responses were cut off at sampling.max_new_tokens "
            f"= {settings.max_new_tokens}: raise it, or ask for shorter ones"
        )
    return {**counts, "repeating_share": repeating / max(1, counts["responses"])}


def sample_draw(
    policies: Policies,
    draw: Draw,
    examples: Sequence[Prompt],
    settings: SamplingConfig,
    seed: int,
    stream: str,
    target: Path,
    progress: Progress,
    on_rows: OnRows | None = None,
) -> None:
    """Write all responses of a draw to `target`, in shards; `stream` separates the noise of draws of one seed."""
    task = DrawTask(policies, draw, examples, settings, seed, stream, target)
    if task.served:
        keys = make_draw(task, alone=True, progress=progress, on_rows=on_rows)
    else:
        keys = devices.on_all_ranks(make_draw, task, progress=progress, on_rows=on_rows)
    join_shards(target, keys, SAMPLES)


def make_draw(
    task: DrawTask, alone: bool = False, progress: Progress = QUIET, on_rows: OnRows | None = None
) -> list[str]:
    """Make this rank's shards of a draw, or all of them `alone`; returns the keys of all."""
    jobs = task.jobs()
    keys = task.keys(jobs)
    own_jobs = range(len(jobs)) if alone else devices.share(range(len(jobs)))
    portion = "" if alone else devices.portion()
    title = f"sample {task.draw.role} from {' + '.join(ref.title for ref in task.draw.policies)}{portion}"
    with progress.task(title, sum(len(jobs[index][1]) for index in own_jobs)) as advance:
        journalled = task.served and not current().shares

        def done(index: int) -> None:
            if not journalled:  # those were counted one by one
                advance(len(jobs[index][1]))

        if journalled:
            results = partial(_served, task, jobs, keys, advance, progress, on_rows)
        else:
            results = partial(_sampled, task, jobs, silent if current().shares else advance, progress, on_rows)
        make_shards(task.target, keys, own_jobs, SAMPLES, results, done, progress.say)
    return keys


def silent(done: int = 1, note: str = "") -> None:
    """Tell nobody how far a batch is: a worker's batches show when they are done."""


def _sampled(
    task: DrawTask,
    jobs: Sequence[Job],
    tell: Advance,
    progress: Progress,
    on_rows: OnRows | None,
    indices: Sequence[int],
) -> Iterator[tuple[int, list[SampleRow]]]:
    """The rows of these jobs from engines of the fleet's workers, or of this process."""

    def payload(index: int) -> Batch:
        refs, places = jobs[index]
        return refs, [task.request(e, k) for e, k in places]

    policies, draw, settings = task.policies, task.draw, task.settings
    key = policies.worker_key(draw.policies, list(draw.policies.items()), settings)
    folders = partial(policies.folders, list(draw.policies))
    opens: SamplesShards | ServedShards = SamplesShards(policies, draw, settings, tell)
    gpus = 1
    if task.served:
        opens, gpus = ServedShards(policies, draw, settings), settings.vllm.tensor_parallel
    work = Work(f"sample {draw.role}", key, folders, opens, gpus)
    for index, (responses, note) in current().results(work, Shards(indices, payload)):
        if note:
            progress.say(note)
        rows = task.rows(*jobs[index], responses)
        if on_rows is not None:
            on_rows(rows)
        yield index, rows


@dataclass(frozen=True, slots=True)
class SamplesShards:
    """Opens engines that sample the batches of a draw."""

    policies: Policies
    draw: Draw
    settings: SamplingConfig
    tell: Advance
    """is told how far a batch is while it is sampled; it counts for nothing once the batch is there"""

    @contextlib.contextmanager
    def __call__(self, places: Places) -> Iterator[Callable[[Batch], tuple[list[Answer], str]]]:
        """A function from a batch's policies and requests to its responses with their texts, and nothing to note."""
        policies = self.policies.at(places)
        engines = PolicyEngines.of(policies, self.draw, self.settings)
        yield lambda batch: (with_texts(policies, self._sample(engines.get(batch[0]), batch[1])), "")

    def _sample(self, engine: TransformersEngine, requests: list[Request]) -> list[Response]:
        watch = Watch(len(requests), self.settings.max_new_tokens, self.tell)
        with watch.over(engine.models[0][0]):
            responses = engine.sample(requests)
        self.tell(-watch.shown)
        return responses


@dataclass(frozen=True, slots=True)
class ServedShards:
    """Opens vLLM on a worker, one policy after the other, for the batches of a draw."""

    policies: Policies
    draw: Draw
    settings: SamplingConfig

    @contextlib.contextmanager
    def __call__(self, places: Places) -> Iterator[Callable[[Batch], tuple[list[Answer], str]]]:
        """As of `SamplesShards`, with the probe's result once for each policy."""
        policies = self.policies.at(places)
        engines = PolicyEngines(policies, self.draw, self.settings)
        log = _own_log()
        serving: Refs = ()
        with contextlib.ExitStack() as stack:
            engine: Any = None

            def sample(batch: Batch) -> tuple[list[Answer], str]:
                nonlocal engine, serving
                refs, requests = batch
                begins = refs != serving
                if begins:
                    stack.close()
                    engine, serving = stack.enter_context(engines.serve(refs, requests, log)), refs
                found = dict(engine.stream(requests))
                responses = [found[place] for place in range(len(requests))]
                return with_texts(policies, responses), engine.note if begins else ""

            yield sample


@functools.cache
def _own_log() -> Path:
    """Where vLLM on a worker writes: the run's folder may be on another machine."""
    return Path(tempfile.mkdtemp(prefix="sparring-vllm-")) / "vllm.log"


def with_texts(policies: Policies, responses: Sequence[Response]) -> list[Answer]:
    """Responses with the text that their tokens are."""
    return [(response, policies.chat.decode(response.token_ids)) for response in responses]


def _served(
    task: DrawTask,
    jobs: Sequence[Job],
    keys: Sequence[str],
    advance: Advance,
    progress: Progress,
    on_rows: OnRows | None,
    indices: Sequence[int],
) -> Iterator[tuple[int, list[SampleRow]]]:
    """The rows of these jobs from an engine in a process of its own, one policy after the other."""
    engines = PolicyEngines.of(task.policies, task.draw, task.settings)
    log = task.policies.store.root / VLLM_LOG
    for index in indices:
        refs, places = jobs[index]
        journal = task.target.with_name(f"{task.target.stem}.partial") / f"{keys[index][:16]}.jsonl"
        requests = [task.request(e, k) for e, k in places]
        serve = partial(engines.serve, refs, log=log)
        on_responses = None if on_rows is None else partial(_as_rows, task, refs, places, on_rows)
        responses = _streamed(serve, requests, journal, advance, progress, on_responses)
        yield index, task.rows(refs, places, with_texts(task.policies, responses))


def _as_rows(task: DrawTask, refs: Refs, places: Sequence[Place], on_rows: OnRows, new: Mapping[int, Response]) -> None:
    """Pass on new responses of a job, by their number in it, as rows."""
    on_rows(task.rows(refs, [places[number] for number in new], with_texts(task.policies, list(new.values()))))


def _streamed(
    serve: Callable[[Sequence[Request]], VllmEngine],
    requests: Sequence[Request],
    journal: Path,
    advance: Advance,
    progress: Progress,
    on_responses: Callable[[Mapping[int, Response]], None] | None = None,
) -> list[Response]:
    """One response per request; each is in the journal as soon as it is there, and those are not asked again.

    `on_responses` gets those that there are, by place, and later each new one.
    """
    known: dict[int, Response] = {}

    def take(row: Any) -> None:
        # Earlier versions wrote [place, token_ids, finish_reason].
        place, ids, reason = row if isinstance(row, list) else (row["key"], row["token_ids"], row["finish_reason"])
        if type(place) is not int or not 0 <= place < len(requests):
            raise ValueError(f"no place of {len(requests)}: {place!r}")
        known[place] = as_response(ids, reason)

    unused = [line for line, _ in read_lines(journal, take)]
    if unused:
        progress.say(damage(journal, unused, "Their responses are drawn again."))
    advance(len(known))
    if on_responses is not None:
        on_responses(known)
    missing = [place for place in range(len(requests)) if place not in known]
    if missing:
        wanted = [requests[place] for place in missing]
        with serve(wanted) as engine:
            for index, response in engine.stream(wanted):
                known[missing[index]] = response
                append_lines(journal, as_line({"key": missing[index], **response._asdict()}))
                if on_responses is not None:
                    on_responses({missing[index]: response})
                advance(1)
            progress.say(engine.note)
    return [known[place] for place in range(len(requests))]


def _names(refs: Iterable[PolicyRef]) -> str:
    return " + ".join(map(str, refs))
