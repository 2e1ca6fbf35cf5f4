"""`sparring export`: a policy as one plain model folder with a card."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Dtype(StrEnum):
    """Formats of exported weights."""

    bfloat16 = "bfloat16"
    float16 = "float16"
    float32 = "float32"


def register(app: typer.Typer) -> None:
    """Add the verb."""

    @app.command("export")
    def command(
        source: Annotated[Path, typer.Argument(help="A run folder, a model folder, or an adapter folder.")],
        out: Annotated[Path | None, typer.Option(help="Folder to write. Default: exported/NAME.")] = None,
        dtype: Annotated[Dtype, typer.Option(help="Format of the weights.")] = Dtype.bfloat16,
        round_: Annotated[
            int | None,
            typer.Option("--round", min=1, help="Take the policy after so many rounds. Default: the last."),
        ] = None,
        base: Annotated[str | None, typer.Option(help="Of an adapter folder: its base model, if that moved.")] = None,
        licence: Annotated[str | None, typer.Option(help="Licence of these weights, for the card.")] = None,
        push: Annotated[str | None, typer.Option(help="Also upload to the hub as org/name; needs a token.")] = None,
        private: Annotated[bool, typer.Option(help="Make the pushed repository private.")] = False,
        json_: Annotated[bool, typer.Option("--json", help="Print facts as JSON.")] = False,
    ) -> None:
        """Write a policy as a plain Hugging Face folder: adapter merged, safetensors, tokenizer, model card.

        The card holds the recipe, the data, the run's results with intervals, and the licences that could be found.
        """
        from sparring.rounds.export import export, find_source, hub_token
        from sparring.rounds.export import push as upload

        token = None if push is None else hub_token(push)
        found = find_source(source, round_, base)
        target = out or Path("exported") / source.resolve().name
        facts = {"folder": str(target), **export(found, target, dtype.value, licence)}
        if push is not None and token is not None:
            facts["pushed"] = upload(target, push, private, token)
        if json_:
            print(json.dumps(facts))
            return
        merged = ", adapter merged" if facts["merged_adapter"] else ""
        print(f"{target}  {facts['parameters']:,} parameters, {facts['dtype']}{merged}")
        if "pushed" in facts:
            print(facts["pushed"])
