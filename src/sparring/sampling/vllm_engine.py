"""Sampling with vLLM, in a process of its own that reads the weights from disk and exits when it is done.

The process may run another Python with other packages (`sampling.vllm.python`). Its end frees all memory, and its start
reads the weights in the folder and no older ones; a probe compares
log-probabilities of whole prompts with the trainer's before anything is sampled. Requests for one prompt whose seeds
follow each other become one request of K samples. Leaves out: what vLLM does (`vllm_child.py`), and keeping the
responses (`rounds/sample.py`).

    for place, response in VllmEngine(policy, settings, end_ids, log).stream(requests): ...
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Generator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparring.recipe.sections import SamplingConfig, VllmConfig
from sparring.runtime import gpus
from sparring.runtime.errors import EngineError
from sparring.sampling.engine import Request, Response, as_response

CHILD = Path(__file__).with_name("vllm_child.py")
PROBE_TOLERANCE = {"bfloat16": 0.2, "float32": 0.01}
"""nats per token, mean absolute difference; bfloat16 rounding alone gives .06 on SmolLM2 (docs/how-to/engines.md)"""
CHECK_SECONDS = 120
END_SECONDS = 10
INSTALL = (
    "Install it in an environment of its own (its pins are not ours): python3 -m venv ~/vllm && "
    "~/vllm/bin/pip install vllm, then sampling.vllm.python: ~/vllm/bin/python (docs/how-to/engines.md)."
)
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
RANK_NAMES = frozenset(
    {"RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}
    | {"TORCHELASTIC_USE_AGENT_STORE"}
)
"""variables of our own ranks (`--devices`), of which vLLM would believe itself to be one"""


@dataclass(frozen=True, slots=True)
class ServedPolicy:
    """A policy on disk, and how to recognise it."""

    name: str
    folder: Path
    adapter: Path | None
    adapter_rank: int
    trust_remote_code: bool
    vocabulary: int
    probe_ids: list[list[int]]
    probe_logps: list[list[float]]
    """of each probe's tokens but the first, under the trainer's weights"""


class VllmEngine:
    """Draws from one policy; `note` holds the probe's result."""

    def __init__(self, policy: ServedPolicy, settings: SamplingConfig, end_ids: frozenset[int], log: Path) -> None:
        self.policy, self.settings, self.end_ids, self.log = policy, settings, end_ids, log
        self.note = ""

    def stream(self, requests: Sequence[Request]) -> Generator[tuple[int, Response], None, None]:
        """(place in `requests`, response) as vLLM finishes them.

        Raises:
            ValueError: vLLM cannot start, or does not serve this policy.
            EngineError: it ended or fell silent half-way.
        """
        groups = grouped(requests)
        shares = [groups[i :: self.settings.vllm.data_parallel] for i in range(self.settings.vllm.data_parallel)]
        messages: queue.SimpleQueue[tuple[_Child, dict[str, Any] | None]] = queue.SimpleQueue()
        self.log.parent.mkdir(parents=True, exist_ok=True)
        begin = self.log.stat().st_size if self.log.exists() else 0
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sparring-vllm-")))
            running = set[_Child]()
            for index, share in enumerate(share for share in shares if share):
                job = folder / f"job-{index}.json"
                job.write_text(json.dumps(self._job(share)), encoding="utf-8")
                child = _Child(self.settings.vllm, job, index, self.log, messages)
                stack.callback(child.end)
                running.add(child)
            while running:
                child, message = self._next(messages)
                if message is None:
                    running.remove(child)
                    if code := child.process.wait():
                        raise self._failure(begin, f"exit status {code}", child.ready)
                elif "ready" in message:
                    self._check(message)
                    child.ready = True
                else:
                    yield message["row"], self._response(message)

    def _response(self, message: dict[str, Any]) -> Response:
        try:
            return as_response(message["token_ids"], message["finish_reason"], self.policy.vocabulary)
        except ValueError as error:
            raise EngineError(
                f"vLLM gave for row {message['row']} what is no response: {error}. Its log: {self.log}. The samples so "
                "far are kept; give the same command to go on, or sample with engine: transformers."
            ) from error

    def _job(self, groups: list[tuple[int, list[int], list[int]]]) -> dict[str, Any]:
        policy, settings, vllm = self.policy, self.settings, self.settings.vllm
        return {
            "model": str(policy.folder),
            "adapter": None if policy.adapter is None else str(policy.adapter),
            "adapter_rank": policy.adapter_rank,
            "trust_remote_code": policy.trust_remote_code,
            "precision": settings.precision,
            "temperature": settings.temperature,
            "top_p": settings.top_p,
            "max_new_tokens": settings.max_new_tokens,
            "end_ids": sorted(self.end_ids),
            "max_tokens": max(len(ids) for *_, ids in groups) + settings.max_new_tokens,
            "probe": policy.probe_ids,
            "requests": groups,
            **vllm.model_dump(exclude={"python", "data_parallel", "silence_minutes"}),
        }

    def _next(self, messages: queue.SimpleQueue[Any]) -> tuple[_Child, dict[str, Any] | None]:
        minutes = self.settings.vllm.silence_minutes
        try:
            return messages.get(timeout=60 * minutes)
        except queue.Empty:
            raise EngineError(
                f"vLLM was silent for {minutes:g} minutes (sampling.vllm.silence_minutes). Its log: {self.log}. "
                "The samples so far are kept; give the same command to go on."
            ) from None

    def _check(self, message: dict[str, Any]) -> None:
        """Raise ValueError unless vLLM's log-probabilities of the probe are the trainer's; note how near they are."""
        policy = self.policy
        if message["vocabulary"] != policy.vocabulary:
            raise ValueError(
                f"sampling.engine = 'vllm': it serves a model of {message['vocabulary']} tokens, but policy "
                f"{policy.name} has {policy.vocabulary}: a number means another token there. "
                "Sample with engine: transformers."
            )
        logps = [logp for row in policy.probe_logps for logp in row]
        mean = sum(abs(a - b) for a, b in zip(logps, message["probe"], strict=True)) / max(1, len(logps))
        bound = PROBE_TOLERANCE[self.settings.precision]
        version, device = message["ready"]["vllm"], message["ready"]["device"]
        self.note = (
            f"vLLM {version} on {device}: {len(logps)} log-probabilities within {mean:.2g} nats of the trainer's"
        )
        with self.log.open("a", encoding="utf-8") as stream:
            stream.write(f"sparring: policy {policy.name}: {self.note}\n")
        if not mean <= bound:
            raise ValueError(
                f"sampling.engine = 'vllm': it does not serve policy {policy.name}: log-probabilities of {len(logps)} "
                f"tokens differ by {mean:.3g} nats on average (at most {bound:g} for {self.settings.precision}). "
                "Sample with engine: transformers, or try another version of vLLM."
            )

    def _failure(self, begin: int, why: str, ready: bool) -> Exception:
        """The error for an engine that ended early: the remedy of its log's known causes, or its last lines."""
        text = self.log.read_bytes()[begin:].decode(errors="replace") if self.log.exists() else ""
        remedy = next((remedy for sign, remedy in REMEDIES.items() if sign in text), None)
        lines = [line for line in text.splitlines() if line.strip()]
        tail = "" if remedy else "\n" + "\n".join(f"  {line}" for line in lines[-8:]) + "\n"
        say = f"{remedy or ''}{tail} Its log: {self.log}."
        if ready:
            return EngineError(
                f"vLLM ended half-way ({why}). {say} The samples so far are kept; give the same command to go on."
            )
        return ValueError(f"sampling.engine = 'vllm': it did not start ({why}). {say}")


