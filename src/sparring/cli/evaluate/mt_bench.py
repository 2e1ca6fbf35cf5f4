"""`sparring evaluate mt-bench`: ratings or wins from FastChat's judgments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

if TYPE_CHECKING:
    from sparring.evaluation.mt_bench import Pairwise, Single


def register(app: typer.Typer) -> None:
    """Add the verb."""

    @app.command("mt-bench")
    def command(
        judgments: Annotated[
            list[Path], typer.Argument(help="Files of model_judgment/: single ratings, or pairwise games.")
        ],
        questions: Annotated[
            Path | None,
            typer.Option(help="The benchmark's question.jsonl: every turn must be judged, with a reference where due."),
        ] = None,
        model: Annotated[list[str] | None, typer.Option(help="Only these models. May be repeated.")] = None,
        out: Annotated[Path | None, typer.Option(help="Folder for result.json.")] = None,
        json_: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    ) -> None:
        """Mean ratings from 1 to 10, or win rates, with 95 % intervals over questions."""
        from sparring.cli.result import existing, finish
        from sparring.data.rows import read_file
        from sparring.evaluation.mt_bench import pairwise, single

        files = existing([*judgments, *([questions] if questions else [])])
        rows = only([row for path in judgments for row in read_file(path)], model)
        categories = None if questions is None else read_categories(questions)
        games = ["g1_winner" in row for row in rows]
        if any(games) and not all(games):
            raise ValueError("the files mix single ratings and pairwise games. Give either.")
        found = pairwise(rows, categories) if any(games) else single(rows, categories)
        kind = "pairwise" if any(games) else "single"
        result = {"benchmark": "mt-bench", "kind": kind, **asdict(found)}
        finish(result, files, out, json_, lambda console: show(found, console))


def only(rows: Sequence[Mapping[str, Any]], models: Sequence[str] | None) -> list[Mapping[str, Any]]:
    """Rows whose models are all among those asked for."""
    if not models:
        return list(rows)
    names = ("model", "model_1", "model_2")
    players = [{str(row[name]) for name in names if name in row} for row in rows]
    if unknown := set(models) - set().union(*players):
        raise ValueError(f"--model {min(unknown)}: no judgment is of it.")
    return [row for row, mine in zip(rows, players, strict=True) if mine <= set(models)]


def read_categories(path: Path) -> dict[str, str]:
    """Categories by question."""
    from sparring.data.rows import read_file

    rows = read_file(path)
    if not rows or not {"question_id", "category"} <= rows[0].keys():
        raise ValueError(f"{path}: a row needs question_id and category, as in MT-Bench's question.jsonl.")
    return {str(row["question_id"]): str(row["category"]) for row in rows}


def show(found: Single | Pairwise, console: Console) -> None:
    """The result as a table, and what keeps it from being MT-Bench's score."""
    _tables(found, console)
    for turn, count in found.not_judged.items():
        console.print(
            f"warning: turn {turn} of {count} question{'s' if count > 1 else ''} is not judged, so this is not "
            "MT-Bench's score, which is over both turns. Judge them, and give --questions to have it checked."
        )


def _tables(found: Single | Pairwise, console: Console) -> None:
    from sparring.cli.result import table
    from sparring.evaluation.mt_bench import Single

    if isinstance(found, Single):
        columns = ("model", "score", "95 % interval", "turn 1", "turn 2", "no rating")
        rows = [
            [
                m.model,
                f"{m.average.value:.2f}",
                m.average.span(".2f"),
                *(_mean(m.turns[turn]) for turn in (1, 2)),
                str(m.without_rating),
            ]
            for m in found.models
        ]
        console.print(table(f"MT-Bench: single ratings, judge {found.judge}", columns, rows))
        kinds = found.models[0].categories
        rows = [[kind, *(_mean(m.categories[kind]) for m in found.models)] for kind in kinds]
        if rows:
            console.print(table("", ("category", *(m.model for m in found.models)), rows))
        return
    rows = [
        [m.model, f"{m.win_rate.value:.1%}", m.win_rate.span(".1%")]
        + [str(count) for count in (m.wins, m.ties, m.losses)]
        for m in found.models
    ]
    columns = ("model", "win rate", "95 % interval", "wins", "ties", "losses")
    console.print(table(f"MT-Bench: pairwise, judge {found.judge}", columns, rows))
    console.print(f"{found.inconsistent:.0%} of the turns are ties because the two orders disagree")
    if found.failed:
        console.print(f"{found.failed} turns left out: a game has no verdict")


def _mean(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
