"""The figures of trajectories as plain data: gaps on logarithmic axes, and paths on the simplex of three actions.

Leaves out: drawing them (`plot.py`).

    panels({"inpo": certify(...)}, resolve_game("G3"))
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from sparring.games.game import Array, Game


class Curve(NamedTuple):
    """A line of one figure, optionally with a band."""

    name: str
    xs: Sequence[float]
    ys: Sequence[float]
    errors: Sequence[float] = ()


@dataclass(frozen=True, slots=True)
class LogPanel:
    """Positive values on a logarithmic axis."""

    title: str
    x_label: str
    y_label: str
    curves: Sequence[Curve]
    log_x: bool = False


class Path3(NamedTuple):
    """A trajectory on the simplex of three actions, (T + 1, 3)."""

    name: str
    points: Array


@dataclass(frozen=True, slots=True)
class SimplexPanel:
    """Trajectories among three pure policies; targets are marked by their labels."""

    title: str
    paths: Sequence[Path3]
    targets: Mapping[str, Array]
    corners: Sequence[str] = ("a", "b", "c")


Panel = LogPanel | SimplexPanel


def panels(results: Mapping[str, Mapping[str, Any]], game: Game) -> list[Panel]:
    """The gap panel, and the simplex where the game has three actions and one context."""
    curves = []
    for name, result in results.items():
        keys = {"duality_gap_last": "gap", "duality_gap_average": "gap of the average"}
        if result["regularised_gap"] is not None:
            keys["regularised_gap"] = "regularised gap"
        # All gaps of one algorithm, or the plain gap of each of several.
        for key, word in list(keys.items())[: 3 if len(results) == 1 else 1]:
            values = np.asarray(result[key], dtype=np.float64).reshape(len(result[key]), -1) @ game.context_weights
            curves.append(Curve(word if len(results) == 1 else name, range(len(values)), values.tolist()))
    drawn: list[Panel] = [LogPanel(f"Duality gap on {game.name}", "round", "gap", curves)]
    if game.n_contexts == 1 and game.n_actions == 3:
        paths = [Path3(name, np.asarray(result["policy_last"])) for name, result in results.items()]
        drawn.append(SimplexPanel(f"Policies on {game.name}", paths, _targets(results)))
    return drawn


def _targets(results: Mapping[str, Mapping[str, Any]]) -> dict[str, Array]:
    """Each equilibrium once, under its word (`nash`, ...); followed by the algorithms where a word has several."""
    groups: dict[tuple[float, ...], list[str]] = {}
    for name, result in results.items():
        if result["equilibrium"] is not None:
            groups.setdefault(tuple(np.round(result["equilibrium"], 6).tolist()), []).append(name)
    words = {key: results[names[0]]["solves"] for key, names in groups.items()}
    repeated = [word for word, count in Counter(words.values()).items() if count > 1]
    return {
        f"{words[key]} ({', '.join(names)})" if words[key] in repeated else words[key]: np.array(key)
        for key, names in groups.items()
    }
