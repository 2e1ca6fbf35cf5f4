"""Reading recipes: from a YAML file or plain data, with overrides, and every problem named before any work.

recipe = load_recipe("recipes/demo.yaml", ["rounds=1", "fit.learning_rate=1e-5"])
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from sparring.algorithms.algorithm import build_algorithm, find_algorithm
from sparring.recipe.recipe import Recipe
from sparring.runtime.explain import explain
from sparring.runtime.imports import name_of
from sparring.runtime.plain_yaml import load_value, read_yaml


def shipped_recipes() -> dict[str, Path]:
    """The recipes that come with Sparring, by name."""
    folder = Path(__file__).parents[1] / "recipes"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"), key=lambda path: path.stem)}


def nearest_recipe(name: str) -> str:
    """The file beside it, or else the shipped recipe, of a name like this, as a question; empty where there is none."""
    folder = Path(name).parent
    files = [str(path) for end in ("yaml", "yml") for path in folder.glob(f"*.{end}")] if folder.is_dir() else []
    near = difflib.get_close_matches(name, files, n=1, cutoff=0.8)
    near = near or difflib.get_close_matches(name.removesuffix(".yaml"), shipped_recipes(), n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """A recipe from a YAML file, with `a.b=value` overrides applied.

    Raises:
        ValueError: with every problem on a line of its own: field, value, remedy.
    """
    return parse_recipe(read_recipe(path, overrides))


def read_recipe(path: str | Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The plain data of a recipe file (or a shipped recipe), overridden but not checked yet."""
    path = shipped_recipes().get(str(path), Path(path))
    if path.is_dir():
        inside = path / "recipe.yaml"
        file = repr(str(inside)) if inside.is_file() else "a recipe's file, or the name of a shipped one"
        raise ValueError(f"recipe: {str(path)!r} is a folder. Give {file}.")
    if not path.is_file():
        near = nearest_recipe(str(path))
        raise ValueError(f"recipe: {str(path)!r} does not exist.{near} `sparring recipe` lists the shipped ones.")
    plain = read_yaml(path, "recipe")
    if not isinstance(plain, dict):
        raise ValueError(f"recipe: {str(path)!r} must hold keys such as model, data and algorithm.")
    for setting in overrides:
        override(plain, setting)
    return plain


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


RecipeSource = Recipe | str | Path | Mapping[str, Any]


def as_recipe(source: RecipeSource) -> Recipe:
    """A recipe from what a Python user has: itself, the path or shipped name of a file, or its content.

    An oracle's function may be given as itself, in place of its section or of its `path`: `oracle=shorter`.

    Raises:
        ValueError: as `load_recipe`; or a function cannot be named.
    """
    if isinstance(source, Recipe):
        return source
    if isinstance(source, str | Path):
        return load_recipe(source)
    return parse_recipe(_functions_by_name(source))


def _functions_by_name(value: Any, path: str = "") -> Any:
    """Plain data in which each function is named, so that recipe.yaml can hold it."""
    if callable(value):
        return name_of(value) if path.endswith(".path") else {"name": "function", "path": name_of(value)}
    if isinstance(value, Mapping):
        return {key: _functions_by_name(one, f"{path}.{key}") for key, one in value.items()}
    return [_functions_by_name(one, path) for one in value] if isinstance(value, list | tuple) else value


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
        plain[last] = load_value(value)
    except ValueError as error:
        raise ValueError(f"--set {setting!r}: {value!r} is not readable YAML; put text in quotes.") from error
