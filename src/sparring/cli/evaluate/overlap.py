"""`sparring evaluate overlap`: what training prompts share with benchmarks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from sparring.cli.result import Json, say

SHOWN = 120
"""characters of an example"""


def command(
    train: Annotated[str, typer.Argument(help="A run's folder, or its training data: a file or a hub data set.")],
    bench: Annotated[list[str], typer.Argument(help="Files with the benchmarks' prompts, one or several.")],
    split: Annotated[str | None, typer.Option(help="Split of the training data.")] = None,
    column: Annotated[str | None, typer.Option(help="The benchmarks' column with the prompt.")] = None,
    train_column: Annotated[str | None, typer.Option(help="The training data's column with the prompt.")] = None,
    ngram: Annotated[int, typer.Option("--ngram", min=2, help="Words in a row that count as shared text.")] = 8,
    share: Annotated[
        float, typer.Option(min=0.01, max=1.0, help="Share of a prompt's n-grams from which it counts as seen.")
    ] = 0.5,
    examples: Annotated[int, typer.Option(min=0, help="Overlapping prompts to show per benchmark.")] = 3,
    out: Annotated[Path | None, typer.Option(help="Folder for result.json, with every overlapping prompt.")] = None,
    json_: Json = False,
) -> None:
    """Did the training see the benchmark? Exact and n-gram overlap of its prompts with the training prompts."""
    from sparring.cli.result import finish
    from sparring.evaluation.overlap import find_overlap, read_prompts

    seen = read_prompts(train, split, train_column)
    rows, files = [], list(seen.files)
    for path in bench:
        read = read_prompts(path, None, column)
        files += read.files
        overlap = asdict(find_overlap(seen.texts, read.texts, ngram, share))
        rows.append({"benchmark": path, "column": read.column, **overlap, "dropped": dict(read.dropped)})
    result = {
        "train": {
            "data": train,
            "column": seen.column,
            "prompts": len(seen.texts),
            "dropped": dict(seen.dropped),
            "files": [str(path) for path in seen.files],
        },
        "ngram": ngram,
        "share": share,
        "benchmarks": rows,
    }
    finish(result, files, out, json_, lambda console: show(result, examples, console))


def show(result: Mapping[str, Any], examples: int, console: Console) -> None:
    """The counts as a table, then the strongest examples."""
    from sparring.cli.result import table

    train, n = result["train"], result["ngram"]
    rows = [
        [
            Path(row["benchmark"]).name,
            *(str(row[key]) for key in ("prompts", "exact")),
            f"{row['overlapping']} ({row['overlapping'] / row['prompts']:.1%})",
            str(row["touched"]),
            str(row["short"]),
        ]
        for row in result["benchmarks"]
    ]
    columns = ("benchmark", "prompts", "exact", f"{result['share']:.0%} shared or more", f"any {n}-gram", "too short")
    console.print(table(f"{train['data']}: {train['prompts']} training prompts", columns, rows))
    named = [(Path(row["benchmark"]).name, row) for row in result["benchmarks"]]
    lines = [f"{train['data']}: prompts are column {train['column']!r} (else --train-column)"]
    lines += [f"{name}: prompts are column {row['column']!r} (else --column)" for name, row in named]
    for name, row in named:
        for match in row["matches"][:examples]:
            kind = "exact" if match["exact"] else f"{match['share']:.0%}"
            lines.append(f"{name} {match['row']}, {kind}: {_short(match['prompt'])}")
            if not match["exact"]:
                lines.append(f"  training {match['train_row']}: {_short(match['train_prompt'])}")
        lines += [f"{name}: {count} rows left out: {reason}" for reason, count in row["dropped"].items()]
    lines += [f"{train['data']}: {count} rows left out: {reason}" for reason, count in train["dropped"].items()]
    for line in lines:
        say(console, line)
    if any(row["overlapping"] for row in result["benchmarks"]):
        say(console, "overlapping prompts flatter a score: leave them out of training, or out of the benchmark")


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= SHOWN else line[: SHOWN - 1] + "…"
