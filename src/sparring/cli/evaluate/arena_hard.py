"""`sparring evaluate arena-hard`: scores from Arena-Hard's judgments, v0.1 and v2.0."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

if TYPE_CHECKING:
    from sparring.evaluation.arena_hard import ArenaHard, Judgment


class Style(StrEnum):
    """Which differences of style are controlled for."""

    densities = "densities"
    counts = "counts"


def register(app: typer.Typer) -> None:
    """Add the verb."""

    @app.command("arena-hard")
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
            Style | None,
            typer.Option(help="Control for length and markdown: densities (as in v2.0) or counts (as in v0.1)."),
        ] = None,
        answers: Annotated[
            list[Path] | None, typer.Option(help="Files of model_answer/, the baseline's too; for --style.")
        ] = None,
        centred: Annotated[
            bool, typer.Option(help="Centre style over the given models, as Arena-Hard's script does.")
        ] = False,
        common: Annotated[bool, typer.Option(help="Score on the questions that all models have.")] = False,
        lone_games: Annotated[
            bool, typer.Option(help="Keep questions with a verdict in one order only, as v0.1 did.")
        ] = False,
        resamples: Annotated[int, typer.Option(min=20, help="Bootstrap resamples of the questions.")] = 1000,
        seed: Annotated[int, typer.Option(min=0, help="Of the bootstrap.")] = 0,
        out: Annotated[Path | None, typer.Option(help="Folder for result.json.")] = None,
        json_: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    ) -> None:
        """Scores against the baseline in percent, with 95 % intervals over questions."""
        from sparring.cli.result import existing, finish
        from sparring.evaluation.arena_hard import read_answers, read_judgments, score

        if style is None and (answers or centred):
            raise ValueError("--answers and --centred belong to style control: give --style densities (or counts).")
        files = existing([*judgments, *([questions] if questions else []), *(answers or [])])
        kept = complete(read_judgments(judgments, baseline), questions, category, common)
        written = read_answers(answers) if answers else {}
        chosen: Any = None if style is None else style.value
        found = score(kept, written, chosen, centred, lone_games, resamples, seed)
        finish({"benchmark": "arena-hard", **asdict(found)}, files, out, json_, lambda c: show(found, c))


def complete(
    judgments: Sequence[Judgment], questions: Path | None, category: str | None, common: bool
) -> list[Judgment]:
    """The judgments of the category, checked for gaps or reduced to what all models share."""
    from sparring.data.rows import read_file
    from sparring.evaluation.arena_hard import check_complete, common_questions, question_id

    known = {judgment.category for judgment in judgments}
    if category is not None and category not in known:
        raise ValueError(f"--category {category}: no judgment is of it; there are {', '.join(sorted(known))}.")
    kept = [judgment for judgment in judgments if category in (None, judgment.category)]
    wanted = None
    if questions is not None:
        rows = [row for row in read_file(questions) if category in (None, row.get("category"))]
        wanted = [question_id(row, f"{questions}, question {line}") for line, row in enumerate(rows, start=1)]
    if common:
        return common_questions(kept, wanted)
    check_complete(kept, wanted)
    return kept


def show(found: ArenaHard, console: Console) -> None:
    """The scores as a table."""
    from sparring.cli.result import table

    control = f", style control by {found.style}" if found.style else ""
    title = f"Arena-Hard, {found.category}: against {found.baseline}, judge {found.judge}{control}"
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
        for m in found.models
    ]
    console.print(table(title, columns, rows))
    for name, weight in found.style_weights.items():
        console.print(f"{name}: {weight:+.3f} log odds per standard deviation of the difference")
    if found.unbounded:
        console.print(f"{found.unbounded} of {found.resamples} resamples had no finite fit and are left out")
