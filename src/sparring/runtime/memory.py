"""Memory of a stage: its peak, and its release before the next stage's model is loaded.

with PeakMemory() as memory: work(); release_memory(); memory.peak
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import sys
from collections.abc import Callable, Iterator
from types import TracebackType

import psutil
import torch

_ends: list[Callable[[], None]] = []


def also_end(end: Callable[[], None]) -> None:
    """Have `end_what_is_kept` call this."""
    _ends.append(end)


def end_what_is_kept() -> None:
    """End whatever this process keeps for a next stage, as engines in other processes."""
    for end in _ends:
        end()


def release_memory() -> None:
    """Collect cycles that hold models, and return freed memory to the device and to the operating system."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    trim_heap()


@contextlib.contextmanager
def older_objects_stay() -> Iterator[None]:
    """A block in which collecting cycles looks only at what was made since it began.

    Imported libraries are a million objects, which every release would look at again: a fifth of a second each.
    """
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


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


def process_memory() -> int:
    """Bytes in use now: of the accelerator where there is one, else of this process."""
    return torch.cuda.memory_allocated() if torch.cuda.is_available() else psutil.Process().memory_info().rss


class PeakMemory:
    """The highest memory of a block, in bytes: the accelerator's where there is one, else resident memory.

    On a system that cannot reset its count, the highest since the process began.
    """

    peak = 0

    def __enter__(self) -> PeakMemory:
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        elif sys.platform == "linux":
            # Resets VmHWM, so that what came before does not count; some containers forbid it.
            with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w") as file:
                file.write("5")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None):
        self.peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else _high_water()


def _high_water() -> int:
    if sys.platform != "linux":
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


class OutOfMemory(RuntimeError):
    """Memory ran out; the message names the field of the recipe that takes less."""


def ran_out(error: BaseException) -> bool:
    """Whether an error means that an allocation failed, on a device or in main memory."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "DefaultCPUAllocator" in str(error)
