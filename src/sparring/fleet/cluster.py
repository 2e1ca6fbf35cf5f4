"""The workers of a Ray cluster: one per device, watched and replaced, and the folders that they read.

Ray starts, places and watches the workers and moves the bytes; they belong to this process' job and end with it. What
they make comes back to the controller, which alone writes the run. Leaves out: joining a cluster (`join.py`), which
worker gets which shard (`pool.py`).

    RayFleet(None).results(work, shards)
"""

from __future__ import annotations

import contextlib
import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray  # type: ignore[reportMissingImports]
from ray.exceptions import GetTimeoutError, RayTaskError  # type: ignore[reportMissingImports]
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy  # type: ignore[reportMissingImports]

from sparring.fleet import folders, gang
from sparring.fleet.facts import facts, refuse_differences
from sparring.fleet.pool import LOST, START, FleetError, Member, deal, not_started, told
from sparring.fleet.work import Job, Listeners, Shards, Standing, Work
from sparring.fleet.worker import Sent, Wanted, Worker
from sparring.runtime.errors import RaisedByAll, first_line

REJOIN = 180.0
"""seconds in which a machine may join or come back where the last worker was lost"""
RESTARTS = 3
"""workers that are started again on one node; beyond it something is wrong with the node"""


@dataclass(frozen=True, slots=True)
class Seat:
    """Where a worker runs, and on what."""

    node: str
    """Ray's name of the machine"""
    address: str
    cpus: int
    gpus: int


def nodes() -> list[dict[str, Any]]:
    """The machines of the cluster that answer, by address."""
    return sorted((node for node in ray.nodes() if node["Alive"]), key=lambda node: node["NodeManagerAddress"])


def seats(there: Sequence[Mapping[str, Any]], devices: int | None) -> list[Seat]:
    """One per GPU; without GPUs one per machine, or `devices` of them over all machines, or as many as there are."""
    kind = "GPU" if any(node["Resources"].get("GPU") for node in there) else "CPU"
    slots = [(rank, node) for node in there for rank in range(int(node["Resources"].get(kind, 0)))]
    if kind == "CPU" and devices is None:
        slots = [slot for slot in slots if slot[0] == 0]
    slots.sort(key=lambda slot: slot[0])  # one on every machine before the second on any
    chosen = [node for _, node in slots[:devices]]
    beside = Counter(node["NodeID"] for node in chosen)
    return [
        Seat(
            node["NodeID"],
            node["NodeManagerAddress"],
            cpus=0 if kind == "GPU" else int(node["Resources"]["CPU"]) // beside[node["NodeID"]],
            gpus=int(kind == "GPU"),
        )
        for node in chosen
    ]


