"""`sparring collect`: a preference set from prompts, a policy and an oracle."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from sparring.cli.result import say, terminal
from sparring.cli.several import shared


class FormChoice(StrEnum):
    """How prompt and answers are written."""

    text = "text"
    messages = "messages"


def register(app: typer.Typer) -> None:
    """Add the verb."""

    @app.command("collect")
    @shared
    def command(
        recipe: Annotated[str, typer.Argument(help="A recipe file, or the name of a shipped one.")],
        set_: Annotated[
            list[str] | None,
            typer.Option("--set", help="Change a field: section.field=value. May be repeated."),
        ] = None,
        out: Annotated[Path | None, typer.Option(help="Folder to write. Default: collected/NAME-OF-RECIPE.")] = None,
        form: Annotated[
            FormChoice, typer.Option(help="text: strings; messages: lists of {role, content}.")
        ] = FormChoice.text,
        keep_cut_off: Annotated[
            bool, typer.Option("--keep-cut-off", help="Keep pairs with an answer that hit sampling.max_new_tokens.")
        ] = False,
        json_: Annotated[bool, typer.Option("--json", help="Print counts and the file as JSON.")] = False,
    ) -> None:
        """Build a preference set: sample the policy, ask the oracle, write prompt, chosen and rejected.

        Of the recipe only model, data.train, data.collect, oracle, sampling and seed count; the rest may be missing.
        Start and resume are the same command. The file is read by `sparring run`, and by other trainers.
        """
        from sparring.rounds.collect import collect, load_collection
        from sparring.runtime.progress import Progress

        screen = terminal(stderr=json_)
        folder = out or Path("collected") / Path(recipe).stem
        facts = collect(load_collection(recipe, set_ or []), folder, form.value, keep_cut_off, Progress(screen))
        if json_:
            print(json.dumps(facts))
            return
        drops = "".join(f", dropped {count}: {reason}" for reason, count in facts["dropped"].items())
        say(screen, f"{facts['file']}: {facts['pairs']} pairs of {facts['prompts']} prompts{drops}")
