"""`sparring evaluate leaderboard`: Open LLM Leaderboard tasks, before and after in one table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console

if TYPE_CHECKING:
    from sparring.evaluation.leaderboard import Leaderboard

VERSIONS = {
    "v1": ("arc", "hellaswag", "mmlu", "truthfulqa", "winogrande", "gsm8k"),
    "v2": ("ifeval", "bbh", "math", "gpqa", "musr", "mmlu_pro"),
}
DISAGREEMENT = 0.01
"""nats per document: float32 in two orders of summation stays far below it"""


def register(app: typer.Typer) -> None:
    """Add the verb."""

    @app.command("leaderboard")
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
        data: Annotated[
            list[str] | None,
            typer.Option(help="Local documents, NAME=FILE; shots from another file: NAME:shots=FILE. May be repeated."),
        ] = None,
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
            int, typer.Option(min=0, help="Compare so many documents per task with Sparring's own log-probabilities.")
        ] = 0,
        json_: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    ) -> None:
        """Score a policy on leaderboard tasks; with --before, differences with intervals and paired tests."""
        from sparring.cli.result import finish
        from sparring.contests.players import policy_folder
        from sparring.evaluation.leaderboard import Leaderboard, check_local

        if verify and precision != "float32":
            raise ValueError("--verify compares float32 arithmetic: leave out --precision.")
        names = task_names(tasks)
        files = parse_data(data or [], names)
        for name, mine in files.items():
            check_local(name, mine)
        given = {"after": model} if before is None else {"before": before, "after": model}
        options: dict[str, Any] = {"limit": limit, "shots": shots, "chat": chat, "device": device}
        options |= {"batch_size": batch_size, "precision": precision}
        boards = {side: Leaderboard(policy_folder(spec, out), out, files, **options) for side, spec in given.items()}
        rows = [row(name, boards, verify) for name in names]
        result = {
            "benchmark": "leaderboard",
            "models": {side: {"name": given[side], "weights": board.weights} for side, board in boards.items()},
            "lm_eval": boards["after"].version,
            "rows": rows,
        }
        used = [path for mine in files.values() for path in mine.values()]
        finish(result, used, out, json_, lambda console: show(result, console))


def task_names(given: str) -> tuple[str, ...]:
    """The tasks of --tasks."""
    return VERSIONS.get(given) or tuple(name.strip() for name in given.split(",") if name.strip())


def parse_data(given: Sequence[str], names: Sequence[str]) -> dict[str, dict[str, Path]]:
    """Files by benchmark and split."""
    found: dict[str, dict[str, Path]] = {}
    for text in given:
        key, equals, path = text.partition("=")
        name, _, split = key.partition(":")
        if not equals or split not in ("", "shots"):
            raise ValueError(f"--data {text}: write NAME=FILE, or NAME:shots=FILE.")
        if name not in names:
            raise ValueError(f"--data {text}: {name} is not among --tasks {','.join(names)}.")
        found.setdefault(name, {})[split or "test"] = Path(path).expanduser()
    for name, files in found.items():
        if "test" not in files:
            raise ValueError(f"--data {name}:shots needs --data {name}=FILE too.")
    return found


def row(name: str, boards: Mapping[str, Leaderboard], verify: int) -> dict[str, Any]:
    """One benchmark: all policies scored, compared where there are two."""
    import numpy as np

    from sparring.evaluation.intervals import interval
    from sparring.evaluation.leaderboard import find_benchmark, pair_documents
    from sparring.evaluation.paired import bounds_of, compare

    benchmark = find_benchmark(name)
    found = {side: board.run(benchmark) for side, board in boards.items()}
    after = found["after"]
    made: dict[str, Any] = {"name": name, "task": benchmark.task, "metric": after["metric"], "shots": after["shots"]}
    made |= {"documents": len(after["documents"]), "total": benchmark.documents or after["total"]}
    if "before" in found:
        made |= compare(*pair_documents(found["before"], after))
    else:
        scores = np.array([document["score"] for document in after["documents"]], dtype=np.float64)
        made["after"] = interval(scores.tolist(), 1000, within=bounds_of(scores))
    if verify:
        made["verified"] = verified(boards["after"], after["documents"][:verify])
    return made


def verified(board: Leaderboard, documents: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The largest difference between lm-eval's and our log-likelihoods; None for tasks that generate text."""
    if not documents or not documents[0]["choices"]:
        return None
    ours = board.own_log_likelihoods(documents)
    pairs = [
        (p, q)
        for document, own in zip(documents, ours, strict=True)
        if own is not None
        for p, q in zip(document["log_likelihoods"], own, strict=True)
    ]
    worst = max((abs(p - q) for p, q in pairs), default=0.0)
    if worst > DISAGREEMENT:
        raise ValueError(
            f"lm-eval's log-likelihoods differ from Sparring's by up to {worst:.3g} nats: this architecture is scored "
            "differently by the two. Leave out --verify to have lm-eval's numbers all the same."
        )
    return {"documents": sum(own is not None for own in ours), "largest_difference": worst}


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
        console.print("scores on part of a benchmark do not compare with published ones")
    for r in result["rows"]:
        if known := r.get("verified"):
            agreed = f"{known['documents']} documents agree with Sparring's scorer"
            console.print(f"{r['name']}: {agreed} to {known['largest_difference']:.1e} nats")
