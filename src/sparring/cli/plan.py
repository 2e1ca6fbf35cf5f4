"""`sparring plan`: what a run will need, before anything runs."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from sparring.planning.plan import Plan


def register(app: typer.Typer) -> None:
    """Add the verb."""

    @app.command("plan")
    def command(
        recipe: Annotated[str, typer.Argument(help="A recipe file, or the name of a shipped one.")],
        gpus: Annotated[
            str, typer.Option(help="1xH100, A100-40, ..., cpu (this machine's memory) or cpu:64 (GB).")
        ] = "cpu",
        set_: Annotated[
            list[str] | None,
            typer.Option("--set", help="Change a field: section.field=value. May be repeated."),
        ] = None,
        json_: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
    ) -> None:
        """Estimate memory per stage, tokens, time and disk of a run, from the model's configuration alone.

        Exit code 1 if a stage cannot fit; then it says which field of the recipe to change.
        """
        from sparring.planning.machine import parse_machine
        from sparring.planning.plan import make_plan
        from sparring.recipe.reading import load_recipe

        plan = make_plan(load_recipe(recipe, set_ or []), parse_machine(gpus))
        if json_:
            print(json.dumps(plan.facts()))
        else:
            show(plan, Console(highlight=False, soft_wrap=True))
        if not plan.fits:
            sys.exit(1)


def show(plan: Plan, console: Console) -> None:
    """The table, what it assumes, and the verdict."""
    machine = plan.machine
    title = f"{machine.name}, {gigabytes(machine.memory)}: {plan.parameters:,} parameters, {plan.trained:,} trained"
    table = Table(title=title, title_justify="left")
    for column in ("stage", "times", "peak memory", "of which", "tokens, at most", "time, at most"):
        table.add_column(column)
    for stage in plan.stages:
        parts = ", ".join(f"{name} {gigabytes(size)}" for name, size in stage.memory.items())
        tokens = "?" if stage.tokens is None else f"{stage.tokens:,}"
        row = (stage.name, str(stage.times), gigabytes(stage.peak), parts, tokens, duration(stage.seconds))
        table.add_row(*row)
    console.print(table)
    for line in remarks(plan):
        console.print(line, markup=False)


def remarks(plan: Plan) -> list[str]:
    """What stands under the table."""
    disk = ", ".join(f"{name} {gigabytes(size)}" for name, size in plan.disk.items())
    lines = [f"disk: {disk}", f"time: at most {duration(plan.seconds)} in all, without the oracle's"]
    if plan.machine.kind == "cpu":
        lines.append(f"speed: {plan.machine.flops / 1e9:,.0f} billion operations a second, timed just now{_others()}")
    lengths = plan.lengths
    source = "read from the data" if lengths.read else "the recipe's limits: the data or the tokenizer is not here"
    lines.append(f"lengths: prompts of {lengths.prompt} tokens, {source}")
    if plan.machine.count > 1:
        lines.append(f"devices: {plan.machine.count}, with `sparring run RECIPE --devices {plan.machine.count}`")
    for name, change in plan.knobs.items():
        stage = next(stage for stage in plan.stages if stage.name == name)
        short = f"{name} needs {gigabytes(stage.peak)} and has {gigabytes(plan.capacity)}"
        if change is None:
            lines.append(f"does not fit: {short}; no field is enough. Take a smaller model or more memory.")
        else:
            knobs = " ".join(f"--set {key}={json.dumps(value)}" for key, value in change.items())
            lines.append(f"does not fit: {short}. It would with: {knobs}")
    return [*lines, "fits"] if plan.fits else lines


def _others() -> str:
    """What else was running while this machine's speed was timed."""
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    if load < cores / 2:
        return ""
    return f" beside other work ({load:.1f} processes on {cores} cores): times are those of a machine this busy"


def gigabytes(size: float) -> str:
    """Bytes for people."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def duration(seconds: float | None) -> str:
    """Seconds for people."""
    if seconds is None:
        return "?"
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
