"""Stages that ask served models: a teacher for gold answers before the first round, opponents in the evaluation.

A prompt that the teacher did not answer, or not to the end, is left out and counted. A held-out prompt that an
opponent's server refuses is left out for this opponent and counted, within a bound: beyond it, the opponent would be
compared on the prompts that suit it. Leaves out: asking (`endpoints/served_model.py`).

    ask_teacher(policies, recipe, progress)   ->  teacher/train.parquet
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from sparring.endpoints.replies import Reply
from sparring.endpoints.served_model import ServedModel, as_response
from sparring.oracles.guard import MAX_FAILED_SHARE
from sparring.recipe.recipe import Recipe
from sparring.recipe.sections import OpponentConfig, ServedConfig
from sparring.rounds.policies import Policies
from sparring.rounds.store import Counts, Store
from sparring.rounds.tables import EXAMPLES, SAMPLES, DataResponse, ExampleRow, SampleRow
from sparring.runtime.errors import EngineError
from sparring.runtime.files import read_table, whole_characters, write_table
from sparring.runtime.layout import (
    DATA_STAGE,
    HELD_OUT,
    TAUGHT,
    TEACHER_STAGE,
    TRAIN,
    evaluation_stage,
    opponent_answers,
)
from sparring.runtime.progress import Progress
from sparring.runtime.randomness import noise_seed

REFUSED = "its server refuses the prompt"


def ask_teacher(policies: Policies, recipe: Recipe, progress: Progress) -> None:
    """Gold answers for the training prompts, as teacher/train.parquet."""
    config, store, chat = recipe.data.teacher, policies.store, policies.chat
    assert config is not None

    def make(target: Path) -> Counts:
        examples: list[ExampleRow] = read_table(store.root / TRAIN)
        replies, _ = _ask(config, "data.teacher", examples, 1, recipe.seed, store, progress)
        rows: list[ExampleRow] = []
        dropped = Counter[str]()
        for example, (reply,) in zip(examples, replies, strict=True):
            if reply is None:
                dropped["the teacher gave no answer"] += 1
            elif reply.cut:
                dropped["the teacher's answer was cut off at max_tokens"] += 1
            elif len(ids := chat.response_ids(reply.text, example["messages"])) > recipe.data.max_response_tokens:
                dropped[f"the teacher's answer is longer than {recipe.data.max_response_tokens} tokens"] += 1
            else:
                gold: DataResponse = {"role": "gold", "text": reply.text, "token_ids": ids}
                rows.append({**example, "responses": [*example["responses"], gold]})
        if not rows:
            reasons = "; ".join(f"{count} x {reason}" for reason, count in dropped.items())
            raise ValueError(f"data.teacher: every example was dropped: {reasons}.")
        write_table(target, rows, EXAMPLES)
        return {"model": config.model, "examples": len(rows), "dropped": dict(dropped)}

    counts, _ = store.file(TEACHER_STAGE, TAUGHT, {"data": store.output_hash(DATA_STAGE, TRAIN)}, make)
    drops = "".join(f", dropped {count}: {reason}" for reason, count in counts["dropped"].items())
    progress.say(f"teacher  {counts['examples']} gold answers of {counts['model']}{drops}")


def ask_opponent(
    policies: Policies, recipe: Recipe, config: OpponentConfig, held_out: Sequence[ExampleRow], progress: Progress
) -> tuple[str, str]:
    """An opponent's answers to the held-out prompts: their file and its hash."""
    store, relative = policies.store, opponent_answers(config.name)

    def make(target: Path) -> Counts:
        count, field = recipe.evaluation.samples, f"evaluation.opponents.{config.name}"
        replies, refused = _ask(config, field, held_out, count, recipe.seed, store, progress)
        pairs = [pair for place, pair in enumerate(zip(held_out, replies, strict=True)) if place not in refused]
        missing = sum(reply is None for _, answers in pairs for reply in answers)
        if missing:
            raise EngineError(
                f"{field}: {missing} of {count * len(held_out)} requests got no answer. The answers so far are "
                "kept; give the same command to ask for the rest."
            )
        _refuse_many(field, len(refused), len(held_out))
        rows: list[SampleRow] = []
        for example, answers in pairs:
            for index, reply in enumerate(answers):
                assert reply is not None
                response = as_response(reply, policies.chat, example["messages"])
                rows.append(
                    {
                        "example": example["example"],
                        "role": "opponent",
                        "index": index,
                        "policy": config.name,
                        "weights": None,
                        "seed": None,
                        "text": reply.text,
                        "token_ids": response.token_ids,
                        "finish_reason": response.finish_reason,
                    }
                )
        write_table(target, rows, SAMPLES)
        cut_off = sum(r["finish_reason"] == "length" for r in rows)
        dropped = {"dropped_prompts": {REFUSED: len(refused)}} if refused else {}
        return {"responses": len(rows), "cut_off": cut_off, **dropped}

    inputs = {"data": store.output_hash(DATA_STAGE, HELD_OUT)}
    counts, digest = store.file(evaluation_stage("ask", config.name), relative, inputs, make)
    for reason, number in counts.get("dropped_prompts", {}).items():
        progress.say(f"{config.name}: {number} of {len(held_out)} held-out prompts left out: {reason}")
    return relative, digest


def _refuse_many(field: str, refused: int, prompts: int) -> None:
    if refused > MAX_FAILED_SHARE * max(prompts, 20):
        raise EngineError(
            f"{field}: its server refuses {refused} of {prompts} held-out prompts (moderation, or too long): on the "
            "others alone it would be compared on the prompts that suit it. Take this opponent or the prompts out."
        )


def _ask(
    config: ServedConfig,
    field: str,
    examples: Sequence[ExampleRow],
    count: int,
    seed: int,
    store: Store,
    progress: Progress,
) -> tuple[list[list[Reply | None]], set[int]]:
    """`count` replies per example, and the places of the examples of which the server refused one.

    In whole characters: neither tokenizers nor tables take half a surrogate pair.
    """
    served = ServedModel(config, field, store.path(f"cache/{field}.jsonl"))
    if served.endpoint.file.damage:
        progress.say(served.endpoint.file.damage)
    prompts = [example["messages"] for example in examples for _ in range(count)]
    seeds = [noise_seed(seed, field, example["example"], k) for example in examples for k in range(count)]
    with progress.task(f"{field}  ask {config.model}", len(prompts)) as advance:
        replies = served.answers(prompts, seeds, advance)
    flat = [reply and replace(reply, text=whole_characters(reply.text)) for reply in replies]
    asked = zip(prompts, seeds, flat, strict=True)
    refused = {i // count for i, (prompt, s, reply) in enumerate(asked) if reply is None and served.refused(prompt, s)}
    return [flat[begin : begin + count] for begin in range(0, len(flat), count)], refused
