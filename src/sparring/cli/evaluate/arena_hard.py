"""`sparring evaluate arena-hard`: scores from Arena-Hard's judgments, v0.1 and v2.0."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console

from sparring.cli.result import Json, say

if TYPE_CHECKING:
    from sparring.evaluation.arena_hard import ArenaHard


def command(
    judgments: Annotated[list[Path], typer.Argument(help="Files of model_judgment/JUDGE/, one or several models.")],
    questions: Annotated[
        Path | None, typer.Option(help="The benchmark's question.jsonl: every question must be judged.")
    ] = None,
    category: Annotated[str | None, typer.Option(help="Only this category, such as hard_prompt.")] = None,
    baseline: Annotated[
        str | None, typer.Option(help="The baseline where the rows do not name it (v0.1: gpt-4-0314).")
    ] = None,
    style: Annotated[
        Literal["densities", "counts"] | None,
        typer.Option(help="Control for length and markdown: densities (as in v2.0) or counts (as in v0.1)."),
    ] = None,
    answers: Annotated[
        list[Path] | None, typer.Option(help="Files of model_answer/, the baseline's too; for --style.")
    ] = None,
    centred: Annotated[
        bool, typer.Option(help="Centre style over the models that are scored, as Arena-Hard's script does.")
    ] = False,
    common: Annotated[bool, typer.Option(help="Score on the questions that all models have.")] = False,
    lone_games: Annotated[
        bool, typer.Option(help="Keep questions with a verdict in one order only, as v0.1 did.")
    ] = False,
    resamples: Annotated[int, typer.Option(min=20, help="Bootstrap resamples of the questions, with --style.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Of the bootstrap.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Folder for result.json.")] = None,
    json_: Json = False,
) -> None:
    """Scores against the baseline in percent, with 95 % intervals over questions."""
    from sparring.cli.result import existing, finish
    from sparring.evaluation.arena_hard import read_answers, read_judgments, score, select

    if style is None and (answers or centred):
        raise ValueError("--answers and --centred belong to style control: give --style densities (or counts).")
    files = existing([*judgments, *([questions] if questions else []), *(answers or [])])
    scored = select(read_judgments(judgments, baseline), questions, category, common)
    texts = read_answers(answers) if answers else {}
    scores = score(scored, texts, style, centred, lone_games, resamples, seed)
    finish({"benchmark": "arena-hard", **asdict(scores)}, files, out, json_, lambda c: show(scores, c))


def show(scores: ArenaHard, console: Console) -> None:
    """The scores as a table."""
    from sparring.cli.result import table

    control = f", style control by {scores.style}" if scores.style else ""
    title = f"Arena-Hard, {scores.category}: against {scores.baseline}, judge {scores.judge}{control}"
    columns = ("model", "score", "95 % interval", "questions", "no verdict", "orders agree", "first answer wins")
    rows = [
        [
            m.model,
            f"{m.score.value:.1f}",
            m.score.span(".1f"),
            str(m.questions),
            str(m.without_verdict),
            f"{m.consistent:.0%}",
            "–" if m.first_preferred is None else f"{m.first_preferred:.0%}",
        ]
        for m in scores.models
    ]
    console.print(table(title, columns, rows))
    for name, weight in scores.style_weights.items():
        say(console, f"{name}: {weight:+.3f} log odds per standard deviation of the difference")
