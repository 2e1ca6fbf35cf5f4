"""The option `--devices` of verbs whose work several devices can share.

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


def shared(command: Callable[..., None], first: Callable[..., bool] | None = None) -> Callable[..., None]:
    """The command with `--devices`: rank 0 does what it says, the others what rank 0 hands out.

    `first` gets the command's arguments where processes would be started: it raises ValueError for bad ones, and says
    whether they are needed.
    """

    @functools.wraps(command)
    def verb(devices: int | None, **arguments: Any) -> None:
        from sparring.runtime.launch import LAUNCHED, on_devices

        starts = devices is not None and devices > 1 and LAUNCHED not in os.environ
        if starts and first is not None and not first(**arguments):
            devices = None
        on_devices(devices, sys.argv[1:], lambda: command(**arguments))

    signature = inspect.signature(command, eval_str=True)
    *others, json_ = signature.parameters.values()
    option = inspect.Parameter("devices", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Devices)
    keywords = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in (*others, option, json_)]
    verb.__signature__ = signature.replace(parameters=keywords)  # type: ignore[attr-defined]
    verb.__annotations__ = {**command.__annotations__, "devices": Devices}
    return verb
