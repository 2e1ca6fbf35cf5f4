"""One task that several workers do together as ranks of a process group, as a fit is.

Rank 0 tells the controller what happens and sends the files that it makes: some whenever they change, others at the
end. When a rank is lost all are ended, and the task is given to those that are left; it goes on from the files that
have come. Leaves out: row stages, whose shards need no group (`pool.py`).

    gang.together(fleet, job, {"say": print})
"""

from __future__ import annotations

import contextlib
import os
import queue
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import ray  # type: ignore[reportMissingImports]
import torch
from ray.exceptions import RayTaskError  # type: ignore[reportMissingImports]

from sparring.fleet import folders
from sparring.fleet.pool import ATTEMPTS, LOST, FleetError, Member, told
from sparring.fleet.work import Job, Listeners, Places
from sparring.runtime import devices
from sparring.runtime.errors import RaisedByAll, first_line

STREAM = {"num_returns": "streaming", "_generator_backpressure_num_objects": 16}
"""of rank 0's events: it waits with more pieces of a policy until the controller has written some"""
LOOK = 1.0
"""seconds between two looks at the files that grow"""


class Call(NamedTuple):
    """Rank 0 calls a listener."""

    name: str
    args: tuple[Any, ...]
    options: dict[str, Any]


class Bytes(NamedTuple):
    """Rank 0 sends a piece of a file, by its path in the run; the last one makes it whole."""

    file: str
    offset: int
    content: bytes
    last: bool


class Result(NamedTuple):
    """What the task returned on rank 0."""

    value: Any


# ---- on a worker ----------------------------------------------------------------------------------


def meet(address: str) -> tuple[Any, tuple[str, int]]:
    """A store at which the ranks meet, to be held until they have; and where it is."""
    store = devices.meeting(address)
    return store, (address, store.port)


@contextlib.contextmanager
def group(number: int, size: int, where: tuple[str, int] | None) -> Iterator[None]:
    """Be a rank of `size` for this block; after an error of this rank alone it stays one, and its process is ended."""
    if where is None:
        yield
        return
    _use_interface(ray.util.get_node_ip_address())
    devices.form_group(devices.store_at(*where), number, size)
    try:
        yield
    except RaisedByAll:
        devices.leave_group()
        raise
    # Not left after another error: that could wait for ranks that wait for this one.
    devices.leave_group()


def _use_interface(address: str) -> None:
    """Have the ranks talk over the interface that Ray uses: host names often lead nowhere in containers."""
    for name, known in psutil.net_if_addrs().items():
        if any(one.address == address for one in known):
            os.environ.setdefault("GLOO_SOCKET_IFNAME", name)
            os.environ.setdefault("NCCL_SOCKET_IFNAME", name)


def lead(job: Job, places: Places) -> Iterator[Call | Bytes | Result]:
    """Do the task as rank 0, in a thread of its own; yields what the controller is to know."""
    events: queue.SimpleQueue[Any] = queue.SimpleQueue()
    with tempfile.TemporaryDirectory(prefix="sparring-") as folder:
        scratch = Path(folder)
        threading.Thread(target=_run, args=(job, places, scratch, events), daemon=True).start()
        sent: dict[str, int] = {}
        while True:
            try:
                event = events.get(timeout=LOOK)
            except queue.Empty:
                event = None
            for name in job.growing:
                yield from _grown(scratch, name, sent)
            if isinstance(event, BaseException):
                raise event
            if isinstance(event, Result):
                for name in job.made:
                    yield from _sent(scratch, name)
                yield event
                return
            if event is not None:
                yield event


def _run(job: Job, places: Places, scratch: Path, events: queue.SimpleQueue[Any]) -> None:
    torch.set_num_threads(torch.get_num_threads())  # of this thread
    listeners = {name: _telling(name, events) for name in job.listeners}
    try:
        events.put(Result(job.run(places, scratch, listeners)))
    except BaseException as error:
        events.put(error)


def _telling(name: str, events: queue.SimpleQueue[Any]) -> Callable[..., None]:
    return lambda *args, **options: events.put(Call(name, args, options))


