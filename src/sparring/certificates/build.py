"""An algorithm at the scale of exact games, and which equilibrium it should reach there.

Leaves out: playing it (`players/`, `certify.py`).

    build_for_game("inpo", {"eta": 1.0, "tau": 0.1})
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

from pydantic import ValidationError

from sparring.algorithms.algorithm import ANY_DATA, Algorithm, Symbol, find_algorithm
from sparring.games.game import Array, Game
from sparring.runtime.explain import explain

Goal = Literal["nash", "regularised", "data", "data and base", "unknown"]


class NotPlayable(ValueError):
    """A player or a game that does not suit an algorithm, with the reason."""


def build_for_game(name: str, settings: Mapping[str, Any]) -> Algorithm:
    """An algorithm at the scale of exact games, changed by the paper's symbols or our field names.

    Raises:
        ValueError: unknown symbol or field (with those allowed), or a value out of range.
    """
    kind = find_algorithm(name)
    fields, key_of = dict(kind.on_games), dict[str, str]()
    for key, value in settings.items():
        symbol = kind.symbols.get(key) or Symbol(key)
        if symbol.field not in kind.model_fields:
            raise ValueError(_unknown_symbol(name, kind, key))
        if symbol.field in key_of:
            raise ValueError(
                f"--set {key_of[symbol.field]} and --set {key} both give {name}.{symbol.field}; leave one out."
            )
        key_of[symbol.field] = key
        fields[symbol.field] = _value(kind, name, symbol, key, value)
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        lines = explain(error, kind, fields, f"{name}.")
    raise ValueError("\n".join(lines))


def _unknown_symbol(name: str, kind: type[Algorithm], key: str) -> str:
    allowed = [*kind.symbols, *kind.model_fields]
    near = difflib.get_close_matches(key, allowed, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"--set {key}: {name!r} has no such symbol or field.{hint} Allowed: {', '.join(allowed)}."


def _value(kind: type[Algorithm], name: str, symbol: Symbol, key: str, value: Any) -> Any:
    """The value of a symbol's field; the inverse where the paper's number is one (`step_size` of eta)."""
    if symbol.inverse:
        if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
            raise ValueError(f"--set {key}={value}: give a positive number ({symbol.field} = 1 / {key}).")
        return 1.0 / value
    annotation = kind.model_fields[symbol.field].annotation
    # pydantic would read `true` as the number 1.
    if isinstance(value, bool) and bool not in (annotation, *get_args(annotation)):
        raise ValueError(f"--set {key}={str(value).lower()}: {name}.{symbol.field} takes no truth value.")
    return value


def needs_data(name: str) -> bool:
    """Whether the algorithm's steps read responses of a data set."""
    return any(step.columns() for step in build_for_game(name, {}).steps(0, ANY_DATA))


def exact_step(algorithm: Algorithm, game: Game, history: Sequence[Array]) -> Array:
    """The algorithm's closed form: log-policies (C, n) of the round after `history`.

    Raises:
        NotPlayable: it has none on this game.
    """
    log_policy = algorithm.exact_step(game, history)
    if log_policy is None:
        raise NotPlayable(f"{algorithm.about.title}: no closed form on game {game.name}; use --player tabular.")
    return log_policy


def goal(algorithm: Algorithm) -> Goal:
    """The equilibrium that the algorithm, with its settings, is measured from."""
    if algorithm.solves == "data":
        weight = algorithm.base_weight()
        return "unknown" if weight is None else "data" if weight == 0 else "data and base"
    tau = algorithm.regularisation()
    if tau is None:
        return "unknown"
    return "regularised" if tau > 0 else "nash"
