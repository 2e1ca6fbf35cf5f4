"""`sparring study`: several methods over several seeds, as one resumable command."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from sparring.cli.inputs import LmEvalData
from sparring.cli.result import Json, percent_cells, print_json, say, table, terminal
from sparring.cli.several import shared


def readable(study: Path, check: bool, **_: Any) -> bool:
    """Read the recipes, so that a bad one starts no process; --check needs none."""
    from sparring.studies.reading import load_study

    load_study(study)
    return not check


@partial(shared, first=readable)
def command(
    study: Annotated[Path, typer.Argument(help="A study file: base recipe, methods, seeds, and perhaps choose.")],
    out: Annotated[Path | None, typer.Option(help="Folder. Default: runs/NAME-OF-STUDY.")] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Only check recipes, models, data and judges; name the runs.")
    ] = False,
    tasks: Annotated[
        str | None, typer.Option(help="Leaderboard tasks too: v1, v2, or names joined by commas (needs lm-eval).")
    ] = None,
    data: LmEvalData = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Documents per task, from the first.")] = None,
    shots: Annotated[int | None, typer.Option(min=0, help="Instead of the leaderboard's number.")] = None,
    task_seeds: Annotated[
        int | None, typer.Option(min=1, help="Seeds whose policies are scored, from the first. Default: all.")
    ] = None,
    json_: Json = False,
) -> None:
    """Compare methods fairly: the same start, prompts and budget, several seeds, everyone against everyone.

    With `choose` in the file each method first chooses a setting, such as its learning rate, on other prompts.

    Each run is an ordinary run folder. Stop it at any moment; the same command goes on.
    """
    from sparring.cli.evaluate.leaderboard import parse_data, task_names
    from sparring.runtime.progress import Progress
    from sparring.studies.reading import load_study
    from sparring.studies.study import all_folders, run_study
    from sparring.studies.study import check as check_all
    from sparring.studies.tasks import Tasks

    plan = load_study(study)
    names = task_names(tasks or "")
    if tasks is None and any(option is not None for option in (data, limit, shots, task_seeds)):
        raise ValueError("--data, --limit, --shots and --task-seeds are for --tasks, which names none.")
    scored = Tasks(names, parse_data(data or [], names), limit, shots, task_seeds) if tasks is not None else None
    folder = out or Path("runs") / study.stem
    if check:
        check_all(plan, folder)
        terminal().print(*map(str, all_folders(plan, folder).values()), sep="\n")
        return
    screen = terminal(stderr=json_)
    result = run_study(plan, folder, Progress(screen), scored)
    if json_:
        print_json(result)
    else:
        show(result, screen)
        say(screen, f"\nall ranges: {folder}/study.md; numbers: {folder}/study.json; pages: {folder}/seed-*.html")


def show(result: Mapping[str, Any], screen: Console) -> None:
    """Show wins under every judge, behaviour and cost, every method against every other, and tasks."""
    from sparring.studies.numbers import PARTIAL, by_task, is_partial, judges_of
    from sparring.studies.obeyed import COLUMNS, by_group, cells

    methods, tasks = result["methods"], result.get("tasks") or []
    seeds = ", ".join(map(str, result["seeds"]))
    if choice := result.get("choice"):
        show_choice(choice, screen)
    say(screen, f"Seeds {seeds}: means over the seeds" if len(result["seeds"]) > 1 else f"One seed, {seeds}")
    for judge in judges_of(methods):
        show_wins(judge, methods, screen)
    for group, rows in by_group(result.get("obeyed", [])).items():
        screen.print(table(f"\nrules passed, {group} prompts, %", COLUMNS, [cells(row) for row in rows]))
    show_behaviour(methods, screen)
    if result["contests"]:
        show_contests(result, screen)
    for rows in by_task(tasks):
        show_task(rows, screen)
    if is_partial(tasks):
        say(screen, PARTIAL)
    for stopped in result["stopped"]:
        say(screen, f"{stopped['method']}, seed {stopped['seed']}, stopped itself: {stopped['reason']}")


def show_choice(choice: Mapping[str, Any], screen: Console) -> None:
    """Show what each method chose, and by which scores."""
    from sparring.studies.choice import at_ends, cells, title

    screen.print(table(f"\n{title(choice)}", *cells(choice)))
    if ends := at_ends(choice):
        say(screen, ends)


def show_wins(judge: str, methods: Sequence[Mapping[str, Any]], screen: Console) -> None:
    """Show every method's wins against the start under one judge."""
    from sparring.studies.numbers import judge_head

    rows = []
    for method in (method for method in methods if judge in method["judges"]):
        wins, failed = method["judges"][judge]["over_seeds"], method["judges"][judge]["failed"]
        span = f"{wins['least']:.1%} to {wins['most']:.1%}" if wins else "-"
        rows.append((method["name"], f"{wins['mean']:.1%}" if wins else "-", span, str(failed)))
    title = f"\nwins against start, {judge_head(judge, methods)}: {judge}"
    screen.print(table(title, ("method", "wins", "smallest to largest", "failed"), rows))


def show_behaviour(methods: Sequence[Mapping[str, Any]], screen: Console) -> None:
    """Show the lengths of the policies' responses, their distance from the start, and the cost."""
    from sparring.report.compare import shared_kl_title

    forms = {"tokens": "{:.0f}", "finished_share": "{:.0%}", "kl": "{:.2f}", "gap": "{:.3f}", "seconds": "{:.0f}"}
    rows = [
        [method["name"], *(form.format(method[key]["mean"]) if method[key] else "-" for key, form in forms.items())]
        for method in methods
    ]
    columns = ("method", "tokens", "finished", shared_kl_title(methods), "gap", "time, s")
    screen.print(table("\nbehaviour and cost", columns, rows))


def show_contests(result: Mapping[str, Any], screen: Console) -> None:
    """Show every method against every other, with intervals over prompts for these seeds' policies."""
    rows = []
    for contest in result["contests"]:
        preference = contest["preference"].scaled(100)
        seeds = [100 * one for one in contest["by_seed"] if one == one]
        over = f"{min(seeds):.0f} to {max(seeds):.0f}" if len(seeds) > 1 else ""
        rows.append((contest["a"], contest["b"], f"{preference.value:.0f}", preference.span(".0f"), over))
    title = f"\nmean preference of the first over the second, under {result['judge']}"
    screen.print(table(title, ("first", "second", "%", "95 % interval", "over seeds"), rows))
    lone = f"{result['answered_by_one_side']} prompts had one side's answer only"
    say(screen, f"{result['failed']} comparisons failed, {lone}; another seed may move a number beyond its interval")


def show_task(rows: Sequence[Mapping[str, Any]], screen: Console) -> None:
    """Show one task of the leaderboard."""
    from sparring.studies.numbers import task_head

    cells = [("start", "", *percent_cells(rows[0]["before"]), "", "", "")]
    for row in rows:
        gain = percent_cells(row["difference"], "+")
        cells.append((row["method"], str(row["seeds"]), *percent_cells(row["after"]), *gain, f"{row['p']:.2g}"))
    columns = ("policy", "seeds", "score, %", "95 % interval", "minus start", "95 % interval", "p")
    screen.print(table(f"\n{task_head(rows[0])}, p by {rows[0]['test']}", columns, cells))
