"""What several evaluations take from the command line: a judge, prompts, sampling settings. Leaves out: options' texts.

section = oracle_section("judge.yaml")
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
import yaml

if TYPE_CHECKING:
    from sparring.evaluation.answers import Instruction


def oracle_section(spec: str) -> dict[str, Any]:
    """A judge: the name of an oracle, or a YAML file with a section {name: ...} or a recipe's `oracle:`.

    Raises:
        ValueError: the file holds neither.
    """
    from sparring.recipe import read_yaml

    path = Path(spec)
    if path.suffix not in (".yaml", ".yml"):
        return {"name": spec}
    plain = read_yaml(path, "--oracle")
    section = plain.get("oracle", plain) if isinstance(plain, dict) else None
    if not isinstance(section, dict) or "name" not in section:
        raise ValueError(f"--oracle: {spec!r} holds neither `name: ...` nor a recipe's `oracle: {{name: ...}}`.")
    return section


def sampling_overrides(settings: Sequence[str]) -> dict[str, Any]:
    """`field=value` settings of a recipe's `sampling:` section.

    Raises:
        ValueError: not of that form, an unknown field, or a value out of bounds.
    """
    from pydantic import ValidationError

    from sparring.explain import explain
    from sparring.recipe import SamplingConfig

    found: dict[str, Any] = {}
    for setting in settings:
        field, equals, value = setting.partition("=")
        if not equals:
            raise ValueError(f"--sampling {setting!r}: write it as field=value, such as temperature=0.7.")
        found[field] = yaml.safe_load(value)
    try:
        SamplingConfig.model_validate(found)
    except ValidationError as error:
        problems = "; ".join(explain(error, SamplingConfig, found))
        raise ValueError(f"--sampling: {problems}") from error
    return found


def instructions(path: str | None, split: str | None, limit: int | None) -> list[Instruction] | None:
    """The prompts that are named, and on stderr how many rows are none; None where none are named.

    Raises:
        ValueError: they cannot be read; or a split or limit of nothing.
    """
    from sparring.evaluation.answers import read_instructions
    from sparring.recipe import DatasetConfig

    if path is None:
        if split is not None or limit is not None:
            raise ValueError("--split and --limit choose among --prompts, which is missing.")
        return None
    found, dropped = read_instructions(DatasetConfig(path=path, split=split, limit=limit))
    for reason, count in dropped.items():
        typer.echo(f"{path}: {count} {reason}, left out", err=True)
    return found
