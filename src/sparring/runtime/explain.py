"""Pydantic's errors in a recipe's words: field, value, what is allowed; one line for each field.

Leaves out: errors that are already sentences (a field's own ValueError).

    except ValidationError as error: lines = explain(error, Recipe, plain)
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError


def explain(error: ValidationError, root: type[BaseModel], plain: Any, prefix: str = "") -> list[str]:
    """A line for each field of `plain` that is wrong; `root` is the model that refused it."""
    fields: dict[tuple[Any, ...], list[Any]] = {}
    for problem in error.errors():
        fields.setdefault(_path(problem, plain), []).append(problem)
    return [_line(path, problems, root, prefix) for path, problems in fields.items()]


def _path(problem: Any, plain: Any) -> tuple[Any, ...]:
    """The place of a problem in `plain`: pydantic's location goes on with the branch of a union that was tried."""
    location = tuple(part for part in problem["loc"] if not str(part).startswith("#"))  # tags of a union's branches
    if problem["type"] == "missing":
        return location
    for depth, part in enumerate(location):
        known = part in plain if isinstance(plain, dict) else isinstance(plain, list) and isinstance(part, int)
        if not known:
            return location[:depth]
        plain = plain[part]
    return location


def _line(path: tuple[Any, ...], problems: Sequence[Any], root: type[BaseModel], prefix: str) -> str:
    """One field's problem as: field: what is wrong, the value, the remedy."""
    where, problem = prefix + ".".join(str(part) for part in path), problems[0]
    message = str(problem["msg"]).removeprefix("Value error, ")
    if problem["type"] == "extra_forbidden":
        if path[-1] in _keys(path[:-1], root):  # of another form that the section may have
            return f"{where}: it does not go with the keys beside it. Leave it out, or those of the other form."
        return f"{where}: unknown key.{_nearest(path, root)}"
    if problem["type"] == "missing":
        return f"{where}: missing; it has no default."
    if problem["type"] == "model_type":
        return f"{where} = {problem['input']!r}: give a section with keys such as {', '.join(_keys(path, root)[:3])}."
    if problem["type"] == "dict_type" and isinstance(problem["input"], str):
        return f"{where} = {problem['input']!r}: give a section: {{name: {problem['input']}}}."
    if problem["type"] == "value_error":
        return f"{where.rstrip('.')}: {message}" if where else message
    if len(problems) > 1:  # one of each branch of a union
        allowed = [str(p["msg"]).removeprefix("Input should be ").partition(", ")[0] for p in problems]
        return f"{where} = {problem['input']!r}: input should be {' or '.join(allowed)}."
    return f"{where} = {problem['input']!r}: {message[0].lower()}{message[1:]}."


def _nearest(location: Sequence[Any], root: type[BaseModel]) -> str:
    allowed = _keys(location[:-1], root)
    near = difflib.get_close_matches(str(location[-1]), allowed, n=1, cutoff=0.5)
    return (f" Did you mean {near[0]!r}?" if near else "") + (f" Allowed: {', '.join(allowed)}." if allowed else "")


def _keys(location: Sequence[Any], root: type[BaseModel]) -> list[str]:
    """The keys that the section at a place may have."""
    models = [root]
    for part in (part for part in location if isinstance(part, str)):
        fields = [model.model_fields[part].annotation for model in models if part in model.model_fields]
        # A key that is no field is the name of an entry, such as one of several data sets.
        models = [inner for annotation in fields for inner in _models(annotation)] if fields else models
    return list(dict.fromkeys(name for model in models for name in model.model_fields))


def _models(annotation: Any) -> list[type[BaseModel]]:
    """The sections inside an annotation."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for inner in get_args(annotation) for model in _models(inner)]
