"""Start a command on several devices: one process each, watched; when one dies, all stop, and the error says which.

`torch.multiprocessing` starts, watches and ends the processes, which stay in this one's process group, so that Ctrl-C
and Ctrl-Z reach them too. Each gets the environment that torchrun would give it, so torchrun may start them instead.
Rank 0 has the terminal; the output of the others is shown when they fail. Leaves out: what they do together
(`devices.py`), and several machines (`sparring/fleet`).

    on_devices(4, ["run", "recipe.yaml"], work)
"""

from __future__ import annotations

import ctypes
import logging
import os
import runpy
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from multiprocessing import active_children
from pathlib import Path
from typing import Any

LAUNCHED = "SPARRING_LAUNCHED"
"""in the environment of processes that were started here: the launcher's process id"""
GRACE = 10.0
"""seconds for which a rank that lost another one stays, so that the launcher sees that one end first; and that ranks
get to end by themselves after Ctrl-C"""
LAST_LINES = 12
GO_ON = "What was finished is kept; give the same command to go on, with as many devices as you like."


class LaunchError(RuntimeError):
    """A rank died, and the others were stopped."""


def on_devices(count: int | None, arguments: Sequence[str], work: Callable[[], None]) -> None:
    """Do `work` on `count` devices; `arguments` are the command line that the other processes get.

    Raises:
        ValueError: there are fewer devices, or the environment announces another number.
        LaunchError: a rank died.
        RankLost: this is a rank, and another one died.
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
    except RankLost:
        time.sleep(GRACE)
        raise


def launch(arguments: Sequence[str], count: int) -> None:
    """Run `sparring ARGUMENTS` as `count` ranks on this machine, until all are done.

    Raises:
        LaunchError: one died; names its rank and its exit.
        SystemExit: rank 0 stopped and printed the reason.
    """
    from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException, start_processes

    from sparring.runtime.devices import meeting

    logging.getLogger("torch.multiprocessing.spawn").setLevel(logging.CRITICAL)  # it names each rank that it ends
    where, others, before = meeting(), set(active_children()), dict(os.environ)
    with tempfile.TemporaryDirectory(prefix="sparring-") as logs:
        try:
            os.environ.update(environment(0, count, where.port))  # libraries read it when they are loaded
            try:
                ranks = start_processes(_rank, (list(arguments), logs), count, join=False)
            finally:
                os.environ.clear()
                os.environ.update(before)
            while ranks is not None and not ranks.join():
                pass
        except ProcessExitedException as error:
            _explain(error.error_index, count, error.exit_code, Path(logs))
        except ProcessRaisedException as error:  # what no command turns into an exit code
            raise LaunchError(f"rank {error.error_index} of {count} raised an error:{error}\n{GO_ON}") from error
        except BaseException as stop:
            for process in set(active_children()) - others:
                process.join(GRACE if isinstance(stop, KeyboardInterrupt) else 0)  # the terminal sent it to them too
                process.kill()
                process.join()
            raise


def _rank(rank: int, arguments: list[str], logs: str) -> None:
    os.environ.update({name: str(rank) for name in ("RANK", "LOCAL_RANK")})
    if rank > 0:
        with Path(logs, str(rank)).open("w") as log:
            for stream in (1, 2):
                os.dup2(log.fileno(), stream)
    sys.argv[1:] = arguments
    runpy.run_module("sparring", run_name="__main__")


def environment(rank: int, count: int, port: int) -> dict[str, str]:
    """The environment variables of a rank; processor cores are divided, unless OMP_NUM_THREADS is set."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count, LAUNCHED: os.getpid()}
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TORCHELASTIC_USE_AGENT_STORE": True}
    defaults: dict[str, Any] = {"OMP_NUM_THREADS": max(1, cores // count)}
    if sys.platform == "linux":
        defaults["GLOO_SOCKET_IFNAME"] = "lo"  # host names often lead nowhere in containers
    return {name: str(value) for name, value in {**defaults, **os.environ, **numbers, **place}.items()}


def _explain(rank: int, count: int, code: int, logs: Path) -> None:
    """Raise a LaunchError with the rank's exit and last lines, or exit as rank 0 did."""
    if rank == 0 and code > 0:
        sys.exit(code)  # it had the terminal
    words = f"ended with exit code {code}" if code > 0 else f"was killed by {signal.Signals(-code).name}"
    if -code == signal.SIGKILL:
        words += " (out of memory?)"
    lines = (logs / str(rank)).read_text(encoding="utf-8", errors="replace").splitlines() if rank else []
    output = "".join(f"\n  {line}" for line in lines[-LAST_LINES:])
    raise LaunchError(
        f"rank {rank} of {count} {words}, and the others were stopped.{' It said:' if output else ''}{output}\n{GO_ON}"
    )


def die_with_launcher() -> None:
    """Have Linux kill this process, if it is a rank, when its launcher is killed; call it before any slow import."""
    if LAUNCHED not in os.environ:
        return
    if sys.platform == "linux":  # torch asks for SIGINT, which a rank that waits for others does not hear
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != int(os.environ[LAUNCHED]):  # it was killed before this process could ask for the signal
        os._exit(1)
