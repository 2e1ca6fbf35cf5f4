"""A stage's shards, made somewhere: the one question that stages ask is "give me the results of these shards".

`current().results(work, shards)` makes them in this process, in order, or on a cluster's workers, in the order in which
they are finished. What makes a shard is opened once and kept, with its model, until other work comes. Leaves out: Ray
(`cluster.py`), and which shards there are (`rounds/`).

    work = Work("sample own", key, lambda: {}, SamplesShards(policies, draw, settings))
    for index, rows in current().results(work, Shards(range(8), payload)): ...
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypedDict

Make = Callable[[Any], Any]
"""a shard's payload in, its result out"""
Places = Mapping[Path, Path]
"""where this machine has the folders of the controller; one that is missing lies where it does there"""


@dataclass(frozen=True, slots=True)
class Work:
    """What makes the shards of a stage; it is pickled where workers are other processes."""

    title: str
    """for messages, as in "sample own" """
    key: str
    """equal for work that may share what is open: a worker keeps its model from one to the next"""
    folders: Callable[[], Mapping[str, Path]]
    """the folders that `open` reads, where the controller has them, by a key of their content"""
    open: Callable[[Places], AbstractContextManager[Make]]
    """loads what is needed, from folders that may lie elsewhere on a worker"""
    gpus: int = 1
    """GPUs that a worker needs to make a shard; the other workers of its machine lend theirs"""


class Shards(NamedTuple):
    """Which shards are wanted, and what a worker gets for each; made when its turn comes, so memory holds a few."""

    indices: Sequence[int]
    payload: Callable[[int], Any]


Listeners = Mapping[str, Callable[..., None]]
"""what a task calls while it works, by name"""


@dataclass(frozen=True, slots=True)
class Job:
    """A task that all workers do together; it is pickled."""

    title: str
    folders: Callable[[], Mapping[str, Path]]
    """as of `Work`"""
    run: Callable[[Places, Path, Listeners], Any]
    """gets a folder for what it makes, laid out as the run's; listeners are called on rank 0 alone"""
    root: Path
    """the run's folder, which gets the files"""
    listeners: tuple[str, ...] = ()
    """names of those that are there"""
    growing: tuple[str, ...] = ()
    """files that are sent whenever they change, by their path in the run"""
    made: tuple[str, ...] = ()
    """folders that are sent when the task is done"""


class Standing(TypedDict):
    """What a machine has done in the stage that goes on."""

    node: str
    """its address"""
    workers: int
    """0 where the machine was lost"""
    shards: int
    per_second: float
    """shards, since the stage began"""


class Fleet(Protocol):
    """What makes shards."""

    @property
    def shares(self) -> bool:
        """Whether other processes make the shards."""
        ...

    @property
    def ranks(self) -> int:
        """How many processes do a `Job`; 1 in this process."""
        ...

    def rest(self) -> None:
        """A run is over: no model and no engine stays in other processes."""
        ...

    def standing(self) -> list[Standing]:
        """The machines that work now; none where this one works alone."""
        ...

    def results(self, work: Work, shards: Shards) -> Iterator[tuple[int, Any]]:
        """Each shard's index and result, every one once, in any order."""
        ...

    def together(self, job: Job, listeners: Listeners) -> Any:
        """What the job returns on rank 0; the files that it makes are in the run by then."""
        ...


class Here:
    """This process alone. Ranks that a launcher started share work by `runtime/devices.py`."""

    shares, ranks = False, 1

    def rest(self) -> None:
        """No other processes."""

    def standing(self) -> list[Standing]:
        """No other machines."""
        return []

    def results(self, work: Work, shards: Shards) -> Iterator[tuple[int, Any]]:
        """In order; nothing is opened where no shard is wanted."""
        if not shards.indices:
            return
        with work.open({}) as make:
            for index in shards.indices:
                yield index, make(shards.payload(index))

    def together(self, job: Job, listeners: Listeners) -> Any:
        """Done here; files are made in their place."""
        return job.run({}, job.root, listeners)


HERE = Here()
_current: list[Fleet] = [HERE]


def current() -> Fleet:
    """The fleet of this process: the innermost of `using`, else this process alone."""
    return _current[-1]


@contextlib.contextmanager
def using(fleet: Fleet) -> Iterator[None]:
    """Have the stages inside this block make their shards on `fleet`."""
    _current.append(fleet)
    try:
        yield
    finally:
        _current.pop()
