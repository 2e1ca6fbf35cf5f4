"""A Slurm cluster on one computer: a login node with slurmctld, and nodes that are hosts of `fleet_hosts.py`.

Each node has an address, a name, processes, /tmp and /dev/shm of its own; they share one folder below /tmp, as the
nodes of a real cluster share a home. Tasks are not bound to processors, and no cgroup is made: a container allows
neither. Needs root, iproute2, and Debian's `slurm-wlm` with `munge`.

    with Slurm(workers=2, shared=tmp_path) as slurm: job = slurm.submit(script, ["mine.yaml"], {"time": "1"})
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fleet_hosts import FIRST, Network, can_have_hosts

PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch", "srun", "scontrol")
OVER = {"COMPLETED", "FAILED", "TIMEOUT", "CANCELLED", "NODE_FAIL", "OUT_OF_MEMORY", "BOOT_FAIL", "DEADLINE"}
CONFIGURATION = """\
ClusterName=sparring
SlurmctldHost=host0({login})
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
KillWait=15
GresTypes=gpu
{nodes}
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def can_have_slurm() -> bool:
    """Whether this process may make hosts, and Slurm's programs are there."""
    return all(map(shutil.which, PROGRAMS)) and can_have_hosts()


class Slurm(Network):
    """Slurm with some nodes, each with one processor; none has a GPU."""

    def __init__(self, workers: int, shared: Path) -> None:
        super().__init__(workers)
        self.shared = shared.resolve()
        self.folder = self.shared / "slurm"
        self.environment |= {"SLURM_CONF": str(self.folder / "slurm.conf")}
        self.environment |= {"RAY_worker_niceness": "0"}  # beside other work workers of niceness 15 get no processor
        self._munged: subprocess.Popen[Any] | None = None

    def __enter__(self) -> Slurm:
        try:
            self._configure()
            self.wire()
            self._munge()
            for host in (0, *self.others):
                self.start(host)
            self._wait_for_nodes()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()
        if self._munged is not None:
            self._munged.kill()
            self._munged.wait()

    def _configure(self) -> None:
        for name in ("", "state", *(f"spool-host{host}" for host in self.others)):
            (self.folder / name).mkdir(mode=0o755)
        names = {f"host{host}": self.address_of(host) for host in (0, *self.others)}
        lines = ["127.0.0.1 localhost", *(f"{address} {name}" for name, address in names.items())]
        (self.folder / "hosts").write_text("\n".join(lines) + "\n")
        nodes = "\n".join(
            f"NodeName=host{host} NodeAddr={self.address_of(host)} CPUs=1 RealMemory=1000" for host in self.others
        )
        text = CONFIGURATION.format(login=self.address_of(0), folder=self.folder, nodes=nodes)
        (self.folder / "slurm.conf").write_text(text)
        # None is made. Without a line slurmd looks which kind there is, and a network namespace shows it none.
        (self.folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")

    def _munge(self) -> None:
        """Start what signs messages; its socket lies in the shared folder, so one serves all hosts."""
        key = self.folder / "munge.key"
        key.touch(mode=0o400)
        key.write_bytes(secrets.token_bytes(128))
        files = {"key-file": key.name, "socket": "munge.socket", "pid-file": "munge.pid", "seed-file": "munge.seed"}
        words = [f"--{option}={self.folder / name}" for option, name in files.items()]
        with (self.folder / "munge.log").open("w") as log:
            self._munged = subprocess.Popen(["munged", "--foreground", "--force", *words], stdout=log, stderr=log)
        self._until(lambda: (self.folder / "munge.socket").exists(), "munged did not start", 30)

    def start(self, host: int) -> None:
        """Switch a host on."""
        self.connect(host)
        names = f"mount --bind {self.folder}/hosts /etc/hosts"
        apart = (  # a /tmp of its own, in which the shared folder is the one that all see
            f"mount --bind {self.shared} /mnt && mount -t tmpfs own /tmp && mkdir -p {self.shared} && "
            f"mount --move /mnt {self.shared}"
        )
        words = [*FIRST, "slurmctld", "-D"] if host == 0 else [*FIRST, "slurmd", "-D", "-N", f"host{host}"]
        with (self.folder / f"output-{host}").open("w") as log:
            self._running[host] = self.alone(host, words, f"{names} && {apart}", stdout=log, stderr=log)

    def _wait_for_nodes(self) -> None:
        def idle() -> bool:
            shown = self.ask("scontrol", "--oneliner", "show", "nodes")
            return shown.count("State=IDLE") == len(self.others)

        self._until(idle, "the nodes did not start", 120)

    def _until(self, happened: Any, message: str, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not happened():
            if time.monotonic() > deadline:
                raise RuntimeError(f"{message}:\n{self.logs()}")
            time.sleep(0.2)

    def logs(self) -> str:
        """The last lines of all programs."""
        found = sorted([*self.folder.glob("*.log"), *self.folder.glob("output-*")])
        return "\n".join(f"--- {path.name}\n{path.read_text()[-2000:]}" for path in found)

    def ask(self, *words: str) -> str:
        """What a command on the login node prints; nothing where it fails."""
        process = self.inside(0, words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        return process.communicate(timeout=60)[0]

    def submit(self, script: Path, arguments: Sequence[str], options: Mapping[str, str], output: Path) -> int:
        """Submit a job; returns its number. `options` go before those in the script."""
        words = [f"--{name}={value}" for name, value in {**options, "output": output, "chdir": "/"}.items()]
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        process = self.inside(0, ["sbatch", "--parsable", *words, str(script), *arguments], **pipes)
        out, err = process.communicate(timeout=60)
        if process.returncode:
            raise RuntimeError(f"sbatch: {err}")
        return int(out)

    def state(self, job: int) -> str:
        """As Slurm calls it."""
        shown = self.ask("scontrol", "--oneliner", "show", "job", str(job))
        return next((word.removeprefix("JobState=") for word in shown.split() if word.startswith("JobState=")), "")

    def end(self, job: int, seconds: float) -> str:
        """The state in which a job ends."""
        self._until(lambda: self.state(job) in OVER, f"job {job} did not end", seconds)
        return self.state(job)

    def left(self) -> list[str]:
        """Command lines of processes on the nodes that a job has left behind."""
        found = []
        for pid in (pid for host in self.others for pid in self.pids(host)):
            with contextlib.suppress(OSError):
                words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
                if "slurmd" not in words and "slurmstepd" not in words and os.path.exists(f"/proc/{pid}/exe"):
                    found.append(words)
        return found
