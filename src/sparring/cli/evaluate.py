"""`sparring evaluate`: the group of evaluations; each is a file of its own, `evaluate_NAME.py`."""

from __future__ import annotations

import typer

from sparring.cli import (
    evaluate_alpaca_eval,
    evaluate_arena_hard,
    evaluate_exploitability,
    evaluate_head_to_head,
    evaluate_judge,
    evaluate_leaderboard,
    evaluate_mt_bench,
    evaluate_overlap,
    evaluate_ratings,
)

group = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Evaluate policies, answers and stored judgments: win rates with intervals, under a named judge.",
)
for module in (
    evaluate_head_to_head,
    evaluate_exploitability,
    evaluate_alpaca_eval,
    evaluate_arena_hard,
    evaluate_mt_bench,
    evaluate_judge,
    evaluate_ratings,
    evaluate_leaderboard,
    evaluate_overlap,
):
    module.register(group)


def register(app: typer.Typer) -> None:
    """Add the group."""
    app.add_typer(group, name="evaluate")
