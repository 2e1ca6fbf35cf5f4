"""Limits on what other people's small programs (chat templates, patterns) may take of this process.

Both are bounded in the main thread alone: only there does Python hear signals, and the limit of memory is the whole
process's, which two threads would put back in the wrong order. Memory is bounded on Linux. Leaves out: programs that
are trusted, and whole commands (`ulimit`).

    with bounded("the template", seconds=5): template.render(...)
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_STATM = Path("/proc/self/statm")


@contextlib.contextmanager
def bounded(what: str, seconds: float, memory: int | None = None) -> Iterator[None]:
    """`seconds` of computing time, and `memory` bytes beside what is taken already, for a block of the main thread.

    Raises:
        ValueError: it took more; `what` begins the message.
    """

    def stop(*_: Any) -> None:
        raise ValueError(f"{what} takes more than {seconds:g} s of computing time")

    main = threading.current_thread() is threading.main_thread()
    with contextlib.ExitStack() as after:
        if main and memory is not None:
            after.enter_context(_memory(memory))
        if main:
            before = signal.signal(signal.SIGVTALRM, stop)
            after.callback(signal.signal, signal.SIGVTALRM, before or signal.SIG_DFL)
            signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
            after.callback(signal.setitimer, signal.ITIMER_VIRTUAL, 0)
        try:
            yield
        except MemoryError:
            raise ValueError(f"{what} takes more memory than it may") from None


@contextlib.contextmanager
def _memory(extra: int) -> Iterator[None]:
    if not _STATM.exists():
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    most = int(_STATM.read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE") + extra
    limits = [limit for limit in (soft, hard) if limit != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_AS, (min([most, *limits]), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
