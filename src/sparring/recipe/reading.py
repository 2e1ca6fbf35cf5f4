"""Reading recipes: from a YAML file or plain data, with overrides, and every problem named before any work.

recipe = load_recipe("recipes/demo.yaml", ["rounds=1", "fit.learning_rate=1e-5"])
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from sparring.algorithms.algorithm import build_algorithm, find_algorithm
from sparring.recipe.explain import explain
from sparring.recipe.recipe import Recipe


def shipped_recipes() -> dict[str, Path]:
    """The recipes that come with Sparring, by name."""
    folder = Path(__file__).parents[1] / "recipes"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """A recipe from a YAML file, with `a.b=value` overrides applied.

    Raises:
        ValueError: with every problem on a line of its own: field, value, remedy.
    """
    return parse_recipe(read_recipe(path, overrides))


def read_recipe(path: str | Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The plain data of a recipe file (or a shipped recipe), overridden but not checked yet."""
    path = shipped_recipes().get(str(path), Path(path))
    if not path.is_file():
        raise ValueError(f"recipe: {str(path)!r} does not exist. `sparring recipe` lists the shipped ones.")
    plain = read_yaml(path, "recipe")
    if not isinstance(plain, dict):
        raise ValueError(f"recipe: {str(path)!r} must hold keys such as model, data and algorithm.")
    for setting in overrides:
        override(plain, setting)
    return plain


def read_yaml(path: Path, what: str) -> Any:
    """The plain data of a YAML file. Raises ValueError where there is none, naming `what` it should be."""
    if not path.is_file():
        raise ValueError(f"{what}: {str(path)!r} does not exist.")
    try:
        return yaml.load(path.read_text(encoding="utf-8"), _UniqueKeys)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: not UTF-8, or an impossible date
        raise ValueError(f"{what}: {str(path)!r} is not readable YAML: {error}") from error


def parse_recipe(plain: dict[str, Any]) -> Recipe:
    """A recipe from plain data; see `load_recipe`."""
    try:
        if isinstance(section := plain.get("algorithm"), dict):
            build_algorithm(section)
        return Recipe.model_validate(plain)
    except ValidationError as error:
        if error.title == "Recipe":
            lines = explain(error, Recipe, plain)
        else:
            section = plain["algorithm"]
            lines = explain(error, find_algorithm(section["name"]), section, "algorithm.")
    raise ValueError("the recipe has problems:\n" + "\n".join(f"  {line}" for line in lines))


class _UniqueKeys(yaml.SafeLoader):
    """YAML in which a key given twice is an error; plain YAML lets the last one win in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} is given twice", node.start_mark)
        return super().construct_mapping(node, deep)


def override(plain: dict[str, Any], setting: str) -> None:
    """Apply `a.b=value` to plain data.

    Raises:
        ValueError: it is not of that form.
    """
    key, equals, value = setting.partition("=")
    *parents, last = key.strip().split(".")
    if not (equals and last and all(parents)):
        raise ValueError(f"--set {setting!r}: write it as section.field=value.")
    for parent in parents:
        if plain.get(parent) is None:
            plain[parent] = {}
        plain = plain[parent]
        if not isinstance(plain, dict):
            raise ValueError(f"--set {setting!r}: {parent!r} is a value, not a section.")
    try:
        plain[last] = _number(yaml.safe_load(value))
    except yaml.YAMLError as error:
        raise ValueError(f"--set {setting!r}: {value!r} is not readable YAML; put text in quotes.") from error


def _number(value: Any) -> Any:
    """YAML 1.1 reads 1e-5 as text; people mean the number."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value
