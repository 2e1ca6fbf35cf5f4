"""Give memory back between stages, so that the next one's model does not come on top of the last one's.

release_memory()
"""

from __future__ import annotations

import ctypes
import gc
import sys

import torch


def release_memory() -> None:
    """Collect cycles that hold models, and return freed pages to the device and to the operating system.

    glibc keeps freed heap pages; after a fit that is a gigabyte on a 135M model.
    """
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if sys.platform == "linux":
        try:
            ctypes.CDLL("libc.so.6").malloc_trim(0)
        except (OSError, AttributeError):  # another libc, which has no such call
            return
