"""Games in JSON files.

Leaves out: the built-in games (`built_in.py`), checks of a matrix or policy (`game.py`).

    resolve_game("my_game.json"), resolve_game("G3")
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sparring.games.built_in import BUILT_IN, built_in, nearest, usage
from sparring.games.game import Array, Game, to_array


def resolve_game(spec_or_path: str | Path) -> Game:
    """Return the built-in game of that name, or the game in the JSON file at that path."""
    text = str(spec_or_path)
    if text.split(":")[0] in BUILT_IN:
        return built_in(text)
    if Path(spec_or_path).is_file():
        return load_game(spec_or_path)
    hint = nearest(text.split(":")[0], BUILT_IN)
    raise ValueError(
        f"game {text!r} is neither a file nor a built-in game{hint}; give the path of a JSON file or one of {usage()}"
    )


def load_game(path: str | Path) -> Game:
    """Read a game from JSON.

    Either one context, `{"preference": [[...]], "reference"?: [...], "data"?: [...]}`, or several,
    `{"contexts": [{"preference", "reference"?, "data"?, "weight"?}, ...]}`. A missing reference is
    uniform, a missing weight is 1, and weights are relative: they are divided by their sum.
    """
    path = Path(path)
    content = _read_json(path)
    if "contexts" not in content:
        _check_keys(str(path), content, ("preference",), ("preference", "reference", "data", "contexts"))
        contexts = [content]
    else:
        _check_keys(str(path), content, ("contexts",), ("contexts",))
        contexts = _checked_contexts(path, content["contexts"])
    return _assemble(path, contexts)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        # utf-8-sig: some editors begin a file with a byte order mark.
        content = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=lambda pairs: _once(path, pairs))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}, line {error.lineno}: not JSON ({error.msg})") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text ({error.reason}); save it as UTF-8") from None
    if not isinstance(content, dict):
        raise ValueError(f'{path}: its top level is a {type(content).__name__}; write {{"preference": [[...]]}}')
    return content


def _once(path: Path, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object whose keys are all different."""
    content = dict(pairs)
    if len(content) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"{path}: {twice!r} is given twice in one object; keep one")
    return content


def _check_keys(label: str, content: Mapping[str, Any], needed: tuple[str, ...], known: tuple[str, ...]) -> None:
    # Unknown keys first: a misspelt `preference` is better explained by its spelling.
    for key in content:
        if key not in known:
            raise ValueError(f"{label}: unknown key {key!r}{nearest(key, known)}; known: {', '.join(known)}")
    for key in needed:
        if key not in content:
            raise ValueError(f"{label}: key {key!r} is missing; known: {', '.join(known)}")


def _checked_contexts(path: Path, contexts: Any) -> list[dict[str, Any]]:
    if not isinstance(contexts, list) or not contexts:
        raise ValueError(f"{path}: contexts is empty or no list; give one object per context")
    for k, context in enumerate(contexts):
        if not isinstance(context, dict):
            raise ValueError(f"{path}: context {k} is {context!r}; give an object")
        known = ("preference", "reference", "data", "weight")
        _check_keys(f"{path}: context {k}", context, ("preference",), known)
        if ("data" in context) != ("data" in contexts[0]):
            raise ValueError(f"{path}: context {k}: give `data` in every context or in none")
    return contexts


def _assemble(path: Path, contexts: list[dict[str, Any]]) -> Game:
    """Stack the contexts of a file; the checks of one matrix or policy are `Game`'s."""
    columns: dict[str, list[Array]] = {"preference": [], "reference": [], "data": [], "weight": []}
    for k, context in enumerate(contexts):
        label = f"{path}: context {k}"
        matrix = _numbers(f"{label}: preference", context["preference"], 2)
        actions = columns["preference"][0].shape[0] if k else matrix.shape[0]
        if matrix.shape != (actions, actions):
            raise ValueError(
                f"{label}: preference is {matrix.shape[0]} x {matrix.shape[1]}, needed {actions} x "
                f"{actions}: square, and as many actions as in context 0"
            )
        columns["preference"].append(matrix)
        uniform = [1.0 / actions] * actions
        columns["reference"].append(_policy(label, "reference", context, uniform, actions))
        if "data" in context:
            columns["data"].append(_policy(label, "data", context, uniform, actions))
        columns["weight"].append(_weight(label, context.get("weight", 1.0)))
    weights = np.array(columns["weight"])
    data = np.array(columns["data"]) if columns["data"] else None
    preference, reference = np.array(columns["preference"]), np.array(columns["reference"])
    return Game(str(path), preference, reference, data, None, weights / weights.sum())


def _numbers(label: str, value: Any, depth: int) -> Array:
    """Nested lists of numbers to an array; JSON's text, null and true are no numbers."""
    rows = value if depth == 2 else [value]
    if not isinstance(rows, list) or not rows or not all(isinstance(row, list) for row in rows):
        raise ValueError(f"{label} must be a {'list of rows' if depth == 2 else 'list of numbers'}")
    for i, row in enumerate(rows):
        if len(row) != len(rows[0]):
            raise ValueError(
                f"{label}: row {i} has {len(row)} entries and row 0 has {len(rows[0])}; give rows of equal length"
            )
        for j, entry in enumerate(row):
            if isinstance(entry, bool) or not isinstance(entry, int | float):
                raise ValueError(f"{label}: row {i}, entry {j} is {entry!r}; give a number")
    return to_array(label, value)


def _policy(label: str, field: str, context: Mapping[str, Any], default: list[float], actions: int) -> Array:
    policy = _numbers(f"{label}: {field}", context.get(field, default), 1)
    if len(policy) != actions:
        raise ValueError(f"{label}: {field} has {len(policy)} entries, needed {actions}: one per action")
    return policy


def _weight(label: str, value: Any) -> Array:
    weight = _numbers(f"{label}: weight", [value], 1)[0]
    if weight <= 0:
        raise ValueError(f"{label}: weight = {weight}; give a number above 0 or drop the context")
    return weight
