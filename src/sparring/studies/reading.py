"""Study files: a base recipe, methods that differ from it, seeds, and perhaps a setting that is chosen for each method.

Every recipe that the file makes is read and checked before anything runs, those of all values of a choice too.
Leaves out: making the runs (`study.py`).

    load_study(Path("study.yaml")).recipes["inpo", 0]
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, field_validator

from sparring.recipe.datasets import DatasetConfig
from sparring.recipe.reading import override, parse_recipe, read_recipe, shipped_recipes
from sparring.recipe.recipe import Recipe
from sparring.recipe.sections import Frozen
from sparring.runtime.explain import explain
from sparring.runtime.plain_yaml import read_yaml

START = "start"
"""the common start policy's name among the methods"""
CHOICE = "choice"
"""the folder of runs that choose, beside those of the methods"""


class ChoiceConfig(Frozen):
    """A setting that every method chooses for itself, by one run with each value on prompts that no result uses."""

    field: str
    """What is chosen, such as `fit.learning_rate`."""
    values: tuple[int | float, ...] = Field(min_length=2)
    """Two numbers or more, each of which is tried with every method."""
    held_out: DatasetConfig
    """The prompts that decide, instead of data.held_out."""
    seed: int
    """Of the runs that choose; not one of the study's."""


class StudyConfig(Frozen):
    """A study file."""

    base: str
    """The recipe that all runs share: a file beside the study file, or the name of a shipped one."""
    set: tuple[str, ...] = ()
    """Changes for all runs, as `--set` takes them."""
    methods: dict[str, dict[str, Any]] = Field(min_length=1)
    """Per method, sections of the recipe that differ; `algorithm` replaces the base's, others change single fields."""
    seeds: tuple[int, ...] = Field(default=(0, 1, 2), min_length=1)
    """Every method runs once with each."""
    choose: ChoiceConfig | None = None
    """A setting that each method chooses before its seeds run; null: all methods as they are written."""

    @field_validator("methods")
    @classmethod
    def _names(cls, methods: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        for name in methods:
            if name in (START, CHOICE) or not name.replace("-", "").replace("_", "").isalnum():
                raise ValueError(
                    f"{name!r} names a folder: give letters, digits and hyphens, and not {START!r} or {CHOICE!r}."
                )
        return methods


Recipes = dict[tuple[str, int], Recipe]
"""by method and seed"""


@dataclass(frozen=True, slots=True)
class Choice:
    """The runs that choose, and the recipes that may follow from them."""

    config: ChoiceConfig
    tries: Recipes
    """by `try_name` and the choice's seed"""
    outcomes: Mapping[tuple[str, int, float], Recipe]
    """by method, seed and the value that the method chose"""

    def settled(self, chosen: Mapping[str, float]) -> Recipes:
        """The study's recipes, each method with its value."""
        return {(name, seed): one for (name, seed, value), one in self.outcomes.items() if value == chosen[name]}


@dataclass(frozen=True, slots=True)
class Study:
    """What a study file says, checked."""

    recipes: Recipes
    """as they are written; a choice changes one setting of each"""
    choice: Choice | None = None

    def all_recipes(self) -> Recipes:
        """Those of the runs that choose, and then the study's as they are written."""
        return {**(self.choice.tries if self.choice else {}), **self.recipes}


def try_name(method: str, value: float) -> str:
    """The folder of a method's run with a value, below `choice`."""
    return f"{method}/{value:g}"


def load_study(path: Path) -> Study:
    """All recipes of a study file, every one checked.

    Raises:
        ValueError: the file, or a recipe that it makes, has a problem; names the method.
    """
    plain = read_yaml(path, "study")
    if not isinstance(plain, dict):
        raise ValueError(f"{path} must hold the keys base and methods; see docs/how-to/study.md.")
    try:
        study = StudyConfig.model_validate(plain)
    except ValidationError as error:
        lines = "\n".join(f"  {line}" for line in explain(error, StudyConfig, plain))
        raise ValueError(f"{path} has problems:\n{lines}") from error
    for name, fields in [*study.methods.items(), ("set", [one.partition("=")[0].strip() for one in study.set])]:
        if "seed" in fields:
            raise ValueError(f"{path}, {name}: seed would be ignored; give it under seeds, with which all methods run.")
    if len(set(study.seeds)) < len(study.seeds):
        raise ValueError(f"{path}: seeds = {list(study.seeds)}: one is there twice.")
    beside = path.parent / study.base
    near = next((file for end in ("yaml", "yml") if (file := Path(f"{beside}.{end}")).is_file()), None)
    if near and not beside.is_file() and study.base not in shipped_recipes():
        raise ValueError(f"{path}, base: {study.base!r} is neither a file nor a shipped recipe. Give {near.name!r}.")
    base = read_recipe(beside if beside.is_file() else study.base, study.set)
    methods = {name: _merged(base, sections) for name, sections in study.methods.items()}
    recipes = {(name, seed): _parsed(path, name, methods[name], seed) for seed, name in product(study.seeds, methods)}
    _refuse_unlike(recipes.items(), path)
    return Study(recipes, study.choose and _choice(study, study.choose, methods, path))


def _parsed(path: Path, method: str, plain: Mapping[str, Any], seed: int, *settings: str) -> Recipe:
    plain = {**copy.deepcopy(dict(plain)), "seed": seed}
    try:
        for setting in settings:
            override(plain, setting)
        return parse_recipe(plain)
    except ValueError as error:
        raise ValueError(f"{path}, method {method}: {error}") from error


def _choice(study: StudyConfig, config: ChoiceConfig, methods: Mapping[str, dict[str, Any]], path: Path) -> Choice:
    """The recipes of all values, and that they leave the methods alike in the rest."""
    if config.seed in study.seeds:
        raise ValueError(f"{path}, choose: seed = {config.seed} is one of the study's. Give another.")
    if len({f"{value:g}" for value in config.values}) < len(config.values):
        raise ValueError(f"{path}, choose: values = {list(config.values)}: one is there twice, to six digits.")
    if "." not in config.field or not all(config.field.split(".")):
        raise ValueError(f"{path}, choose: field = {config.field!r}: give section.field, such as fit.learning_rate.")
    if config.field in (setting.partition("=")[0].strip() for setting in study.set):
        raise ValueError(f"{path}, set: it sets {config.field}, which is chosen. Leave it out.")
    for name, sections in study.methods.items():
        if has_field(sections, config.field):
            raise ValueError(f"{path}, method {name}: it sets {config.field}, which is chosen. Leave it out.")
        if not has_field(_parsed(path, name, methods[name], config.seed).resolved(), config.field):
            raise ValueError(f"{path}, method {name}: there is no {config.field} to choose. Give another choose.field.")
    settings = {value: f"{config.field}={json.dumps(value)}" for value in config.values}
    outcomes = {
        (name, seed, value): _parsed(path, name, methods[name], seed, settings[value])
        for seed, name, value in product(study.seeds, methods, config.values)
    }
    held_out = config.held_out.model_dump()
    tries = {
        (try_name(name, value), config.seed): _parsed(
            path, name, {**plain, "data": {**plain["data"], "held_out": held_out}}, config.seed, settings[value]
        )
        for (name, plain), value in product(methods.items(), config.values)
    }
    (name, seed, _), one = next(iter(outcomes.items()))
    if _shared(one) != _shared(outcomes[name, seed, config.values[1]]):
        raise ValueError(f"{path}, choose: methods must agree in {config.field}, so that each cannot choose its own.")
    return Choice(config, tries, outcomes)


def value_of(plain: Any, field: str) -> Any:
    """The value of `a.b` in nested plain data; a KeyError where it has none."""
    for part in field.split("."):
        if not isinstance(plain, Mapping):
            raise KeyError(field)
        plain = plain[part]
    return plain


def has_field(plain: Any, field: str) -> bool:
    """Whether nested plain data has `a.b`."""
    try:
        value_of(plain, field)
    except KeyError:
        return False
    return True


def _refuse_unlike(recipes: Iterable[tuple[tuple[str, int], Recipe]], path: Path) -> None:
    """Raise ValueError where runs would not compare: found now instead of after hours."""
    ((first, _), one), *others = recipes
    shared = _shared(one)
    if shared["evaluation"].patience is not None:
        raise ValueError(
            f"{path}: evaluation.patience = {shared['evaluation'].patience} would end runs after different numbers of "
            "rounds, so they would not compare. Remove it."
        )
    for (name, _), other in others:
        for field, its in _shared(other).items():
            if shared[field] != its:
                raise ValueError(
                    f"{path}, method {name}: {field} is not that of {first}, so the two would not compare. "
                    f"Set {field} in the base, or under `set`, for all methods."
                )


def _shared(recipe: Recipe) -> dict[str, Any]:
    """Fields in which all methods must agree: the start, the prompts and the budget.

    Methods may train differently (data.train, data.collect, fit, adapters), but a base in 4 bits is another start.
    """
    model, data = recipe.model.model_dump(exclude={"lora"}), recipe.data
    return {
        **{f"model.{field}": value for field, value in model.items()},
        "model.lora.quantize": recipe.model.lora and recipe.model.lora.quantize,
        "data.held_out": data.held_out,
        "data.max_prompt_tokens": data.max_prompt_tokens,
        "data.prompts_per_round": data.prompts_per_round,
        "sampling": recipe.sampling,
        "rounds": recipe.rounds,
        "oracle": recipe.oracle,
        "evaluation": recipe.evaluation,
    }


def _merged(base: Mapping[str, Any], sections: Mapping[str, Any]) -> dict[str, Any]:
    merged = copy.deepcopy(dict(base))
    for name, section in sections.items():
        change = isinstance(section, dict) and isinstance(merged.get(name), dict) and name != "algorithm"
        merged[name] = {**merged[name], **section} if change else section
    return merged
