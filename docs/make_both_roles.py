"""Both roles against one alone, at as many sampled replies: the tables of docs/studies/both-roles.md.

Two games. In `solver` a small Llama is first taught sums of two digits and requests with sums; then challenger and
solver are trained together (`arithmetic_duel`), or the solver alone on drawn sums. In `critic` it is taught verdicts on
sums and wrong sums; then sneaky writer and critic are trained together (`step_critic`), or the critic alone on sums
that code spoils. Both arms of a seed start from the same model, with the same algorithm, and are examined on the same
drawn sums. What is finished is kept in --out, and is not made again. Leaves out: language models that learnt from text;
SmolLM2-135M-Instruct solves 2 to 4 % of such sums.

    python docs/make_both_roles.py critic --out runs/both-roles --seeds 5
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tables import table, write_section

from sparring.certificates.claims.claim import mean_and_interval
from sparring.environments.arithmetic import SOLVED, ask_result, draw_sum, spoil
from sparring.environments.arithmetic_duel import CHALLENGER, INVALID, SOLVER, ArithmeticDuel
from sparring.environments.arithmetic_duel import DRAWN as DRAWN_SUM
from sparring.environments.step_critic import (
    CRITIC,
    CRITIC_EXAMPLES,
    NO_STEP,
    NOT_WRONG,
    SNEAKY,
    SNEAKY_EXAMPLE,
    StepCritic,
    critic_question,
    sneaky_question,
)
from sparring.environments.step_critic import DRAWN as DRAWN_STEP
from sparring.recipe.reading import parse_recipe
from sparring.rounds.run import run
from sparring.runtime.files import read_table, write_json
from sparring.runtime.layout import held_out_turns
from sparring.runtime.progress import Progress

ROUNDS, SAMPLES = 8, 4
TAUGHT, STEPS, BATCH, TURNS = 901, 1500, 16, 12
"""steps of the teaching, which stops on the way of its schedule, and of that; dialogues of a step, and questions of
each"""
END = "<|end|>"
TEMPLATE = "{% for m in messages %}{{ m['content'] }}" + END + "{% endfor %}"
Turn = tuple[str, str]
"""a question with its answer"""


@dataclass(frozen=True)
class Game:
    """A game of two roles, one of which is also trained alone."""

    environment: dict[str, Any]
    arms: dict[str, tuple[dict[str, Any], int]]
    """further fields of the environment, and prompts a round: as many replies for all"""
    turn: Callable[[random.Random, bool], Turn]
    """what it is taught, of the first role where asked for"""
    shown: Sequence[str]
    """texts that hold every word"""
    exam: Callable[[Sequence[Mapping[str, Any]]], dict[str, float]]
    """of held-out replies: the measure, and the share of the first role's that are invalid"""
    measured: str
    """what the exam's measure is"""
    invalid: str
    """name of the first role's invalid replies"""


# ---------------------------------------------------------------- challenger and solver

DUEL = ArithmeticDuel(digits=2, operations="+")


def duel_turn(rng: random.Random, first: bool) -> Turn:
    """A sum on request, or a sum with its result."""
    drawn = draw_sum(rng, DUEL.largest, DUEL.operations)
    return (DUEL.request, str(drawn)) if first else (ask_result(str(drawn)), str(drawn.result))


