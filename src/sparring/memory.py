"""Give memory back between stages, so that the next one's model does not come on top of the last one's.

release_memory()
"""

from __future__ import annotations

import ctypes
import gc
import sys

import torch


def release_memory() -> None:
    """Collect cycles that hold models, and return freed memory to the device and to the operating system."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    trim_heap()


def trim_heap() -> None:
    """Return freed pages of the C heap to the operating system; does nothing where the C library cannot.

    glibc keeps them: over the steps of a fit on a CPU its heap grew by two gigabytes on a 135M model.
    """
    if sys.platform != "linux":
        return
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except (OSError, AttributeError):  # another libc
        return
