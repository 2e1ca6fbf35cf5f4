"""Sampling with vLLM, in processes of its own that read the weights from disk.

A probe compares log-probabilities of whole prompts with the trainer's before anything is sampled. An engine ends with
its policy and frees all memory; or it is kept, and reads the weights of the next policy: then a fingerprint of every
weight that it serves must be the policy's too, for the probe cannot tell neighbouring iterates. Requests for one prompt
whose seeds follow each other become one request of K samples. Leaves out: the processes (`vllm_process.py`), what vLLM
does (`vllm_child.py`), and keeping the responses (`rounds/sample.py`).

    with VllmEngine(policy, settings, end_ids, log) as engine:
        for place, response in engine.stream(requests): ...
"""

from __future__ import annotations

import queue
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparring.recipe.sections import SamplingConfig
from sparring.runtime.errors import EngineError
from sparring.runtime.memory import also_end
from sparring.sampling.engine import Request, Response, as_response
from sparring.sampling.vllm_process import INSTALL, Child, Copies

PROBE_TOLERANCE = {"bfloat16": 0.2, "float32": 0.01}
"""nats per token, mean absolute difference; bfloat16 rounding alone gives .06 on SmolLM2 (docs/how-to/engines.md)"""
ROUNDED = 256
"""an engine that is kept has room for the longest row, rounded up to a multiple of so many tokens"""
REMEDIES = {
    "larger than the available KV cache": "The KV cache cannot hold one sequence: raise sampling.vllm.kv_cache_gib "
    "(or memory_share on a GPU), or lower sampling.max_new_tokens or data.max_prompt_tokens.",
    "No available memory for the cache blocks": "Weights leave no room for a KV cache: raise "
    "sampling.vllm.memory_share or kv_cache_gib, or tensor_parallel.",
    "is less than requested memory for kv": "Too little free memory: lower sampling.vllm.kv_cache_gib, or free some.",
    "is less than desired GPU memory utilization": "Something else holds GPU memory: lower "
    "sampling.vllm.memory_share, or end it (nvidia-smi names it).",
    "out of memory": "Lower sampling.vllm.memory_share or max_sequences, or raise tensor_parallel.",
    "Address already in use": "Another process took the port that vLLM chose: give the same command again, or set "
    "the environment variable VLLM_PORT to a free one.",
    "No module named": f"vLLM's environment is not complete. {INSTALL}",
}
"""by a text in vLLM's log, the remedy; the first text that the log holds counts"""


@dataclass(frozen=True, slots=True)
class ServedPolicy:
    """A policy on disk, and how to recognise it."""

    name: str
    start: Path
    """the model that the run started from; engines are kept for its policies"""
    folder: Path
    adapter: Path | None
    adapter_hash: str
    """of its content: a path may be used again"""
    adapter_rank: int
    """0: policies are whole models"""
    trust_remote_code: bool
    vocabulary: int
    window: int
    """tokens that the model can read"""
    probe_ids: list[list[int]]
    probe_logps: list[list[float]]
    """of each probe's tokens but the first, under the trainer's weights"""
    fingerprint: int | None
    """`vllm_child.fingerprint` of its weights; None: an adapter, which vLLM reads anew for each policy"""


@dataclass(frozen=True, slots=True)
class _Kept:
    """An engine that rests until the next policy comes."""

    key: str
    """equal for policies that it can serve"""
    max_tokens: int
    copies: Copies
    begin: int
    """where the log was when it started"""


_kept: list[_Kept] = []
"""of this process; at most one"""


def end_kept() -> None:
    """End the engine that is kept."""
    while _kept:
        _kept.pop().copies.end()


also_end(end_kept)


