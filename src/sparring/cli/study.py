"""`sparring study`: several methods over several seeds, as one resumable command."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console


def register(app: typer.Typer) -> None:
    """Add the verb."""

    @app.command("study")
    def command(
        study: Annotated[Path, typer.Argument(help="A study file: base recipe, methods, seeds.")],
        out: Annotated[Path | None, typer.Option(help="Folder. Default: runs/NAME-OF-STUDY.")] = None,
        check: Annotated[bool, typer.Option("--check", help="Only check all recipes and name the runs.")] = False,
        json_: Annotated[bool, typer.Option("--json", help="Print the numbers as JSON.")] = False,
    ) -> None:
        """Compare methods fairly: the same start, prompts and budget, several seeds, everyone against everyone.

        Each run is an ordinary run folder. Stop it at any moment; the same command goes on.
        """
        from sparring.progress import Progress
        from sparring.study import load_study, run_study, write_page

        recipes = load_study(study)
        folder = out or Path("runs") / study.stem
        if check:
            for name, seed in recipes:
                print(folder / name / f"seed-{seed}")
            return
        console = Console(file=sys.stderr if json_ else sys.stdout, highlight=False, soft_wrap=True)
        result = run_study(recipes, folder, Progress(console))
        page = write_page(result, folder)
        if json_:
            print(json.dumps(result))
        else:
            console.print(page.read_text(encoding="utf-8"), markup=False)
            console.print(f"numbers: {folder / 'study.json'}; pages: {folder}/seed-*.html", markup=False)
