"""`sparring evaluate`: the group of evaluations, a file of its own for each."""

from __future__ import annotations

import typer

from sparring.cli.evaluate import (
    alpaca_eval,
    arena_hard,
    exploitability,
    head_to_head,
    judge,
    leaderboard,
    mt_bench,
    overlap,
    ratings,
)

group = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Evaluate policies, answers and stored judgments: win rates with intervals, under a named judge.",
)
VERBS = (head_to_head, exploitability, alpaca_eval, arena_hard, mt_bench, judge, ratings, leaderboard, overlap)
for module in VERBS:
    module.register(group)


def register(app: typer.Typer) -> None:
    """Add the group."""
    app.add_typer(group, name="evaluate")
