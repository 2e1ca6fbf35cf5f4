"""`sparring evaluate leaderboard`: Open LLM Leaderboard tasks, before and after in one table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console

from sparring.cli.inputs import LmEvalData
from sparring.cli.result import Json, say

VERSIONS = {
    "v1": ("arc", "hellaswag", "mmlu", "truthfulqa", "winogrande", "gsm8k"),
    "v2": ("ifeval", "bbh", "math", "gpqa", "musr", "mmlu_pro"),
}


def command(
    model: Annotated[
        str,
        typer.Argument(
            help="The policy: RUN (its last), RUN:ROUND (0 is the start), a folder, a hub name, or pypi:PACKAGE."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the scores; finished tasks in it are not run again.")],
    before: Annotated[str | None, typer.Option(help="Another policy, scored on the same documents.")] = None,
    tasks: Annotated[
        str, typer.Option(help="v1, v2, or names joined by commas: arc,gsm8k, or any task of lm-eval.")
    ] = "v1",
    data: LmEvalData = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Documents per task of lm-eval, from the first.")] = None,
    shots: Annotated[int | None, typer.Option(min=0, help="Instead of the leaderboard's number.")] = None,
    chat: Annotated[bool, typer.Option(help="Render prompts with the chat template.")] = False,
    batch_size: Annotated[int, typer.Option(min=1, help="Requests run at once.")] = 8,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, ... Default: the accelerator, where there is one.")
    ] = None,
    precision: Annotated[
        Literal["float32", "bfloat16"], typer.Option(help="Of the weights while scoring.")
    ] = "float32",
    verify: Annotated[
        int, typer.Option(min=0, help="Documents per task to score with Sparring's own log-probabilities too.")
    ] = 0,
    json_: Json = False,
) -> None:
    """Score a policy on leaderboard tasks; with --before, differences with intervals and paired tests."""
    from sparring.cli.result import finish
    from sparring.contests.players import policy_folder
    from sparring.evaluation.leaderboard import Leaderboard, check_local
    from sparring.evaluation.leaderboard_rows import benchmark_row
    from sparring.runtime.locks import locked_folder

    if verify and precision != "float32":
        raise ValueError("--verify compares float32 arithmetic: leave out --precision.")
    names = task_names(tasks)
    files = parse_data(data or [], names)
    for name, paths in files.items():
        check_local(name, paths)
    policies = {"after": model} if before is None else {"before": before, "after": model}
    options: dict[str, Any] = {"limit": limit, "shots": shots, "chat": chat, "device": device}
    options |= {"batch_size": batch_size, "precision": precision}
    with locked_folder(out):
        boards = {side: Leaderboard(policy_folder(spec, out), out, files, **options) for side, spec in policies.items()}
        rows = [benchmark_row(name, boards, verify) for name in names]
    result = {
        "benchmark": "leaderboard",
        "models": {side: {"name": policies[side], "weights": board.weights} for side, board in boards.items()},
        "lm_eval": boards["after"].version,
        "rows": rows,
    }
    used = [path for paths in files.values() for path in paths.values()]
    finish(result, used, out, json_, lambda console: show(result, console))


def task_names(tasks: str) -> tuple[str, ...]:
    """The benchmarks of --tasks."""
    return VERSIONS.get(tasks) or tuple(name.strip() for name in tasks.split(",") if name.strip())


def parse_data(options: Sequence[str], names: Sequence[str]) -> dict[str, dict[str, Path]]:
    """The files of --data by benchmark and split, "test" or "shots".

    Raises:
        ValueError: an option of another form, a benchmark that is not among `names`, or shots without documents.
    """
    files: dict[str, dict[str, Path]] = {}
    for text in options:
        key, equals, path = text.partition("=")
        name, _, split = key.partition(":")
        if not equals or split not in ("", "shots"):
            raise ValueError(f"--data {text}: write NAME=FILE, or NAME:shots=FILE.")
        if name not in names:
            raise ValueError(f"--data {text}: {name} is not among --tasks {','.join(names)}.")
        files.setdefault(name, {})[split or "test"] = Path(path).expanduser()
    for name, paths in files.items():
        if "test" not in paths:
            raise ValueError(f"--data {name}:shots needs --data {name}=FILE too.")
    return files


def show(result: Mapping[str, Any], console: Console) -> None:
    """The result as a table."""
    from sparring.cli.result import table

    paired = "before" in result["models"]
    models = ", ".join(f"{side} {m['name']}" for side, m in result["models"].items())
    sides = ("before", "after", "difference") if paired else ("after",)
    columns = ["task", "metric", "shots", "documents", *sides, *(("p", "gained, lost") if paired else ())]
    rows = []
    for r in result["rows"]:
        documents = str(r["documents"]) if r["documents"] == r["total"] else f"{r['documents']} of {r['total']}"
        cells = [r["name"], r["metric"], str(r["shots"]), documents, *(f"{r[side].scaled(100):.1f}" for side in sides)]
        rows.append([*cells, *((f"{r['p']:.3g} {r['test']}", f"{r['gained']}, {r['lost']}") if paired else ())])
    console.print(table(f"{models} (lm-eval {result['lm_eval']})", columns, rows))
    if any(r["documents"] != r["total"] for r in result["rows"]):
        say(console, "scores on part of a benchmark do not compare with published ones")
    for r in result["rows"]:
        if known := r.get("verified"):
            agreed = f"{known['documents']} documents agree with Sparring's scorer"
            say(console, f"{r['name']}: {agreed} to {known['largest_difference']:.1e} nats")
