"""`sparring plan`: what a run will need, before anything runs."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from sparring.cli.inputs import Recipe, Set
from sparring.cli.result import Json, print_json, say, table, terminal
from sparring.runtime.words import duration

if TYPE_CHECKING:
    from sparring.planning.plan import Plan


def command(
    recipe: Recipe,
    gpus: Annotated[
        str, typer.Option(help="1xH100, A100-40, ..., cpu (this machine's memory) or cpu:64 (GB).")
    ] = "cpu",
    set_: Set = None,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show the parts of every stage's memory.")] = False,
    json_: Json = False,
) -> None:
    """Estimate memory per stage, tokens, time and disk of a run, from the model's configuration alone.

    Exit code 1 if a stage cannot fit; then it says which field of the recipe to change.
    """
    from sparring.planning.machine import parse_machine
    from sparring.planning.plan import make_plan
    from sparring.recipe.reading import load_recipe

    plan = make_plan(load_recipe(recipe, set_ or []), parse_machine(gpus))
    if json_:
        print_json(plan.plain())
    else:
        show(plan, terminal(), verbose)
    if not plan.fits:
        sys.exit(1)


def show(plan: Plan, screen: Console, verbose: bool) -> None:
    """Show whether the run fits, its time, the table of stages, and the assumptions."""
    machine = plan.machine
    say(screen, *verdict(plan))
    rows = []
    for stage in plan.stages:
        tokens = "?" if stage.tokens is None else f"{stage.tokens:,}"
        times = (duration(stage.expected), duration(stage.seconds))
        rows.append((stage.name, str(stage.times), f"{stage.peak / 1e9:.1f}", tokens, *times))
    columns = ("stage", "times", "memory, GB", "tokens, at most", "time, expected", "time, at most")
    each = f"{machine.count} x {machine.name}, {gigabytes(machine.memory)} each" if machine.count > 1 else ""
    name = each or f"{machine.name}, {gigabytes(machine.memory)}"
    title = f"{name}: {plan.parameters:,} parameters, {plan.trained:,} trained"
    screen.print(table(f"\n{title}", columns, rows))
    if verbose:
        parts = [(stage.name, part, gigabytes(size)) for stage in plan.stages for part, size in stage.memory.items()]
        screen.print(table("", ("stage", "of its memory", "size"), parts))
    say(screen, "", *assumptions(plan))


def verdict(plan: Plan) -> list[str]:
    """The headline, and for stages that do not fit what would help."""
    times = f"expected {duration(plan.expected)}, at most {duration(plan.seconds)}, without the oracle's time"
    lines = [f"{'fits' if plan.fits else 'does not fit'}; {times}"]
    for name, change in plan.knobs.items():
        stage = next(stage for stage in plan.stages if stage.name == name)
        short = f"{name} needs {gigabytes(stage.peak)} and has {gigabytes(plan.capacity)}"
        if change is None:
            lines.append(f"does not fit: {short}; no field is enough. Take a smaller model or more memory.")
        else:
            knobs = " ".join(f"--set {key}={json.dumps(value)}" for key, value in change.items())
            lines.append(f"does not fit: {short}. It would with: {knobs}")
    lines += [f"warning: {problem} Until then the recipe's limits stand for it." for problem in plan.lengths.missing]
    if plan.machine.busy:
        lines.append(
            f"warning: this machine is busy: {plan.machine.load:.1f} other processes per core in the last "
            f"minute. While they last, the run may take up to {plan.machine.delay:.1f} times as long."
        )
    return [*lines, f"warning: {plan.warning}"] if plan.warning else lines


def assumptions(plan: Plan) -> list[str]:
    """The assumptions behind the numbers, and the disk space."""
    lengths, machine = plan.lengths, plan.machine
    source = "read from the data" if lengths.read else "the recipe's limits: the data or the tokenizer is not here"
    lines = [
        f"lengths: prompts of {lengths.prompt} tokens, {source}; responses of {plan.response} tokens expected, "
        "of sampling.max_new_tokens at most"
    ]
    if machine.kind == "cpu":
        lines.append(
            f"speed: {machine.flops / 1e9:,.0f} billion operations a second in matrix products while nothing else "
            "runs, from the CPU time of one timed just now"
        )
    if machine.count > 1:
        lines.append(f"devices: {machine.count}, with `sparring run RECIPE --devices {machine.count}`")
    disk = ", ".join(f"{name} {gigabytes(size)}" for name, size in plan.disk.items())
    return [*lines, f"disk: {disk}"]


def gigabytes(size: float) -> str:
    """A number of bytes in GB or MB."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"
