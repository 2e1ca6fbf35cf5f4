"""`sparring recipe`: list the shipped recipes, or print one."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from sparring.cli.result import table, terminal, write


def command(
    name: Annotated[str | None, typer.Argument(help="A shipped recipe; leave out to list them.")] = None,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON schema of recipes, with which editors check and complete.")
    ] = False,
) -> None:
    """List the shipped recipes, or print one to start your own from: `sparring recipe demo > mine.yaml`."""
    from sparring.recipe.reading import nearest_recipe, shipped_recipes

    shipped = shipped_recipes()
    if schema:
        from sparring.recipe.recipe import Recipe

        write(json.dumps(Recipe.model_json_schema(), indent=1) + "\n")
    elif name is None:
        rows = [(key, path.read_text().splitlines()[0].removeprefix("# ")) for key, path in shipped.items()]
        terminal().print(table("", ("", ""), rows))
    elif name in shipped:
        write(shipped[name].read_text())
    else:
        raise ValueError(f"there is no shipped recipe {name!r}.{nearest_recipe(name)} Shipped: {', '.join(shipped)}.")
