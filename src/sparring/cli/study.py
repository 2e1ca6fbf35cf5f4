"""`sparring study`: several methods over several seeds, as one resumable command."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from sparring.cli.several import shared


def register(app: typer.Typer) -> None:
    """Add the verb."""

    @app.command("study")
    @partial(shared, first=readable)
    def command(
        study: Annotated[Path, typer.Argument(help="A study file: base recipe, methods, seeds.")],
        out: Annotated[Path | None, typer.Option(help="Folder. Default: runs/NAME-OF-STUDY.")] = None,
        check: Annotated[
            bool, typer.Option("--check", help="Only check recipes, models, data and judges; name the runs.")
        ] = False,
        tasks: Annotated[
            str | None, typer.Option(help="Leaderboard tasks too: v1, v2, or names joined by commas (needs lm-eval).")
        ] = None,
        data: Annotated[
            list[str] | None, typer.Option(help="Local documents of a task, NAME=FILE or NAME:shots=FILE.")
        ] = None,
        limit: Annotated[int | None, typer.Option(min=1, help="Documents per task, from the first.")] = None,
        shots: Annotated[int | None, typer.Option(min=0, help="Instead of the leaderboard's number.")] = None,
        task_seeds: Annotated[
            int | None, typer.Option(min=1, help="Score the policies of so many seeds, from the first. Default: all.")
        ] = None,
        json_: Annotated[bool, typer.Option("--json", help="Print the numbers as JSON.")] = False,
    ) -> None:
        """Compare methods fairly: the same start, prompts and budget, several seeds, everyone against everyone.

        Each run is an ordinary run folder. Stop it at any moment; the same command goes on.
        """
        from sparring.cli.evaluate.leaderboard import parse_data, task_names
        from sparring.runtime.progress import Progress
        from sparring.studies.judges import check_study
        from sparring.studies.study import load_study, run_folders, run_study, write_page
        from sparring.studies.tasks import Tasks

        recipes = load_study(study)
        names = task_names(tasks or "")
        if tasks is None and any(option is not None for option in (data, limit, shots, task_seeds)):
            raise ValueError("--data, --limit, --shots and --task-seeds are for --tasks, which names none.")
        scored = Tasks(names, parse_data(data or [], names), limit, shots, task_seeds) if tasks is not None else None
        folder = out or Path("runs") / study.stem
        if check:
            folders = run_folders(recipes, folder)
            check_study(recipes, folders)
            print(*folders.values(), sep="\n")
            return
        console = Console(file=sys.stderr if json_ else sys.stdout, highlight=False, soft_wrap=True)
        result = run_study(recipes, folder, Progress(console), scored)
        page = write_page(result, folder)
        if json_:
            print(json.dumps(result, default=asdict))
        else:
            console.print(page.read_text(encoding="utf-8"), markup=False)
            console.print(f"numbers: {folder / 'study.json'}; pages: {folder}/seed-*.html", markup=False)


def readable(study: Path, check: bool, **_: Any) -> bool:
    """Read the recipes, so that a bad one starts no process; --check needs none."""
    from sparring.studies.study import load_study

    load_study(study)
    return not check