class VllmEngine:
    """Draws from one policy; `note` holds the probe's result."""

    def __init__(
        self, policy: ServedPolicy, settings: SamplingConfig, end_ids: frozenset[int], log: Path, keep: bool = False
    ) -> None:
        """`keep`: the engine stays for the next policy of the run, until `end_kept`."""
        self.policy, self.settings, self.end_ids, self.log, self.keep = policy, settings, end_ids, log, keep
        self.note = ""
        self._copies: Copies | None = None
        self._serving = 0
        """copies that serve the policy"""
        self._max_tokens = 0
        self._recognised = True
        self._idle = True
        self._begin = 0
        """where the log was when the engine started"""

    def __enter__(self) -> VllmEngine:
        """Nothing is started yet."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Keep the engine, or end it."""
        if self._copies is None:
            return
        if kind is None and self.keep and self._recognised and self._idle:
            self._rest(self._copies)
        else:
            self._copies.end()
        self._copies = None

    def stream(self, requests: Sequence[Request]) -> Generator[tuple[int, Response], None, None]:
        """(place in `requests`, response) as vLLM finishes them.

        Raises:
            ValueError: vLLM cannot start, or does not serve this policy.
            EngineError: it ended or fell silent half-way.
        """
        groups, copies = grouped(requests), self.settings.vllm.data_parallel
        shares = [share for i in range(copies) if (share := groups[i::copies])]
        serving = self._serve(len(shares), max(len(ids) for *_, ids in groups) + self.settings.max_new_tokens)
        self._idle = False
        drawing = serving.tell([{"requests": share} for share in shares])
        while drawing:
            child, message = self._next(serving)
            if "done" in message:
                drawing.remove(child)
            else:
                yield message["row"], self._response(message)
        self._idle = True

    # ---- which weights -------------------------------------------------------------------------

    def _serve(self, count: int, longest: int) -> Copies:
        """So many copies that serve the policy, with room for rows of this length."""
        if self._copies is not None and longest > self._max_tokens:
            self._copies.end()
            self._copies = None
        if self._copies is None:
            self._copies, self._serving = self._take(longest), 0
        if count > self._serving:
            stale = self._told(self._copies, count)
            if stale:
                self._say(f"vLLM is started anew for policy {self.policy.name}: {stale}")
                self._copies.end()
                self._copies = Copies(self.settings.vllm, self.log)
                if stale := self._told(self._copies, count):
                    raise ValueError(
                        f"sampling.engine = 'vllm': it cannot serve policy {self.policy.name}: {stale}. Set "
                        "warm: false, try another version of vLLM, or sample with engine: transformers. Its log: "
                        f"{self.log}."
                    )
            self._serving = count
        return self._copies

    def _take(self, longest: int) -> Copies:
        """The engine that is kept, where it can serve this policy, or a new one."""
        if _kept and _kept[-1].key == self._key and _kept[-1].max_tokens >= longest:
            kept = _kept.pop()
            self._max_tokens, self._begin = kept.max_tokens, kept.begin
            return kept.copies
        self._begin = self.log.stat().st_size if self.log.exists() else 0
        end_kept()
        rounded = min(-(-longest // ROUNDED) * ROUNDED, self.policy.window)
        self._max_tokens = max(longest, rounded) if self.keep else longest
        return Copies(self.settings.vllm, self.log)

    def _told(self, copies: Copies, count: int) -> str:
        """Have copies serve the policy, all proved; or why a kept one does not, empty where all do."""
        waiting = copies.tell([{"policy": self._job()}] * count)
        stale = ""
        while waiting:
            child, message = self._message(copies)
            if message is None and child.ready:
                return f"the one that was kept had ended (exit status {child.process.wait()})"
            if message is None:
                raise self._failure(child)
            waiting.remove(child)
            stale = stale or message.get("stale") or self._check(message, child.ready)
            child.ready = True
        return stale

    @property
    def _engine(self) -> dict[str, Any]:
        """What an engine is started with, and cannot change."""
        policy, settings = self.policy, self.settings
        return {
            "adapter_rank": 0 if policy.adapter is None and not self.keep else policy.adapter_rank,
            "trust_remote_code": policy.trust_remote_code,
            "precision": settings.precision,
            "top_p": settings.top_p,
            "keep": self.keep,
            **settings.vllm.model_dump(exclude={"python", "data_parallel", "silence_minutes", "shard_size"}),
        }

    @property
    def _key(self) -> str:
        vllm = self.settings.vllm
        return repr((str(self.policy.start), vllm.python, vllm.data_parallel, self._engine))

    def _job(self) -> dict[str, Any]:
        policy, settings = self.policy, self.settings
        return {
            **self._engine,
            "model": str(policy.folder),
            "adapter": None if policy.adapter is None else str(policy.adapter),
            "adapter_hash": policy.adapter_hash,
            "temperature": settings.temperature,
            "max_new_tokens": settings.max_new_tokens,
            "end_ids": sorted(self.end_ids),
            "max_tokens": self._max_tokens,
            "probe": policy.probe_ids,
        }

    def _check(self, message: dict[str, Any], kept: bool) -> str:
        """Note how near vLLM's log-probabilities of the probe are to the trainer's; why it must be started anew, or "".

        `kept`: it has served before.

        Raises:
            ValueError: an engine that has just started does not serve the policy.
        """
        policy = self.policy
        logps = [logp for row in policy.probe_logps for logp in row]
        mean = sum(abs(a - b) for a, b in zip(logps, message["probe"], strict=True)) / max(1, len(logps))
        bound = PROBE_TOLERANCE[self.settings.precision]
        same = policy.fingerprint is None or message["fingerprint"] == policy.fingerprint
        if kept and not (same and mean <= bound):
            return "the one that was kept did not serve it after it had read its weights"
        if message["vocabulary"] != policy.vocabulary:
            raise ValueError(
                f"sampling.engine = 'vllm': it serves a model of {message['vocabulary']} tokens, but policy "
                f"{policy.name} has {policy.vocabulary}: a number means another token there. "
                "Sample with engine: transformers."
            )
        version, device = message["ready"]["vllm"], message["ready"]["device"]
        self.note = (
            f"vLLM {version} on {device}: {len(logps)} log-probabilities within {mean:.2g} nats of the trainer's"
        )
        if self.keep and policy.fingerprint is not None:
            self._recognised = self._recognised and same
            self.note += ", every weight the policy's" if same else "; not kept, for it holds weights in another form"
        self._say(f"policy {policy.name}: {self.note}")
        if not mean <= bound:
            raise ValueError(
                f"sampling.engine = 'vllm': it does not serve policy {policy.name}: log-probabilities of {len(logps)} "
                f"tokens differ by {mean:.3g} nats on average (at most {bound:g} for {self.settings.precision}). "
                "Sample with engine: transformers, or try another version of vLLM."
            )
        return ""

    def _rest(self, copies: Copies) -> None:
        """Have all copies free what they can of a GPU's memory, and keep them; end them where they cannot."""
        resting = copies.tell([{"rest": True}] * len(copies.children))
        try:
            while resting:
                resting.remove(self._next(copies)[0])
        except EngineError as error:  # every response is there
            self._say(f"vLLM is not kept: {error}")
            copies.end()
            return
        except BaseException:
            copies.end()
            raise
        end_kept()
        _kept.append(_Kept(self._key, self._max_tokens, copies, self._begin))

    # ---- messages ------------------------------------------------------------------------------

    def _say(self, line: str) -> None:
        with self.log.open("a", encoding="utf-8") as stream:
            stream.write(f"sparring: {line}\n")

    def _response(self, message: dict[str, Any]) -> Response:
        try:
            return as_response(message["token_ids"], message["finish_reason"], self.policy.vocabulary)
        except ValueError as error:
            raise EngineError(
                f"vLLM gave for row {message['row']} what is no response: {error}. Its log: {self.log}. The samples so "
                "far are kept; give the same command to go on, or sample with engine: transformers."
            ) from error

    def _next(self, copies: Copies) -> tuple[Child, dict[str, Any]]:
        child, message = self._message(copies)
        if message is None:
            raise self._failure(child)
        return child, message

    def _message(self, copies: Copies) -> tuple[Child, dict[str, Any] | None]:
        minutes = self.settings.vllm.silence_minutes
        try:
            return copies.next(60 * minutes)
        except queue.Empty:
            raise EngineError(
                f"vLLM was silent for {minutes:g} minutes (sampling.vllm.silence_minutes). Its log: {self.log}. "
                "The samples so far are kept; give the same command to go on."
            ) from None

    def _failure(self, child: Child) -> Exception:
        """The error for an engine that ended early: the remedy of its log's known causes, or its last lines."""
        why = f"exit status {child.process.wait()}"
        text = self.log.read_bytes()[self._begin :].decode(errors="replace") if self.log.exists() else ""
        remedy = next((remedy for sign, remedy in REMEDIES.items() if sign in text), None)
        lines = [line for line in text.splitlines() if line.strip()]
        tail = "" if remedy else "\n" + "\n".join(f"  {line}" for line in lines[-8:]) + "\n"
        say = f"{remedy or ''}{tail} Its log: {self.log}."
        if child.ready:
            return EngineError(
                f"vLLM ended half-way ({why}). {say} The samples so far are kept; give the same command to go on."
            )
        return ValueError(f"sampling.engine = 'vllm': it did not start ({why}). {say}")


def grouped(requests: Sequence[Request]) -> list[tuple[int, list[int], list[int]]]:
    """(first seed, places, prompt) of neighbours with one prompt and seeds that follow each other."""
    groups: list[tuple[int, list[int], list[int]]] = []
    for place, (prompt_ids, seed) in enumerate(requests):
        if groups:
            first, places, ids = groups[-1]
            if seed == first + len(places) and list(prompt_ids) == ids:
                places.append(place)
                continue
        groups.append((seed, [place], list(prompt_ids)))
    return groups
