"""What an environment is known by: a run refuses to go on with episodes of another one.

environment_identity(Own(steps=3))  ->  'Own({"steps":3};code=9c1185a5c5e9fc54)'
"""

from __future__ import annotations

import hashlib
import inspect
from importlib import metadata
from pathlib import Path
from typing import Any

from sparring.environments.environment import SHIPPED, Environment
from sparring.oracles.code_identity import code_identity
from sparring.rounds.store import Store
from sparring.runtime.files import hash_file


def environment_identity(environment: Environment) -> str:
    """Its class, the fields that are set, and of one's own class a hash of what decides an episode.

    `measure` and `about` decide none. A shipped class is known by its name and edition.
    """
    kind = type(environment)
    fields = environment.model_dump_json(exclude_defaults=True)
    fields += "".join(f";{_hash(file)}" for file in environment.reads)
    fields += "".join(f";{environment_identity(one)}" for one in environment.inner)
    fields += "".join(f";{name}=={metadata.version(name)}" for name in environment.packages)
    if f"{kind.__module__}:{kind.__qualname__}" in SHIPPED.values():
        edition = f", edition {environment.edition}" if environment.edition > 1 else ""
        return f"{kind.__qualname__}({fields}{edition})"
    known = {*Environment.__mro__, object}
    own = [klass for klass in kind.__mro__ if klass not in known]
    parts = [_code(value) for klass in own for name, value in sorted(vars(klass).items()) if _decides(name)]
    return f"{kind.__qualname__}({fields};code={hashlib.sha256(repr(parts).encode()).hexdigest()[:16]})"


def _hash(file: str) -> str:
    if not Path(file).is_file():
        raise ValueError(f"environment: {file!r} is not a file. Correct the field that names it.")
    return hash_file(Path(file))[:16]


def _decides(name: str) -> bool:
    return name not in ("measure", "about") and not name.startswith(("__", "_abc_", "model_"))


def _code(value: Any) -> str:
    """A hash of a method's code, or of a class variable: text would differ from process to process for a set."""
    function = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
    return code_identity(function if inspect.isfunction(function) else lambda: value)


def refuse_other_environment(store: Store, environment: Environment) -> None:
    """Raise a ValueError where the run's earlier episodes were played in another environment."""
    now = environment_identity(environment)
    for key, entry in store.manifest.items():
        before = entry["inputs"].get("environment", now)
        if before != now:
            raise ValueError(
                f"environment: {key} was played in {before}, and this is {now}: episodes of two environments do not go "
                "into one run. Undo the change, or start anew with another --out."
            )
