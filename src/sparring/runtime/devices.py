"""Several devices, one process each: rank 0 goes through the run, and all ranks do the heavy tasks that it hands out.

Rank 0 reads and writes the run's files as a single process does. What is worth sharing it hands to `together`: a plain
function that every rank calls with the same arguments and that takes its part by `share` or `deal`. The other ranks
wait for the next task. Without a group there is one rank, a share is the whole and a sum is its own: the same code.
Leaves out: starting the processes (`launch.py`), and weights cut over devices (`training/sharding.py`).

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

from sparring.runtime.memory import release_memory

T = TypeVar("T")
PATIENCE = timedelta(days=20)
"""How long ranks wait for each other: a judge may take hours of rank 0. Dead ranks are noticed by the launcher."""


class RaisedByAll(RuntimeError):
    """Raised in a task on every rank alike: rank 0 may go on to another task, and the others wait for it."""


class RankLost(RuntimeError):
    """Another rank is gone, so this one cannot go on."""


def count() -> int:
    """How many ranks work together; 1 without a group."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """This process' number; 0 writes files and speaks."""
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
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", os.environ["RANK"])))
    dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo", timeout=PATIENCE)
    # Not destroyed when an exception passes: that could wait for ranks that wait for this one.
    if rank() == 0:
        yield True
        _told(None)
    else:
        _follow()
        yield False
    dist.destroy_process_group()


def check_gpus(wanted: int) -> None:
    """Raise a ValueError where there are GPUs, but not one per rank."""
    have = torch.cuda.device_count()
    if 0 < have < wanted:
        raise ValueError(
            f"--devices {wanted}: {have} GPUs are visible. Give --devices {have}, or set CUDA_VISIBLE_DEVICES."
        )


def together(task: Callable[..., T], *args: Any, **mine: Any) -> T:
    """Call `task(*args)` on every rank; returns rank 0's result when all are done.

    Rank 0 calls it; task and arguments are pickled. Keywords (progress, callbacks) stay with rank 0.
    """
    if count() == 1:
        return task(*args, **mine)
    _told((task, args))
    result = task(*args, **mine)
    agreed(None)
    return result


def _follow() -> None:
    """Do rank 0's tasks until it says that there are no more."""
    while (message := _told(None)) is not None:
        task, args = message
        with contextlib.suppress(RaisedByAll):
            task(*args)
            gathered(None)
        del task, args, message
        release_memory()


# ---- inside a task ----------------------------------------------------------------------------------


def share(items: Sequence[T]) -> Sequence[T]:
    """This rank's part: every N-th item."""
    return items[rank() :: count()]


def portion() -> str:
    """What a progress bar of rank 0 adds where it shows rank 0's share only."""
    return "" if count() == 1 else f", 1 of {count()} shares"


def deal(sizes: Sequence[int]) -> list[int]:
    """Indices of this rank's part: the largest first, each to the rank that has least so far."""
    loads = [0] * count()
    owners = [0] * len(sizes)
    for index in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
        owners[index] = min(range(count()), key=loads.__getitem__)
        loads[owners[index]] += sizes[index]
    return [index for index, owner in enumerate(owners) if owner == rank()]


def gathered(value: T) -> list[T]:
    """Every rank's value, on every rank."""
    if count() == 1:
        return [value]
    values: list[Any] = [None] * count()
    with _lost():
        dist.all_gather_object(values, value)
    return values


def agreed(value: T) -> T:
    """Rank 0's value, on every rank."""
    return gathered(value)[0]


def add_gradients(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Replace every gradient by its sum over ranks; cut weights (`DTensor`) have theirs added already."""
    if count() == 1:
        return
    from torch.distributed.tensor import DTensor  # slow to import, and one rank never needs it

    whole = [p for p in parameters if p.requires_grad and not isinstance(p, DTensor)]
    for p in whole:
        if p.grad is None:  # this rank had no example in this step
            p.grad = torch.zeros_like(p)
    with _lost():
        for work in [dist.all_reduce(p.grad, async_op=True) for p in whole]:
            assert work is not None
            work.wait()


@contextlib.contextmanager
def one_at_a_time() -> Iterator[None]:
    """Ranks enter one after the other: what they need much memory for they do not need at once."""
    for _ in range(rank()):
        gathered(None)
    yield
    for _ in range(rank(), count()):
        gathered(None)


def seed_noise(*parts: object) -> None:
    """Seed torch from what the noise is for, differently on every rank."""
    torch.manual_seed(random.Random("/".join(map(str, (*parts, rank())))).getrandbits(63))


def _told(message: Any) -> Any:
    """What rank 0 says."""
    box = [message]
    with _lost():
        dist.broadcast_object_list(box, src=0)
    return box[0]


@contextlib.contextmanager
def _lost() -> Iterator[None]:
    """Name what gloo and NCCL call by many names."""
    try:
        yield
    except RuntimeError as error:
        raise RankLost(f"another rank is gone ({str(error).splitlines()[0]})") from error