def duel_exam(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Drawn sums that were solved, and sums of its own that were none."""
    solved = [row["reward"] for row in rows if row["role"] == SOLVER and row["kind"] == DRAWN_SUM]
    return {"right": float(np.mean(solved)), "none": share_of(rows, CHALLENGER, {INVALID})}


# ---------------------------------------------------------------- sneaky writer and critic

CHECK = StepCritic(steps=1, largest=9, operations="+")


def check_turn(rng: random.Random, first: bool) -> Turn:
    """A wrong step on request, or a step, half of them wrong, with its verdict."""
    drawn = draw_sum(rng, CHECK.largest, CHECK.operations)
    wrong = spoil(rng, drawn.result)
    if first:
        return sneaky_question([drawn]), f"{drawn} = {wrong}"
    right = rng.random() < 0.5
    step = f"{drawn} = {drawn.result if right else wrong}"
    return critic_question([], step), "Correct" if right else "Incorrect"


def check_exam(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Verdicts on drawn steps that were right, half of which are on wrong steps, and sneaky steps that were none."""
    judged = [row["reward"] > 0 for row in rows if row["role"] == CRITIC and row["kind"].endswith(DRAWN_STEP)]
    return {"right": float(np.mean(judged)), "none": share_of(rows, SNEAKY, {NO_STEP, NOT_WRONG})}


def share_of(rows: Sequence[Mapping[str, Any]], role: str, kinds: set[str]) -> float:
    """Of a role's replies; NaN where it has none."""
    found = [row["kind"] in kinds for row in rows if row["role"] == role]
    return float(np.mean(found)) if found else float("nan")


GAMES = {
    "solver": Game(
        {"name": "arithmetic_duel", **DUEL.model_dump(mode="json")},
        {"both roles": ({}, 48), "solver alone": ({"problems": "chance"}, 48 * (SAMPLES + SAMPLES**2) // SAMPLES)},
        duel_turn,
        [DUEL.request, *SOLVED, ask_result("1 + 2")],
        duel_exam,
        "drawn sums solved",
        "own sums that are none",
    ),
    "critic": Game(
        {"name": "step_critic", **CHECK.model_dump(mode="json")},
        {
            "both roles": ({}, 24),  # at most 4 steps, and 4 verdicts on each and on as many right ones
            "critic alone": ({"mistakes": "chance"}, 24 * (SAMPLES + 2 * SAMPLES**2) // (2 * SAMPLES)),
        },
        check_turn,
        [text for pair in (SNEAKY_EXAMPLE, *CRITIC_EXAMPLES) for text in pair],
        check_exam,
        "verdicts right on drawn steps",
        "sneaky steps that are none",
    ),
}


def tokenizer(game: Game) -> Any:
    """Words of the questions; every digit is a token of its own."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    parts = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(False)])
    texts = [*"0123456789", *game.shown]
    pieces = sorted({piece for text in texts for piece, _ in parts.pre_tokenize_str(text)})
    inner = Tokenizer(models.WordLevel({piece: i for i, piece in enumerate(["<unknown>", *pieces])}, "<unknown>"))
    inner.pre_tokenizer, inner.decoder = parts, decoders.ByteLevel()
    inner.add_special_tokens([END])
    made = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token=END, pad_token=END)
    made.chat_template = TEMPLATE
    return made


def dialogue(game: Game, rng: random.Random, words: Any) -> tuple[list[int], list[int]]:
    """Tokens of questions and answers, and labels, which are -100 but on the answers."""
    ids, labels = [], []
    first = rng.random() < 0.2
    for _ in range(4 if first else TURNS):
        turn = game.turn(rng, first)
        question, answer = (words(text + END, add_special_tokens=False)["input_ids"] for text in turn)
        ids += [*question, *answer]
        labels += [-100] * len(question) + answer
    return ids, labels


def teach(game: Game, folder: Path) -> None:
    """A small Llama, taught by AdamW on fresh dialogues."""
    from transformers import LlamaConfig, LlamaForCausalLM

    words, rng = tokenizer(game), random.Random(0)
    torch.manual_seed(0)
    end = words.convert_tokens_to_ids(END)
    shape = {"hidden_size": 96, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = LlamaConfig(
        vocab_size=len(words), max_position_embeddings=512, bos_token_id=None, eos_token_id=end, **shape
    )
    config.pad_token_id = end
    model = LlamaForCausalLM(config)
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=STEPS)
    for step in range(TAUGHT):
        rows = [dialogue(game, rng, words) for _ in range(BATCH)]
        longest = max(len(ids) for ids, _ in rows)
        ids = torch.tensor([row + [end] * (longest - len(row)) for row, _ in rows])
        labels = torch.tensor([row + [-100] * (longest - len(row)) for _, row in rows])
        loss = model(input_ids=ids, labels=labels).loss
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if step % 100 == 0:
            print(f"teaching, step {step} of {TAUGHT}: loss {loss.item():.3f}", flush=True)
    words.save_pretrained(folder)
    model.save_pretrained(folder)


def recipe(game: Game, arm: str, model: Path, seed: int, rounds: int) -> dict[str, Any]:
    """An ordinary recipe."""
    fields, prompts = game.arms[arm]
    return {
        "model": {"path": str(model)},
        "data": {
            "train": {"path": "sparring:episodes", "limit": prompts * rounds},
            "held_out": {"path": "sparring:episodes", "split": "held_out", "limit": 256},
            "prompts_per_round": prompts,
        },
        "environment": {**game.environment, **fields},
        "algorithm": {"name": "grpo", "samples": SAMPLES},
        "rounds": rounds,
        "seed": seed,
        "sampling": {"max_new_tokens": 8, "batch_size": 1024, "precision": "float32"},
        "fit": {"learning_rate": 3e-4, "schedule": "constant", "batch_size": 64, "precision": "float32"},
        "evaluation": {"samples": 4, "every_iterate": False},
    }


def replies(folder: Path) -> int:
    """That were sampled for training."""
    return sum(len(read_table(path)) for path in sorted(folder.glob("rounds/*/turns.parquet")))


def points(values: Sequence[float]) -> str:
    """Mean of the seeds with its 95 % interval, in points of a hundred."""
    mean, half = mean_and_interval([100 * value for value in values])
    return f"{mean:+.1f} ({mean - half:+.1f} to {mean + half:+.1f})"


def shares(values: Sequence[float]) -> str:
    """Mean of the seeds, smallest and largest."""
    return f"{np.mean(values):.1%} ({min(values):.1%} to {max(values):.1%})"


def main() -> None:
    """Teach, train, examine, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("game", choices=GAMES)
    parser.add_argument("--out", type=Path, default=Path("runs/both-roles"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    arguments = parser.parse_args()
    game, out = GAMES[arguments.game], arguments.out / arguments.game
    results: dict[str, list[dict[str, Any]]] = {arm: [] for arm in game.arms}
    model = out / "start"
    if not (model / "model.safetensors").exists():
        teach(game, model)
    for seed, arm in itertools.product(range(arguments.seeds), game.arms):
        folder = out / f"{arm.replace(' ', '-')}-{seed}"
        run(parse_recipe(recipe(game, arm, model, seed, arguments.rounds)), folder, Progress(quiet=True))
        exams = [game.exam(read_table(folder / held_out_turns(t))) for t in (0, arguments.rounds)]
        result = {"start": exams[0], "final": exams[1], "replies": replies(folder)}
        print(f"seed {seed}, {arm}: {json.dumps(result)}", flush=True)
        results[arm].append(result)
    write_json(out / "results.json", results)
    rows = []
    for arm, found in results.items():
        start, final = ([one[when]["right"] for one in found] for when in ("start", "final"))
        none = [one["final"]["none"] for one in found]
        count = f"{np.mean([one['replies'] for one in found]):,.0f}"
        gained = points([after - before for after, before in zip(final, start, strict=True)])
        rows.append((arm, shares(start), shares(final), gained, "-" if np.isnan(none).any() else shares(none), count))
    head = ("arm", f"{game.measured}, start", "final", "points gained", f"{game.invalid}, final", "replies")
    both, alone = ([one["final"]["right"] for one in found] for found in results.values())
    more = points([one - other for one, other in zip(both, alone, strict=True)])
    said = f"Both roles minus the {list(game.arms)[1]}, by seed: {more} points; {arguments.seeds} seeds."
    lines = [*table(head, rows, len(head)), "", said]
    write_section("studies/both-roles.md", "make_both_roles.py", lines, arguments.game)


if __name__ == "__main__":
    main()
