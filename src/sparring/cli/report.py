"""`sparring report`: write a run's HTML report again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sparring.cli.result import terminal
from sparring.runtime.layout import REPORT


def command(
    run: Annotated[Path, typer.Argument(help="A finished run folder.")],
    picture: Annotated[Path | None, typer.Option(help="Also write the headline picture (SVG) here.")] = None,
) -> None:
    """Write report.html from a finished run's evaluation/summary.json, and print where it is."""
    from sparring.report.html import write_picture, write_report
    from sparring.report.summary import load_summary
    from sparring.rounds.store import Store

    summary = load_summary(run)
    with Store(run).locked():  # a run under way writes its report too
        write_report(summary, run / REPORT)
        if picture is not None:
            write_picture(summary, picture)
    terminal().print(str(run / REPORT))
