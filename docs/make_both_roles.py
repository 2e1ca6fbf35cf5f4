"""Both roles against the solver alone, at as many sampled replies: the table of docs/studies/both-roles.md.

A small Llama is first taught sums of two digits with their answers, and requests with sums, until it solves six of ten;
then challenger and solver are trained together (`arithmetic_duel`), or the solver alone on drawn sums, from the same
start with the same algorithm. Both arms of a seed are examined on the same drawn sums. What is finished is kept in --out, and is not
made again. Leaves out: language models that learnt from text; SmolLM2-135M-Instruct solves 2 to 4 % of such sums.

    python docs/make_both_roles.py --out runs/both-roles --seeds 5
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tables import write_section

from sparring.certificates.claims.claim import mean_and_interval
from sparring.environments.arithmetic import SOLVED, ask_result, draw_sum
from sparring.environments.arithmetic_duel import CHALLENGER, DRAWN, INVALID, SOLVER, ArithmeticDuel
from sparring.recipe.reading import parse_recipe
from sparring.rounds.run import run
from sparring.runtime.files import read_table, write_json
from sparring.runtime.layout import held_out_turns
from sparring.runtime.progress import Progress

ROUNDS, SAMPLES, PROMPTS = 8, 4, 48
REPLIES = SAMPLES + SAMPLES**2
"""to a prompt of the duel at most: sums, and answers to each"""
ARMS = {"both roles": ("challenger", PROMPTS), "solver alone": ("chance", PROMPTS * REPLIES // SAMPLES)}
"""who writes the sums, and prompts a round: as many replies for both"""
TAUGHT, STEPS, BATCH, TURNS = 901, 1500, 16, 12
"""steps of the teaching, which stops on the way of its schedule, where six of ten sums are solved; dialogues of a step,
and questions of each"""
END = "<|end|>"
TEMPLATE = "{% for m in messages %}{{ m['content'] }}" + END + "{% endfor %}"
DUEL = ArithmeticDuel(digits=2, operations="+")


def tokenizer() -> Any:
    """Words of the questions; every digit is a token of its own."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    parts = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(False)])
    texts = [*"0123456789", DUEL.request, *SOLVED, ask_result("1 + 2")]
    pieces = sorted({piece for text in texts for piece, _ in parts.pre_tokenize_str(text)})
    inner = Tokenizer(models.WordLevel({piece: i for i, piece in enumerate(["<unknown>", *pieces])}, "<unknown>"))
    inner.pre_tokenizer, inner.decoder = parts, decoders.ByteLevel()
    inner.add_special_tokens([END])
    made = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token=END, pad_token=END)
    made.chat_template = TEMPLATE
    return made


def dialogue(rng: random.Random, words: Any) -> tuple[list[int], list[int]]:
    """Tokens of questions and answers, and labels, which are -100 but on the answers."""
    ids, labels = [], []
    writes = rng.random() < 0.2
    for _ in range(4 if writes else TURNS):
        drawn = draw_sum(rng, DUEL.largest, DUEL.operations)
        asked, said = (DUEL.request, str(drawn)) if writes else (ask_result(str(drawn)), str(drawn.result))
        question, answer = (words(text + END, add_special_tokens=False)["input_ids"] for text in (asked, said))
        ids += [*question, *answer]
        labels += [-100] * len(question) + answer
    return ids, labels


def teach(folder: Path) -> None:
    """A small Llama, taught by AdamW on fresh dialogues."""
    from transformers import LlamaConfig, LlamaForCausalLM

    words, rng = tokenizer(), random.Random(0)
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
        rows = [dialogue(rng, words) for _ in range(BATCH)]
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


def recipe(model: Path, problems: str, prompts: int, seed: int, rounds: int) -> dict[str, Any]:
    """An ordinary recipe."""
    return {
        "model": {"path": str(model)},
        "data": {
            "train": {"path": "sparring:episodes", "limit": prompts * rounds},
            "held_out": {"path": "sparring:episodes", "split": "held_out", "limit": 256},
            "prompts_per_round": prompts,
        },
        "environment": {"name": "arithmetic_duel", **DUEL.model_dump(mode="json"), "problems": problems},
        "algorithm": {"name": "grpo", "samples": SAMPLES},
        "rounds": rounds,
        "seed": seed,
        "sampling": {"max_new_tokens": 8, "batch_size": 1024, "precision": "float32"},
        "fit": {"learning_rate": 3e-4, "schedule": "constant", "batch_size": 64, "precision": "float32"},
        "evaluation": {"samples": 4},
    }


def exam(folder: Path, t: int) -> dict[str, float]:
    """Of a policy's held-out episodes: drawn sums that were solved, and sums of its own that were none."""
    rows = read_table(folder / held_out_turns(t))
    solved = [row["reward"] for row in rows if row["role"] == SOLVER and row["kind"] == DRAWN]
    written = [row["kind"] == INVALID for row in rows if row["role"] == CHALLENGER]
    return {"solved": float(np.mean(solved)), "invalid": float(np.mean(written)) if written else float("nan")}


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
    parser.add_argument("--out", type=Path, default=Path("runs/both-roles"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    arguments = parser.parse_args()
    results: dict[str, list[dict[str, Any]]] = {arm: [] for arm in ARMS}
    model = arguments.out / "start"
    if not (model / "model.safetensors").exists():
        teach(model)
    for seed in range(arguments.seeds):
        for arm, (problems, prompts) in ARMS.items():
            folder = arguments.out / f"{arm.replace(' ', '-')}-{seed}"
            run(parse_recipe(recipe(model, problems, prompts, seed, arguments.rounds)), folder, Progress(quiet=True))
            result = {"start": exam(folder, 0), "final": exam(folder, arguments.rounds), "replies": replies(folder)}
            print(f"seed {seed}, {arm}: {json.dumps(result)}", flush=True)
            results[arm].append(result)
    write_json(arguments.out / "results.json", results)
    head = "| arm | drawn sums solved, start | final | points gained | own sums that are none, final | replies |"
    lines = [head, "| --- | --- | --- | --- | --- | --- |"]
    for arm, found in results.items():
        start, final = ([one[when]["solved"] for one in found] for when in ("start", "final"))
        none = "-" if arm == "solver alone" else shares([one["final"]["invalid"] for one in found])
        count = f"{np.mean([one['replies'] for one in found]):,.0f}"
        gained = points([after - before for after, before in zip(final, start, strict=True)])
        lines.append(f"| {arm} | {shares(start)} | {shares(final)} | {gained} | {none} | {count} |")
    both, alone = ([one["final"]["solved"] for one in found] for found in results.values())
    more = points([one - other for one, other in zip(both, alone, strict=True)])
    lines += ["", f"Both roles minus the solver alone, by seed: {more} points; {arguments.seeds} seeds."]
    write_section("studies/both-roles.md", "make_both_roles.py", lines)


if __name__ == "__main__":
    main()
