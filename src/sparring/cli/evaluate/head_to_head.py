"""`sparring evaluate head-to-head`: two policies or answer files under one judge."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from sparring.cli.inputs import instructions, oracle_section, sampling_overrides
from sparring.cli.result import table
from sparring.cli.several import shared
from sparring.evaluation.result import finite

SIDE = "An answer file (.json, .jsonl, .csv, .parquet), a model, or a run's policy: RUN, RUN:ROUND (0 is the start)."


def register(app: typer.Typer) -> None:
    """Add the verb."""

    @app.command("head-to-head")
    @shared
    def command(
        a: Annotated[str | None, typer.Argument(help=SIDE)] = None,
        b: Annotated[str | None, typer.Argument(help="The other side, likewise.")] = None,
        oracle: Annotated[
            str | None,
            typer.Option(help="Who judges: an oracle's name, or a YAML file with its section or a recipe."),
        ] = None,
        prompts: Annotated[
            str | None,
            typer.Option(help="What to answer: a data set. Default: an answer file's, or what the run held out."),
        ] = None,
        split: Annotated[str | None, typer.Option(help="Split of the prompts.")] = None,
        limit: Annotated[int | None, typer.Option(min=1, help="Only the first prompts.")] = None,
        sampling: Annotated[
            list[str] | None,
            typer.Option(help="How policies answer: field=value of a recipe's sampling section. May be repeated."),
        ] = None,
        seed: Annotated[int, typer.Option(min=0, help="Of the answers' noise.")] = 0,
        out: Annotated[
            Path | None, typer.Option(help="Folder for answers, verdicts, result.json and index.html.")
        ] = None,
        from_stored: Annotated[
            Path | None, typer.Option(help="Compute everything again from this folder; asks no model and no judge.")
        ] = None,
        json_: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    ) -> None:
        """Compare two policies or answer files: is A better than B, by how much, under whom?

        Both answer the same prompts, a judge that sees places is asked in both orders, and intervals are over
        prompts. Answers and verdicts stay in the folder: the same command goes on where it was stopped and pays for
        nothing twice.
        """
        from sparring.contests.head_to_head_folder import HeadToHeadFolder
        from sparring.runtime.progress import Progress

        console = Console(file=sys.stderr if json_ else sys.stdout, highlight=False, soft_wrap=True)
        if from_stored is not None:
            folder = from_stored
        else:
            if a is None or b is None or oracle is None or out is None:
                raise ValueError("head-to-head needs A, B, --oracle and --out (or --from-stored FOLDER).")
            folder = out
            chosen, settings = instructions(prompts, split, limit), sampling_overrides(sampling or [])
            contest = HeadToHeadFolder(folder, Progress(console))
            contest.play(a, b, chosen, oracle_section(oracle), settings, seed)
        result = finish(folder)
        if json_:
            print(json.dumps(finite(result), allow_nan=False))
        else:
            show(result, folder, console)


def finish(folder: Path) -> dict[str, Any]:
    """result.json and index.html of a contest, from its stored files alone; returns the result."""
    from sparring import __version__
    from sparring.contests.head_to_head_folder import ANNOTATIONS, HeadToHeadFolder, read_orders
    from sparring.evaluation.annotations import read_judgments
    from sparring.evaluation.head_to_head import compare
    from sparring.report.versus import write_versus
    from sparring.runtime.files import hash_file, write_json
    from sparring.runtime.progress import Progress

    facts = HeadToHeadFolder(folder, Progress(quiet=True)).facts()
    judgments = read_judgments(folder / ANNOTATIONS)
    orders, decided = read_orders(folder / ANNOTATIONS)
    result = compare(judgments, orders)
    failed = result["prompts"] - result["judged"]
    result |= {
        "sparring_version": __version__,
        "left_out": {**facts["left_out"], **({"without a verdict": failed} if failed else {})},
        "decided_by_rule": {rule: count for rule, count in decided.items() if rule != "judge"},
        "sides": facts["sides"],
        "files": {
            name: {"path": name, "sha256": hash_file(folder / name)}
            for name in ("answers/a.json", "answers/b.json", ANNOTATIONS)
        },
    }
    result["cautions"] = cautions(result)
    write_json(folder / "result.json", finite(result))
    write_versus(result, judgments, orders, folder / "index.html")
    return result


def cautions(result: dict[str, Any]) -> list[str]:
    """Reasons not to believe the number, in words."""
    from sparring.contests.players import same_policy, sampled_otherwise
    from sparring.evaluation.head_to_head import one_with_length

    a, b = (result["sides"][name] for name in ("a", "b"))
    ours, theirs = (side["inputs"]["sampling"].rpartition(" seed ")[0] for side in (a, b))
    itself = same_policy(a, b, (ours, theirs))
    found = [itself] if itself else sampled_otherwise("A", "B", ours, theirs)
    if result["orders"] is not None and result["orders"]["turned"] > 0.1:
        found.append(f"{result['orders']['turned']:.0%} of the judge's verdicts turn when the answers are swapped.")
    longer, said = result["longer_wins"], one_with_length(result["longer_wins"])
    if longer is not None and result["judged"] >= 20 and abs(longer - 0.5) > 0.25 and not said:
        more = "longer" if longer > 0.5 else "shorter"
        seen = "see the row at equal lengths" if result["length_controlled"] else "the verdict may be length's"
        found.append(f"The {more} answer wins {max(longer, 1 - longer):.0%} of the time: {seen}.")
    if not result["separable"] and result["judged"] >= 20:
        found.append("Lengths differ alike on every prompt: what is length and what is quality cannot be told apart.")
    lost = sum(result["left_out"].values())
    if lost > 0.05 * (result["judged"] + lost):
        found.append(f"{lost} of {result['judged'] + lost} rows or prompts were left out.")
    for side in ("a", "b"):
        if result["empty"][side] > 0.02 * result["prompts"]:
            found.append(f"{result['empty'][side]} answers of {side.upper()} are empty; an empty answer loses.")
    return found


def show(result: dict[str, Any], folder: Path, console: Console) -> None:
    """The result as a table."""
    names = {"win_rate": "win rate", "mean_preference": "mean preference", "length_controlled": "at equal lengths"}
    rates = [(name, result[key]) for key, name in names.items() if result[key] is not None]
    rows = [[name, f"{rate.value:.1%}", rate.span(".1%")] for name, rate in rates]
    title = f"A: {result['a']}\nB: {result['b']}\njudge: {result['judge']}"
    console.print(table(title, ("", "A", "95 % interval"), rows))
    console.print(result["verdict"], markup=False)
    console.print(
        f"{result['wins']} wins, {result['losses']} losses, {result['ties']} ties of {result['judged']} judged"
    )
    for reason, count in [*result["left_out"].items(), *result["decided_by_rule"].items()]:
        console.print(f"{count} {reason}", markup=False)
    for caution in result["cautions"]:
        console.print(f"warning: {caution}", markup=False)
    console.print(f"page: {folder / 'index.html'}", markup=False)
