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
    pass_rate,
    ratings,
)

group = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Evaluate policies, answers and stored judgments: win rates with intervals, under a named judge.",
)
for verb in (head_to_head, exploitability, alpaca_eval, arena_hard, mt_bench, pass_rate, ratings, leaderboard, overlap):
    group.command(verb.__name__.rpartition(".")[2].replace("_", "-"))(verb.command)
group.command("judge-arena-hard")(judge.arena_hard)
group.command("judge-mt-bench")(judge.mt_bench)
