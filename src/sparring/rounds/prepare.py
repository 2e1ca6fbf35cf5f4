"""Prepare the data of a run: read, check, tokenise once, freeze as data/*.parquet.

Every row that cannot be used is counted by reason. Train and held-out prompts must not overlap.
Leaves out: building pairs from samples (`judge.py`).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from sparring.chat import Chat, prompt_text
from sparring.examples import Example, load_examples
from sparring.recipe import DataConfig, DatasetConfig, Recipe
from sparring.rounds.store import Made, Store, write_table
from sparring.rounds.tables import EXAMPLES

TRAIN, HELD_OUT = "data/train.parquet", "data/held_out.parquet"


def prepare(store: Store, recipe: Recipe, chat: Chat, context: int, vocabulary: int | None) -> Made:
    """Write both tables; facts hold the counts of rows and of drops by reason.

    `context` is the model's longest sequence in tokens, `vocabulary` the number of tokens that it embeds.

    Raises:
        ValueError: no row is left, or the tokenizer makes tokens that the model does not know.
    """
    data = recipe.data
    built = {"chosen", "rejected"} if data.collect else {"gold"} if data.teacher else set()
    roles = tuple(role for role in recipe.columns() if role not in built)
    train, dropped = _rows(data.train, roles, data, recipe, chat, context, "train")
    held, held_dropped = _rows(data.held_out, (), data, recipe, chat, context, "held_out")
    prompts = {row["prompt"] for row in train}
    overlap = sum(row["prompt"] in prompts for row in held)
    held = [row for row in held if row["prompt"] not in prompts]
    if overlap:
        held_dropped["also a training prompt"] += overlap
    if not held:
        raise ValueError("data.held_out: every held-out prompt is also a training prompt. Give other rows.")
    if vocabulary is not None:
        check_tokens([*train, *held], chat, vocabulary)
    write_table(store.path(TRAIN), train, EXAMPLES)
    write_table(store.path(HELD_OUT), held, EXAMPLES)
    facts = {"train": len(train), "held_out": len(held)}
    return Made(
        (TRAIN, HELD_OUT),
        {**facts, "dropped": {"train": dict(dropped), "held_out": dict(held_dropped)}},
    )


def check_tokens(rows: Sequence[dict[str, Any]], chat: Chat, vocabulary: int) -> None:
    """Refuse data with tokens beyond the model's embedding; tokens that never occur may lie there, as in Gemma 3."""
    responses = [response["token_ids"] for row in rows for response in row["responses"]]
    largest = max(chat.end_id, *(max(ids) for ids in [*responses, *(row["prompt_ids"] for row in rows)]))
    if largest >= vocabulary:
        name = chat.tokenizer.convert_ids_to_tokens(largest)
        raise ValueError(
            f"model: the tokenizer has {len(chat.tokenizer)} tokens, but the model embeds {vocabulary}, and the data "
            f"need token {largest} ({name!r}). Give the tokenizer that belongs to the model, or save it after "
            f"model.resize_token_embeddings({len(chat.tokenizer)})."
        )


def prepare_prompts(store: Store, recipe: Recipe, chat: Chat, context: int, vocabulary: int | None = None) -> Made:
    """Write the training table alone, prompts only: for building a preference set."""
    train, dropped = _rows(recipe.data.train, (), recipe.data, recipe, chat, context, "train")
    if vocabulary is not None:
        check_tokens(train, chat, vocabulary)
    write_table(store.path(TRAIN), train, EXAMPLES)
    return Made((TRAIN,), {"train": len(train), "dropped": {"train": dict(dropped)}})


def _rows(
    config: DatasetConfig,
    roles: Sequence[str],
    data: DataConfig,
    recipe: Recipe,
    chat: Chat,
    context: int,
    name: str,
) -> tuple[list[dict[str, Any]], Counter[str]]:
    examples, dropped = load_examples(config, roles)
    longest = min(data.max_prompt_tokens, context - recipe.sampling.max_new_tokens)
    if longest < 1:
        raise ValueError(
            f"sampling.max_new_tokens = {recipe.sampling.max_new_tokens} leaves no room for a prompt in the model's "
            f"context of {context} tokens. Lower it."
        )
    rows = []
    for example in examples:
        try:
            row = _row(example, chat)
        except ValueError as error:
            dropped[str(error)] += 1
            continue
        if len(row["prompt_ids"]) > longest:
            dropped[f"prompt longer than {longest} tokens"] += 1
        elif any(len(r["token_ids"]) > data.max_response_tokens for r in row["responses"]):
            dropped[f"response longer than {data.max_response_tokens} tokens"] += 1
        elif any(len(r["token_ids"]) + len(row["prompt_ids"]) > context for r in row["responses"]):
            dropped[f"prompt and response longer than the context of {context} tokens"] += 1
        else:
            rows.append(row)
    if not rows:
        reasons = "; ".join(f"{count} x {reason}" for reason, count in dropped.items())
        raise ValueError(f"data.{name}: every example was dropped: {reasons}.")
    return rows, dropped


def _row(example: Example, chat: Chat) -> dict[str, Any]:
    return {
        "example": example.id,
        "messages": example.messages,
        "prompt": prompt_text(example.messages),
        "prompt_ids": chat.prompt_ids(example.messages),
        "responses": [
            {"role": role, "text": text, "token_ids": chat.response_ids(text)}
            for role, text in example.responses.items()
        ],
        "check": None if example.check is None else json.dumps(example.check),
    }