def _grown(scratch: Path, name: str, sent: dict[str, int]) -> Iterator[Bytes]:
    """The file, if it is not the one that was sent last."""
    with contextlib.suppress(FileNotFoundError):
        written = (scratch / name).stat().st_mtime_ns
        if sent.get(name) != written:
            sent[name] = written
            yield from _sent(scratch, name)


def _sent(scratch: Path, name: str) -> Iterator[Bytes]:
    """A file, or all files of a folder."""
    path = scratch / name
    files = sorted(one for one in path.rglob("*") if one.is_file()) if path.is_dir() else [path]
    for file in files:
        with file.open("rb") as stream:  # stays what it is when another one takes its name
            size, relative = os.fstat(stream.fileno()).st_size, str(file.relative_to(scratch))
            for offset in range(0, max(1, size), folders.PIECE):
                content = stream.read(folders.PIECE)
                yield Bytes(relative, offset, content, offset + folders.PIECE >= size)


# ---- on the controller ----------------------------------------------------------------------------


class RankGone(Exception):
    """A rank of the group was lost."""


def follow_events(events: Any, others: Sequence[Any], members: Sequence[Member], take: Callable[[Any], None]) -> Any:
    """What rank 0 returned; `take` gets everything before that. `members`: of rank 0 and of the others, in order.

    Raises:
        RankGone: one of them was lost.
        Exception: what rank 0 raised, or another rank alone.
    """
    owners = dict(zip([events, *others], members, strict=True))
    others = list(others)
    while True:
        ready, _ = ray.wait([events, *others], num_returns=1)
        for reference in ready:
            try:
                if reference is not events:
                    others.remove(reference)
                    ray.get(reference)
                    continue
                event = ray.get(next(events))
            except RayTaskError as error:
                if isinstance(error.cause, devices.RankLost):
                    raise RankGone(first_line(error.cause)) from error
                if reference is events or not isinstance(error.cause, RaisedByAll):
                    raise told(error, owners[reference]) from error
                continue
            except LOST as error:
                raise RankGone(first_line(error)) from error
            if isinstance(event, Result):
                return event.value
            take(event)


class Taking:
    """Writes the files that come, and passes calls on."""

    def __init__(self, job: Job, listeners: Listeners) -> None:
        self.job, self.listeners = job, listeners
        for name in job.made:
            shutil.rmtree(self._coming(name), ignore_errors=True)

    def __call__(self, event: Call | Bytes) -> None:
        """Take one event of rank 0."""
        if isinstance(event, Call):
            self.listeners[event.name](*event.args, **event.options)
            return
        target = self._place(event.file)
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.coming")
        with partial.open("r+b" if event.offset else "wb") as stream:
            stream.seek(event.offset)
            stream.write(event.content)
            if event.last:
                stream.flush()
                os.fsync(stream.fileno())
        if event.last:
            partial.replace(target)

    def finish(self) -> None:
        """Give the folders that came whole their names."""
        for name in self.job.made:
            target = self.job.root / name
            shutil.rmtree(target, ignore_errors=True)
            self._coming(name).rename(target)

    def _place(self, file: str) -> Path:
        for name in self.job.made:
            if Path(file).is_relative_to(name):
                return self._coming(name) / Path(file).relative_to(name)
        return self.job.root / file

    def _coming(self, name: str) -> Path:
        return (self.job.root / name).with_name(f"{Path(name).name}.partial")


def attempts(title: str, attempt: Callable[[], Any], say: Callable[[str], None]) -> Any:
    """The result of an attempt in which no rank was lost.

    Raises:
        FleetError: it was lost three times.
    """
    for number in range(1, ATTEMPTS + 1):
        try:
            return attempt()
        except RankGone as error:
            if number == ATTEMPTS:
                raise FleetError(
                    f"{title}: a rank was lost {ATTEMPTS} times ({error}). What was finished is kept; give the same "
                    "command to go on, with as many devices as you like."
                ) from error
            say(f"{title}: a rank was lost ({error}); those that are left go on")
    raise AssertionError("unreachable")
