"""`sparring export`: a policy as one plain model folder with a card."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from sparring.cli.result import Json, print_json, say, terminal


def command(
    source: Annotated[Path, typer.Argument(help="A run folder, a model folder, or an adapter folder.")],
    out: Annotated[Path | None, typer.Option(help="Folder to write. Default: exported/NAME.")] = None,
    dtype: Annotated[
        Literal["bfloat16", "float16", "float32"], typer.Option(help="Format of the weights.")
    ] = "bfloat16",
    round_: Annotated[
        int | None, typer.Option("--round", min=1, help="Take the policy of this round. Default: of the last.")
    ] = None,
    best: Annotated[
        bool, typer.Option("--best", help="Take the best policy that the run evaluated (evaluation.every).")
    ] = False,
    base: Annotated[str | None, typer.Option(help="Of an adapter folder: its base model, if that moved.")] = None,
    licence: Annotated[str | None, typer.Option(help="Licence of these weights, for the card.")] = None,
    push: Annotated[str | None, typer.Option(help="Also upload to the hub as org/name; needs a token.")] = None,
    private: Annotated[bool, typer.Option(help="Make the pushed repository private.")] = False,
    json_: Json = False,
) -> None:
    """Write a policy as a plain Hugging Face folder: adapter merged, safetensors, tokenizer, model card.

    The card holds the recipe, the data, the run's results with intervals, and the licences that could be found.
    """
    from sparring.evaluation.best_policy import in_words
    from sparring.rounds.export import export, find_source, hub_token
    from sparring.rounds.export import push as upload

    token = None if push is None else hub_token(push)
    policy = find_source(source, round_, base, best)
    target = out or Path("exported") / source.resolve().name
    exported = {"folder": str(target), **export(policy, target, dtype, licence)}
    if policy.origin and policy.origin.chosen:
        exported["best"] = policy.origin.chosen
    if push is not None and token is not None:
        exported["pushed"] = upload(target, push, private, token)
    if json_:
        print_json(exported)
        return
    merged = ", adapter merged" if exported["merged_adapter"] else ""
    terminal().print(f"{target}  {exported['parameters']:,} parameters, {exported['dtype']}{merged}")
    if policy.origin and policy.origin.chosen:
        say(terminal(), in_words(policy.origin.chosen))
    if policy.note:
        terminal().print(policy.note)
    if "pushed" in exported:
        terminal().print(exported["pushed"])
