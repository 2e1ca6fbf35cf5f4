"""`sparring evaluate pass-rate`: how many stored answers pass the rules of their prompts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from sparring.cli.inputs import oracle_section
from sparring.cli.result import Json


def command(
    answers: Annotated[
        list[Path],
        typer.Argument(help="Answer files of one model, with instruction (or prompt) and output (response, answer)."),
    ],
    oracle: Annotated[
        str, typer.Option(help="The rules: an oracle `rules` ({name: rules, data: ...}), or a YAML file with one.")
    ],
    out: Annotated[Path | None, typer.Option(help="Folder for result.json.")] = None,
    json_: Json = False,
) -> None:
    """Share of answers that code finds right, with 95 % intervals over prompts; no opponent and no judge."""
    from sparring.cli.result import existing, finish
    from sparring.evaluation.pass_rate import pass_rate, read_samples
    from sparring.oracles.build import build_oracle
    from sparring.oracles.rules import Rules

    files, section = existing(answers), oracle_section(oracle)
    rules = build_oracle(section, None) if section["name"] == "rules" else None
    if not isinstance(rules, Rules):
        raise ValueError(
            f"--oracle: {section['name']!r} compares two answers. Give {{name: rules, data: ...}}; for any other judge "
            "take evaluate head-to-head."
        )
    result = pass_rate(read_samples(answers), rules)
    finish(result, files, out, json_, lambda console: show(result, console))


def show(result: dict[str, Any], console: Console) -> None:
    """The shares as a table, and what was left out."""
    from sparring.cli.result import percent_cells, say, table

    kept = result.get("rules_kept")  # only where a prompt has several rules
    levels = [("all of a prompt's rules", result["pass_rate"]), ("rules, each by itself", kept)]
    whole = levels if kept is not None else [("all", result["pass_rate"])]
    columns = ("rule", "pass, %", "95 % interval", "answers")
    rows = [*whole, *result["by_rule"].items()]
    console.print(
        table(
            f"{result['model']}: {result['prompts']} prompts, {result['rules']}",
            columns,
            [[name, *percent_cells(share), str(share.count)] for name, share in rows],
        )
    )
    if result["empty"]:
        say(console, f"{result['empty']} answers are empty: they pass no rule")
    if result["unanswered"]:
        say(console, f"warning: {result['unanswered']} prompts with a rule have no answer here, and are not counted")
    for reason, count in result["left_out"].items():
        say(console, f"left out: {count} {reason}")
