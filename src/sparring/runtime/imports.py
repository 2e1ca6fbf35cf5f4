"""Import the object that a recipe names as `package.module:name`. Leaves out: shipped names, which have tables.

import_attribute("my_package.judges:longer", "oracle.path")
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
from collections.abc import Mapping
from typing import Any, TypeVar

from sparring.runtime.errors import own_place

Kind = TypeVar("Kind")


def import_attribute(where: str, field: str) -> Any:
    """Import the object that `package.module:name` refers to; `field` is the recipe's field that errors name.

    Raises:
        ValueError: there is no such module, or it has no such name.
    """
    module, _, attribute = where.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except Exception as error:  # of the module's own code, or nothing, or dots alone, before the colon
        if module == "__main__":
            raise ValueError(
                f"{field}: {attribute!r} is of the Python script or notebook that started the run, and not here. Go on "
                "from there, or put it into a module of its own."
            ) from error
        raise ValueError(
            f"{field}: cannot import {where!r}: {own_place(error)}{error}. Write package.module:name, with the package "
            "installed or in the folder that sparring is started from."
        ) from error


def name_of(function: Any) -> str:
    """`module:function`, by which `import_attribute` finds it. Raises ValueError where that finds something else."""
    name = f"{getattr(function, '__module__', '')}:{getattr(function, '__qualname__', '')}"
    try:
        found = import_attribute(name, "oracle.path")
    except ValueError:
        found = None
    if found is not function:
        raise ValueError(f"{function!r} cannot be named in a recipe. Give a function that a module or a cell defines.")
    return name


def find_class(name: str, shipped: Mapping[str, str], section: str, base: type[Kind]) -> type[Kind]:
    """The subclass of `base` that a recipe's section names: a key of `shipped`, or `package.module:Class`.

    Raises:
        ValueError: unknown name (with the nearest one), or nothing of that kind can be imported.
    """
    where = shipped.get(name, name)
    field = f"{section}.name"
    if ":" not in where:
        near = difflib.get_close_matches(name, shipped, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(
            f"{field}: unknown {section} {name!r}.{hint} Shipped: {', '.join(shipped)}; your own "
            "is named as 'package.module:Class'."
        )
    kind = import_attribute(where, field)
    if not (isinstance(kind, type) and issubclass(kind, base)):
        raise ValueError(f"{field}: {where!r} is not a subclass of {base.__module__}.{base.__qualname__}.")
    return kind


def needs(*modules: str, extra: str) -> None:
    """Raise ValueError where one of these modules is not installed, with the extra that installs them."""
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(
            f"this needs {', '.join(missing)}. Install what it needs with: pip install 'sparring[{extra}]'"
        )
