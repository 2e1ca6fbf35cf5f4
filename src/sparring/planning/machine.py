"""Devices that a plan can be made for, and every constant that no configuration tells.

Memory and speeds are the makers'; the shares of them that a run reaches, and what is taken before any tensor, are
the constants below. Leaves out: links between devices.

    parse_machine("1xH100"); parse_machine("cpu"); parse_machine("cpu:64")
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass

from sparring.runtime.doctor import gflops, memory

GB = 1_000_000_000

RUNTIME = 1_200_000_000
"""Main memory of a run between two stages: Python, torch, transformers, a small oracle, and what the heap keeps of the
stages before. Measured on Linux, CPU build of torch: .85 GB in the first round, 1.2 to 1.3 later (docs/log.md)."""
GROWING_CACHE = {"cuda": 1.0, "cpu": 2.0}
"""Peak of a key-value cache that grows by a token at a time, over its last size. The cpu's is inferred from whole
stages' peaks (docs/log.md), the cuda one assumed."""
GPU_CONTEXT = 700_000_000
"""Device memory of the CUDA context and its libraries. Not measured here: what their documentation and reports give."""
SCRATCH = 1.05
"""Peak with kernels' scratch space and fragmentation, over the sum of live tensors; measured on a CPU (docs/log.md)."""
USABLE = 0.95
"""Share of a device's memory that a stage may plan with."""
FIT_SHARE = {"cuda": 0.35, "cpu": 0.55}
"""Arithmetic speed of a fit over the device's; cpu measured on SmolLM2-135M, cuda assumed."""
SAMPLE_SHARE = {"cuda": 0.5, "cpu": 0.2}
"""Of arithmetic (cpu) or memory speed (cuda) while sampling; cpu measured on SmolLM2-135M, cuda assumed."""
LAYER_SECONDS = {"cuda": 8e-4, "cpu": 0.0}
"""Least time of a layer per sampled token: launching its kernels one by one. Assumed."""


@dataclass(frozen=True, slots=True)
class Machine:
    """One kind of device and how many there are."""

    name: str
    kind: str
    count: int
    memory: int
    """bytes of one device"""
    flops: float
    """bfloat16 operations per second"""
    bandwidth: float
    """bytes per second between the device's memory and its cores"""

    @property
    def overhead(self) -> int:
        """Bytes that are taken before any tensor."""
        return RUNTIME if self.kind == "cpu" else GPU_CONTEXT


GPUS: dict[str, tuple[int, float, float]] = {
    "B200": (180, 2250e12, 8.0e12),
    "H200": (141, 989e12, 4.8e12),
    "H100": (80, 989e12, 3.35e12),
    "A100": (80, 312e12, 2.0e12),
    "A100-40": (40, 312e12, 1.55e12),
    "L40S": (48, 362e12, 0.86e12),
    "A6000": (48, 155e12, 0.77e12),
    "RTX5090": (32, 210e12, 1.79e12),
    "RTX4090": (24, 165e12, 1.0e12),
    "RTX3090": (24, 71e12, 0.94e12),
    "A10": (24, 125e12, 0.6e12),
    "L4": (24, 121e12, 0.3e12),
}
"""GB, dense bfloat16 operations and bytes per second, from the makers' data sheets"""


def parse_machine(text: str) -> Machine:
    """`4xA100-40`, `H100`, `cpu` (this machine's memory and speed) or `cpu:64` (GB).

    Raises:
        ValueError: the device is not known (with the nearest one).
    """
    if re.fullmatch(r"cpu(:\d+(\.\d+)?)?", text):
        return _cpu(text)
    found = re.fullmatch(r"(?:(\d+)\s*x\s*)?([\w-]+)", text)
    known = {name.lower(): name for name in GPUS}
    if found is None or found.group(2).lower() not in known or found.group(1) == "0":
        near = difflib.get_close_matches(text.lower().split("x")[-1], known, n=1)
        hint = f" Did you mean {known[near[0]]!r}?" if near else ""
        raise ValueError(f"--gpus {text!r}: not known.{hint} Give cpu, cpu:GB, or COUNTxNAME of {', '.join(GPUS)}.")
    name = known[found.group(2).lower()]
    memory, flops, bandwidth = GPUS[name]
    return Machine(name, "cuda", int(found.group(1) or 1), memory * GB, flops, bandwidth)


def _cpu(text: str) -> Machine:
    import torch

    size = text.partition(":")[2]
    total = round(float(size) * GB) if size else memory()["total"]
    return Machine("cpu", "cpu", 1, total, gflops(torch.float32, "cpu") * 1e9, 1e10)
