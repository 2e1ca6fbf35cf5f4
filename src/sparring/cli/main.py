"""The `sparring` command: collects the verbs, and turns expected failures into one clear message.

Leaves out: what the verbs do (one file each).
"""

from __future__ import annotations

import errno
import logging
import os
import sys
import warnings
from typing import Annotated

import typer
from rich.console import Console

from sparring import __version__
from sparring.cli import (
    algorithms,
    bench,
    certify,
    collect,
    compare,
    doctor,
    evaluate,
    export,
    init,
    oracle,
    plan,
    recipe,
    report,
    run,
    samples,
    status,
    study,
)
from sparring.runtime.files import FULL, cache_folder

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_show_locals=False,  # a local may be a token
    help="Align language models by game-theoretic self-play. Start with: **sparring run demo**",
)
VERBS = (init, plan, run, status, report, samples, compare, study, collect, export)
for verb in (*VERBS, algorithms, recipe, certify, doctor):
    app.command(verb.__name__.rpartition(".")[2])(verb.command)
for verbs in (evaluate, oracle, bench):
    app.add_typer(verbs.group, name=verbs.__name__.rpartition(".")[2])


def _print_version(asked: bool) -> None:
    if asked:
        print(f"sparring {__version__}")
        raise typer.Exit


VERSION = typer.Option("--version", help="Print the version and stop.", callback=_print_version, is_eager=True)


@app.callback()
def _options(version: Annotated[bool, VERSION] = False) -> None:
    """What comes before the verb."""


def main() -> None:
    """Entry point; exit codes: 0 done, 2 bad input, 3 a stage stopped itself, 130 Ctrl-C."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    for name in ("transformers", "lm_eval"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning)
    sys.path.append(os.getcwd())  # so that `oracle: {path: my_file:judge}` finds my_file.py
    try:
        app()
    except (KeyboardInterrupt, SystemExit) as stop:
        # typer turns Ctrl-C into a silent exit with 130.
        if isinstance(stop, SystemExit) and stop.code != 130:
            raise
        _fail("stopped. What was finished is kept; give the same command to go on.", 130)
    except Exception as error:
        _explain(error)
        raise


def _explain(error: Exception) -> None:
    """Exit with a message when the failure is an expected one."""
    if isinstance(error, ValueError):
        _fail(f"error: {error}", 2)
    if isinstance(error, RuntimeError) and type(error).__module__.partition(".")[0] == "sparring":
        _fail(f"stopped: {error}", 3)
    if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        cached = str(error.filename).startswith(str(cache_folder()))
        remedy = "Set SPARRING_CACHE to another folder" if cached else "Give another --out"
        _fail(f"error: no permission for {error.filename}. {remedy}, or change its owner.", 2)
    if isinstance(error, FileNotFoundError) and "temporary directory" in str(error):
        _fail("error: no folder for temporary files can be written. Set TMPDIR to one that can.", 2)
    if isinstance(error, RuntimeError) and "home directory" in str(error):
        _fail("error: this user has no home folder, so ~ names none. Set HOME, or write the paths out.", 2)
    if isinstance(error, ImportError) and "SOCKS" in str(error):  # of the hub's client
        remedy = "Unset ALL_PROXY, or install what its HTTP client needs"
        _fail(f"error: the environment's SOCKS proxy cannot be used. {remedy}: {error}", 2)
    if (full := _disk_full(error)) is not None:
        what = FULL.get(getattr(full, "errno", None) or errno.ENOSPC, "the disk is full")
        name = getattr(full, "filename", None)
        place = f" ({name} was not written)" if name else ""
        _fail(f"stopped: {what}{place}. Free some space and give the same command to go on.", 3)


def _disk_full(error: BaseException | None) -> BaseException | None:
    """The error, or a cause of it, that says that there is no more room; safetensors says so in words only."""
    if error is None:
        return None
    said = any(os.strerror(number) in str(error) for number in FULL)
    return error if said or getattr(error, "errno", None) in FULL else _disk_full(error.__context__)


def _fail(message: str, code: int) -> None:
    Console(stderr=True, highlight=False, soft_wrap=True).print(message, markup=False)
    sys.exit(code)


if __name__ == "__main__":
    main()
