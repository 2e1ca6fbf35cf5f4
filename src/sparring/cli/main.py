"""The `sparring` command: collects the verbs, and turns expected failures into one clear message.

Leaves out: what the verbs do (one file each).
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import signal
import sys
import traceback
import warnings
from typing import Annotated

import typer

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
    serve,
    status,
    study,
    votes,
)
from sparring.runtime.errors import Terminated
from sparring.runtime.files import FULL, cache_folder
from sparring.runtime.launch import LAUNCHED, die_with_launcher
from sparring.runtime.terminal import flush, shielded, terminal, write

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_show_locals=False,  # a local may be a token
    help="Align language models by game-theoretic self-play. Start with: **sparring run demo**",
)
VERBS = (init, plan, run, status, report, samples, serve, compare, study, collect, export)
for verb in (*VERBS, algorithms, recipe, certify, doctor):
    app.command(verb.__name__.rpartition(".")[2])(verb.command)
for verbs in (evaluate, oracle, votes, bench):
    app.add_typer(verbs.group, name=verbs.__name__.rpartition(".")[2])
RESUMABLE = {"run", "collect", "study", "oracle", "evaluate"}
"""verbs that keep finished work in their folder; the others start over"""
REMEDIES = {
    errno.ENAMETOOLONG: "Give a shorter name.",
    errno.ENOENT: "It is not there; check the spelling.",
    errno.ENOTDIR: "A part of this path is a file; give a folder.",
    errno.EISDIR: "It is a folder; give a file.",
}
"""by what the system says of a path"""
TERMINATED = 128 + signal.SIGTERM
"""exit code: schedulers and containers stop a command so"""
NAMELESS = (
    None,
    errno.ENOENT,
    errno.EIO,
    errno.ESTALE,
    errno.EMFILE,
    errno.ENFILE,
    errno.ETIMEDOUT,
    errno.ECONNREFUSED,
)
"""errors of the outside world even where no path is named; others may be faults of ours, and keep their traceback"""


def _print_version(asked: bool) -> None:
    if asked:
        write(f"sparring {__version__}\n")
        raise typer.Exit


VERSION = typer.Option("--version", help="Print the version and stop.", callback=_print_version, is_eager=True)


@app.callback()
def _options(version: Annotated[bool, VERSION] = False) -> None:
    """What comes before the verb."""


def main() -> None:
    """Entry point; exit codes: 0 done, 2 bad input, 3 a stage stopped itself, 130 Ctrl-C, 143 SIGTERM."""
    die_with_launcher()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    for name in ("transformers", "lm_eval"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning)
    with contextlib.suppress(FileNotFoundError):  # a folder that is gone
        sys.path.append(os.getcwd())  # so that `oracle: {path: my_file:judge}` finds my_file.py
    if LAUNCHED not in os.environ:  # a rank's end is told by its launcher
        signal.signal(signal.SIGTERM, _terminate)
    with shielded():
        try:
            try:
                app()
            finally:
                flush()
        except (KeyboardInterrupt, SystemExit) as stop:
            signal.signal(signal.SIGINT, lambda *_: os._exit(130))  # a second Ctrl-C meets Python's own end of threads
            # typer turns Ctrl-C into a silent exit with 130.
            code = stop.code if isinstance(stop, SystemExit) else 130
            if code not in (130, TERMINATED):
                raise
            _fail(f"stopped. {_kept(sys.argv[1:])}", int(code))
        except Exception as error:
            _explain(error)
            # A fault of ours, to be reported; here, where it is shielded.
            sys.excepthook(type(error), error, error.__traceback__)
            sys.exit(1)


def _kept(words: list[str]) -> str:
    """What a command that was stopped leaves behind."""
    if words[:1] == ["run"] and "--check" in words:
        return "--check keeps nothing; the same command starts over."
    if RESUMABLE & set(words[:1]):
        return "What was finished is kept; give the same command to go on."
    return "Nothing is kept of it; the same command starts over."


def _terminate(*_: object) -> None:
    raise Terminated(TERMINATED)


def _explain(error: Exception) -> None:
    """Exit with a message when the failure is an expected one."""
    if isinstance(error, BrokenPipeError):  # of `sparring status RUN | head`: nobody reads on
        sys.exit(1)
    if isinstance(error, UnicodeError):
        _fail(f"error: a text or file name cannot be read or written as UTF-8 ({error}). Save it as UTF-8.", 2)
    if isinstance(error, ValueError):
        _fail(f"error: {error}", 2)
    if isinstance(error, RuntimeError) and type(error).__module__.partition(".")[0] == "sparring":
        _fail(f"stopped: {error}", 3)
    if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        cached = str(error.filename).startswith(str(cache_folder()))
        remedy = "Set SPARRING_CACHE to another folder" if cached else "Give another --out"
        if error.errno == errno.EROFS:
            where = f"{error.filename} is on a file system that can only be read"
            _fail(f"error: {where}. {remedy}, or copy the folder to another one.", 2)
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
    if isinstance(error, OSError) and (error.filename or error.errno in NAMELESS):
        _fail(f"error: {_os_error(error)}", 2)
    if isinstance(error, RecursionError):
        place = traceback.extract_tb(error.__traceback__)[-1]
        _fail(f"error: something that was given is nested too deeply to be read ({place.filename}, {place.name}).", 2)


def _os_error(error: OSError) -> str:
    """What failed, where and a remedy, as far as the system says so."""
    if error.errno is None or not error.filename:
        return str(error.strerror or error)
    remedy = REMEDIES.get(error.errno, "Give another path.")
    return f"{error.filename2 or error.filename}: {error.strerror}. {remedy}"


def _disk_full(error: BaseException | None) -> BaseException | None:
    """The error, or a cause of it, that says that there is no more room; safetensors says so in words only."""
    if error is None:
        return None
    said = any(os.strerror(number) in str(error) for number in FULL)
    return error if said or getattr(error, "errno", None) in FULL else _disk_full(error.__context__)


def _fail(message: str, code: int) -> None:
    terminal(stderr=True).print(message)
    sys.exit(code)


if __name__ == "__main__":
    main()
