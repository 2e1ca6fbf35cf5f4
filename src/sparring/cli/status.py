"""`sparring status`: which stages of a run are finished."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from rich.console import Console
from rich.table import Table

from sparring.runtime.layout import MANIFEST, RECIPE


def register(app: typer.Typer) -> None:
    """Add the verb."""

    @app.command("status")
    def command(
        run: Annotated[Path, typer.Argument(help="A run folder.")],
        json_: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
    ) -> None:
        """Show the finished stages of a run, their time, memory and counts, and what comes next."""
        from sparring.rounds.resume import other_settings
        from sparring.runtime.files import read_json
        from sparring.runtime.layout import is_finished, is_run, refuse_folder_of_runs

        refuse_folder_of_runs(run)
        if not is_run(run):
            raise ValueError(f"{run} is not a run folder: it has no recipe.yaml.")
        recipe = yaml.safe_load((run / RECIPE).read_text())
        manifest = read_json(run / MANIFEST) if (run / MANIFEST).exists() else {}
        finished = is_finished(manifest, recipe["rounds"])
        changed = other_settings(run)
        if json_:
            shown = {"rounds": recipe["rounds"], "finished": finished, "stages": manifest, "fit_settings": changed}
            print(json.dumps(shown))
            return
        table = Table(title=f"{run}: {recipe['algorithm']['name']}, {recipe['rounds']} rounds")
        for column in ("stage", "seconds", "peak GB", "facts"):
            table.add_column(column)
        for key, entry in manifest.items():
            peak = f"{entry['peak_bytes'] / 1e9:.1f}" if "peak_bytes" in entry else ""
            table.add_row(key, f"{entry['seconds']:.1f}", peak, _short(entry["facts"]))
        console = Console(highlight=False)
        console.print(table)
        for folder, fields in changed.items():
            used = ", ".join(f"{name} {value}" for name, value in fields.items())
            console.print(f"{folder} was fitted before the recipe changed, with {used}", markup=False)
        partial = sorted(str(p.relative_to(run)) for p in run.rglob("*.partial") if p.is_dir())
        if finished:
            console.print("finished")
        else:
            console.print("not finished: give the same `sparring run` command to go on")
            for name in partial:
                console.print(f"half done: {name}", markup=False)


def _short(facts: dict[str, Any]) -> str:
    parts = []
    for name, value in facts.items():
        if isinstance(value, float):
            parts.append(f"{name} {value:.4g}")
        elif isinstance(value, (int, str)) and len(str(value)) < 40:
            parts.append(f"{name} {value}")
        elif isinstance(value, dict) and "win_rate" in value:
            win = value["win_rate"]
            parts.append(f"{value['oracle']}: wins {win['value']:.1%} ({win['low']:.1%} to {win['high']:.1%})")
        elif isinstance(value, dict):
            parts += _counts(name, value)
    return ", ".join(parts)


def _counts(name: str, by_reason: dict[str, Any]) -> list[str]:
    """Counts by reason, or by data set and reason: dropped train 2: duplicate."""
    title, found = name.replace("_", " "), []
    for reason, count in by_reason.items():
        found += _counts(f"{title} {reason}", count) if isinstance(count, dict) else [f"{title} {count}: {reason}"]
    return found
