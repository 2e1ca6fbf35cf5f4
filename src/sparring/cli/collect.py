"""`sparring collect`: a preference set from prompts, a policy and an oracle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from sparring.cli.inputs import Recipe, Set
from sparring.cli.result import Json, print_json, say, terminal
from sparring.cli.several import shared


@shared
def command(
    recipe: Recipe,
    set_: Set = None,
    out: Annotated[Path | None, typer.Option(help="Folder to write. Default: collected/NAME-OF-RECIPE.")] = None,
    form: Annotated[
        Literal["text", "messages"], typer.Option(help="text: strings; messages: lists of {role, content}.")
    ] = "text",
    keep_cut_off: Annotated[
        bool, typer.Option("--keep-cut-off", help="Keep pairs with an answer that hit sampling.max_new_tokens.")
    ] = False,
    json_: Json = False,
) -> None:
    """Build a preference set: sample the policy, ask the oracle, write prompt, chosen and rejected.

    Of the recipe only model, data.train, data.collect, oracle, sampling and seed count; the rest may be missing.
    Start and resume are the same command. The file is read by `sparring run`, and by other trainers.
    """
    from sparring.rounds.collect import collect, load_collection
    from sparring.runtime.progress import Progress

    screen = terminal(stderr=json_)
    folder = out or Path("collected") / Path(recipe).stem
    collected = collect(load_collection(recipe, set_ or []), folder, form, keep_cut_off, Progress(screen))
    if json_:
        print_json(collected)
        return
    drops = "".join(f", dropped {count}: {reason}" for reason, count in collected["dropped"].items())
    say(screen, f"{collected['file']}: {collected['pairs']} pairs of {collected['prompts']} prompts{drops}")
