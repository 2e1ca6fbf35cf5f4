"""Several devices, one process each: rank 0 goes through the run, and all ranks do the heavy tasks that it hands out.

Rank 0 reads and writes the run's files as a single process does. Work that is worth sharing goes through
`on_all_ranks`: a plain function that every rank calls with the same arguments, and that takes its part by `share` or
`deal`. The other ranks wait for the next task. Without a group there is one rank, whose share is everything and whose
sum is its own value. Leaves out: starting the processes (`launch.py`), and sharded weights (`training/sharding.py`).

    with group() as leads:
        if leads: run(recipe, out)
"""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch.distributed import TCPStore  # type: ignore[reportPrivateImportUsage]
from torch.distributed.rendezvous import rendezvous

from sparring.runtime.errors import RaisedByAll, first_line
from sparring.runtime.memory import release_memory

T = TypeVar("T")
PATIENCE = timedelta(days=20)
"""How long ranks wait for each other: a judge may take hours of rank 0. Dead ranks are noticed by the launcher."""

MEETING = timedelta(minutes=10)
"""how long a rank looks for the store at which all meet: it is there before the ranks are"""


class RankLost(RuntimeError):
    """Another rank is gone, so this one cannot go on."""


def count() -> int:
    """The number of ranks that work together; 1 without a group."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """This process' number, from 0; rank 0 writes files and reports."""
    return dist.get_rank() if dist.is_initialized() else 0


def on_device(model: Any) -> Any:
    """The model on this process' GPU, where there is one; quantised models are there already."""
    return model.to("cuda") if torch.cuda.is_available() and not getattr(model, "is_quantized", False) else model


# ---- the group ------------------------------------------------------------------------------------


def announced() -> int:
    """The number of ranks that the environment announces (`RANK` and `WORLD_SIZE`, as torchrun sets them), or 0."""
    return int(os.environ["WORLD_SIZE"]) if {"RANK", "WORLD_SIZE"} <= os.environ.keys() else 0


@contextlib.contextmanager
def group() -> Iterator[bool]:
    """Join the ranks that the environment announces; yields whether this is rank 0.

    For the others this returns when rank 0 has no more tasks: nothing is left to do.

    Raises:
        ValueError: this machine has fewer GPUs than ranks.
    """
    if announced() < 2:
        yield True
        return
    check_gpus(int(os.environ.get("LOCAL_WORLD_SIZE", announced())))
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", os.environ["RANK"])))
    with _lost():
        form_group(*next(rendezvous("env://", timeout=MEETING)))
    # Not destroyed when an exception passes: that could wait for ranks that wait for this one.
    if rank() == 0:
        yield True
        broadcast(None)
    else:
        _follow()
        yield False
    dist.destroy_process_group()


def meeting(address: str = "127.0.0.1") -> Any:
    """The store at which ranks meet; the system chooses its port, so no two runs collide."""
    return TCPStore(address, 0, is_master=True, wait_for_workers=False)


def store_at(address: str, port: int) -> Any:
    """The store that another process made by `meeting`."""
    with _lost():
        return TCPStore(address, port, is_master=False, timeout=MEETING)


def form_group(store: Any, number: int, size: int) -> None:
    """Be rank `number` of those that meet at the store, until `leave_group`."""
    store.set_timeout(PATIENCE)
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    with _lost():
        dist.init_process_group(backend, timeout=PATIENCE, store=store, rank=number, world_size=size)


def leave_group() -> None:
    """Be alone again."""
    dist.destroy_process_group()


def check_gpus(wanted: int) -> None:
    """Raise a ValueError where there are GPUs, but not one per rank."""
    have = torch.cuda.device_count()
    if 0 < have < wanted:
        raise ValueError(
            f"--devices {wanted}: {have} GPUs are visible. Give --devices {have}, or set CUDA_VISIBLE_DEVICES."
        )


def on_all_ranks(task: Callable[..., T], *args: Any, **callbacks: Any) -> T:
    """Call `task(*args)` on every rank; returns rank 0's result when all are done.

    Only rank 0 calls this, while the others wait in `group`. Task and arguments are pickled; `callbacks` (progress,
    reports) are passed on rank 0 alone.

    Raises:
        RankLost: another rank ended.
    """
    if count() == 1:
        return task(*args, **callbacks)
    broadcast((task, args))
    result = task(*args, **callbacks)
    all_gather(None)  # nothing is exchanged: rank 0 goes on only when every rank has finished
    return result


def _follow() -> None:
    """Do rank 0's tasks until it says that there are no more."""
    nothing: Any = None
    while (message := broadcast(nothing)) is not None:
        task, args = message
        with contextlib.suppress(RaisedByAll):
            task(*args)
            all_gather(None)
        del task, args, message  # they hold a model and its data while rank 0 goes on alone
        release_memory()


# ---- inside a task ----------------------------------------------------------------------------------


def share(items: Sequence[T]) -> Sequence[T]:
    """This rank's part of the items: every N-th of them, for N ranks."""
    return items[rank() :: count()]


def portion() -> str:
    """The words that a progress bar of rank 0 adds where it shows rank 0's share only."""
    return "" if count() == 1 else f", 1 of {count()} shares"


def deal(sizes: Sequence[int]) -> list[int]:
    """Indices of this rank's items, in rising order, so that all ranks get about the same sum of sizes.

    Greedy (longest processing time first): the largest item first, each to the rank with the smallest sum so far.
    """
    loads = [0] * count()
    owners = [0] * len(sizes)
    for index in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
        owners[index] = min(range(count()), key=loads.__getitem__)
        loads[owners[index]] += sizes[index]
    return [index for index, owner in enumerate(owners) if owner == rank()]


def all_gather(value: T) -> list[T]:
    """The values of all ranks in rank order, on every rank; all ranks call it, and wait for each other."""
    if count() == 1:
        return [value]
    values: list[Any] = [None] * count()
    with _lost():
        dist.all_gather_object(values, value)
    return values


def broadcast(value: T) -> T:
    """Rank 0's value, on every rank; all ranks call it, and wait for rank 0."""
    if count() == 1:
        return value
    box: list[Any] = [value]
    with _lost():
        dist.broadcast_object_list(box, src=0)
    return box[0]


def add_gradients(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Replace every gradient by its sum over ranks; FSDP has summed those of sharded weights (`DTensor`) already."""
    if count() == 1:
        return
    from torch.distributed.tensor import DTensor  # slow to import, and one rank never needs it

    replicated = [p for p in parameters if p.requires_grad and not isinstance(p, DTensor)]
    for p in replicated:
        if p.grad is None:  # this rank had no example in this step
            p.grad = torch.zeros_like(p)
    with _lost():
        for work in [dist.all_reduce(p.grad, async_op=True) for p in replicated]:
            assert work is not None
            work.wait()


@contextlib.contextmanager
def one_at_a_time() -> Iterator[None]:
    """Ranks run this block one after the other, so that the main memory it takes is needed once and not N times."""
    for turn in range(count()):
        if turn == rank():
            yield
        all_gather(None)  # waits for all ranks


def seed_noise(*parts: object) -> None:
    """Seed torch from what the noise is for, differently on every rank."""
    torch.manual_seed(random.Random("/".join(map(str, (*parts, rank())))).getrandbits(63))


@contextlib.contextmanager
def _lost() -> Iterator[None]:
    """Raise `RankLost` for the many errors by which gloo and NCCL report that a rank is gone."""
    try:
        yield
    except RuntimeError as error:
        raise RankLost(f"another rank is gone ({first_line(error)})") from error
