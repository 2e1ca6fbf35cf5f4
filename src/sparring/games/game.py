"""Finite preference games: what they are made of, the built-in ones, and reading one from a file.

A game holds, per context (a prompt) and over a finite set of actions (responses), the matrix
P[i, j] = probability that action i is preferred to action j, the reference policy and, for methods
that imitate or learn offline, the data policy. Everything is checked once, on construction.

Left out: solving a game (`equilibrium`), playing it (`dynamics`), sampled players, language models.

Try: `resolve_game("G3").preference`, `resolve_game("GR:5:0")` or `resolve_game("my_game.json")`.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

# Decimal files rarely hold exact complements; anything above this is a mistake and not rounding.
TOLERANCE = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class Game:
    """A symmetric preference game over C contexts and n actions; arrays are read-only float64."""

    name: str
    preference: Array
    """(C, n, n): P[c, i, j] is the probability that i beats j in context c; P + P^T = 1."""
    reference: Array
    """(C, n): the frozen starting policy, strictly positive."""
    data: Array | None
    """(C, n): the policy that wrote the dataset; None where a game has no dataset."""
    rewards: Array | None
    """(C, n): the Bradley-Terry rewards behind `preference`; None where there are none."""
    context_weights: Array
    """(C,): how often each context is met; sums to one."""

    def __post_init__(self) -> None:
        """Check every field and freeze the arrays."""
        arrays = {
            field: _to_array(f"{self.name}: {field}", value)
            for field in ("preference", "reference", "data", "rewards", "context_weights")
            if (value := getattr(self, field)) is not None
        }
        _check_preferences(self.name, arrays["preference"])
        contexts, actions = arrays["preference"].shape[:2]
        for field in ("reference", "data"):
            if field in arrays:
                _check_policies(f"{self.name}: {field}", arrays[field], (contexts, actions))
        if "rewards" in arrays:
            _check_shape(f"{self.name}: rewards", arrays["rewards"], (contexts, actions))
        weights = arrays["context_weights"]
        _check_policies(f"{self.name}: context_weights", weights[None], (1, contexts))
        for field, array in arrays.items():
            array.flags.writeable = False
            object.__setattr__(self, field, array)

    @property
    def n_contexts(self) -> int:
        """How many contexts (prompts) the game has."""
        return self.preference.shape[0]

    @property
    def n_actions(self) -> int:
        """How many actions (responses) each context has."""
        return self.preference.shape[1]

    @property
    def log_reference(self) -> Array:
        """Log-probabilities of the reference, (C, n)."""
        return np.log(self.reference)

    @property
    def log_data(self) -> Array:
        """Log-probabilities of the data policy, (C, n)."""
        if self.data is None:
            raise ValueError(f"game {self.name} has no data policy; use GD or SB, or give `data` in the file")
        return np.log(self.data)


# ---------------------------------------------------------------- checks


def _to_array(label: str, value: ArrayLike) -> Array:
    """Copy to float64; refuse ragged rows, text and non-finite numbers."""
    try:
        array = np.array(value, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(
            f"{label} is not a rectangular table of numbers ({error}); give rows of equal length that hold numbers only"
        ) from None
    if not np.isfinite(array).all():
        where = tuple(int(k) for k in np.argwhere(~np.isfinite(array))[0])
        raise ValueError(f"{label}{list(where)} = {array[where]}; every entry must be a finite number")
    return array


def _check_shape(label: str, array: Array, shape: tuple[int, ...]) -> None:
    if array.shape != shape:
        raise ValueError(f"{label} has shape {array.shape}, needed {shape}: row per context, number per action")


def _check_preferences(name: str, preference: Array) -> None:
    if preference.ndim != 3 or preference.shape[1] != preference.shape[2]:
        raise ValueError(
            f"{name}: preference has shape {preference.shape}; give (contexts, n, n), row i and "
            "column j for `i beats j`"
        )
    if preference.shape[0] == 0 or preference.shape[1] == 0:
        raise ValueError(f"{name}: preference is empty; give at least one context and one action")
    for context, matrix in enumerate(preference):
        _check_matrix(f"{name}: preference of context {context}", matrix)


def _check_matrix(label: str, matrix: Array) -> None:
    """Refuse entries outside [0, 1], a diagonal other than 1/2 and P + P^T other than 1."""
    outside = np.maximum(-matrix, matrix - 1.0)
    i, j = _worst(outside)
    if outside[i, j] > 0:
        raise ValueError(f"{label}: P[{i}][{j}] = {matrix[i, j]} lies outside [0, 1]")
    off_half = np.abs(np.diag(matrix) - 0.5)
    i = int(off_half.argmax())
    if off_half[i] > TOLERANCE:
        raise ValueError(f"{label}: P[{i}][{i}] = {matrix[i, i]}; an action ties with itself, give 0.5")
    excess = np.abs(matrix + matrix.T - 1.0)
    i, j = _worst(excess)
    if excess[i, j] > TOLERANCE:
        raise ValueError(
            f"{label}: P[{i}][{j}] = {matrix[i, j]} and P[{j}][{i}] = {matrix[j, i]} sum to "
            f"{matrix[i, j] + matrix[j, i]}; they must sum to 1, so give P[{j}][{i}] = "
            f"{1.0 - matrix[i, j]:.12g}"
        )


def _worst(errors: Array) -> tuple[int, int]:
    i, j = np.unravel_index(int(errors.argmax()), errors.shape)
    return int(i), int(j)


def _check_policies(label: str, policies: Array, shape: tuple[int, int]) -> None:
    _check_shape(label, policies, shape)
    for context, policy in enumerate(policies):
        lowest = int(policy.argmin())
        if policy[lowest] <= 0:
            raise ValueError(
                f"{label} of context {context}: entry {lowest} is {policy[lowest]}; every entry "
                "must be above 0, because its logarithm is used (try 1e-6)"
            )
        if abs(policy.sum() - 1.0) > TOLERANCE:
            raise ValueError(f"{label} of context {context} sums to {policy.sum():.12g}; divide it by its sum")


# ---------------------------------------------------------------- built-in games


def _softmax(logits: ArrayLike) -> Array:
    weights = np.exp(np.asarray(logits, dtype=np.float64) - np.max(logits))
    return weights / weights.sum()


def _one_context(
    name: str,
    preference: ArrayLike,
    reference: ArrayLike,
    data: ArrayLike | None = None,
    rewards: ArrayLike | None = None,
) -> Game:
    def wrap(value: ArrayLike | None) -> Any:
        return None if value is None else np.asarray(value, dtype=np.float64)[None]

    return Game(name, wrap(preference), wrap(reference), wrap(data), wrap(rewards), np.ones(1))


def bradley_terry(rewards: ArrayLike) -> Array:
    """Bradley-Terry preference matrix P_ij = 1 / (1 + exp(r_j - r_i)) of a vector of rewards."""
    values = np.asarray(rewards, dtype=np.float64)
    # tanh keeps P + P^T = 1 to the last bit and cannot overflow.
    return 0.5 + 0.5 * np.tanh((values[:, None] - values[None, :]) / 2)


def g3() -> Game:
    """COMAL's cyclic game of three arms (2410.23223, synthetic experiment); Nash (4, 3, 4) / 11."""
    preference = [[0.5, 0.1, 0.8], [0.9, 0.5, 0.1], [0.2, 0.9, 0.5]]
    return _one_context("G3", preference, _softmax([1.0, 0.3, -0.5]))