class _Child:
    """One vLLM process; its messages go to a queue, then None."""

    def __init__(self, config: VllmConfig, job: Path, index: int, log: Path, messages: queue.SimpleQueue[Any]) -> None:
        self.ready = False
        with log.open("a", encoding="utf-8") as stream:
            self.process = _start(config, [str(job)], environment(config, index), stream)
        self.reader = threading.Thread(target=self._read, args=(messages,), daemon=True)
        self.reader.start()

    def _read(self, messages: queue.SimpleQueue[Any]) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            try:
                message = json.loads(line)
            except ValueError:  # cut off: the process was killed while it wrote
                break
            messages.put((self, message))
        messages.put((self, None))

    def end(self) -> None:
        """End the process and everything it started."""
        for sign in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self.process.pid, sign)
                self.process.wait(END_SECONDS)
            except ProcessLookupError:
                break
            except subprocess.TimeoutExpired:
                continue
        self.process.wait()
        self.reader.join(END_SECONDS)
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()


def _start(config: VllmConfig, arguments: list[str], env: dict[str, str], log: Any) -> subprocess.Popen[str]:
    try:
        return subprocess.Popen(
            [python_of(config), str(CHILD), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env=env,
            text=True,
            encoding="utf-8",
            start_new_session=True,
        )
    except OSError as error:
        raise ValueError(
            f"sampling.vllm.python = {config.python!r} cannot be run ({error.strerror}). Give the Python "
            f"executable of the environment that has vLLM. {INSTALL}"
        ) from error


def python_of(config: VllmConfig) -> str:
    """The Python that runs vLLM; not resolved further, for a virtual environment's is a link."""
    return sys.executable if config.python is None else os.path.expanduser(config.python)


def environment(config: VllmConfig, index: int) -> dict[str, str]:
    """The child's environment: not our ranks, not our Python's paths where its Python is another, and its own GPUs."""
    inherited = {name: value for name, value in os.environ.items() if name not in RANK_NAMES}
    env = {**inherited, "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}
    if config.python is not None:
        env = {name: value for name, value in env.items() if name not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")}
    if config.data_parallel > 1 and gpus.there():
        devices = env.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(gpus.count())))
        first = index * config.tensor_parallel
        env["CUDA_VISIBLE_DEVICES"] = ",".join(devices.split(",")[first : first + config.tensor_parallel])
    return env


def check_vllm(config: VllmConfig) -> str:
    """The version of vLLM under the configured Python.

    Raises:
        ValueError: no such Python, no vLLM there, or too few GPUs.
    """
    wanted = config.tensor_parallel * config.data_parallel
    if gpus.there() and wanted > gpus.count():
        raise ValueError(
            f"sampling.vllm.tensor_parallel = {config.tensor_parallel} times data_parallel = {config.data_parallel} "
            f"needs {wanted} GPUs, but {gpus.count()} are visible. Lower one, or set CUDA_VISIBLE_DEVICES."
        )
    process = _start(config, ["check"], environment(config, 0), subprocess.PIPE)
    timer = threading.Timer(CHECK_SECONDS, process.kill)
    timer.start()
    text, errors = process.communicate()
    timer.cancel()
    try:
        versions = json.loads(text)
    except ValueError as error:
        raise ValueError(
            f"sampling.vllm.python = {config.python!r} does not answer as a Python should. "
            f"{errors.strip()[-300:]} {INSTALL}"
        ) from error
    if versions["vllm"] is None:
        raise ValueError(f"sampling.vllm.python: {python_of(config)} has no vLLM. {INSTALL}")
    return str(versions["vllm"])


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
