"""`sparring status`: which stages of a run are finished."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from sparring.cli.result import Json, percent_cells, print_json, say, table, terminal
from sparring.runtime.layout import MANIFEST, REPORT, SUMMARY_STAGE, USAGE, round_folder, title_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sparring.evaluation.best_policy import EvaluatedPolicy
    from sparring.fleet.work import Standing
    from sparring.rounds.status import Now, RunStatus


def command(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    verbose: Annotated[bool, typer.Option("--verbose", help="Show all counts of every stage.")] = False,
    json_: Json = False,
) -> None:
    """Show the round, the finished stages with time, memory and counts, and what comes next."""
    from sparring.endpoints.usage import UsageFile
    from sparring.rounds.status import read_status
    from sparring.runtime.files import read_json

    status, used = read_status(run), UsageFile(run / USAGE)
    if not json_:
        show(status, run, terminal(), verbose)
        say(terminal(), *used.lines())
        return
    stages = read_json(run / MANIFEST) if (run / MANIFEST).exists() else {}
    shown = {"rounds": status.rounds, "rounds_done": status.rounds_done, "finished": status.finished}
    shown |= {"running": status.running, "next": status.next_stage, "seconds": status.seconds}
    shown |= {"seconds_left": status.seconds_left, "evaluated": status.evaluated, "best": status.best}
    shown |= {"stopped": status.stopped, "now": status.now, "kept": status.kept, "used": used.read()}
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
        say(screen, *([f"now: {following}"] if following else []), *doing(status.now))
    elif not status.finished:
        say(screen, f"{f'next: {following}; ' if following else ''}give the same `sparring run` command to go on")
    if status.best is not None or status.stopped is not None:
        from sparring.evaluation.best_policy import in_words, stop_in_words

        say(screen, *([in_words(status.best)] if status.best else []))
        say(screen, *([stop_in_words(status.stopped)] if status.stopped else []))
    if status.kept is not None:
        kept = ", ".join(map(str, status.kept)) or "none"
        say(screen, f"policies on disk, beside the start: {kept} (keep_iterates, keep_every)")
    say(screen, *(f"half done: {name}" for name in status.half_done))
    for folder, fields in status.fit_settings.items():
        used = ", ".join(f"{name} {value}" for name, value in fields.items())
        say(screen, f"{title_of(folder)} was fitted before the recipe changed, with {used}")
    rows = []
    for stage in status.stages:
        peak = "" if stage.peak_bytes is None else f"{stage.peak_bytes / 1e9:.1f}"
        counts = stage.counts if verbose else "; ".join(filter(None, (stage.numbers, stage.left_out)))
        rows.append((title_of(stage.name), f"{stage.seconds:.1f}", peak, counts))
    if status.evaluated:
        show_evaluated(status.evaluated, screen)
    if rows:
        screen.print(table("", ("stage", "time, s", "memory, GB", "counts"), rows))
    if status.now is not None and status.now.nodes:
        show_nodes(status.now.nodes, screen)


def doing(now: Now | None) -> list[str]:
    """How far the stage is that goes on, in a line: "round 1/2  sample own  96/512, 4.1 a second, about 2 min left"."""
    from sparring.runtime.words import rough

    if now is None:
        return []
    line = f"{now.doing}  {now.done:,}{'' if now.total is None else f'/{now.total:,}'}"
    if now.per_second is not None:
        line += f", {now.per_second:.3g} a second"
    return [line if now.seconds_left is None else f"{line}, about {rough(now.seconds_left)} left"]


def show_nodes(nodes: Sequence[Standing], screen: Console) -> None:
    """A row per machine of the cluster."""
    rows = [
        (one["node"], str(one["workers"] or "lost"), f"{one['shards']:,}", f"{one['per_second']:.3g}") for one in nodes
    ]
    screen.print(table("nodes, in this stage", ("node", "workers", "shards", "shards a second"), rows))


def show_evaluated(policies: Sequence[EvaluatedPolicy], screen: Console) -> None:
    """A row per evaluated policy; figures that nobody could measure have no column."""
    columns = {
        "policy": [str(policy["round"]) for policy in policies],
        "wins, %": [percent_cells(policy["win_rate"])[0] for policy in policies],
        "95 % interval": [percent_cells(policy["win_rate"])[1] for policy in policies],
        "checks, points": [percent_cells(policy["checks"], "+")[0] for policy in policies],
        "95 % interval ": [percent_cells(policy["checks"], "+")[1] for policy in policies],
        "gap": ["-" if policy["gap"] is None else f"{policy['gap'].value:.3f}" for policy in policies],
        "tokens": [_number(policy["tokens_mean"], ".1f") for policy in policies],
        "KL": [_number(policy["kl_to_start"], ".3g") for policy in policies],
    }
    known = {name: cells for name, cells in columns.items() if set(cells) != {"-"}}
    title = "evaluated policies, against the start on held-out prompts"
    screen.print(table(title, [name.rstrip() for name in known], list(zip(*known.values(), strict=True))))


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else f"{value:{form}}"


def _result(status: RunStatus, run: Path) -> list[str]:
    """What a finished run ended in: its headline, its report and its policy."""
    headline = next(stage.numbers for stage in status.stages if stage.name == SUMMARY_STAGE)
    lines = [f"report: {run / REPORT}", f"policy: {run / round_folder(status.rounds - 1).policy}"]
    return [f"result: {headline}", *lines] if headline else lines