def random_game(n: int, seed: int) -> Game:
    """GR: P_ij uniform on [0, 1] below the diagonal (the bench of EGPO, 2503.08942).

    The reference is softmax of standard normals, because a uniform one would hide a wrong anchor.
    """
    _check_size("GR", "n", n, 2)
    rng = np.random.default_rng(seed)
    lower = np.tril(rng.uniform(size=(n, n)), -1)
    preference = lower + np.triu(1.0 - lower.T, 1) + 0.5 * np.eye(n)
    return _one_context(f"GR:{n}:{seed}", preference, _softmax(rng.normal(size=n)))


def bradley_terry_game(n: int, seed: int) -> Game:
    """GBT: standard normal rewards under Bradley-Terry; its unregularised Nash is the best arm."""
    _check_size("GBT", "n", n, 2)
    rng = np.random.default_rng(seed)
    rewards = rng.normal(size=n)
    reference = _softmax(rng.normal(size=n))
    return _one_context(f"GBT:{n}:{seed}", bradley_terry(rewards), reference, rewards=rewards)


def sparse_bandit(n_pairs: int, seed: int) -> Game:
    """SB: 34 of 40 arms are seen about 1.5 times in `n_pairs` comparisons (offline coverage, SPAC).

    Rewards 3, 2.5, 2, 1.5, 1, .5 on arms 0-5 and one uniform[0, 2] draw of `seed` on the rare arms.
    The data policy gives each rare arm min(1.5 / (2 n_pairs), .5 / 34) and splits the rest
    .25, .15, .15, .15, .15, .15 over arms 0-5; it is the reference too.
    """
    _check_size("SB", "n_pairs", n_pairs, 1)
    rare_rewards = np.random.default_rng(seed).uniform(0.0, 2.0, size=34)
    rewards = np.concatenate([[3.0, 2.5, 2.0, 1.5, 1.0, 0.5], rare_rewards])
    rare = np.full(34, min(1.5 / (2 * n_pairs), 0.5 / 34))
    common = np.array([0.25, 0.15, 0.15, 0.15, 0.15, 0.15]) * (1.0 - rare.sum())
    data = np.concatenate([common, rare])
    return _one_context(f"SB:{n_pairs}:{seed}", bradley_terry(rewards), data, data, rewards)


