"""`sparring samples`: start and final policy side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from sparring.cli.result import PIPE_WIDTH, Json, print_json, say, table, terminal

SIDE_BY_SIDE = 100
"""columns from which two answers stand beside each other"""


def command(
    run: Annotated[Path, typer.Argument(help="A finished run folder.")],
    prompt: Annotated[
        list[str] | None, typer.Option(help="Sample these prompts now instead of showing held-out answers.")
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="How many held-out prompts to show.")] = 8,
    json_: Json = False,
) -> None:
    """Show answers of the start and the final policy, on held-out or on your own prompts.

    Side by side where the terminal has 100 columns, else below each other.
    """
    from sparring.rounds.side_by_side import fresh, held_out

    rows = fresh(run, prompt) if prompt else held_out(run, count)
    if json_:
        print_json(rows)
        return
    screen = terminal()
    for place, row in enumerate(rows):
        show(row, screen, first=place == 0)


def show(row: dict[str, Any], screen: Console, first: bool) -> None:
    """A prompt, and its answers in pairs."""
    if not first:
        screen.print()
    say(screen, row["prompt"])
    pairs = list(zip(row["start"], row["final"], strict=True))
    if SIDE_BY_SIDE <= screen.width < PIPE_WIDTH:
        spaced = [line for pair in pairs for line in (pair, ("", ""))]
        screen.print(table("", ("start", "final"), spaced[:-1]))
        return
    rows = [row for before, after in pairs for row in (("start", before), ("final", after))]
    screen.print(table("", ("", ""), rows))
