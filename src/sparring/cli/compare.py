"""`sparring compare`: several runs on one page."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console


def register(app: typer.Typer) -> None:
    """Add the verb."""

    @app.command("compare")
    def command(
        runs: Annotated[list[Path], typer.Argument(help="Finished run folders; differences are to the first.")],
        out: Annotated[Path, typer.Option(help="Where the page is written.")] = Path("comparison.html"),
        json_: Annotated[bool, typer.Option("--json", help="Print the comparison as JSON.")] = False,
    ) -> None:
        """Compare runs side by side: win rates with intervals, length, KL, gap, cost. Refuses different judges."""
        from sparring.cli.report import load_summary
        from sparring.report.compare import gather, write_comparison
        from sparring.runtime.files import check_output

        names = labels(runs)
        check_output(out)
        comparison = gather({name: load_summary(run) for name, run in zip(names, runs, strict=True)})
        write_comparison(comparison, out)
        if json_:
            print(json.dumps(comparison, default=asdict))
            return
        show(comparison, Console(highlight=False, soft_wrap=True))
        print(out)


def labels(runs: Sequence[Path]) -> list[str]:
    """Folder names, or whole paths where names repeat."""
    names = [run.resolve().name for run in runs]
    if len({run.resolve() for run in runs}) < len(runs):
        raise ValueError("the same run is given twice.")
    return names if len(set(names)) == len(names) else [str(run) for run in runs]


def show(comparison: Mapping[str, Any], console: Console) -> None:
    """The comparison as tables."""
    from sparring.cli.result import table
    from sparring.report.compare import shared_kl_title
    from sparring.report.html import duration, number, percent

    runs = comparison["runs"]
    console.print(comparison["answer"], markup=False)
    for judgment in comparison["judgments"]:
        rows = [
            [
                run["name"],
                percent(rate.value, rate),
                f"{percent(rate.low)} to {percent(rate.high)}",
                "yes" if seen else "no",
            ]
            for run, rate, seen in zip(runs, judgment["win_rates"], judgment["seen_in_training"], strict=True)
        ]
        columns = ("run", "wins against start", "95 % interval", "in training")
        console.print(table(f"{judgment['name']} ({judgment['identity']})", columns, rows))
    for under, d in ((group, one) for group in comparison["differences"] for one in group["runs"]):
        if d["difference"]:
            points = d["difference"].scaled(100)
            seen = "in training" if under["seen_in_training"] else "unseen"
            against = f"{under['judge']} ({seen}), {d['name']} - {runs[0]['name']}: {points.value:+.1f} points of mean"
            console.print(f"{against} preference ({points.span('+.1f')}), p {d['p']:.3g}", markup=False)
    rows = [
        [
            run["name"],
            run["algorithm"],
            str(run["rounds"]),
            duration(run["seconds"]),
            *(number(value) for value in (run["tokens"], run["kl"], run["gap"] and run["gap"].value)),
        ]
        for run in runs
    ]
    kl = f"{shared_kl_title(runs)} to start"
    console.print(table("", ("run", "algorithm", "rounds", "time", "tokens an answer", kl, "gap"), rows))
    for line in comparison["left_out"]:
        console.print(f"left out: {line}", markup=False)
