"""`sparring run`: start or resume a run."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from sparring.cli.several import shared

if TYPE_CHECKING:
    from sparring.report.summary import Judgment, Summary


def register(app: typer.Typer) -> None:
    """Add the verb."""

    @app.command("run")
    @partial(shared, first=readable)
    def command(
        recipe: Annotated[
            str,
            typer.Argument(help="A recipe file, or the name of a shipped one (see `sparring recipe`)."),
        ],
        set_: Annotated[
            list[str] | None,
            typer.Option("--set", help="Change a field: section.field=value. May be repeated."),
        ] = None,
        out: Annotated[Path | None, typer.Option(help="Run folder. Default: runs/NAME-OF-RECIPE.")] = None,
        json_: Annotated[bool, typer.Option("--json", help="Print the summary's headline as JSON.")] = False,
    ) -> None:
        """Start a run, or resume it where it stopped: the same command does both.

        Every round samples, judges, pairs, measures anchors and fits; then the policy is evaluated on held-out
        prompts and a report is written. A killed run loses at most the batch or checkpoint it was in, and may go on
        with another number of devices.
        """
        from sparring.recipe.reading import load_recipe
        from sparring.rounds.run import run
        from sparring.runtime.progress import Progress

        folder = out or Path("runs") / Path(recipe).stem
        console = Console(file=sys.stderr if json_ else sys.stdout, highlight=False, soft_wrap=True)
        summary = run(load_recipe(recipe, set_ or []), folder, Progress(console))
        if json_:
            keys = ("name", "headline", "judgments", "checks", "warnings")
            print(json.dumps({key: summary[key] for key in keys}, default=asdict))
        else:
            show(summary, folder, console)


def readable(recipe: str, set_: list[str] | None, **_: Any) -> bool:
    """Read the recipe, so that a bad one starts no process."""
    from sparring.recipe.reading import load_recipe

    load_recipe(recipe, set_ or [])
    return True


def show(summary: Summary, folder: Path, console: Console) -> None:
    """The table at the end of a run."""
    table = Table(title=f"{summary['name']}: final policy against the start, held out")
    for column in ("judgment", "in training", "win rate", "95 % interval", "mean preference"):
        table.add_column(column)
    for judgment in summary["judgments"]:
        _add_judgment(table, judgment["name"], judgment)
    for opponent in summary.get("opponents", []):
        for who in ("start", "final"):
            name = f"{opponent[who]['name']}: {who} against {opponent['name']}"
            _add_judgment(table, name, opponent[who])
    if checks := summary["checks"]:
        rates = f"{checks['start'].value:.1%} -> {checks['final'].value:.1%}"
        table.add_row("rule checks passed", "no", rates, checks["difference"].span("+.1%"), "")
    console.print(table if table.row_count else f"{summary['name']}: trained and not judged; no oracle was named")
    for warning in summary["warnings"]:
        console.print(f"warning: {warning}", markup=False)
    console.print(f"report: {folder / 'report.html'}", markup=False)
    console.print(f"policy: {last_policy(summary, folder)}", markup=False)


def _add_judgment(table: Table, name: str, judgment: Judgment) -> None:
    win, mean = judgment["win_rate"], judgment["mean_preference"]
    seen = "yes" if judgment["seen_in_training"] else "no"
    table.add_row(name, seen, f"{win.value:.1%}", win.span(".1%"), f"{mean.value:.3f}")


def last_policy(summary: Summary, folder: Path) -> Path:
    """Folder of the final policy."""
    return folder / "rounds" / f"{summary['recipe']['rounds'] - 1:03d}" / "policy"
