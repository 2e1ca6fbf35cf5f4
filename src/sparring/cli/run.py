"""`sparring run`: start or resume a run."""

from __future__ import annotations

import shlex
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from sparring.cli.inputs import Recipe, Set
from sparring.cli.result import Json, print_json, say, table, terminal
from sparring.cli.several import shared

if TYPE_CHECKING:
    from sparring.report.summary import Judgment, PolicyEpisodes, Rates, Summary


def readable(recipe: str, set_: list[str] | None, **_: Any) -> bool:
    """Read the recipe, so that a bad one starts no process."""
    from sparring.recipe.reading import load_recipe

    load_recipe(recipe, set_ or [])
    return True


@partial(shared, first=readable)
def command(
    recipe: Recipe,
    set_: Set = None,
    out: Annotated[Path | None, typer.Option(help="Run folder. Default: runs/NAME-OF-RECIPE.")] = None,
    check_: Annotated[
        bool, typer.Option("--check", help="Try recipe, data, model and judges (a question each), then stop.")
    ] = False,
    json_: Json = False,
) -> None:
    """Start a run, or resume it where it stopped: the same command does both.

    Every round samples, judges, pairs, measures anchors and fits; then the policy is evaluated on held-out
    prompts and a report is written. A killed run loses at most the batch or checkpoint it was in, and may go on
    with another number of devices.
    """
    screen = terminal(stderr=json_)
    if screen.is_terminal:
        say(screen, "checking recipe, model and judges")  # before the imports, which take seconds

    from sparring.recipe.reading import load_recipe
    from sparring.rounds.run import check, run
    from sparring.runtime.progress import Progress

    folder = out or Path("runs") / Path(recipe).stem
    if check_:
        check(load_recipe(recipe, set_ or []), Progress(screen))
        changes = [word for change in set_ or [] for word in ("--set", change)]
        place = ["--out", str(out)] if out else []
        say(screen, f"ready: {shlex.join(['sparring', 'run', recipe, *changes, *place])}")
        return
    summary = run(load_recipe(recipe, set_ or []), folder, Progress(screen))
    if json_:
        keys = ("name", "headline", "judgments", "checks", "warnings")
        also = ("evaluated", "best", "stopped")
        print_json({key: summary[key] for key in (*keys, *(key for key in also if key in summary))})
    else:
        show(summary, folder, screen)


def show(summary: Summary, folder: Path, screen: Console) -> None:
    """The result in a sentence, the table behind it, and where the files are."""
    from sparring.evaluation.best_policy import in_words
    from sparring.report.html import lead
    from sparring.runtime.layout import REPORT, round_folder

    say(screen, f"{summary['name']}: {lead(summary)}")
    if rows := judgment_rows(summary):
        columns = ("final against start, held out", "in training", "win rate", "95 % interval", "mean preference")
        screen.print(table("", columns, rows))
    if checks := summary["checks"]:
        columns = ("rule checks passed, held out", "prompts", "start", "final", "gain", "95 % interval")
        rates = {"all": checks, **checks.get("by_group", {})}
        screen.print(table("", columns, [rates_row(name, one) for name, one in rates.items()]))
    if episodes := summary.get("episodes"):
        screen.print(table("", ("held-out self-play", "start", "final"), episode_rows(episodes[0], episodes[-1])))
    if best := summary.get("best"):
        say(screen, in_words(best))
    say(screen, *(f"warning: {warning}" for warning in summary["warnings"]))
    say(screen, f"report: {folder / REPORT}")
    link = f" (also {folder / 'final'})" if (folder / "final").exists() else ""  # not all file systems have links
    say(screen, f"policy: {folder / round_folder(summary['recipe']['rounds'] - 1).policy}{link}")


def judgment_rows(summary: Summary) -> list[tuple[str, ...]]:
    """A row per judgment, and per opponent of start and final policy."""
    from sparring.report.numbers import judge_names

    judgments = summary["judgments"]
    rows = [_row(name, judgment) for name, judgment in zip(judge_names(judgments), judgments, strict=True)]
    for opponent in summary.get("opponents", []):
        for who in ("start", "final"):
            judgment = opponent[who]
            rows.append(_row(f"{judgment['name']}: {who} against {opponent['name']}", judgment))
    return rows


def episode_rows(start: PolicyEpisodes, final: PolicyEpisodes) -> list[tuple[str, ...]]:
    """Rewards by role and the environment's own measures, of both policies, with intervals over tasks."""
    both = start, final
    rows = [(f"reward of {role}", "+z.2f", [one["rewards"].get(role) for one in both]) for role in start["rewards"]]
    rows += [(name, ".2f", [one["measures"].get(name) for one in both]) for name in start["measures"]]
    return [(name, *("-" if value is None else f"{value:{form}}" for value in values)) for name, form, values in rows]


def rates_row(name: str, rates: Rates) -> tuple[str, ...]:
    """Start, final policy and difference of one kind or group, as cells of a table."""
    start, final, gain = rates["start"].value, rates["final"].value, rates["difference"]
    return name, str(rates["prompts"]), f"{start:.1%}", f"{final:.1%}", f"{gain.value:+.1%}", gain.span("+.1%")


def _row(name: str, judgment: Judgment) -> tuple[str, ...]:
    win, mean = judgment["win_rate"], judgment["mean_preference"]
    seen = "yes" if judgment["seen_in_training"] else "no"
    return name, seen, f"{win.value:.1%}", win.span(".1%"), f"{mean.value:.3f}"
