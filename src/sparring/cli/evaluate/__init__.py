"""`sparring evaluate`: the group of evaluations; each is a file of its own, `evaluate_NAME.py`."""

from __future__ import annotations

import typer

from sparring.cli.evaluate import alpaca_eval as evaluate_alpaca_eval
from sparring.cli.evaluate import arena_hard as evaluate_arena_hard
from sparring.cli.evaluate import exploitability as evaluate_exploitability
from sparring.cli.evaluate import head_to_head as evaluate_head_to_head
from sparring.cli.evaluate import judge as evaluate_judge
from sparring.cli.evaluate import leaderboard as evaluate_leaderboard
from sparring.cli.evaluate import mt_bench as evaluate_mt_bench
from sparring.cli.evaluate import overlap as evaluate_overlap
from sparring.cli.evaluate import ratings as evaluate_ratings

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
