"""`sparring evaluate ratings`: Bradley-Terry or Elo ratings of a file of matches."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console

from sparring.cli.result import Json, say

if TYPE_CHECKING:
    from sparring.evaluation.next_matches import NextMatch


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
    next_: Annotated[
        int | None,
        typer.Option("--next", min=1, help="Name so many further comparisons, which make the ratings surest."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the bootstrap, and of the order of prompts.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Folder for result.json, and next.csv of --next.")] = None,
    json_: Json = False,
) -> None:
    """Rate players from pairwise results, with 95 % intervals."""
    from sparring.cli.result import existing, finish, table
    from sparring.evaluation.next_matches import next_matches
    from sparring.evaluation.ratings import ELO_ARRIVES, ELO_STEP, Unbounded, rate, read_matches

    played = read_matches(existing([matches])[0])
    further = next_matches(played, next_, seed) if next_ else []
    named = {"next": [one._asdict() for one in further]} if next_ else {}
    if out is not None and next_:
        write_next(out / "next.csv", further)
    try:
        rated = rate(played, method, resamples, seed)
    except Unbounded as error:
        if not next_:
            raise
        unrated = f"no ratings yet: {error}"  # those who have none need further matches most

        def show_unrated(console: Console) -> None:
            console.print(unrated)
            show_next(further, next_, console)

        finish({"unrated": unrated, **named}, [matches], out, json_, show_unrated)
        return

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
        if next_:
            show_next(further, next_, console)

    finish(asdict(rated) | named, [matches], out, json_, show)


def show_next(further: Sequence[NextMatch], asked: int, console: Console) -> None:
    """The comparisons that are worth asking next, the most telling first."""
    from sparring.cli.result import table

    columns = ("left", "right", "prompt")[: 2 if not further or further[0].prompt is None else 3]
    rows = [tuple(str(getattr(one, column)) for column in columns) for one in further]
    console.print(table("\nask next, the most telling first", columns, rows))
    if len(further) < asked:
        say(console, f"{len(further)} of {asked}: every pair has met on every other prompt of the file")


def write_next(path: Path, further: Sequence[NextMatch]) -> None:
    """The comparisons as a CSV whose column `winner` is to be filled in."""
    from sparring.runtime.files import write_text

    if path.exists():
        with path.open(encoding="utf-8", newline="") as file:
            if any(row.get("winner") for row in csv.DictReader(file)):
                raise ValueError(f"{path} holds results: append them to the matches, and remove it.")
    text = io.StringIO()
    rows = csv.writer(text)
    prompted = bool(further) and further[0].prompt is not None
    rows.writerow(["left", "right", *(["prompt"] if prompted else []), "winner"])
    for one in further:
        rows.writerow([one.left, one.right, *([one.prompt] if prompted else []), ""])
    write_text(path, text.getvalue())


def _span(low: float | None, high: float | None) -> str:
    return "none" if low is None or high is None else f"{low:.0f} to {high:.0f}"
