"""`sparring samples`: start and final policy side by side."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from sparring.cli.report import load_summary
from sparring.runtime.layout import RECIPE

Rows = list[dict[str, Any]]


def register(app: typer.Typer) -> None:
    """Add the verb."""

    @app.command("samples")
    def command(
        run: Annotated[Path, typer.Argument(help="A finished run folder.")],
        prompt: Annotated[
            list[str] | None,
            typer.Option(help="Sample these prompts now instead of showing held-out answers."),
        ] = None,
        count: Annotated[int, typer.Option(min=1, help="How many held-out prompts to show.")] = 8,
        json_: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
    ) -> None:
        """Show answers of the start and the final policy side by side, on held-out or on your own prompts."""
        rows = fresh(run, prompt) if prompt else held_out(run, count)
        if json_:
            print(json.dumps(rows, ensure_ascii=False))
            return
        console = Console(highlight=False)
        for row in rows:
            table = Table(title=row["prompt"], title_justify="left", show_lines=True, expand=True)
            table.add_column("start", ratio=1)
            table.add_column("final", ratio=1)
            for before, after in zip(row["start"], row["final"], strict=True):
                table.add_row(_plain(before), _plain(after))
            console.print(table)


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def held_out(run: Path, count: int) -> Rows:
    """The first held-out prompts with the evaluation's answers."""
    kept = ("prompt", "start", "final", "preference")
    return [{key: row[key] for key in kept} for row in load_summary(run)["samples"][:count]]


def fresh(run: Path, prompts: list[str]) -> Rows:
    """New answers of both policies to given prompts, with the run's sampling settings."""
    from sparring.algorithms.algorithm import REFERENCE, PolicyRef
    from sparring.models.chat import as_messages
    from sparring.recipe.reading import load_recipe
    from sparring.rounds.engines import DTYPES
    from sparring.rounds.policies import Policies
    from sparring.rounds.store import Store
    from sparring.runtime.randomness import noise_seed
    from sparring.sampling.engine import Request
    from sparring.sampling.transformers_engine import TransformersEngine

    load_summary(run)
    recipe = load_recipe(run / RECIPE)
    policies = Policies(Store(run), recipe.model, recipe.fit.precision)
    answers: dict[str, list[str]] = {}
    for name, ref in (("start", REFERENCE), ("final", PolicyRef(recipe.rounds))):
        model = policies.load(ref, DTYPES[recipe.sampling.precision])
        engine = TransformersEngine([(model, 1.0)], recipe.sampling, policies.chat.end_ids(model.generation_config))
        requests = [Request(policies.chat.prompt_ids(as_messages(p)), noise_seed("samples", p)) for p in prompts]
        answers[name] = [policies.chat.decode(response.token_ids) for response in engine.sample(requests)]
    return [
        {"prompt": p, "start": [s], "final": [f], "preference": None}
        for p, s, f in zip(prompts, answers["start"], answers["final"], strict=True)
    ]
