"""`sparring evaluate alpaca-eval`: AlpacaEval's win rates from its own files."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from sparring.evaluation.judgments import Judgments
    from sparring.evaluation.length_control import Gamed


class Formula(StrEnum):
    """The regressions that AlpacaEval names."""

    v1 = "length_controlled_v1"
    minimal = "length_controlled_minimal"


def register(app: typer.Typer) -> None:
    """Add the verb."""

    @app.command("alpaca-eval")
    def command(
        annotations: Annotated[Path, typer.Option(help="Stored judgments: AlpacaEval's annotations.json.")],
        instructions: Annotated[
            Path | None,
            typer.Option(help="AlpacaEval's instructions in their order (alpaca_eval.json, or any model's outputs)."),
        ] = None,
        formula: Annotated[Formula, typer.Option(help="The length-controlling regression.")] = Formula.v1,
        gamed: Annotated[
            Path | None,
            typer.Option(help="df_gamed.csv or a stand-in for it. Default: fetched from AlpacaEval's hub data set."),
        ] = None,
        by_position: Annotated[
            bool,
            typer.Option(help="Take a row's position for its instruction, as AlpacaEval does, instead of its text."),
        ] = False,
        leaderboard: Annotated[Path | None, typer.Option(help="A leaderboard CSV to put the row into.")] = None,
        out: Annotated[Path | None, typer.Option(help="Folder for result.json and leaderboard.csv.")] = None,
        json_: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    ) -> None:
        """Win rate, standard error and length-controlled win rate, as AlpacaEval 2 defines them."""
        from sparring.evaluation import alpaca_eval
        from sparring.evaluation.judgments import read_judgments
        from sparring.rounds.store import write_json, write_text

        judgments = read_judgments(annotations)
        shared, files = None, {"annotations": annotations}
        if formula is Formula.v1:
            files["gamed"] = gamed or alpaca_eval.fetch_gamed()
            shared = alpaca_eval.read_gamed(files["gamed"])
        if instructions:
            files["instructions"] = instructions
        indices = None if shared is None else _indices(judgments, shared, instructions, by_position)
        result = alpaca_eval.evaluate(judgments, shared, indices)
        result["files"] = describe(files)
        result["stand_in"] = bool(shared and gamed)
        row = result["leaderboard"]
        if out:
            write_json(out / "result.json", result)
            write_text(out / "leaderboard.csv", alpaca_eval.leaderboard(Path("-"), judgments.model, row))
        if leaderboard:
            write_text(leaderboard, alpaca_eval.leaderboard(leaderboard, judgments.model, row))
        if json_:
            print(json.dumps(result))
        else:
            show(result, Console(highlight=False, soft_wrap=True))


def _indices(judgments: Judgments, gamed: Gamed, instructions: Path | None, by_position: bool) -> Any:
    from sparring.evaluation.alpaca_eval import instruction_indices
    from sparring.examples import read_rows
    from sparring.recipe import DatasetConfig

    texts = None
    if instructions:
        rows = read_rows(DatasetConfig(path=str(instructions)))
        texts = [str(row.get("instruction", row.get("prompt"))) for row in rows]
    return instruction_indices(judgments, texts, len(gamed.by_index), by_position)


def describe(files: dict[str, Path]) -> dict[str, dict[str, str]]:
    """Name and hash of each file that a result was computed from."""
    from sparring.weights import hash_file

    return {name: {"path": str(path), "sha256": hash_file(path)} for name, path in files.items()}


def show(result: dict[str, Any], console: Console) -> None:
    """The result as a table."""
    row, raw, controlled = result["leaderboard"], result["win_rate"], result["length_controlled"]
    table = Table(
        title=f"{result['model']} against {result['baseline']}, judge {result['judge']}", title_justify="left"
    )
    for column in ("", "win rate", "95 % interval", "standard error"):
        table.add_column(column)
    for name, part, error in (
        ("raw", raw, row["standard_error"]),
        ("length-controlled", controlled, row["lc_standard_error"]),
    ):
        span = f"{part['low']:.2%} to {part['high']:.2%}"
        table.add_row(name, f"{part['value']:.2%}", span, f"{error:.2f}")
    console.print(table)
    console.print(
        f"{row['n_wins']} wins, {row['n_wins_base']} losses, {row['n_draws']} ties of {row['n_total']} judged; "
        f"{row['avg_length']} characters on average"
    )
    for reason, count in result["left_out"].items():
        if count:
            console.print(f"left out: {count} {reason}", markup=False)
    if result["empty_answers"]:
        console.print(f"warning: {result['empty_answers']} answers are empty")
    if result["stand_in"]:
        gamed = result["files"]["gamed"]
        console.print(
            f"length control by {gamed['path']} (sha256 {gamed['sha256'][:12]}), given in place of the hub's file"
        )
