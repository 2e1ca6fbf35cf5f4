"""`sparring evaluate ratings`: Bradley-Terry or Elo ratings of a file of matches."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from sparring.cli.result import Json, say


def command(
    matches: Annotated[
        Path,
        typer.Argument(
            help="CSV, JSON, JSONL or Parquet with left, right (or model_a, model_b) and winner (left, right "
            "or tie); optional: prompt, weight, judge (or annotator)."
        ),
    ],
    method: Annotated[
        Literal["bradley-terry", "elo"],
        typer.Option(help="Elo depends on the order of the matches; Bradley-Terry does not."),
    ] = "bradley-terry",
    resamples: Annotated[int, typer.Option(min=20, help="Bootstrap resamples, of prompts where there are any.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Of the bootstrap.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Folder for result.json.")] = None,
    json_: Json = False,
) -> None:
    """Rate players from pairwise results, with 95 % intervals."""
    from sparring.cli.result import existing, finish, table
    from sparring.evaluation.ratings import ELO_ARRIVES, ELO_STEP, rate, read_matches

    rated = rate(read_matches(existing([matches])[0]), method, resamples, seed)

    def show(console: Console) -> None:
        title = f"{method}: {rated.matches} matches, judge {rated.judge or 'not named'}"
        rows = [(r.name, f"{r.rating:.0f}", _span(r.low, r.high), str(r.matches)) for r in rated.rows]
        console.print(table(title, ("player", "rating", "95 % interval", "matches"), rows))
        say(console, f"intervals over {rated.units} {rated.unit}; 400 points are odds of ten to one")
        early = [r.name for r in rated.rows if r.matches < ELO_ARRIVES]
        if method == "elo" and not early and rated.rows[0].low is None:
            say(
                console,
                f"no interval: every resample of the {rated.units} {rated.unit} gives the same rating, since all "
                "of them say the same; that is no certainty",
            )
        if method == "elo" and early:
            say(
                console,
                f"still under way: Elo moves from 1000 by at most {ELO_STEP:g} points a match. {', '.join(early)} "
                f"have fewer than {ELO_ARRIVES} matches, so the ratings still lie between 1000 and where they "
                "lead, and there are no intervals. Take --method bradley-terry.",
            )

    finish(asdict(rated), [matches], out, json_, show)


def _span(low: float | None, high: float | None) -> str:
    return "none" if low is None or high is None else f"{low:.0f} to {high:.0f}"
