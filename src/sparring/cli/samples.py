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
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    prompt: Annotated[
        list[str] | None, typer.Option(help="Sample these prompts now instead of showing held-out answers.")
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="How many held-out prompts to show.")] = 8,
    json_: Json = False,
) -> None:
    """Show answers of the start and the final policy, on held-out or on your own prompts.

    Side by side where the terminal has 100 columns, else below each other. Of a run that is not finished: the newest
    responses that it trains on.
    """
    from sparring.rounds.side_by_side import fresh, held_out, in_training
    from sparring.runtime.layout import SUMMARY, is_run

    unfinished = not prompt and is_run(run) and not (run / SUMMARY).exists()
    rows = fresh(run, prompt) if prompt else in_training(run, count) if unfinished else held_out(run, count)
    if json_:
        print_json(rows)
        return
    screen = terminal()
    if unfinished:
        show_training(rows, screen)
        return
    for place, row in enumerate(rows):
        show(row, screen, first=place == 0)


def show_training(rows: list[dict[str, Any]], screen: Console) -> None:
    """Each prompt with the responses of one round."""
    say(screen, f"not finished: the responses that {rows[0]['stage']} trains on")
    for row in rows:
        screen.print()
        say(screen, row["prompt"])
        screen.print(table("", ("", ""), [(answer["policy"], answer["text"]) for answer in row["answers"]]))


def show(row: dict[str, Any], screen: Console, first: bool) -> None:
    """A prompt, and its answers in pairs."""
    if not first:
        screen.print()
    say(screen, row["prompt"])
    if row["preference"] is not None:
        say(screen, f"the oracle's preference for the final policy's answers: {row['preference']:.0%}")
    pairs = list(zip(row["start"], row["final"], strict=True))
    if SIDE_BY_SIDE <= screen.width < PIPE_WIDTH:
        spaced = [line for pair in pairs for line in (pair, ("", ""))]
        screen.print(table("", ("start", "final"), spaced[:-1]))
        return
    rows = [row for before, after in pairs for row in (("start", before), ("final", after))]
    screen.print(table("", ("", ""), rows))
