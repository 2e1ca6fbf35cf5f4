"""`--devices` for verbs whose work several devices can share.

@app.command("collect")
@shared
def command(recipe: str, json_: bool = False) -> None: ...
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

Devices = Annotated[
    int | None,
    typer.Option(min=1, help="GPUs (or processes on a CPU) that share the work. Default: one, or torchrun's."),
]


def shared(command: Callable[..., None]) -> Callable[..., None]:
    """The command with `--devices`: rank 0 does what it says, the others what rank 0 hands out."""

    @functools.wraps(command)
    def verb(devices: int | None, **given: Any) -> None:
        from sparring.launch import on_devices

        on_devices(devices, sys.argv[1:], lambda: command(**given))

    signature = inspect.signature(command, eval_str=True)
    *others, json_ = signature.parameters.values()
    option = inspect.Parameter("devices", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Devices)
    keywords = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in (*others, option, json_)]
    verb.__signature__ = signature.replace(parameters=keywords)  # type: ignore[attr-defined]
    verb.__annotations__ = {**command.__annotations__, "devices": Devices}
    return verb
