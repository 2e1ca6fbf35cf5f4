"""`sparring evaluate head-to-head`: two policies or answer files under one judge."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from sparring.cli.inputs import FromStored, Oracle, Sampling, instructions, oracle_section, sampling_overrides
from sparring.cli.result import Json, print_json, say, table, terminal
from sparring.cli.several import shared

SIDE = (
    "An answer file (.json, .jsonl, .csv, .parquet), a model, or a run's policy: RUN, RUN:ROUND (0 is the start), "
    "RUN:average (each answer from one of its policies)."
)


@shared
def command(
    a: Annotated[str | None, typer.Argument(help=SIDE)] = None,
    b: Annotated[str | None, typer.Argument(help="The other side, in the same forms.")] = None,
    oracle: Oracle = None,
    prompts: Annotated[
        str | None,
        typer.Option(help="What to answer: a data set. Default: an answer file's, or what the run held out."),
    ] = None,
    split: Annotated[str | None, typer.Option(help="Split of the prompts.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first prompts.")] = None,
    sampling: Sampling = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the answers' noise.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Folder for answers, verdicts, result.json and index.html.")] = None,
    from_stored: FromStored = None,
    json_: Json = False,
) -> None:
    """Compare two policies or answer files: is A better than B, by how much, under whom?

    Both answer the same prompts, a judge that sees places is asked in both orders, and intervals are over
    prompts. Answers and verdicts stay in the folder: the same command goes on where it was stopped and pays for
    nothing twice.
    """
    from sparring.contests.head_to_head_folder import HeadToHeadFolder
    from sparring.runtime.progress import Progress

    console = terminal(stderr=json_)
    if from_stored is not None:
        folder = from_stored
    else:
        if a is None or b is None or oracle is None or out is None:
            raise ValueError("head-to-head needs A, B, --oracle and --out (or --from-stored FOLDER).")
        folder = out
        chosen, settings = instructions(prompts, split, limit), sampling_overrides(sampling or [])
        HeadToHeadFolder(folder, Progress(console)).play(a, b, chosen, oracle_section(oracle), settings, seed)
    result = HeadToHeadFolder(folder, Progress(quiet=True)).finish()
    if json_:
        print_json(result)
    else:
        show(result, folder, console)


def show(result: dict[str, Any], folder: Path, console: Console) -> None:
    """The result in a sentence, then as a table."""
    from sparring.evaluation.head_to_head import RATES

    rates = [(name, result[key]) for name, key in RATES.items() if result[key] is not None]
    rows = [[name, f"{rate.value:.1%}", rate.span(".1%")] for name, rate in rates]
    title = f"A: {result['a']}\nB: {result['b']}\njudge: {result['judge']}"
    say(console, result["verdict"])
    console.print(table(f"\n{title}", ("", "A", "95 % interval"), rows))
    say(
        console, f"{result['wins']} wins, {result['losses']} losses, {result['ties']} ties of {result['judged']} judged"
    )
    for reason, count in [*result["left_out"].items(), *result["decided_by_rule"].items()]:
        say(console, f"{count} {reason}")
    for caution in result["cautions"]:
        say(console, f"warning: {caution}")
    say(console, f"page: {folder / 'index.html'}")
