"""`sparring status`: which stages of a run are finished."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from sparring.cli.result import Json, print_json, say, table, terminal
from sparring.runtime.layout import MANIFEST, REPORT, SUMMARY_STAGE, round_folder, title_of

if TYPE_CHECKING:
    from sparring.rounds.status import RunStatus


def command(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    verbose: Annotated[bool, typer.Option("--verbose", help="Show all counts of every stage.")] = False,
    json_: Json = False,
) -> None:
    """Show the round, the finished stages with time, memory and counts, and what comes next."""
    from sparring.rounds.status import read_status
    from sparring.runtime.files import read_json

    status = read_status(run)
    if not json_:
        show(status, run, terminal(), verbose)
        return
    stages = read_json(run / MANIFEST) if (run / MANIFEST).exists() else {}
    shown = {"rounds": status.rounds, "rounds_done": status.rounds_done, "finished": status.finished}
    shown |= {"running": status.running, "next": status.next_stage, "seconds": status.seconds}
    shown |= {"seconds_left": status.seconds_left}
    print_json({**shown, "stages": stages, "fit_settings": status.fit_settings})


def show(status: RunStatus, run: Path, screen: Console, verbose: bool) -> None:
    """Show the state of the run, then a line per stage."""
    from sparring.runtime.words import duration, rough

    state = "running now" if status.running else "finished" if status.finished else "not finished"
    done = f"{status.rounds_done} of {status.rounds} rounds fitted, {duration(status.seconds)} so far"
    if status.seconds_left is not None:
        done += f", about {rough(status.seconds_left)} left"
    say(screen, f"{state}: {status.algorithm}, {done} ({run})")
    if status.finished:
        say(screen, *_result(status, run))
    following = title_of(status.next_stage, status.rounds) if status.next_stage else ""
    if status.running:
        say(screen, *([f"now: {following}"] if following else []))
    elif not status.finished:
        say(screen, f"{f'next: {following}; ' if following else ''}give the same `sparring run` command to go on")
    say(screen, *(f"half done: {name}" for name in status.half_done))
    for folder, fields in status.fit_settings.items():
        used = ", ".join(f"{name} {value}" for name, value in fields.items())
        say(screen, f"{title_of(folder)} was fitted before the recipe changed, with {used}")
    rows = []
    for stage in status.stages:
        peak = "" if stage.peak_bytes is None else f"{stage.peak_bytes / 1e9:.1f}"
        counts = stage.counts if verbose else "; ".join(filter(None, (stage.numbers, stage.left_out)))
        rows.append((title_of(stage.name), f"{stage.seconds:.1f}", peak, counts))
    if rows:
        screen.print(table("", ("stage", "time, s", "memory, GB", "counts"), rows))


def _result(status: RunStatus, run: Path) -> list[str]:
    """What a finished run ended in: its headline, its report and its policy."""
    headline = next(stage.numbers for stage in status.stages if stage.name == SUMMARY_STAGE)
    lines = [f"report: {run / REPORT}", f"policy: {run / round_folder(status.rounds - 1).policy}"]
    return [f"result: {headline}", *lines] if headline else lines
