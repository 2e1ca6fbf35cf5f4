"""Speed and description of this machine. Leaves out: memory (`runtime/memory.py`) and what to run.

peak = matrix_peak("bfloat16")
"""

from __future__ import annotations

import os
import platform
import statistics
import sys
import time
from typing import Any

import psutil
import torch

from sparring.recipe.sections import TripwireConfig
from sparring.runtime import gpus

UNTRIPPED = TripwireConfig.model_construct(**dict.fromkeys(TripwireConfig.model_fields))
"""random tokens are no sensible training data: nothing is to stop a measured fit"""


def matrix_peak(precision: str, size: int = 4096, repeats: int = 5) -> float:
    """Operations per second of a large square product: the median of a few, after one to warm up."""
    device = gpus.device_type()
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    a = torch.randn(size, size, device=device, dtype=dtype)
    seconds: list[float] = []
    for _ in range(repeats + 1):
        start = time.monotonic()
        _ = a @ a
        gpus.finish()
        seconds.append(time.monotonic() - start)
    return 2.0 * size**3 / statistics.median(seconds[1:])


def machine() -> dict[str, Any]:
    """The machine and the versions that figures are measured with."""
    import transformers

    return {
        "device": gpus.name() or _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_bytes": psutil.virtual_memory().total,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def _processor() -> str:
    if sys.platform == "linux":
        with open("/proc/cpuinfo") as lines:
            names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
        if names:
            return names[0]
    return platform.processor() or platform.machine()
