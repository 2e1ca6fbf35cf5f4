"""Fresh answers of a side to instructions, outside a run: what contests and sieges sample.

rows, unanswered = sample_answers(side, prompts, settings, 0, 1, "contest/a", Path("out/a.parquet"), Progress())
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sparring.algorithms.algorithm import Draw
from sparring.contests.players import Side
from sparring.evaluation.answers import Instruction
from sparring.models.chat import PromptText
from sparring.models.weights import context_length
from sparring.recipe.sections import SamplingConfig
from sparring.rounds.sample import sample_draw
from sparring.runtime.files import read_table
from sparring.runtime.layout import HELD_OUT
from sparring.runtime.progress import Progress

Rows = list[dict[str, Any]]


def sample_answers(
    side: Side,
    prompts: Sequence[Instruction],
    settings: SamplingConfig,
    seed: int,
    count: int,
    stream: str,
    target: Path,
    progress: Progress,
) -> tuple[Rows, dict[str, str]]:
    """`count` answers to every prompt that fits, in the prompts' order: instruction, text, finish_reason.

    And why a prompt has none, by its text.

    Half-done work is kept beside `target`, which is gone in the end.

    Raises:
        ValueError: no prompt fits.
    """
    side.policies.recipe = side.policies.recipe.model_copy(update={"seed": seed})
    model = side.policies.recipe.model
    room = (context_length(side.policies.base, model.trust_remote_code) or 1_000_000) - settings.max_new_tokens
    examples: Rows = []
    unanswered: dict[str, str] = {}
    for number, prompt in enumerate(prompts):
        ids = side.policies.chat.prompt_ids(prompt.messages)
        if len(ids) > room:
            unanswered[prompt.text] = f"prompt longer than {room} tokens"
        else:
            examples.append({"example": str(number), "prompt_ids": ids})
    if not examples:
        raise ValueError(f"{side.spec}: no prompt leaves room for {settings.max_new_tokens} new tokens.")
    drawn = sample_draw(
        side.policies, Draw("own", count, {side.ref: 1.0}), examples, settings, stream, target, progress
    )
    target.unlink()
    ordered = sorted(drawn, key=lambda row: (int(row["example"]), row["index"]))
    rows = [
        {"instruction": prompts[int(row["example"])].text, "text": row["text"], "finish_reason": row["finish_reason"]}
        for row in ordered
    ]
    return rows, unanswered


def held_out_samples(run: Path, round_: int) -> Path:
    """Where a run's evaluation keeps a policy's answers to the held-out prompts."""
    return run / f"evaluation/samples-{round_}.parquet"


def stored_by_prompt(run: Path, round_: int) -> dict[str, list[str]]:
    """Those answers by prompt (with its turns, for oracles that read them), in the order in which they were drawn."""
    texts = {row["example"]: PromptText(row["messages"]) for row in read_table(run / HELD_OUT)}
    found: dict[str, list[str]] = {}
    for row in sorted(read_table(held_out_samples(run, round_)), key=lambda row: row["index"]):
        found.setdefault(texts[row["example"]], []).append(row["text"])
    return found
