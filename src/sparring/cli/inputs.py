"""Inputs that several verbs take: their options, and how a judge, prompts and sampling settings are read from them.

section = oracle_section("judge.yaml")
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sparring.runtime.plain_yaml import load_yaml
from sparring.runtime.terminal import terminal

if TYPE_CHECKING:
    from sparring.evaluation.answers import Instruction

Recipe = Annotated[str, typer.Argument(help="A recipe file, or the name of a shipped one (see `sparring recipe`).")]
Set = Annotated[list[str] | None, typer.Option("--set", help="Change a field: section.field=value. May be repeated.")]
Oracle = Annotated[
    str | None, typer.Option(help="Who judges: an oracle's name, or a YAML file with its section or a recipe.")
]
Sampling = Annotated[
    list[str] | None,
    typer.Option(help="How a policy responds: field=value of a recipe's sampling section. May be repeated."),
]
FromStored = Annotated[
    Path | None, typer.Option(help="Compute everything again from this folder; asks no model and no judge.")
]
LmEvalData = Annotated[
    list[str] | None,
    typer.Option(help="Local documents, NAME=FILE; shots from another file: NAME:shots=FILE. May be repeated."),
]


def oracle_section(spec: str) -> dict[str, Any]:
    """A judge: an oracle's name, `{name: ...}`, a folder of `oracle train`, or a YAML file with a section or a recipe.

    Raises:
        ValueError: it is none of these.
    """
    from sparring.runtime.plain_yaml import read_yaml

    if Path(spec).suffix in (".yaml", ".yml"):
        plain = read_yaml(Path(spec), "--oracle")
        # A wrapper has a field `oracle` too: only what has no name of its own can be a recipe.
        section = plain.get("oracle") if isinstance(plain, dict) and "name" not in plain else plain
        if not isinstance(section, dict) or "name" not in section:
            raise ValueError(f"--oracle: {spec!r} holds neither `name: ...` nor a recipe's `oracle: {{name: ...}}`.")
        return section
    return plain_section(spec)


def plain_section(spec: str) -> dict[str, Any]:
    """A judge that is no file: an oracle's name, `{name: ...}`, or a folder of `oracle train`.

    Raises:
        ValueError: it is none of these.
    """
    if not spec.lstrip().startswith(("{", "[")):
        if not Path(spec).is_dir():
            return {"name": spec}
        if not (Path(spec) / "oracle.json").is_file():
            raise ValueError(f"--oracle: the folder {spec!r} has no oracle.json: give one that `oracle train` made.")
        return {"name": "trained", "folder": spec}
    try:
        section = load_yaml(spec)
    except ValueError as error:
        raise ValueError(f"--oracle: {spec!r} is not readable YAML. Write {{name: ..., field: ...}}.") from error
    if not isinstance(section, dict) or "name" not in section:
        raise ValueError(f"--oracle {spec!r}: give a name, a folder, a recipe, or '{{name: ...}}'.")
    return section


def sampling_overrides(settings: Sequence[str]) -> dict[str, Any]:
    """`field=value` settings of a recipe's `sampling:` section.

    Raises:
        ValueError: not of that form, an unknown field, or a value out of bounds.
    """
    from pydantic import ValidationError

    from sparring.recipe.sections import SamplingConfig
    from sparring.runtime.explain import explain

    overrides: dict[str, Any] = {}
    for setting in settings:
        field, equals, value = setting.partition("=")
        if not equals:
            raise ValueError(f"--sampling {setting!r}: write it as field=value, such as temperature=0.7.")
        try:
            overrides[field] = load_yaml(value)
        except ValueError as error:
            raise ValueError(f"--sampling {setting!r}: {value!r} is not readable YAML; put text in quotes.") from error
    try:
        SamplingConfig.model_validate(overrides)
    except ValidationError as error:
        problems = "; ".join(explain(error, SamplingConfig, overrides))
        raise ValueError(f"--sampling: {problems}") from error
    return overrides


def instructions(path: str | None, split: str | None, limit: int | None) -> list[Instruction] | None:
    """The prompts of a data set, None without a path; says on stderr how many of its rows hold none.

    Raises:
        ValueError: they cannot be read, or a split or a limit stands without a path.
    """
    from sparring.evaluation.answers import read_instructions
    from sparring.recipe.sections import DatasetConfig

    if path is None:
        if split is not None or limit is not None:
            raise ValueError(
                "--split and --limit choose among --prompts, which is missing. Give --prompts FILE: a run's held-out "
                "prompts are data.held_out of its recipe.yaml."
            )
        return None
    prompts, dropped = read_instructions(DatasetConfig(path=path, split=split, limit=limit))
    for reason, count in dropped.items():
        terminal(stderr=True).print(f"{path}: {count} {reason}, left out")
    return prompts
