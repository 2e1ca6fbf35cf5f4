"""Rows and lengths in tokens of a recipe's data, as far as this machine knows them. Leaves out: fetching anything.

lengths = read_lengths(recipe)
"""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from sparring.data.examples import Example, stream_examples
from sparring.data.form import named
from sparring.data.rows import data_files
from sparring.models.chat import Chat
from sparring.models.weights import PYPI, load_tokenizer, resolve_model
from sparring.recipe.datasets import DatasetConfig, MixtureConfig
from sparring.recipe.recipe import Recipe

LOOKED_AT = 256
"""examples whose lengths are averaged"""


@dataclass(frozen=True, slots=True)
class Lengths:
    """Rows (None: not known), and mean lengths in tokens; the recipe's limits where they could not be read."""

    train: int | None
    held_out: int | None
    prompt: int
    given: int
    """of responses that the data hold"""
    read: bool
    """whether lengths were read from the data"""
    missing: tuple[str, ...] = ()
    """why files of this machine could not be read, as messages"""


def read_lengths(recipe: Recipe) -> Lengths:
    """From data on this machine; of a hub data set only what the recipe says."""
    data = recipe.data
    missing: list[str] = []
    train = _local_training(recipe, missing)
    held_out = _local("held_out", data.held_out, (), missing)
    chat = _local_chat(recipe)
    rows = _rows(data.train) if train is None else train[0]
    held = data.held_out.limit if held_out is None else held_out[0]
    if train is None or chat is None:
        return Lengths(rows, held, data.max_prompt_tokens, data.max_response_tokens, False, tuple(missing))
    prompts, responses = list[int](), list[int]()
    for example in train[1]:
        with contextlib.suppress(ValueError):  # the template refuses it: the run will drop it
            prompts.append(len(chat.prompt_ids(example.messages)))
            responses += [len(chat.answer(text, example.messages)[1]) for text in example.responses.values()]
    prompt = _mean([length for length in prompts if length <= data.max_prompt_tokens])
    response = _mean([n for n in responses if n <= data.max_response_tokens])
    return Lengths(rows, held, prompt, response, True, tuple(missing))


def _local_training(recipe: Recipe, missing: list[str]) -> tuple[int, list[Example]] | None:
    """As `_local`, of all training sets together; None where one of them is not here."""
    data, roles = recipe.data, () if recipe.data.collect else recipe.columns()
    seen: set[int] = set()
    soft = bool(roles) and recipe.uses_given_preferences()
    sets = data.training_sets().items()
    found = {name: _local(name, config, roles, missing, soft, seen) for name, config in sets}
    read = {name.removeprefix("train.sets."): one for name, one in found.items() if one is not None}
    if len(read) < len(found):
        return None
    counts = {name: count for name, (count, _) in read.items()}
    if isinstance(data.train, MixtureConfig):
        counts = data.train.quotas(counts)
    total = sum(counts.values())
    shares = {name: math.ceil(LOOKED_AT * count / total) for name, count in counts.items()} if total else {}
    return total, [example for name, (_, first) in read.items() for example in first[: shares.get(name, 0)]]


def _rows(train: DatasetConfig | MixtureConfig) -> int | None:
    """Of training sets that are not here, what the recipe says."""
    return train.limit if isinstance(train, DatasetConfig) else train.examples


def _mean(values: list[int]) -> int:
    return math.ceil(sum(values) / len(values)) if values else 0


def on_this_machine(model: str) -> bool:
    """Whether a recipe's model needs no fetching."""
    return model.startswith(PYPI) or Path(model).expanduser().is_dir()


def _local(
    name: str,
    config: DatasetConfig,
    roles: tuple[str, ...],
    missing: list[str],
    preferences: bool = False,
    seen: set[int] | None = None,
) -> tuple[int, list[Example]] | None:
    """Number of examples of a data set on this machine, and the first of them; None for a set that is not here.

    `missing` gets the reason where the path names a file of this machine.
    """
    if not config.path.startswith("sparring:"):
        try:
            here = data_files(config) is not None
        except ValueError as error:  # a plan may be made before the data are there
            missing.append(f"data.{name}: {str(error).removeprefix('data: ')}")
            here = False
        if not here:
            return None
    examples = stream_examples(config, roles, Counter(), None, preferences, seen)
    with named(name):
        first = list(islice(examples, LOOKED_AT))
        return len(first) + sum(1 for _ in examples), first


def _local_chat(recipe: Recipe) -> Chat | None:
    model = recipe.model
    if not on_this_machine(model.path):
        return None
    tokenizer = load_tokenizer(resolve_model(model.path), model.trust_remote_code)
    return Chat(tokenizer, model.chat_template, model.system)
