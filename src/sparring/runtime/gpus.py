"""What torch knows of this process' GPUs: the only names outside this folder for what is special to them.

Leaves out: the memory of a stage (`memory.py`), several ranks (`devices.py`).

    "cuda" if gpus.there() else "cpu"
"""

from __future__ import annotations

import torch


def there() -> bool:
    """Whether torch can use one."""
    return torch.cuda.is_available()


def count() -> int:
    """How many are visible."""
    return torch.cuda.device_count()


def names() -> list[str]:
    """Of those that are visible."""
    return [torch.cuda.get_device_name(index) for index in range(count())]


def name() -> str | None:
    """Of the one that this process uses; None without one."""
    return torch.cuda.get_device_name() if there() else None


def current() -> int:
    """The number of the one that this process uses."""
    return torch.cuda.current_device()


def device_type() -> str:
    """Where models go: "cuda", else "cpu"."""
    return "cuda" if there() else "cpu"


def memory() -> int:
    """Bytes that the one that this process uses has; 0 without one."""
    return torch.cuda.mem_get_info()[1] if there() else 0


def memory_in_use() -> int:
    """Bytes of it that are in use now, by whatever process; 0 without one."""
    if not there():
        return 0
    free, total = torch.cuda.mem_get_info()
    return total - free


def finish() -> None:
    """Wait until the GPU has done all that it was given, before a time is taken; nothing without one."""
    if there():
        torch.cuda.synchronize()