def data_game() -> Game:
    """GD: five actions, a data policy and a reference; nothing is preferred to anything.

    For methods that imitate data and ask no oracle (SPIN 2401.01335, alpha-SPIN 2404.04291).
    """
    data = _softmax([0.2, 1.0, -0.3, 0.5, -1.0])
    reference = _softmax([1.0, 0.0, 0.5, -0.5, -0.2])
    return _one_context("GD", np.full((5, 5), 0.5), reference, data)


def _check_size(game: str, field: str, value: int, least: int) -> None:
    if value < least:
        raise ValueError(f"game {game}: {field} = {value}; give an integer of at least {least}")


BUILT_IN: Mapping[str, tuple[Callable[..., Game], tuple[str, ...]]] = {
    "G3": (g3, ()),
    "GR": (random_game, ("n", "seed")),
    "GBT": (bradley_terry_game, ("n", "seed")),
    "SB": (sparse_bandit, ("n_pairs", "seed")),
    "GD": (data_game, ()),
}
"""Each built-in game's name, its constructor and the whole numbers that follow after colons."""


def built_in(spec: str) -> Game:
    """Build the game that a text such as "G3", "GR:5:0" or "SB:400:0" names."""
    name, *given = spec.split(":")
    if name not in BUILT_IN:
        raise ValueError(f"unknown game {spec!r}{_nearest(name, BUILT_IN)}; built in are {_usage()}")
    build, fields = BUILT_IN[name]
    if len(given) != len(fields):
        raise ValueError(
            f"game {spec!r} gives {len(given)} numbers after {name}, needed {len(fields)}: write "
            f"{':'.join((name, *fields))}"
        )
    return build(*(_whole(spec, field, text) for field, text in zip(fields, given, strict=True)))


def _whole(spec: str, field: str, text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"game {spec!r}: {field} = {text!r}; give a whole number of at least 0")
    return int(text)


def _usage() -> str:
    return ", ".join(":".join((name, *fields)) for name, (_, fields) in BUILT_IN.items())


def _nearest(word: str, known: Mapping[str, Any] | tuple[str, ...]) -> str:
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f" (did you mean {close[0]!r}?)" if close else ""


# ---------------------------------------------------------------- files


def resolve_game(spec_or_path: str | Path) -> Game:
    """Return the built-in game of that name, or the game in the JSON file at that path."""
    text = str(spec_or_path)
    if text.split(":")[0] in BUILT_IN:
        return built_in(text)
    if Path(spec_or_path).is_file():
        return load_game(spec_or_path)
    hint = _nearest(text.split(":")[0], BUILT_IN)
    raise ValueError(
        f"game {text!r} is neither a file nor a built-in game{hint}; give the path of a JSON file or one of {_usage()}"
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
            raise ValueError(f"{label}: unknown key {key!r}{_nearest(key, known)}; known: {', '.join(known)}")
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
    return _to_array(label, value)


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
