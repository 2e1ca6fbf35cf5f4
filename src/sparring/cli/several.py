"""The options `--devices` and `--cluster` of verbs whose work several devices can share.

    @shared
    def command(recipe: str, json_: bool = False) -> None: ...

`@partial(shared, first=check)` checks the same arguments before any other process is started.
"""

from __future__ import annotations

import functools
import inspect
import os
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

Devices = Annotated[
    int | None,
    typer.Option(min=1, help="GPUs (or processes on a CPU) that share the work. Default: one, or torchrun's."),
]
Cluster = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS",
        help="Ray cluster that shares the work: auto (this machine's), local (one for this command), or HOST:PORT.",
    ),
]
OPTIONS = {"devices": Devices, "cluster": Cluster}


def shared(command: Callable[..., None], first: Callable[..., bool] | None = None) -> Callable[..., None]:
    """The command with `--devices` and `--cluster`: this process does what it says, and others share the work.

    `first` gets the command's arguments where processes would be started: it raises ValueError for bad ones, and says
    whether they are needed.
    """

    @functools.wraps(command)
    def verb(devices: int | None, cluster: str | None, **arguments: Any) -> None:
        from sparring.runtime.launch import LAUNCHED, on_devices

        work = functools.partial(command, **arguments)
        starts = (cluster is not None or (devices or 1) > 1) and LAUNCHED not in os.environ
        if starts and first is not None and not first(**arguments):
            devices = cluster = None
        if cluster is None:
            on_devices(devices, sys.argv[1:], work)
        else:
            on_cluster(cluster, devices, work)

    signature = inspect.signature(command, eval_str=True)
    *others, json_ = signature.parameters.values()
    options = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
        for name, annotation in OPTIONS.items()
    ]
    keywords = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in (*others, *options, json_)]
    verb.__signature__ = signature.replace(parameters=keywords)  # type: ignore[attr-defined]
    verb.__annotations__ = {**command.__annotations__, **OPTIONS}
    return verb


def on_cluster(address: str, devices: int | None, work: Callable[[], None]) -> None:
    """Do `work` with its shards on the workers of a Ray cluster.

    Raises:
        ValueError: Ray is not installed, nothing answers there, devices are missing, or nodes differ.
    """
    from sparring.fleet.join import cluster
    from sparring.fleet.work import using

    with cluster(None if address == "local" else address, devices) as fleet, using(fleet):
        work()
