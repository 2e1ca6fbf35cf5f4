"""`sparring evaluate`: the group of evaluations, a file of its own for each."""

from __future__ import annotations

import typer

from sparring.runtime.imports import import_attribute

VERBS = {
    "head-to-head": "head_to_head:command",
    "exploitability": "exploitability:command",
    "alpaca-eval": "alpaca_eval:command",
    "arena-hard": "arena_hard:command",
    "mt-bench": "mt_bench:command",
    "ifeval": "ifeval:command",
    "pass-rate": "pass_rate:command",
    "ratings": "ratings:command",
    "leaderboard": "leaderboard:command",
    "overlap": "overlap:command",
    "judge-arena-hard": "judge:arena_hard",
    "judge-mt-bench": "judge:mt_bench",
}
"""in the order of the help: file of this folder, and function"""

group = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Evaluate policies, answers and stored judgments: win rates with intervals, under a named judge.",
)
for name, where in VERBS.items():
    group.command(name)(import_attribute(f"{__name__}.{where}", name))
