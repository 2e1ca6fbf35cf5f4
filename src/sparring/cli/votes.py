"""`sparring votes`: links for voters, agreement, and votes to and from files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sparring.cli.result import Json, print_json, say, table, terminal
from sparring.runtime.words import counted

if TYPE_CHECKING:
    from sparring.votes.database import Database

group = typer.Typer(no_args_is_help=True, help="People as the oracle: links, agreement, votes to and from files.")
Place = Annotated[str, typer.Argument(metavar="RUN", help="A folder that asks people, or a database: a file or URL.")]
Name = Annotated[str, typer.Argument(help="Whose link.")]


@group.command()
def add(
    place: Place,
    name: Name,
    role: Annotated[str, typer.Option(help="viewer (watches), voter or owner.")] = "voter",
    address: Annotated[str, typer.Option(help="Where people reach the server.")] = "http://HOST:8765",
) -> None:
    """Let somebody in: prints the link, once."""
    from sparring.votes.people import add_voter

    link = add_voter(_database(place), name, role)  # type: ignore[arg-type] - it is checked there
    say(terminal(), f"{name}: {address.rstrip('/')}/enter/{link}")


@group.command()
def revoke(place: Place, name: Name) -> None:
    """Close somebody's link at once; the votes stay."""
    from sparring.votes.people import revoke

    revoke(_database(place), name)
    say(terminal(), f"{name}: the link is closed; the votes stay")


@group.command()
def agreement(place: Place, json_: Json = False) -> None:
    """Show how far people agree with each other, with themselves, and with the side of the screen."""
    from sparring.evaluation.agreement import agreement
    from sparring.votes.records import asked_for, read_records

    result = agreement(asked_for(read_records(_database(place))))
    if json_:
        print_json(result)
    else:
        _show(result)


@group.command("export")
def export_(
    place: Place,
    out: Annotated[Path, typer.Option(help="The file: .jsonl, or .json for one list.")],
    form: Annotated[
        str, typer.Option("--format", help="jsonl (all), arena, label-studio, argilla, trl or labelled.")
    ] = "jsonl",
    room: Annotated[
        str, typer.Option(help="all, vote (asked for by a run), or try (given in a conversation).")
    ] = "all",
) -> None:
    """Write the votes in one of the field's formats."""
    from sparring.runtime.files import check_output, write_json, write_json_lines
    from sparring.votes.exports import exported
    from sparring.votes.records import read_records

    check_output(out)
    rows, dropped = exported(read_records(_database(place)), form, room)
    write = write_json if out.suffix == ".json" else write_json_lines
    write(out, rows)
    screen = terminal()
    say(screen, f"{out}: {len(rows)} rows", *(f"left out: {n} {why}" for why, n in dropped.items() if n))


@group.command("import")
def import_(
    file: Annotated[str, typer.Argument(help="Votes: ours, Arena's, Label Studio's, Argilla's, or labelled pairs.")],
    place: Place,
    question: Annotated[str, typer.Option(help="What voters were asked, where the file does not say.")] = "",
) -> None:
    """Store the votes of a file; those that are there already are passed over."""
    from sparring.data.rows import read_rows
    from sparring.oracles.people import QUESTION
    from sparring.recipe.sections import DatasetConfig
    from sparring.votes.imports import import_votes

    rows = read_rows(DatasetConfig(path=file))
    added, known, dropped = import_votes(_database(place, make=True), rows, question or QUESTION)
    screen = terminal()
    say(screen, f"{added} votes stored, {known} were there already")
    say(screen, *(f"left out: {count} {reason}" for reason, count in dropped.items()))


def _database(place: str, make: bool = False) -> Database:
    from sparring.runtime.imports import needs

    needs("sqlalchemy", extra="serve")
    from sparring.serve.site import database_of

    return database_of(place, make)


def _show(result: dict[str, Any]) -> None:
    screen = terminal()
    alpha = result["alpha"]
    said = "not known yet" if alpha is None else f"alpha {alpha:.2f} over {counted(result['pairs_of_two'], 'pair')}"
    people = counted(len(result["voters"]), "person", "people")
    say(screen, f"{counted(result['votes'], 'vote')} of {people}; agreement between people: {said}")
    columns = ("person", "votes", "skips", "left side", "95 % interval", "ties", "both bad", "same swapped", "seconds")
    rows = [_cells(name, rates) for name, rates in [("all", result), *result["voters"].items()]]
    screen.print(table("", columns, rows))
    say(screen, *(f"warning: {line}" for line in result["warnings"]))


def _cells(name: str, rates: dict[str, Any]) -> tuple[str, ...]:
    left, again, seconds = rates["left"], rates["self_consistency"], rates["median_seconds"]
    shares = ("-" if rates[key] is None else f"{rates[key]:.0%}" for key in ("tie_share", "both_bad_share"))
    sides = ("-", "-") if left is None else (f"{left.value:.0%}", left.span(".0%"))
    same = "-" if again is None else f"{again.value:.0%} of {rates['returned']}"
    return (
        name,
        str(rates["votes"]),
        str(rates["skips"]),
        *sides,
        *shares,
        same,
        "-" if seconds is None else f"{seconds:.1f}",
    )
