"""`sparring evaluate ifeval`: instructions obeyed, checked by code, of one policy or two."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from sparring.cli.inputs import Sampling, sampling_overrides
from sparring.cli.result import Json
from sparring.cli.several import shared

LEVELS = {
    "prompt_strict": "prompts, strict",
    "instruction_strict": "instructions, strict",
    "prompt_loose": "prompts, loose",
    "instruction_loose": "instructions, loose",
}
PLAYER = (
    "An answer file (prompt and response), a model, a run's policy (RUN:ROUND, RUN:average), or RUN: its last beside "
    "its start."
)


@shared
def command(
    model: Annotated[str, typer.Argument(help=PLAYER)],
    data: Annotated[
        Path, typer.Option(help="The benchmark's prompts: input_data.jsonl, the hub's table, or rows with a check.")
    ],
    before: Annotated[str | None, typer.Option(help="Another player, compared prompt by prompt.")] = None,
    sampling: Sampling = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the answers' noise, where a temperature is set.")] = 0,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first prompts.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for answers and result.json; needed for policies.")] = None,
    json_: Json = False,
) -> None:
    """IFEval: share of prompts and instructions obeyed, strict and loose, by kind, with 95 % intervals over prompts.

    Policies answer greedily with at most 1,280 tokens (`--sampling` changes that). Answers stay in the folder: the same
    command goes on where it was stopped. The prompts are for evaluation only and are not shipped.
    """
    from sparring.cli.result import existing, finish, terminal
    from sparring.contests.ifeval_folder import IfevalFolder, start_of
    from sparring.evaluation.answers import is_answer_file
    from sparring.evaluation.ifeval import read_ifeval
    from sparring.runtime.progress import Progress

    existing([data])
    before = before or start_of(model)
    specs = {"after": model} if before is None else {"before": before, "after": model}
    files = [data, *(Path(spec).expanduser() for spec in specs.values() if is_answer_file(spec))]
    prompts, settings = read_ifeval(data, limit), sampling_overrides(sampling or [])
    progress = Progress(terminal(stderr=json_))
    result = IfevalFolder(out, progress).play(specs, prompts, settings, seed) | {"data": str(data)}
    finish(result, files, out, json_, lambda console: show(result, console))


def show(result: Mapping[str, Any], console: Console) -> None:
    """The four scores and the kinds as tables, then what was left out and what to beware of."""
    from sparring.cli.result import say, table

    paired = result["difference"] is not None
    names = "\n".join(f"{side}: {model['name']}" for side, model in result["models"].items()) if paired else ""
    counts = f"{result['prompts']} prompts, {result['instructions']} instructions"
    title = f"{names}\n{counts}" if paired else f"{result['models']['after']['name']}: {counts}"
    rows, kinds = (_paired, _paired_kinds) if paired else (_alone, _alone_kinds)
    console.print(table(title, *rows(result)))
    console.print(table("", *kinds(result)))
    say(console, *_notes(result))


def _alone(result: Mapping[str, Any]) -> tuple[tuple[str, ...], list[list[str]]]:
    from sparring.cli.result import percent_cells

    scores = result["scores"]["after"]
    return ("obeyed", "%", "95 % interval"), [[name, *percent_cells(scores[key])] for key, name in LEVELS.items()]


def _paired(result: Mapping[str, Any]) -> tuple[tuple[str, ...], list[list[str]]]:
    from sparring.cli.result import percent_cells

    before, after, changes = result["scores"]["before"], result["scores"]["after"], result["difference"]
    rows = []
    for key, name in LEVELS.items():
        change = changes[key]
        sides = [f"{side[key].value:.1%}" for side in (before, after)]
        tested = [f"{change['p']:.2g}", f"{change['gained']}, {change['lost']}"]
        rows.append([name, *sides, *percent_cells(change["difference"], "+"), *tested])
    return ("obeyed", "before", "after", "points", "95 % interval", "p", "gained, lost"), rows


def _alone_kinds(result: Mapping[str, Any]) -> tuple[tuple[str, ...], list[list[str]]]:
    from sparring.cli.result import percent_cells

    rows = [
        [kind, str(one["strict"].count), *percent_cells(one["strict"]), percent_cells(one["loose"])[0]]
        for kind, one in result["scores"]["after"]["by_kind"].items()
    ]
    return ("kind", "n", "strict", "95 % interval", "loose"), rows


def _paired_kinds(result: Mapping[str, Any]) -> tuple[tuple[str, ...], list[list[str]]]:
    from sparring.cli.result import percent_cells

    before, after = (result["scores"][side]["by_kind"] for side in ("before", "after"))
    rows = []
    for kind, change in result["difference"]["by_kind"].items():
        sides = [percent_cells(side[kind]["strict"])[0] for side in (before, after)]
        rows.append([kind, str(change["strict"].count), *sides, percent_cells(change["strict"], "+")[1]])
    return ("kind (strict)", "n", "before", "after", "difference"), rows


def _notes(result: Mapping[str, Any]) -> list[str]:
    from sparring.evaluation.ifeval import COUNT

    lines = [f"{count} rows of the prompts' file left out: {reason}" for reason, count in result["left_out"].items()]
    if result["contradictory"]:
        lines.append(f"{result['contradictory']} prompts ask for what no answer can obey together; they count")
    for model in result["models"].values():
        lines += _about(model, result["asked"])
    if not result["whole"]:
        lines.append(f"warning: not IFEval's {COUNT} prompts: these scores do not compare with published ones")
    for run, seen in result["training"].items():
        if seen["overlapping"]:
            lines.append(
                f"warning: {run} was trained on {seen['exact']} of these prompts, and on most of the words of "
                f"{seen['overlapping']}: its scores measure memory"
            )
    return lines + [f"warning: {caution}" for caution in result["cautions"]]


def _about(model: Mapping[str, Any], asked: int) -> list[str]:
    counts = {
        "answers are empty: they obey nothing": model["empty"],
        "answers were cut off at the token limit": model.get("cut_off", 0),
        **{f"left out: {reason}": count for reason, count in model["left_out"].items()},
    }
    lines = [f"{model['name']}: {count} {what}" for what, count in counts.items() if count]
    if model["unanswered"]:
        lines.append(f"warning: {model['name']} has no answer to {model['unanswered']} of {asked} prompts: not counted")
    return lines
