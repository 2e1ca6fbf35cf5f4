"""Examine the machines of a cluster before any work: one that cannot take part is named with the reason and a remedy.

Leaves out: this machine alone (`runtime/doctor.py`).

    with joined("auto"): report = examine_machines(Path("runs"))
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import ray  # type: ignore[reportMissingImports]
from ray.exceptions import RayError  # type: ignore[reportMissingImports]
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy  # type: ignore[reportMissingImports]

from sparring.fleet.cluster import nodes
from sparring.fleet.facts import SKEW, differences, facts
from sparring.runtime.errors import reason_of

PATIENCE = 120.0
"""seconds in which a machine must answer: it imports torch for it"""
SMALL_DISK, SMALL_SHM = 20e9, 2e9
"""bytes below which a note says so: one 8B policy is 32 GB, and Ray keeps its objects in /dev/shm"""


def examine_machines(folder: Path) -> dict[str, Any]:
    """Plain data: {machines, problems, notes}; a machine has its facts, and whether it sees `folder`."""
    ours, nearest = facts(), existing(folder)
    with _token(nearest) as token:
        there = nodes()
        calls = [_asked(node, token) for node in there]
        machines, problems = [], []
        for node, call in zip(there, calls, strict=True):
            address = node["NodeManagerAddress"]
            try:
                found: dict[str, Any] = ray.get(call, timeout=PATIENCE)
            except RayError as error:
                problems.append(f"node {address} does not answer: {reason_of(error)}. See `ray status` there.")
                continue
            cpus, gpus = (int(node["Resources"].get(kind, 0)) for kind in ("CPU", "GPU"))
            machines.append({**found, "address": address, "cpus": cpus, "promised_gpus": gpus})
    lines = notes(machines)
    if nearest != folder:
        lines.append(f"{folder} is not there yet: whether machines see the folder was asked of {nearest}.")
    return {"machines": machines, "problems": [*problems, *found_problems(ours, machines)], "notes": lines}


def _asked(node: Mapping[str, Any], token: Path) -> Any:
    place = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
    # Without a GPU asked for, Ray hides them all.
    gpus = 1 if node["Resources"].get("GPU") else 0
    look: Any = ray.remote(_look)
    return look.options(num_cpus=0, num_gpus=gpus, scheduling_strategy=place).remote(token, time.time())


def _look(token: Path, asked: float) -> dict[str, Any]:
    """On a machine: its facts, how far its clock is ahead, and whether it sees the file."""
    found = facts()
    return {**found, "clock": found["time"] - asked, "sees_folder": token.exists()}


def existing(folder: Path) -> Path:
    """The folder, or the nearest above it that is there: that of a run is made when it starts."""
    return folder if folder.is_dir() else next(path for path in folder.absolute().parents if path.is_dir())


@contextlib.contextmanager
def _token(folder: Path) -> Iterator[Path]:
    """A file in the folder whose name nobody guesses, there for this block."""
    path = (folder / f".sparring-{secrets.token_hex(8)}").absolute()
    path.touch()
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def found_problems(ours: Mapping[str, Any], machines: Sequence[Mapping[str, Any]]) -> list[str]:
    """What keeps machines from working with this one."""
    lines = []
    for machine in machines:
        if differing := differences(ours, machine):
            lines.append(f"node {machine['address']}: {'; '.join(differing)}. Install the same there.")
        if machine["promised_gpus"] and not machine["gpus"]:
            lines.append(
                f"node {machine['address']} was started with {machine['promised_gpus']} GPUs, and torch sees none "
                "there. Install torch for its driver, or start it with --num-gpus 0."
            )
    return lines


def notes(machines: Sequence[Mapping[str, Any]]) -> list[str]:
    """What will be slow, or may stop a run later."""
    lines = []
    for machine in machines:
        address = machine["address"]
        if machine["disk_free"] < SMALL_DISK:
            lines.append(f"node {address}: {machine['disk_free'] / 1e9:.0f} GB free for policies; one 8B policy is 32.")
        if machine["shm_free"] is not None and machine["shm_free"] < SMALL_SHM:
            free = f"{machine['shm_free'] / 1e9:.1f} GB"
            lines.append(f"node {address}: {free} free in /dev/shm: Ray writes its objects to disk instead, slowly.")
        if not machine["sees_folder"]:
            lines.append(f"node {address} does not see the folder: policies travel to it through Ray.")
    clocks = [machine["clock"] for machine in machines]
    if clocks and max(clocks) - min(clocks) > SKEW:
        lines.append(
            f"clocks are {max(clocks) - min(clocks):.0f} s apart (a slow answer counts in): logs will not line up. "
            "Results do not depend on them."
        )
    return lines
