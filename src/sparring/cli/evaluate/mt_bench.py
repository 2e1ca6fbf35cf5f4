"""`sparring evaluate mt-bench`: ratings or wins from FastChat's judgments."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from sparring.runtime.words import counted

if TYPE_CHECKING:
    from sparring.evaluation.mt_bench import Pairwise, Single


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
    from sparring.evaluation.mt_bench import Pairwise, score_files

    files = existing([*judgments, *([questions] if questions else [])])
    scores = score_files(judgments, questions, model)
    kind = "pairwise" if isinstance(scores, Pairwise) else "single"
    result = {"benchmark": "mt-bench", "kind": kind, **asdict(scores)}
    finish(result, files, out, json_, lambda console: show(scores, console))


def show(scores: Single | Pairwise, console: Console) -> None:
    """The result as a table, and what keeps it from being MT-Bench's score."""
    from sparring.cli.result import say

    _tables(scores, console)
    from sparring.evaluation.mt_bench import Single

    repeated = {m.model: m.repeated for m in scores.models} if isinstance(scores, Single) else {"": scores.repeated}
    for name, count in repeated.items():
        if count:
            whose = f"{name}: " if name else ""
            turns = f"{counted(count, 'turn')} {'is' if count == 1 else 'are'}"
            say(console, f"{whose}{turns} judged again; all judgments count, as in FastChat")
    for name, why in scores.left_out.items() if isinstance(scores, Single) else ():
        say(console, f"warning: {name} is left out: {why}")
    for turn, count in scores.not_judged.items():
        say(
            console,
            f"warning: turn {turn} of {counted(count, 'question')} is not judged, so this is not "
            "MT-Bench's score, which is over both turns. Judge them, and give --questions to have it checked.",
        )


def _tables(scores: Single | Pairwise, console: Console) -> None:
    from sparring.cli.result import say, table
    from sparring.evaluation.mt_bench import Single

    if isinstance(scores, Single):
        columns = ("model", "score", "95 % interval", "turn 1", "turn 2", "no rating")
        rows = [
            [
                m.model,
                f"{m.average.value:.2f}",
                m.average.span(".2f"),
                *(_mean(m.turns[turn]) for turn in (1, 2)),
                str(m.without_rating),
            ]
            for m in scores.models
        ]
        console.print(table(f"MT-Bench: single ratings, judge {scores.judge}", columns, rows))
        kinds = scores.models[0].categories
        rows = [[kind, *(_mean(m.categories[kind]) for m in scores.models)] for kind in kinds]
        if rows:
            console.print(table("", ("category", *(m.model for m in scores.models)), rows))
        return
    rows = [
        [m.model, f"{m.win_rate.value:.1%}", m.win_rate.span(".1%")]
        + [str(count) for count in (m.wins, m.ties, m.losses)]
        for m in scores.models
    ]
    columns = ("model", "win rate", "95 % interval", "wins", "ties", "losses")
    console.print(table(f"MT-Bench: pairwise, judge {scores.judge}", columns, rows))
    say(console, f"{scores.inconsistent:.0%} of the turns are ties because the two orders disagree")
    if scores.failed:
        say(console, f"{counted(scores.failed, 'turn')} left out: a game has no verdict")


def _mean(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
