"""Hosts on one computer: each a network namespace with an address, processes, /tmp and /dev/shm of its own.

The first host holds the head of a Ray cluster and no processor; its folders are this computer's. The others offer one
processor each and see none of the first one's temporary files, so a run folder below /tmp is no common folder. A host
that is `kill`ed loses its network first and then all processes at once, as by a power cut. Needs root and iproute2.

    with Hosts(workers=2) as hosts: process = hosts.controller([sys.executable, "script.py", hosts.address])
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

NETWORK = "10.213.57"
PORT = 6379
FIRST = ("nice", "-n", "-10")
"""Ray gives up where its helpers need more than 15 seconds to start, as they do beside other work"""
SETTINGS = {
    "RAY_AUTH_MODE": "disabled",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_raylet_start_wait_time_s": "300",
    # A host that is cut off says nothing: it is given up after 4 x 5 seconds.
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "5000",
    "RAY_health_check_failure_threshold": "4",
    "RAY_worker_niceness": "0",  # of `FIRST`
    "OMP_NUM_THREADS": "1",
}


def can_have_hosts() -> bool:
    """Whether this process may make network namespaces."""
    if os.geteuid() != 0 or not all(map(shutil.which, ("ip", "unshare"))):
        return False
    name = f"sparring-try-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False).returncode == 0
    if made:
        _ip("netns", "del", name)
    return made


class Network:
    """Hosts that are on one network: the first, whose folders are this computer's, and others."""

    def __init__(self, others: int) -> None:
        self.others = range(1, others + 1)
        self.environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        self._name = f"sparring{os.getpid()}"
        self._running: dict[int, subprocess.Popen[Any]] = {}

    @staticmethod
    def address_of(host: int) -> str:
        """A host's address."""
        return f"{NETWORK}.{host + 1}"

    def host_at(self, address: str) -> int:
        """The host with this address."""
        return int(address.rpartition(".")[2]) - 1

    def wire(self) -> None:
        """Lay a switch, and a cable to each host."""
        switch = self._space("switch")
        _ip("netns", "add", switch)
        _ip("-n", switch, "link", "add", "hub", "type", "bridge")
        _ip("-n", switch, "link", "set", "hub", "up")
        for host in (0, *self.others):
            space = self._space(host)
            _ip("netns", "add", space)
            _ip("-n", switch, "link", "add", f"port{host}", "type", "veth", "peer", "name", "eth0", "netns", space)
            _ip("-n", switch, "link", "set", f"port{host}", "master", "hub", "up")
            _ip("-n", space, "link", "set", "lo", "up")
            _ip("-n", space, "addr", "add", f"{self.address_of(host)}/24", "dev", "eth0")
            _ip("-n", space, "link", "set", "eth0", "up")
            _ip("-n", space, "route", "add", "default", "via", f"{NETWORK}.254")  # Ray asks which way leads outside

    def remove(self) -> None:
        """End all processes and take the network down."""
        for host in list(self._running):
            self.kill(host)
        for host in ("switch", 0, *self.others):
            _ip("netns", "del", self._space(host), check=False)

    def connect(self, host: int) -> None:
        """Plug a host's cable in."""
        _ip("-n", self._space("switch"), "link", "set", f"port{host}", "up")

    def kill(self, host: int) -> None:
        """Cut a host off and end all its processes."""
        _ip("-n", self._space("switch"), "link", "set", f"port{host}", "down", check=False)
        process = self._running.pop(host)
        process.kill()
        process.wait()
        for pid in self.pids(host):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def inside(self, host: int, words: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
        """Start a process on a host, with its network and this computer's folders."""
        return subprocess.Popen(["ip", "netns", "exec", self._space(host), *words], env=self.environment, **options)

    def alone(self, host: int, words: Sequence[str], first: str = "", **options: Any) -> subprocess.Popen[Any]:
        """The same with processes and temporary folders of its own; `first` is done in its shell before."""
        own = f"hostname host{host}; mount -t tmpfs own /dev/shm; {first or 'mount -t tmpfs own /tmp'}; cd /; exec "
        apart = ("unshare", "--mount", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc")
        return self.inside(host, [*apart, "sh", "-c", own + shlex.join(words)], **options)

    def pids(self, host: int) -> list[int]:
        """All processes of a host, as this computer numbers them."""
        listed = subprocess.run(["ip", "netns", "pids", self._space(host)], capture_output=True, text=True, check=False)
        return list(map(int, listed.stdout.split()))

    def _space(self, host: int | str) -> str:
        return f"{self._name}-{host}"


class Hosts(Network):
    """A Ray cluster of a head and some workers."""

    def __init__(self, workers: int) -> None:
        super().__init__(workers)
        self.address = f"{NETWORK}.1:{PORT}"
        self._lock, self._over = threading.Lock(), threading.Event()
        self._temporary = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # Ray's sockets allow no long names
        self.environment |= SETTINGS

    def __enter__(self) -> Hosts:
        try:
            self.wire()
            for host in (0, *self.others):
                self.start(host)
            threading.Thread(target=self._keep, daemon=True).start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.remove()
        shutil.rmtree(self._temporary, ignore_errors=True)

    def start(self, host: int) -> None:
        """Switch a host on; `ray start` joins the cluster when it is ready."""
        self.connect(host)
        program = str(Path(sys.executable).with_name("ray"))
        ray = [*FIRST, program, "start", "--block", "--node-ip-address", self.address_of(host)]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        if host == 0:
            ray += ["--head", f"--port={PORT}", "--num-cpus=0", "--include-dashboard=false"]
            self._running[host] = self.inside(host, [*ray, f"--temp-dir={self._temporary}"], **quiet)
            self._wait_for_head()
        else:
            self._running[host] = self.alone(host, [*ray, f"--address={self.address}", "--num-cpus=1"], **quiet)

    def _wait_for_head(self) -> None:
        for _ in range(1200):
            if list(Path(self._temporary).glob("session_latest/metrics_agent_port_*")):
                time.sleep(10)  # until its raylet has told the head of itself
                return
            if self._running[0].poll() is not None:
                break
            time.sleep(0.1)
        raise RuntimeError("the head of the cluster did not start")

    def restart(self, host: int) -> None:
        """Kill a host, and switch it on again."""
        with self._lock:
            self.kill(host)
            self.start(host)

    def _keep(self) -> None:
        """Switch workers on again that ended by themselves: on a busy computer `ray start` gives up."""
        while not self._over.wait(1.0):
            with self._lock:
                ended = [host for host in self.others if self._running[host].poll() is not None]
            for host in ended:
                self.restart(host)

    def controller(self, words: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
        """Start a process on the head."""
        return self.inside(0, [*FIRST, *words], **options)

    def actors(self) -> list[int]:
        """Our workers on all hosts."""
        found = []
        for pid in (pid for host in self.others for pid in self.pids(host)):
            with contextlib.suppress(psutil.Error):
                if "".join(psutil.Process(pid).cmdline()).startswith("ray::Worker"):
                    found.append(pid)
        return found


def _ip(*words: str, check: bool = True) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise RuntimeError(f"ip {' '.join(words)}: {done.stderr.strip()}")
