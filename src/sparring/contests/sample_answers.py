"""Fresh answers of a policy to instructions, outside a run, for head to head and exploitability.

rows, unanswered = sample_answers(player, questions, 1, "contest/a", Path("out/a.parquet"), Progress())
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparring.algorithms.algorithm import Draw
from sparring.contests.players import PolicyPlayer
from sparring.evaluation.answers import Instruction
from sparring.models.weights import context_length
from sparring.rounds.sample import sample_draw
from sparring.rounds.store import Made, Store
from sparring.rounds.tables import Prompt
from sparring.runtime.files import read_table, write_json
from sparring.runtime.progress import Progress

Rows = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Questions:
    """The prompts for all players, and the settings with which policies answer them."""

    prompts: Sequence[Instruction]
    sampling: Mapping[str, Any]
    """replacements of single fields in a policy's sampling settings"""
    seed: int
    samples: int | None = None
    """answers per prompt; None: as many as in the policy's run"""

    @property
    def digest(self) -> str:
        """Hash of the prompts."""
        return hashlib.sha256(repr(self.prompts).encode()).hexdigest()


def sample_answers(
    player: PolicyPlayer, questions: Questions, count: int, stream: str, target: Path, progress: Progress
) -> tuple[Rows, dict[str, str]]:
    """`count` answers to every prompt that fits, in the prompts' order: (rows, reasons why a prompt has none, by text).

    A row has instruction, text, finish_reason and the policy whose answer it is. Unfinished work is stored beside
    `target`, itself removed at the end.

    Raises:
        ValueError: no prompt fits.
    """
    policies, prompts, settings = player.policies, questions.prompts, player.settings(questions.sampling)
    if player.run is None and policies.chat.writes_day:
        policies.keep_day()  # in the comparison's folder, which may be resumed on another day
    room = (context_length(policies.base, policies.model.trust_remote_code) or 1_000_000) - settings.max_new_tokens
    examples: list[Prompt] = []
    unanswered: dict[str, str] = {}
    for number, prompt in enumerate(prompts):
        try:
            ids = policies.chat.prompt_ids(prompt.messages)
        except ValueError as error:
            unanswered[prompt.text] = str(error)
            continue
        if len(ids) > room:
            unanswered[prompt.text] = f"prompt longer than {room} tokens"
        else:
            examples.append({"example": str(number), "prompt_ids": ids})
    if not examples:
        reasons = "; ".join(f"{count} x {reason}" for reason, count in Counter(unanswered.values()).items())
        raise ValueError(f"{player.spec}: no prompt can be asked with {settings.max_new_tokens} new tokens: {reasons}.")
    draw = Draw("own", count, dict.fromkeys(player.refs, 1.0 / len(player.refs)))
    sample_draw(policies, draw, examples, settings, questions.seed, stream, target, progress)
    drawn = read_table(target)
    target.unlink()
    ordered = sorted(drawn, key=lambda row: (int(row["example"]), row["index"]))
    rows = [
        {"instruction": prompts[int(row["example"])].text}
        | {field: row[field] for field in ("text", "finish_reason", "policy")}
        for row in ordered
    ]
    return rows, unanswered


def store_answers(
    store: Store, relative: str, stream: str, player: PolicyPlayer, questions: Questions, progress: Progress
) -> Made:
    """Write one fresh answer to every prompt that fits, in AlpacaEval's form, with what a stage keeps about them."""
    target = store.path(relative)
    drawn, unanswered = sample_answers(player, questions, 1, stream, target.with_suffix(".parquet"), progress)
    generator = f"{player.spec} ({player.identity[:12]})"
    rows = [
        {"instruction": row["instruction"], "output": row["text"], "generator": generator}
        | {"finish_reason": row["finish_reason"]}
        for row in drawn
    ]
    write_json(target, rows)
    cut_off = sum(row["finish_reason"] == "length" for row in rows)
    counts = {"source": player.spec, "answers": len(rows), "cut_off": cut_off, "unanswered": unanswered}
    if len(player.refs) > 1:
        counts["answers_of"] = dict(Counter(row["policy"] for row in drawn))
    return Made((relative,), {**counts, **player.sampled_from()})
