"""`sparring recipe`: list the shipped recipes, or print one."""

from __future__ import annotations

from typing import Annotated

import typer

from sparring.cli.result import write


def command(
    name: Annotated[str | None, typer.Argument(help="A shipped recipe; leave out to list them.")] = None,
) -> None:
    """List the shipped recipes, or print one to start your own from: `sparring recipe demo > mine.yaml`."""
    from sparring.recipe.reading import shipped_recipes

    shipped = shipped_recipes()
    if name is None:
        for key, path in shipped.items():
            write(f"{key:16} {path.read_text().splitlines()[0].removeprefix('# ')}\n")
    elif name in shipped:
        write(shipped[name].read_text())
    else:
        raise ValueError(f"there is no shipped recipe {name!r}. Shipped: {', '.join(shipped)}.")
