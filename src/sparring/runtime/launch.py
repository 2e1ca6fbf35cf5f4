"""Start a command on several devices: one process each, watched; when one dies, all stop, and the error says which.

Every process gets the environment that torchrun would give it, so torchrun may start them instead. Rank 0 has the
terminal; the output of the others is shown when they fail. Leaves out: what they do together (`devices.py`), and
several machines (torchrun, on a file system that all of them see).

    on_devices(4, ["run", "recipe.yaml"], work)
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import IO, Any

from sparring.runtime.terminal import terminal

LAUNCHED = "SPARRING_LAUNCHED"
"""in the environment of processes that were started here: the launcher's process id"""
EXPLAINED = (2, 3, 130)
"""exit codes with which rank 0 ends after it printed the reason"""
GRACE = 10.0
"""seconds that the others get to end by themselves"""
RANK_LOST = 17
"""exit code of a rank that stopped because another one did"""
LAST_LINES = 12


class LaunchError(RuntimeError):
    """A rank died, and the others were stopped."""


def on_devices(count: int | None, arguments: Sequence[str], work: Callable[[], None]) -> None:
    """Do `work` on `count` devices; `arguments` are the command line that the other processes get.

    Raises:
        ValueError: there are fewer devices, or the environment announces another number.
        LaunchError: a rank died.
    """
    from sparring.runtime.devices import RankLost, announced, check_gpus, group

    if count is not None and announced() not in (0, count):
        raise ValueError(f"--devices {count}: the environment says WORLD_SIZE={announced()}. Leave --devices out.")
    if count is not None and count > 1 and not announced():
        check_gpus(count)
        launch(arguments, count)
        return
    try:
        with group() as leads:
            if leads:
                work()
    except RankLost as error:
        terminal(stderr=True).print(f"stopped: {error}")
        sys.exit(RANK_LOST)


def launch(arguments: Sequence[str], count: int) -> None:
    """Run `sparring ARGUMENTS` as `count` ranks on this machine, until all are done.

    Raises:
        LaunchError: one died; names its rank and its exit.
        SystemExit: rank 0 stopped and printed the reason.
    """
    from sparring.runtime.devices import meeting

    where = meeting()
    command = [sys.executable, "-m", "sparring.cli.main", *arguments]
    with ExitStack() as stack:
        logs = [
            stack.enter_context(tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace"))
            for _ in range(count - 1)
        ]
        ranks = [
            subprocess.Popen(
                command,
                env=environment(rank, count, where.port),
                stdout=logs[rank - 1] if rank else None,
                stderr=logs[rank - 1] if rank else None,
            )
            for rank in range(count)
        ]
        with _stopped(ranks):
            culprit = _watch(ranks)
        if culprit is not None:
            _explain(culprit, ranks, logs)


def environment(rank: int, count: int, port: int) -> dict[str, str]:
    """The environment variables of a rank; processor cores are divided, unless OMP_NUM_THREADS is set."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count, LAUNCHED: os.getpid()}
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TORCHELASTIC_USE_AGENT_STORE": True}
    defaults: dict[str, Any] = {"OMP_NUM_THREADS": max(1, cores // count)}
    if sys.platform == "linux":
        defaults["GLOO_SOCKET_IFNAME"] = "lo"  # host names often lead nowhere in containers
    return {name: str(value) for name, value in {**defaults, **os.environ, **numbers, **place}.items()}


def _watch(ranks: Sequence[subprocess.Popen[Any]]) -> int | None:
    """Wait for all ranks; once one has died, a little for the others. Returns the rank to blame."""
    died: list[int] = []
    deadline = float("inf")
    while True:
        now = [rank for rank, process in enumerate(ranks) if process.poll() and rank not in died]
        died += sorted(now, key=lambda rank: (ranks[rank].returncode > 0, rank == 0))
        if ranks[0].returncode in EXPLAINED:
            return 0
        if died and deadline == float("inf"):
            deadline = time.monotonic() + GRACE
        if None not in [process.returncode for process in ranks] or time.monotonic() > deadline:
            return min(died, key=lambda rank: ranks[rank].returncode == RANK_LOST, default=None)
        time.sleep(0.1)


@contextmanager
def _stopped(ranks: Sequence[subprocess.Popen[Any]]) -> Iterator[None]:
    """No rank outlives this block, nor this process."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        yield
    except KeyboardInterrupt:  # the terminal sent it to them too
        for process in ranks:
            with suppress(subprocess.TimeoutExpired):
                process.wait(GRACE)
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
        for process in ranks:
            if process.poll() is None:
                process.kill()
        for process in ranks:
            process.wait()


def _explain(culprit: int, ranks: Sequence[subprocess.Popen[Any]], logs: Sequence[IO[str]]) -> None:
    """Raise a LaunchError with the rank's exit and last lines, or exit as rank 0 did."""
    code = ranks[culprit].returncode
    if culprit == 0 and code > 0:
        sys.exit(code)  # it had the terminal
    words = f"ended with exit code {code}" if code > 0 else f"was killed by {signal.Signals(-code).name}"
    if -code == signal.SIGKILL:
        words += " (out of memory?)"
    output = ""
    if culprit > 0:
        logs[culprit - 1].seek(0)
        output = "".join(f"\n  {line}" for line in logs[culprit - 1].read().splitlines()[-LAST_LINES:])
    raise LaunchError(
        f"rank {culprit} of {len(ranks)} {words}, and the others were stopped.{' It said:' if output else ''}{output}\n"
        "What was finished is kept; give the same command to go on, with as many devices as you like."
    )


def die_with_launcher() -> None:
    """Have Linux kill this process, if it is a rank, when its launcher is killed; call it before any slow import."""
    launcher = os.environ.get(LAUNCHED)
    if launcher is None:
        return
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != int(launcher):  # it was killed before this process could ask for the signal
        os._exit(RANK_LOST)
