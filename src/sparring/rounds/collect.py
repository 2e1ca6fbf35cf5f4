"""A preference set from prompts, the start policy and an oracle: sampled, judged and paired once.

A run with `data.collect` trains on it in every round and never asks the oracle about training responses again;
`collect` makes one without a run, as a file that others read. A killed collection goes on where it was. Leaves out:
training on such a file, which is a run whose `data.train` it is.

    collect(load_collection("demo"), Path("collected/demo"), "text")
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import transformers

from sparring.algorithms.algorithm import REFERENCE, Draw, Step
from sparring.algorithms.judged import PAIRINGS
from sparring.models.tools import TOOLS, Message, as_sent
from sparring.objectives.pairs import PairLogistic
from sparring.recipe.datasets import MixtureConfig
from sparring.recipe.reading import parse_recipe, read_recipe
from sparring.recipe.recipe import Recipe
from sparring.rounds.policies import Policies
from sparring.rounds.policy_files import check_policies
from sparring.rounds.preflight import probe, say_prices, write_lock
from sparring.rounds.prepare import check_data, prepare
from sparring.rounds.resume import check_resumable, take_recipe
from sparring.rounds.step import StepPairs
from sparring.rounds.store import Counts, Store
from sparring.rounds.tables import DataResponse, ExampleRow, PairResponse, PairRow, SampleRow, training_schema
from sparring.runtime.files import read_table, write_json_lines, write_table
from sparring.runtime.layout import COLLECTED, COLLECTION, DATA_STAGE, TRAIN
from sparring.runtime.progress import Progress

Form = Literal["text", "messages"]
KEPT = ("model", "data", "oracle", "seed", "sampling", "judge_while_sampling")
"""fields of a recipe that a collection takes"""
FILE = "preferences.jsonl"
CUT_OFF = "a response was cut off"


def load_collection(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """A recipe of which the sections in `KEPT` count, of data `train` and `collect`; the others may be missing.

    Raises:
        ValueError: as `load_recipe`.
    """
    plain = read_recipe(path, overrides)
    sections = {key: plain[key] for key in KEPT if key in plain}
    if isinstance(data := sections.get("data"), dict) and "train" in data:
        fields = {key: value for key, value in data.items() if value is not None}
        sections["data"] = {"collect": {}, **fields, "held_out": _any_set(data["train"])}
    return parse_recipe({**sections, "algorithm": {"name": "dpo", "source": "pairs"}, "rounds": 1})


def _any_set(train: Any) -> Any:
    """A data set that stands in for the held-out one, which a collection does not read."""
    sets = train.get("sets") if isinstance(train, dict) else None
    return next(iter(sets.values())) if isinstance(sets, dict) and sets else train


def collect(
    recipe: Recipe, out: Path, form: Form, keep_cut_off: bool = False, progress: Progress | None = None
) -> dict[str, Any]:
    """Start or resume a collection; returns counts of prompts, pairs and drops, and the file.

    Raises:
        ValueError: the recipe, the data or the folder is not usable, or `form` cannot hold the prompts.
        OracleError: too many verdicts failed; the others stay in the folder.
    """
    progress = progress or Progress()
    transformers.utils.logging.disable_progress_bar()
    with Store(out).locked() as store:
        with store.first_start():
            store.check()
            changes = check_resumable(store, recipe)
            policies = Policies(store, recipe.model, recipe.fit.precision)
            check_policies(policies)
            check_data(policies, recipe, prompts_only=True)
            take_recipe(store, recipe, changes, progress)
            probed = probe(policies, recipe, progress)
            prepare(policies, recipe, progress, prompts_only=True)
            say_prices(store, recipe, probed.judges, progress)
            write_lock(policies, recipe.seed, probed.engine, progress)
        if form == "text":
            _refuse_several_messages(read_table(store.root / TRAIN))
        collect_pairs(policies, recipe, progress)
        inputs = {"pairs": _pair_hash(store), "form": form, "cut_off": "kept" if keep_cut_off else "dropped"}
        make = partial(write, store, form, keep_cut_off)
        counts, _ = store.file(COLLECTION.stage("write"), FILE, inputs, make)
    return {**counts, "file": str(out / FILE)}


def collect_pairs(policies: Policies, recipe: Recipe, progress: Progress) -> None:
    """The sample, judge and pair stages of `data.collect`, and their pairs as a training table."""
    config, store = recipe.data.collect, policies.store
    assert config is not None
    step = Step(
        start=REFERENCE,
        responses=(Draw("own", config.samples, {REFERENCE: 1.0}),),
        pairing=PAIRINGS[config.pairing],
        objective=PairLogistic({}, 1.0),
        anchors={},
        judged=True,
    )
    examples: list[ExampleRow] = read_table(store.root / TRAIN)
    StepPairs(policies, recipe, COLLECTION, step, examples, progress.at(COLLECTION)).make(
        store.output_hash(DATA_STAGE, TRAIN)
    )

    def freeze(target: Path) -> Counts:
        rows = preference_rows(examples, read_table(store.root / COLLECTION.pairs))
        mixed = isinstance(recipe.data.train, MixtureConfig)
        write_table(target, rows, training_schema(mixed, recipe.uses_given_preferences()))
        return {"pairs": len(rows)}

    store.file(COLLECTION.stage("freeze"), COLLECTED, {"pairs": _pair_hash(store)}, freeze)


def _pair_hash(store: Store) -> str:
    return store.output_hash(COLLECTION.stage("pair"), COLLECTION.pairs)


def preference_rows(examples: Sequence[ExampleRow], pairs: Sequence[PairRow]) -> list[ExampleRow]:
    """Pairs as examples with chosen and rejected responses, one example per pair."""
    by_name = {example["example"]: example for example in examples}
    rows: list[ExampleRow] = []
    for row in pairs:
        for index, pair in enumerate(row["pairs"]):
            sides = (("chosen", row["responses"][pair["winner"]]), ("rejected", row["responses"][pair["loser"]]))
            name = row["example"] if index == 0 else f"{row['example']}-{index}"
            responses: list[DataResponse] = [
                {"role": role, "text": r["text"], "token_ids": r["token_ids"]} for role, r in sides
            ]
            probability = pair["preference"]
            rows.append({**by_name[row["example"]], "example": name, "responses": responses, "preference": probability})
    return rows


def write(store: Store, form: Form, keep_cut_off: bool, target: Path) -> Counts:
    """Write the collected pairs to `target`, one line per pair, in the columns that trainers read."""
    examples: dict[str, ExampleRow] = {row["example"]: row for row in read_table(store.root / TRAIN)}
    samples: list[SampleRow] = read_table(store.root / COLLECTION.samples)
    pairs: list[PairRow] = read_table(store.root / COLLECTION.pairs)
    cut_off = {(s["example"], tuple(s["token_ids"])) for s in samples if s["finish_reason"] == "length"}
    lines: list[dict[str, Any]] = []
    dropped: Counter[str] = Counter()
    for row in pairs:
        for pair in row["pairs"]:
            sides = row["responses"][pair["winner"]], row["responses"][pair["loser"]]
            # As text a cut-off response is not known to be one: a trainer would teach the policy to end there.
            if not keep_cut_off and any((row["example"], tuple(r["token_ids"])) in cut_off for r in sides):
                dropped[CUT_OFF] += 1
                continue
            chosen, rejected, preference = *sides, pair["preference"]
            # Some pairings draw their labels; a reader of the file takes them for the oracle's opinion.
            if preference < 0.5:
                chosen, rejected, preference = rejected, chosen, 1.0 - preference
            lines.append(_line(examples[row["example"]], chosen, rejected, preference, form))
    if not lines:
        raise ValueError(
            f"no pair is left: {dropped[CUT_OFF]} x {CUT_OFF}. Raise sampling.max_new_tokens, or give --keep-cut-off."
        )
    write_json_lines(target, lines)
    return {"prompts": len(examples), "pairs": len(lines), "dropped": dict(dropped)}


def _line(
    example: ExampleRow, chosen: PairResponse, rejected: PairResponse, preference: float, form: Form
) -> dict[str, Any]:
    return {
        **_columns(example["messages"], chosen["text"], rejected["text"], form),
        "preference": preference,
        "chosen_win_rate": _number(chosen["win_rate"]),
        "rejected_win_rate": _number(rejected["win_rate"]),
        "example": example["example"],
    }


def _columns(messages: list[Message], chosen: str, rejected: str, form: Form) -> dict[str, Any]:
    if form == "messages":
        sides = {"chosen": chosen, "rejected": rejected}.items()
        prompt, tools = as_sent(messages)
        beside = {} if tools is None else {"tools": tools}
        return {"prompt": prompt, **beside, **{name: [{"role": "assistant", "content": text}] for name, text in sides}}
    (message,) = messages
    return {"prompt": message["content"], "chosen": chosen, "rejected": rejected}


def _refuse_several_messages(examples: Sequence[ExampleRow]) -> None:
    """Raise ValueError where the prompts are more than one text each, before any of them is sampled."""
    if several := [example["messages"] for example in examples if len(example["messages"]) > 1]:
        tools = sum(messages[0]["role"] == TOOLS for messages in several)
        raise ValueError(
            f"--form text: {len(several)} of {len(examples)} prompts have several messages ({tools} with tools), which "
            "one text cannot hold. Give --form messages."
        )


def _number(value: float | None) -> float | None:
    """Not every pairing knows every win rate, and JSON has no NaN."""
    return None if value is None or value != value else value
