"""vLLM's processes: starting them, telling them what to serve, and keeping them for the next policy.

They run `vllm_child.py`, possibly under another Python with other packages (`sampling.vllm.python`). Several of them
are copies of one engine. They end with this process. Leaves out: which policy they serve, and what their messages mean
(`vllm_engine.py`).

    copies = Copies(settings.vllm, log); copies.tell([{"policy": ...}]); child, message = copies.next()
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sparring.recipe.sections import VllmConfig
from sparring.runtime import gpus

CHILD = Path(__file__).with_name("vllm_child.py")
CHECK_SECONDS = 120
END_SECONDS = 10
INSTALL = (
    "Install it in an environment of its own (its pins are not ours): python3 -m venv ~/vllm && "
    "~/vllm/bin/pip install vllm, then sampling.vllm.python: ~/vllm/bin/python (docs/how-to/engines.md)."
)
RANK_NAMES = frozenset(
    {"RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}
    | {"TORCHELASTIC_USE_AGENT_STORE"}
)
"""variables of our own ranks (`--devices`), of which vLLM would believe itself to be one"""


class Copies:
    """The processes of one engine, `sampling.vllm.data_parallel` of them; each is started when it is first told."""

    def __init__(self, config: VllmConfig, log: Path) -> None:
        self.config, self.log = config, log
        self.children: list[Child] = []
        self._messages: queue.SimpleQueue[tuple[Child, dict[str, Any] | None]] = queue.SimpleQueue()

    def tell(self, orders: Sequence[dict[str, Any]]) -> set[Child]:
        """Give each copy its order, the first copies where there are fewer orders; returns those."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        for index, order in enumerate(orders):
            if index == len(self.children):
                self.children.append(Child(self.config, index, self.log, self._messages))
            self.children[index].tell(order)
        return set(self.children[: len(orders)])

    def next(self, seconds: float) -> tuple[Child, dict[str, Any] | None]:
        """The next message of any copy, None where it has ended. Raises queue.Empty after so many silent seconds."""
        return self._messages.get(timeout=seconds)

    def end(self) -> None:
        """End the processes and everything they started."""
        for child in self.children:
            child.end()


class Child:
    """One vLLM process; its messages go to a queue, then None."""

    def __init__(self, config: VllmConfig, index: int, log: Path, messages: queue.SimpleQueue[Any]) -> None:
        self.ready = False
        """whether it has ever served a policy"""
        with log.open("a", encoding="utf-8") as stream:
            self.process = _start(config, ["serve"], environment(config, index), stream)
        self.reader = threading.Thread(target=self._read, args=(messages,), daemon=True)
        self.reader.start()

    def tell(self, order: dict[str, Any]) -> None:
        """Write an order; one that has ended gets none, and its end is a message."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps(order) + "\n")
            self.process.stdin.flush()

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
            with contextlib.suppress(BrokenPipeError):  # an order that it did not read
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


def check_vllm(config: VllmConfig, here: bool = True) -> str:
    """The version of vLLM under the configured Python; not `here`: workers of a cluster run it.

    Raises:
        ValueError: no such Python, no vLLM there, too few GPUs, or copies on workers that are copies themselves.
    """
    wanted = config.tensor_parallel * config.data_parallel
    if not here and config.data_parallel > 1:
        raise ValueError(
            f"sampling.vllm.data_parallel = {config.data_parallel}: on a cluster each worker, or each "
            "tensor_parallel of them, runs a copy. Set it to 1."
        )
    if here and gpus.there() and wanted > gpus.count():
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