class RayFleet:
    """Workers on the devices of the cluster that this process has joined."""

    shares = True

    def __init__(self, devices: int | None) -> None:
        """Start them and wait for them.

        Raises:
            ValueError: devices are missing, a node has other code or versions, or a promised GPU is not there.
            FleetError: no worker started.
        """
        self.devices = devices
        self.fits_on: int | None = None
        """ranks of a fit; None for all GPUs, or one processor"""
        self.members: list[Member] = []
        self.made: Counter[str] = Counter()
        self._began = time.monotonic()
        self._seats: dict[str, Seat] = {}
        self._restarts: Counter[str] = Counter()
        self._together = 1
        """GPUs that a worker needs for a shard of the stage that goes on"""
        self._groups: dict[tuple[str, str], list[str]] = {}
        """by a GPU of a node, those that one worker uses together"""
        there = seats(nodes(), devices)
        if devices is not None and devices > len(there):
            kind = "GPUs" if any(seat.gpus for seat in there) else "CPUs"
            raise ValueError(
                f"--devices {devices}: the cluster has {len(there)} {kind}. Give --devices {len(there)}, or add nodes."
            )
        self._settle()

    @property
    def ranks(self) -> int:
        """All GPUs. One processor: several add gradients in another order, and would not make the same bytes."""
        gpus = any(seat.gpus for seat in self._seats.values())
        return self.fits_on or (len(self.members) if gpus else 1)

    def _settle(self) -> None:
        """Start a worker on every free seat, those of new nodes too, and compare the machines with this one."""
        self._fill()
        if self._seats:  # it had workers before
            self._wait_for_a_node()
        for member in [member for member in self.members if member.ready is not None]:
            try:
                self.check(member, ray.get(member.ready, timeout=START))
            except GetTimeoutError as error:
                raise not_started(member) from error
            except LOST as error:
                self.replace(member, error)
        if not self.members:
            raise FleetError("the cluster offers no processor and no GPU. Add a machine: ray start --address=HEAD:PORT")

    def _fill(self) -> None:
        """Start a worker on every free seat."""
        taken = Counter(member.node for member in self.members)
        for seat in seats(nodes(), self.devices):
            if taken[seat.node]:
                taken[seat.node] -= 1
            elif self._restarts[seat.node] <= RESTARTS:
                self._seats.setdefault(seat.node, seat)
                self._start(self._seats[seat.node])

    def _wait_for_a_node(self) -> None:
        """Where nobody is left: give machines that have joined, or come back in time, a worker."""
        deadline = time.monotonic() + REJOIN
        while not self.members and time.monotonic() < deadline:
            self._fill()
            time.sleep(0.0 if self.members else 1.0)

    def _start(self, seat: Seat) -> None:
        threads = None if seat.gpus else int(os.environ.get("OMP_NUM_THREADS") or seat.cpus)
        actor: Any = ray.remote(Worker)
        started = actor.options(
            num_cpus=seat.cpus,
            num_gpus=seat.gpus,
            max_restarts=0,  # a new one must be told what it works on: `replace`
            scheduling_strategy=NodeAffinitySchedulingStrategy(seat.node, soft=False),
        ).remote(threads, [str(Path.cwd())])
        self.members.append(Member(seat.node, seat.address, started, started.facts.remote()))

    def check(self, member: Member, theirs: Mapping[str, Any]) -> None:
        """See `pool.Pool`."""
        member.ready = None
        refuse_differences(facts(), {member.address: theirs})
        if self._seats[member.node].gpus and not theirs["gpus"]:
            raise ValueError(
                f"--cluster: node {member.address} was started with GPUs, and torch sees none there. Install torch for "
                "its driver, or start it with --num-gpus 0."
            )
        member.visible = theirs["visible"]
        if self._together > 1:  # in the place of a lost one, or on a machine that has joined
            for one in self._group(member.node) or [member]:
                self._lend(one)

    def replace(self, member: Member, error: Exception) -> None:
        """See `pool.Pool`."""
        self.members.remove(member)
        with contextlib.suppress(Exception):  # mostly it is gone already
            ray.kill(member.actor)
        self._restarts[member.node] += 1
        if self._restarts[member.node] <= RESTARTS and any(node["NodeID"] == member.node for node in nodes()):
            self._start(self._seats[member.node])
        self._wait_for_a_node()
        if not self.members:
            raise FleetError(
                f"no worker is left, and no machine came for {REJOIN:.0f} s; the last was on node {member.address} "
                f"({first_line(error)}). What was finished is kept; give the same command to go on, with as many "
                "devices as you like."
            )

    def rest(self) -> None:
        """See `work.Fleet`."""
        self._answers([*self.members], [member.actor.rest.remote() for member in self.members])

    def standing(self) -> list[Standing]:
        """See `work.Fleet`."""
        workers, gone = Counter(member.address for member in self.members), time.monotonic() - self._began
        return [
            {"node": node, "workers": workers[node], "shards": (made := self.made[node]), "per_second": made / gone}
            for node in sorted({*workers, *self.made})
        ]

    def _share_gpus(self, title: str, count: int) -> None:
        """Give each worker that makes shards so many GPUs of its machine.

        Raises:
            ValueError: no machine has so many.
        """
        with_gpus = [member for member in self.members if member.visible]
        if not with_gpus or count == self._together == 1:
            return
        before, self._together, self._groups = (self._together, self._groups), count, {}
        by_node = Counter(member.node for member in with_gpus)
        for node in by_node:
            while self._group(node):
                pass
        if not self._groups:
            self._together, self._groups = before
            raise ValueError(
                f"{title}: sampling.vllm.tensor_parallel = {count}, but no machine of the cluster has more "
                f"than {max(by_node.values())} GPUs here, and an engine stays on one machine. Lower it."
            )
        # Lent ones are free before others use them.
        self._answers(with_gpus, [self._lend(member) for member in with_gpus])

    def _group(self, node: str) -> list[Member]:
        """A new group of the node's workers that are in none; empty where they are too few."""
        free = [one for one in self.members if one.node == node and one.visible]
        free = sorted((one for one in free if (node, one.visible) not in self._groups), key=lambda one: one.visible)
        group = free[: self._together] if len(free) >= self._together else []
        self._groups.update({(node, one.visible): [other.visible for other in group] for one in group})
        return group

    def _lend(self, member: Member) -> Any:
        """Have a worker use its group's GPUs, where it is the first of one, or lend its own; when that is done."""
        group = self._groups.get((member.node, member.visible), [])
        member.lends = group[:1] != [member.visible]
        return member.actor.use.remote(member.visible if member.lends else ",".join(group))

    def _begin(self) -> None:
        """A stage begins: new nodes get workers, and counts are its own."""
        self._settle()
        self.made.clear()
        self._began = time.monotonic()

    def results(self, work: Work, shards: Shards) -> Iterator[tuple[int, Any]]:
        """See `work.Fleet`."""
        if not shards.indices:
            return
        self._begin()
        self._share_gpus(work.title, work.gpus)
        wanted = {key: Wanted(origin, folders.listing(origin)) for key, origin in work.folders().items()}
        self._spread(wanted)
        yield from deal(self, work.title, work.key, [ray.put(Sent(work, wanted))], shards)

    def together(self, job: Job, listeners: Listeners) -> Any:
        """What the job returned on rank 0; its files are in the run by then.

        Raises:
            FleetError: ranks were lost again and again.
            Exception: what rank 0 raised.
        """
        return gang.attempts(job.title, lambda: self._attempt(job, listeners), listeners.get("say", lambda line: None))

    def _attempt(self, job: Job, listeners: Listeners) -> Any:
        self._begin()
        wanted = {key: Wanted(origin, folders.listing(origin)) for key, origin in job.folders().items()}
        self._share_gpus(job.title, 1)
        self._spread(wanted)
        members, taking = self.members[: self.ranks], gang.Taking(job, listeners)
        box, size = [ray.put(Sent(job, wanted))], len(members)
        try:
            where = ray.get(members[0].actor.meet.remote(members[0].address)) if size > 1 else None
            lead, *others = (member.actor for member in members)
            followers = [one.follow.remote(rank, size, where, box) for rank, one in enumerate(others, 1)]
            events = lead.lead.options(**gang.STREAM).remote(size, where, box)
            result = gang.follow_events(events, followers, members, taking)
        except (*LOST, gang.RankGone) as error:
            self._end(members)
            raise gang.RankGone(first_line(error)) from error
        except RaisedByAll:  # no rank waits for another one
            raise
        except BaseException:  # the others wait for the rank that raised; so does a member whose task is interrupted
            self._end(members)
            raise
        taking.finish()
        return result

    def _end(self, members: Sequence[Member]) -> None:
        """End the workers of a group that has lost one: the others wait for it. `_settle` starts new ones."""
        for member in members:
            ray.kill(member.actor)
            self.members.remove(member)

    # ---- folders ------------------------------------------------------------------------------

    def _spread(self, wanted: dict[str, Wanted]) -> None:
        """Bring the folders to every node that has not got them."""
        first = list({member.node: member for member in reversed(self.members)}.values())
        answers = self._answers(first, [member.actor.lacks.remote(wanted) for member in first])
        for key, (origin, files) in wanted.items():
            lacking = [member for member, keys in answers if key in keys]
            if lacking:
                self._send(key, origin, files, lacking)

    def _send(self, key: str, origin: Path, files: folders.Listing, members: list[Member]) -> None:
        hashes = folders.hashes(origin, files)
        for piece in folders.pieces(files):
            content = ray.put(folders.read_piece(origin, piece))
            calls = [member.actor.receive.remote(key, piece, content) for member in members]
            members = [member for member, _ in self._answers(members, calls)]
        self._answers(members, [member.actor.seal.remote(key, hashes) for member in members])

    def _answers(self, members: Sequence[Member], references: Sequence[Any]) -> list[tuple[Member, Any]]:
        """What the members answer; one that is lost is left out, and replaced.

        Raises:
            Exception: what a member raised, as that its disk is full.
        """
        answers: list[tuple[Member, Any]] = []
        for member, reference in zip(members, references, strict=True):
            try:
                answers.append((member, ray.get(reference)))
            except RayTaskError as error:
                raise told(error, member) from error
            except LOST as error:
                self.replace(member, error)
        return answers
