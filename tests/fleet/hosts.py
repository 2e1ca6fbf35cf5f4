"""Machines of a cluster as network namespaces: each has an address, a cache and a view of the disk of its own.

Needs root and `ip` (iproute2). Run folders, models and caches of the controller's machine are hidden from the others by
an empty file system, so they have no common folder. Leaves out: processes, which all see (a host is killed by the ids
in its namespace).

    with hosts(3, hidden=[tmp_path]) as machines: machines.start(2); machines.kill(2)
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil

BRIDGE, NET = "br-sparring", "10.77.7"
RAY = str(Path(sys.executable).with_name("ray"))
PORT = 6399


def address(number: int) -> str:
    return f"{NET}.{number + 1}"


class Hosts:
    """Host 1 is the controller's: it has the head of the cluster, and no processor for workers."""

    def __init__(self, folder: Path, hidden: Sequence[Path]) -> None:
        self.folder, self.hidden = folder, hidden
        self.kills = 0

    def start(self, number: int) -> None:
        """Have a host join the cluster."""
        there = [f"--address={address(1)}:{PORT}", "--num-cpus=1"]
        here = ["--head", f"--port={PORT}", "--num-cpus=0", "--include-dashboard=false"]
        words = ["start", *(here if number == 1 else there), f"--node-ip-address={address(number)}"]
        words += [f"--temp-dir={self.folder / f'ray{number}'}", "--disable-usage-stats"]
        words += ["--object-store-memory=100000000"]
        done = subprocess.run(
            self.command(number, [sys.executable, RAY, *words]), env=self.environment(number), capture_output=True
        )
        assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()

    def command(self, number: int, words: Sequence[str]) -> list[str]:
        """The command on a host; all hosts but the first see nothing of the hidden folders."""
        inside = ["ip", "netns", "exec", f"sparring{number}"]
        if number == 1:
            return [*inside, *words]
        covers = " && ".join(f"mount -t tmpfs none {shlex.quote(str(path))}" for path in self.hidden)
        return [*inside, "unshare", "--mount", "sh", "-c", f"{covers} && exec {shlex.join(words)}"]

    def environment(self, number: int) -> dict[str, str]:
        """Variables of a host: a cache of its own, and a machine's loss is seen soon."""
        own = {"SPARRING_CACHE": str(self.folder / f"cache{number}"), "OMP_NUM_THREADS": "1"}
        health = {"RAY_health_check_period_ms": "1000", "RAY_health_check_failure_threshold": "8"}
        health |= {"RAY_raylet_start_wait_time_s": "300", "RAY_AUTH_MODE": "disabled"}  # the net is ours alone
        return {**os.environ, **own, **health, "PYTHONPATH": os.pathsep.join(sys.path)}

    def kill(self, number: int) -> None:
        """Lose a host: every process of it ends at once."""
        self.kills += 1
        subprocess.run(["ip", "link", "set", f"sp{number}", "down"], check=True)  # nothing says goodbye
        self._end(number)
        subprocess.run(["ip", "link", "set", f"sp{number}", "up"], check=True)

    def _end(self, number: int) -> None:
        found = subprocess.run(["ip", "netns", "pids", f"sparring{number}"], capture_output=True, text=True)
        for pid in map(int, found.stdout.split()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + 30
        while any(psutil.pid_exists(int(pid)) for pid in found.stdout.split()) and time.monotonic() < deadline:
            time.sleep(0.05)


@contextlib.contextmanager
def hosts(count: int, hidden: Sequence[Path]) -> Iterator[Hosts]:
    """A bridge and `count` hosts on it, the first of which has the head; all are gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="sp", dir="/tmp") as folder:  # the paths of Ray's sockets must be short
        made = Hosts(Path(folder), hidden)
        _remove(made, count)
        yield from _joined(made, count)


def _joined(made: Hosts, count: int) -> Iterator[Hosts]:
    try:
        _run(f"ip link add {BRIDGE} type bridge", f"ip link set {BRIDGE} up")
        for number in range(1, count + 1):
            space = f"ip netns exec sparring{number}"
            _run(
                f"ip netns add sparring{number}",
                f"ip link add sp{number} type veth peer name eth{number} netns sparring{number}",
                f"ip link set sp{number} master {BRIDGE} up",
                f"{space} ip addr add {address(number)}/24 dev eth{number}",
                f"{space} ip link set eth{number} up",
                f"{space} ip link set lo up",
            )
        for number in range(1, count + 1):
            made.start(number)
        yield made
    finally:
        _remove(made, count)


def _run(*commands: str) -> None:
    for command in commands:
        subprocess.run(shlex.split(command), check=True)


def _remove(made: Hosts, count: int) -> None:
    for number in range(1, count + 1):
        made._end(number)
        subprocess.run(["ip", "netns", "del", f"sparring{number}"], capture_output=True)
        subprocess.run(["ip", "link", "del", f"sp{number}"], capture_output=True)
    subprocess.run(["ip", "link", "del", BRIDGE], capture_output=True)
