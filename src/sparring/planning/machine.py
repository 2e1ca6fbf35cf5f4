"""Devices that a plan can be made for, and every constant that stands in no configuration.

Memory and speeds are the makers'; the shares of them that a run reaches, and what is taken before any tensor, are
the constants below. Leaves out: links between devices.

    parse_machine("1xH100"); parse_machine("cpu"); parse_machine("cpu:64")
"""

from __future__ import annotations

import difflib
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sparring.runtime.doctor import memory

if TYPE_CHECKING:
    import torch

GB = 1_000_000_000

RUNTIME = 1_200_000_000
"""Main memory of a run between two stages: Python, torch, transformers, a small oracle, and what the heap keeps of the
stages before. Measured on Linux, CPU build of torch: .85 GB in the first round, 1.2 to 1.3 later (docs/log.md)."""
GROWING_CACHE = {"cuda": 1.0, "cpu": 2.0}
"""Peak of a key-value cache that grows while it is used, over its last size. The cpu's is inferred from whole stages'
peaks when it still grew by a token at a time (docs/log.md) and may be too high now, the cuda one assumed."""
GPU_CONTEXT = 700_000_000
"""Device memory of the CUDA context and its libraries. Not measured here: what their documentation and reports give."""
SCRATCH = 1.05
"""Peak with kernels' scratch space and fragmentation, over the sum of live tensors; measured on a CPU (docs/log.md)."""
USABLE = 0.95
"""Share of a device's memory that a stage may plan with."""
PASS_SHARE = {"cuda": 0.35, "cpu": 0.5}
"""Arithmetic speed of forward and backward passes over the device's; cpu measured on SmolLM2-135M, cuda assumed."""
SAMPLE_SHARE = {"cuda": 0.5, "cpu": 0.5}
"""Arithmetic speed while sampling over the device's; cpu measured on SmolLM2-135M, cuda assumed."""
READ_SHARE = {"cuda": 0.5, "cpu": 0.7}
"""Memory speed while the weights are read for every sampled token, over the device's; cpu measured, cuda assumed."""
LAYER_SECONDS = {"cuda": 8e-4, "cpu": 0.0}
"""Least time of a layer per sampled token: launching its kernels one by one. Assumed."""
LOAD_SECONDS = 1.2e-9
"""Per byte of float32 weights that a stage loads; measured on SmolLM2-135M (0.6 s)."""
FIT_SECONDS = 1e-8
"""Per byte of float32 weights, of a fit beside its passes: loading, checking log-probabilities, the optimiser's first
step and saving; measured on SmolLM2-135M (5.4 s)."""
BUSY = 1.3
"""times as long as on an idle machine that work may take on one that is called quiet"""
TIMED = 1024
"""side of the timed matrix product"""


@dataclass(frozen=True, slots=True)
class Machine:
    """One kind of device and how many there are."""

    name: str
    kind: str
    count: int
    memory: int
    """bytes of one device"""
    flops: float
    """operations per second where a recipe says bfloat16"""
    bandwidth: float
    """bytes per second between the device's memory and its cores"""
    float32: float | None = None
    """float32 operations per second, where they were measured; None: taken as those in bfloat16"""
    slowdown: float = 1.0
    """how many times its CPU time the timed product took: about 1 on a quiet machine"""
    load: float = 0.0
    """other running processes per core, on average over the last minute"""

    @property
    def overhead(self) -> int:
        """Bytes that are taken before any tensor."""
        return RUNTIME if self.kind == "cpu" else GPU_CONTEXT

    @property
    def delay(self) -> float:
        """How many times as long a run on all cores takes while the other work goes on, with the same share."""
        return max(self.slowdown, 1 + self.load)

    @property
    def busy(self) -> bool:
        """Whether other work holds the cores, or held them during the last minute."""
        return self.delay > BUSY

    def speed(self, precision: str) -> float:
        """Operations per second in a recipe's precision."""
        return self.flops if precision == "bfloat16" or self.float32 is None else self.float32


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
    match = re.fullmatch(r"(?:(\d+)\s*x\s*)?([\w-]+)", text)
    known = {name.lower(): name for name in GPUS}
    if match is None or match[2].lower() not in known or match[1] == "0":
        near = difflib.get_close_matches(text.lower().split("x")[-1], known, n=1)
        hint = f" Did you mean {known[near[0]]!r}?" if near else ""
        raise ValueError(f"--gpus {text!r}: not known.{hint} Give cpu, cpu:GB, or COUNTxNAME of {', '.join(GPUS)}.")
    name = known[match[2].lower()]
    memory, flops, bandwidth = GPUS[name]
    return Machine(name, "cuda", int(match[1] or 1), memory * GB, flops, bandwidth)


def _cpu(text: str) -> Machine:
    import torch

    from sparring.runtime.precision import cpu_has_bfloat16

    load = os.getloadavg()[0] / (os.cpu_count() or 1)  # before the product, which is a load of its own
    size = text.partition(":")[2]
    total = round(float(size) * GB) if size else memory()["total"]
    float32, slowdown = core_speed(torch.float32)
    bfloat16 = core_speed(torch.bfloat16)[0] if cpu_has_bfloat16() else float32  # which is what is computed then
    threads = torch.get_num_threads()
    return Machine("cpu", "cpu", 1, total, threads * bfloat16, 1e10, threads * float32, slowdown, load)


def core_speed(dtype: torch.dtype) -> tuple[float, float]:
    """Operations per second of CPU time on one core, and how many times its CPU time the timed product took.

    CPU time leaves out the waiting for a core that other processes hold, so a busy machine shows its quiet speed.
    """
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        a = torch.randn(TIMED, TIMED).to(dtype)
        float((a @ a)[0, 0])
        times = [_timed(lambda: float((a @ a)[0, 0])) for _ in range(8)]
    finally:
        torch.set_num_threads(threads)
    wall, cpu = (sum(column) for column in zip(*times, strict=True))
    return 2 * TIMED**3 / min(seconds for _, seconds in times), max(1.0, wall / cpu)


def _timed(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds on the clock and of CPU time."""
    clock, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - clock, time.process_time() - cpu
