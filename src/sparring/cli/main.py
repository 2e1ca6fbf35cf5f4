"""The `sparring` command: collects the verbs, and turns expected failures into one clear message.

Leaves out: what the verbs do (one file each).
"""

from __future__ import annotations

import errno
import logging
import os
import sys
import warnings

import typer
from rich.console import Console

from sparring.cli import algorithms, recipe, report, run, samples, status

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    help="Align language models by game-theoretic self-play. Start with: **sparring run recipes/demo.yaml**",
)
for module in (run, status, report, samples, algorithms, recipe):
    module.register(app)


def main() -> None:
    """Entry point; exit codes: 0 done, 2 bad input, 3 a stage stopped itself, 130 Ctrl-C."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    logging.getLogger("transformers").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning)
    try:
        app()
    except KeyboardInterrupt:
        _fail("stopped. What was finished is kept; give the same command to go on.", 130)
    except ValueError as error:
        _fail(f"error: {error}", 2)
    except RuntimeError as error:
        if type(error).__module__.partition(".")[0] != "sparring":
            raise
        _fail(f"stopped: {error}", 3)
    except PermissionError as error:
        _fail(f"error: no permission to write {error.filename}. Give another --out, or change its owner.", 2)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        _fail("stopped: the disk is full. Free some space and give the same command to go on.", 3)


def _fail(message: str, code: int) -> None:
    Console(stderr=True, highlight=False, soft_wrap=True).print(message, markup=False)
    sys.exit(code)


if __name__ == "__main__":
    main()
