"""`sparring algorithms`: the table of methods."""

from __future__ import annotations

from typing import Annotated

import typer

from sparring.cli.result import Json, print_json, say, table, terminal


def command(
    name: Annotated[
        str | None, typer.Argument(help="Show all about one: a name, or package.module:Class. Default: list all.")
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show all about every one.")] = False,
    json_: Json = False,
) -> None:
    """List the algorithms with their data and paper; for one, also its anchors, samples, pairs and loss."""
    from sparring.algorithms.algorithm import SHIPPED, find_algorithm

    rows = {one: find_algorithm(one).about._asdict() for one in ([name] if name else SHIPPED)}
    if json_:
        print_json(rows)
        return
    screen = terminal()
    if not (verbose or name):
        columns = ("needs", "paper")
        cells = [[one, *(about[column] for column in columns)] for one, about in rows.items()]
        screen.print(table("", ("name", "needs", "paper (arXiv)"), cells))
        say(screen, "All about one: sparring algorithms NAME; about every one: --verbose")
        return
    for place, (one, about) in enumerate(rows.items()):
        if place:
            screen.print()
        screen.print(table(one, ("", ""), list(about.items())))
