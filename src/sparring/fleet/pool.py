"""Shards dealt to workers that may be lost: each shard is made once, and goes to another worker when its own is gone.

A worker holds one shard and the next, so that it never waits for the controller. The first of them is to blame when it
is lost, and a shard that loses three workers stops the stage. Leaves out: where workers come from (`cluster.py`).

    for index, rows in deal(pool, "sample own", key, [reference], shards): ...
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import ray  # type: ignore[reportMissingImports]
from ray.exceptions import (  # type: ignore[reportMissingImports]
    ActorUnschedulableError,
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
    RayActorError,
    RayTaskError,
    WorkerCrashedError,
)

from sparring.fleet.packed import pack, unpack
from sparring.fleet.work import Shards
from sparring.runtime.errors import EngineError, first_line

START = 1200.0
"""seconds in which a worker must start: it imports torch, from a slow shared disk perhaps"""
DEPTH = 2
"""shards that a worker holds"""
ATTEMPTS = 3
"""workers that one shard may lose"""
LOST = (
    ActorUnschedulableError,
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
    RayActorError,
    WorkerCrashedError,
)
"""what Ray says where a worker or its result is gone"""


class FleetError(RuntimeError):
    """The cluster cannot go on; finished shards stay on disk."""


@dataclass(slots=True)
class Member:
    """A worker that was started, and the shards that it holds, the one it works on first."""

    node: str
    """Ray's name of the machine"""
    address: str
    actor: Any
    ready: Any
    """a reference that is there once the worker has started; None after that"""
    held: deque[Any] = field(default_factory=deque)
    visible: str = ""
    """numbers of its GPUs on the machine"""
    lends: bool = False
    """its GPUs serve another worker of its machine, and it makes nothing"""
    told: bool = False
    """whether it has the work of the stage that goes on"""


class Pool(Protocol):
    """The workers of a cluster."""

    members: list[Member]
    made: Counter[str]
    """shards of the stage that goes on, by the address of the machine that made them"""

    def check(self, member: Member, theirs: Mapping[str, Any]) -> None:
        """Take a worker as started: its machine's `facts` are there.

        Raises:
            ValueError: the machine has other code or versions, or torch sees no GPU where one was promised.
        """
        ...

    def replace(self, member: Member, error: Exception) -> None:
        """Take a lost worker out, and start another one where its machine is still there.

        Raises:
            FleetError: no worker is left.
        """
        ...


@dataclass(slots=True)
class Deal:
    """The state of a stage's shards."""

    pool: Pool
    title: str
    key: str
    box: list[Any]
    """holds the reference to the work"""
    shards: Shards
    fresh: Iterator[int]
    """indices that no worker has had, made when their turn comes"""
    left: int
    """shards that no worker has"""
    again: deque[int] = field(default_factory=deque)
    """of lost workers"""
    flights: dict[Any, tuple[Member, int]] = field(default_factory=dict)
    lost: Counter[int] = field(default_factory=Counter)
    """workers that went with each shard"""

    def run(self) -> Iterator[tuple[int, Any]]:
        """Results as they come."""
        while self.left or self.flights:
            self._feed()
            starting = {member.ready: member for member in self.pool.members if member.ready is not None}
            references = [*self.flights, *starting]
            if not references:
                raise FleetError(
                    f"{self.title}: no machine is left that has the GPUs which a worker needs together. What was "
                    "finished is kept: lower sampling.vllm.tensor_parallel or add a machine, and give the same command."
                )
            # Workers at work are lost or come back; where all only start, one of them may never do so.
            came, _ = ray.wait(references, num_returns=1, timeout=None if self.flights else START)
            if not came:
                raise not_started(next(iter(starting.values())))
            done, _ = ray.wait(references, num_returns=len(references), timeout=0)
            for reference in done:
                if reference in starting:
                    self._started(starting[reference])
                elif reference in self.flights:  # not of a worker that this very round found lost
                    yield from self._landed(reference)

    def _feed(self) -> None:
        """Give every worker the shards that it has room for, in turns, so that the last ones are spread."""
        for depth in range(1, DEPTH + 1):
            for member in self.pool.members:
                if self.left and member.ready is None and not member.lends and len(member.held) < depth:
                    self.left -= 1
                    index = self.again.popleft() if self.again else next(self.fresh)
                    if not member.told:  # once: a reference in each call would be a sixth of its time
                        member.actor.prepare.remote(self.key, self.box)
                        member.told = True
                    reference = member.actor.make.remote(pack(self.shards.payload(index)))
                    member.held.append(reference)
                    self.flights[reference] = member, index

    def _started(self, member: Member) -> None:
        try:
            self.pool.check(member, ray.get(member.ready))
        except LOST as error:
            self.pool.replace(member, error)

    def _landed(self, reference: Any) -> Iterator[tuple[int, Any]]:
        member, index = self.flights[reference]
        try:
            content = ray.get(reference)
        except RayTaskError as error:
            if not isinstance(error.cause, EngineError):
                raise told(error, member) from error
            self._take_back(member, index, error.cause)  # a worker ends with its engine
            return
        except LOST as error:
            self._take_back(member, index, error)
            return
        del self.flights[reference]
        member.held.remove(reference)
        self.pool.made[member.address] += 1
        yield index, unpack(content)

    def _take_back(self, member: Member, index: int, error: Exception) -> None:
        """Have others make the shards of a lost worker; the one that it worked on is blamed."""
        taken = [self.flights.pop(reference)[1] for reference in member.held]
        self.lost[taken[0]] += 1
        self.again.extendleft(reversed(taken))
        self.left += len(taken)
        if self.lost[taken[0]] >= ATTEMPTS:
            why = f"{self.title}: shard {taken[0]} lost {ATTEMPTS} workers, the last on node {member.address}"
            if isinstance(error, EngineError):  # which has its own remedy
                raise FleetError(f"{why}: {error}") from error
            raise FleetError(
                f"{why} ({first_line(error)}). Its rows may need more memory than a worker has: lower the stage's "
                "batch size and give the same command."
            )
        self.pool.replace(member, error)


def deal(pool: Pool, title: str, key: str, box: list[Any], shards: Shards) -> Iterator[tuple[int, Any]]:
    """Each shard's index and result, as they are finished.

    Raises:
        FleetError: no worker is left, or a shard lost too many.
        Exception: what a worker raised, as it would have been raised here, with the node's address.
    """
    for member in pool.members:
        member.held.clear()  # of a stage that an error stopped
        member.told = False
    return Deal(pool, title, key, box, shards, iter(shards.indices), len(shards.indices)).run()


def not_started(member: Member) -> FleetError:
    """What to raise where a worker has not started in time."""
    return FleetError(
        f"node {member.address} started no worker in {START / 60:.0f} minutes. Other work may hold its devices: see "
        "`ray status`."
    )


def told(error: RayTaskError, member: Member) -> Exception:
    """The exception of a worker, its message with the node."""
    cause = error.cause
    if not isinstance(cause, Exception):
        return FleetError(f"node {member.address}: {error}")
    if len(cause.args) == 1 and isinstance(cause.args[0], str):
        cause.args = (f"node {member.address}: {cause.args[0]}",)
    return cause
