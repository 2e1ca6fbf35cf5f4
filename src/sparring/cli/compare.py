"""`sparring compare`: several runs on one page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from sparring.cli.result import Json, percent_cells, print_json, say, table, terminal


def command(
    runs: Annotated[list[Path], typer.Argument(help="Finished run folders; differences are to the first.")],
    out: Annotated[Path, typer.Option(help="Where the page is written.")] = Path("comparison.html"),
    json_: Json = False,
) -> None:
    """Compare runs side by side: win rates with intervals, length, KL, gap, cost. Refuses different judges."""
    from sparring.report.compare import gather, write_comparison
    from sparring.report.summary import load_summary
    from sparring.runtime.files import check_output
    from sparring.runtime.locks import locked_path
    from sparring.studies.judges import alike_in

    names = labels(runs)
    with locked_path(out):
        check_output(out)
        summaries = {name: load_summary(run) for name, run in zip(names, runs, strict=True)}
        comparison = gather(alike_in(dict(zip(names, runs, strict=True)), summaries))
        write_comparison(comparison, out)
    if json_:
        print_json(comparison)
        return
    screen = terminal()
    show(comparison, screen)
    screen.print(str(out))


def labels(runs: Sequence[Path]) -> list[str]:
    """Folder names, or whole paths where names repeat."""
    names = [run.resolve().name for run in runs]
    if len({run.resolve() for run in runs}) < len(runs):
        raise ValueError("the same run is given twice. Give each run once.")
    return names if len(set(names)) == len(names) else [str(run) for run in runs]


def show(comparison: Mapping[str, Any], screen: Console) -> None:
    """The answer in a sentence, then a table per judge, the differences, and what the runs cost."""
    from sparring.report.compare import shared_kl_title
    from sparring.report.html import number, percent
    from sparring.runtime.words import duration

    runs = comparison["runs"]
    say(screen, comparison["answer"])
    for judgment in comparison["judgments"]:
        rates = zip(runs, judgment["win_rates"], judgment["seen_in_training"], strict=True)
        rows = [
            [
                run["name"],
                percent(rate.value, rate),
                f"{percent(rate.low)} to {percent(rate.high)}",
                "yes" if seen else "no",
            ]
            for run, rate, seen in rates
        ]
        columns = ("run", "wins against start", "95 % interval", "in training")
        screen.print(table(f"\n{judgment['name']} ({judgment['identity'].replace(';', '; ')})", columns, rows))
    if rows := [_difference(under, one) for under in comparison["differences"] for one in under["runs"]]:
        title = f"\nmean preference over the start, minus that of {runs[0]['name']}, by prompt"
        screen.print(table(title, ("judge", "in training", "run", "points", "95 % interval", "p"), rows))
    kl = f"{shared_kl_title(runs)} to start"
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
    columns = ("run", "algorithm", "rounds", "time of the rounds", "tokens an answer", kl, "gap")
    screen.print(table("\nbehaviour and cost", columns, rows))
    say(screen, *(f"left out: {line}" for line in comparison["left_out"]))


def _difference(under: Mapping[str, Any], one: Mapping[str, Any]) -> list[str]:
    """A row; dashes where the runs share no judged prompt."""
    seen = "yes" if under["seen_in_training"] else "no"
    p = f"{one['p']:.3g}" if one["difference"] else "-"
    return [under["judge"], seen, one["name"], *percent_cells(one["difference"], "+"), p]
