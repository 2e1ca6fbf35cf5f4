"""`sparring evaluate alpaca-eval`: AlpacaEval's win rates, from its own files or judged here."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console

from sparring.cli.inputs import FromStored, Oracle, Sampling, oracle_section, sampling_overrides
from sparring.cli.inputs import instructions as read_instructions
from sparring.cli.result import Json, print_json, say, table, terminal
from sparring.cli.several import shared
from sparring.evaluation.result import finite

if TYPE_CHECKING:
    from sparring.evaluation.answers import Instruction

BY_POSITION = "Take a row's position for its instruction, unchecked, as AlpacaEval does, instead of its text."
Formula = Literal["length_controlled_v1", "length_controlled_minimal"]
"""the regressions that AlpacaEval names"""


@shared
def command(
    candidate: Annotated[
        str | None,
        typer.Argument(
            help="Model outputs (AlpacaEval's JSON), a model, or a run's policy: RUN, RUN:ROUND, RUN:average."
        ),
    ] = None,
    baseline: Annotated[str | None, typer.Option(help="The other side, in the same forms (reference outputs).")] = None,
    oracle: Oracle = None,
    annotations: Annotated[
        list[Path] | None,
        typer.Option(
            help="Stored judgments (AlpacaEval's annotations.json); nothing is judged. May be repeated: files of one "
            "model, baseline and judge are put together."
        ),
    ] = None,
    instructions: Annotated[
        Path | None,
        typer.Option(help="AlpacaEval's instructions in their order (alpaca_eval.json, or outputs in its order)."),
    ] = None,
    formula: Annotated[Formula, typer.Option(help="The length-controlling regression.")] = "length_controlled_v1",
    gamed: Annotated[
        Path | None,
        typer.Option(help="df_gamed.csv, or a file with its columns. Default: fetched from AlpacaEval's hub data set."),
    ] = None,
    by_position: Annotated[bool, typer.Option("--by-position", help=BY_POSITION)] = False,
    sampling: Sampling = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the answers' noise.")] = 0,
    leaderboard: Annotated[Path | None, typer.Option(help="A leaderboard CSV to put the row into.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for everything that is made.")] = None,
    from_stored: FromStored = None,
    json_: Json = False,
) -> None:
    """Win rate, standard error and length-controlled win rate, as AlpacaEval 2 defines them.

    From stored judgments (--annotations), or answered and judged here: CANDIDATE --baseline --oracle --out.
    """
    from sparring.contests.head_to_head_folder import ANNOTATIONS, HeadToHeadFolder
    from sparring.contests.players import AnswerFile
    from sparring.evaluation import alpaca_eval
    from sparring.evaluation.annotations import read_judgments
    from sparring.evaluation.answers import is_answer_file
    from sparring.runtime.files import write_json, write_text
    from sparring.runtime.locks import locked_folder, locked_path
    from sparring.runtime.progress import Progress

    console = terminal(stderr=json_)
    # What is here is checked before the hub is asked, and all of it before anything is paid for.
    prompts = read_instructions(instructions and str(instructions), None, None)
    texts = None if prompts is None else [prompt.text for prompt in prompts]
    settings = sampling_overrides(sampling or [])
    folder = from_stored or out
    if folder is None and not annotations:
        raise ValueError("--out: missing. Name a folder for answers and verdicts (or give --annotations).")
    contest = None if annotations or folder is None else HeadToHeadFolder(folder, Progress(console))
    with_prompts = formula == "length_controlled_v1"  # the minimal one has no difficulty per instruction
    game = None
    if annotations:
        read_judgments(*annotations)
    elif contest and from_stored:
        contest.facts()
    else:
        game = (*_sides(candidate, baseline, oracle, prompts), settings, seed)
        if with_prompts and texts is None and not by_position:
            files_of_answers = [AnswerFile(spec) for spec in game[:2] if is_answer_file(spec)]
            alpaca_eval.check_known([list(file.answers.texts) for file in files_of_answers])
    difficulties = alpaca_eval.read_difficulties(not with_prompts, gamed, instructions, texts, by_position)
    if contest:
        if game:
            contest.play(*game)
        out, annotations = contest.store.root, [contest.store.root / ANNOTATIONS]
    assert annotations
    result = difficulties.result(annotations, contest.facts() if contest else {})
    row = result["leaderboard"]
    if out:
        with locked_folder(out):
            write_json(out / "result.json", finite(result))
            write_text(out / "leaderboard.csv", alpaca_eval.leaderboard(None, result["model"], row))
    if leaderboard:
        with locked_path(leaderboard):  # of two rows put in at once one would be lost
            write_text(leaderboard, alpaca_eval.leaderboard(leaderboard, result["model"], row))
    if json_:
        print_json(result)
    else:
        show(result, console)


def _sides(
    candidate: str | None, baseline: str | None, oracle: str | None, prompts: list[Instruction] | None
) -> tuple[str, str, list[Instruction] | None, dict[str, Any]]:
    """The two sides, their prompts and the oracle's section; ValueError that names a missing argument."""
    if candidate is None or baseline is None or oracle is None:
        sides = {"CANDIDATE": candidate, "--baseline": baseline, "--oracle": oracle}
        missing = ", ".join(name for name, value in sides.items() if value is None)
        raise ValueError(
            f"missing: {missing}. Give --annotations, --from-stored, or CANDIDATE --baseline --oracle --out."
        )
    return candidate, baseline, prompts, oracle_section(oracle)


def show(result: dict[str, Any], console: Console) -> None:
    """The result as a table."""
    row, raw, controlled = result["leaderboard"], result["win_rate"], result["length_controlled"]
    rows = [
        [name, f"{rate.value:.2%}", rate.span(".2%"), f"{error:.2f}"]
        for name, rate, error in (
            ("raw", raw, row["standard_error"]),
            ("length-controlled", controlled, row["lc_standard_error"]),
        )
    ]
    title = f"{result['model']} against {result['baseline']}\njudge: {result['judge']}"
    console.print(table(title, ("", "win rate", "95 % interval", "standard error"), rows))
    say(
        console,
        f"{row['n_wins']} wins, {row['n_wins_base']} losses, {row['n_draws']} ties of {row['n_total']} judged; "
        f"{row['avg_length']} characters on average",
    )
    for reason, count in result["left_out"].items():
        if count:
            say(console, f"left out: {count} {reason}")
    if result["empty_answers"]:
        say(console, f"warning: {result['empty_answers']} answers are empty")
    if result["gamed"] == "given file":
        gamed = result["files"]["gamed"]
        say(console, f"length control by the given file {gamed['path']} (sha256 {gamed['sha256'][:12]})")
