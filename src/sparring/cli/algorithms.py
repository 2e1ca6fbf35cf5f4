"""`sparring algorithms`: the table of methods."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table


def register(app: typer.Typer) -> None:
    """Add the verb."""

    @app.command("algorithms")
    def command(
        json_: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
    ) -> None:
        """List the algorithms: paper, what anchors the loss, who samples, how pairs are made, what data it needs."""
        from sparring.algorithms.algorithm import SHIPPED, find_algorithm

        rows = {name: find_algorithm(name).about._asdict() for name in SHIPPED}
        if json_:
            print(json.dumps(rows))
            return
        table = Table(show_lines=True)
        table.add_column("name")
        for column in next(iter(rows.values())):
            table.add_column(column)
        for name, about in rows.items():
            table.add_row(name, *about.values())
        Console(highlight=False).print(table)
