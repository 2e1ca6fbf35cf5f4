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
from sparring.rounds.tables import ExampleRow, Prompt, texts_by_example
from sparring.runtime.files import read_table
from sparring.runtime.layout import HELD_OUT, held_out_samples
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
    model = side.policies.recipe.model
    room = (context_length(side.policies.base, model.trust_remote_code) or 1_000_000) - settings.max_new_tokens
    examples: list[Prompt] = []
    unanswered: dict[str, str] = {}
    for number, prompt in enumerate(prompts):
        ids = side.policies.chat.prompt_ids(prompt.messages)
        if len(ids) > room:
            unanswered[prompt.text] = f"prompt longer than {room} tokens"
        else:
            examples.append({"example": str(number), "prompt_ids": ids})
    if not examples:
        raise ValueError(f"{side.spec}: no prompt leaves room for {settings.max_new_tokens} new tokens.")
    draw = Draw("own", count, {side.ref: 1.0})
    drawn = sample_draw(side.policies, draw, examples, settings, seed, stream, target, progress)
    target.unlink()
    ordered = sorted(drawn, key=lambda row: (int(row["example"]), row["index"]))
    rows = [
        {"instruction": prompts[int(row["example"])].text, "text": row["text"], "finish_reason": row["finish_reason"]}
        for row in ordered
    ]
    return rows, unanswered


def stored_by_prompt(run: Path, round_: int) -> dict[str, list[str]]:
    """Those answers by prompt (with its turns, for oracles that read them), in the order in which they were drawn."""
    held_out: list[ExampleRow] = read_table(run / HELD_OUT)
    texts = texts_by_example(run / held_out_samples(round_))
    return {PromptText(row["messages"]): texts[row["example"]] for row in held_out if row["example"] in texts}
