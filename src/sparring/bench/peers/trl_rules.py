"""The peer's side of the study of instructions: TRL's GRPO or online DPO with the shipped rules as the reward.

It trains on the prompts that a run of the study drew from, in the run's order, with as many sampled responses: GRPO
draws as many a prompt as the run, online DPO two a prompt and so goes on with further prompts of the run's data.
TRL's own defaults hold but for what the study fixes for all (start, sampling, prompts a step, precision, clipping).
It needs trl, and Sparring for the rules, in one environment. With a number of minutes it ends after the step in which
they are over, and so compares what the same time gives.

    python trl_rules.py runs/instructions/inpo/seed-0 grpo 4e-5 peers/grpo-4e-5/seed-0 6.5
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import GRPOConfig, GRPOTrainer  # type: ignore[import-not-found]
from trl.experimental.online_dpo import OnlineDPOConfig, OnlineDPOTrainer  # type: ignore[import-not-found]

from sparring.data.checks import obeyed
from sparring.recipe.reading import load_recipe
from sparring.recipe.recipe import Recipe
from sparring.rounds.policies import start_folder
from sparring.runtime.files import read_table
from sparring.runtime.layout import RECIPE, TRAIN, round_folder

CHECKS: dict[str, Any] = {}
"""the rules of a prompt, by its text"""
COUNTS = {"responses": 0, "obeyed": 0.0}


def reward(prompts: list[Any], completions: list[Any], **_: Any) -> list[float]:
    """The share of a prompt's rules that a response obeys."""
    values = []
    for prompt, completion in zip(prompts, completions, strict=True):
        rules = obeyed(CHECKS[prompt[-1]["content"]], completion[-1]["content"])
        values.append(sum(rules) / len(rules))
    COUNTS["responses"] += len(values)
    COUNTS["obeyed"] += sum(values)
    return values


def prompts_of(run: Path, recipe: Recipe, count: int) -> list[str]:
    """The prompts of a run's rounds in their order, then others of its data, `count` in all; fills CHECKS."""
    examples = {row["example"]: row for row in read_table(run / TRAIN)}
    tables = [read_table(run / round_folder(t).samples) for t in range(recipe.rounds)]
    drawn = dict.fromkeys(row["example"] for table in tables for row in table)
    names = [*drawn, *(name for name in examples if name not in drawn)][:count]
    for name in names:
        row = examples[name]
        CHECKS[row["prompt"]] = json.loads(row["check"]) if isinstance(row["check"], str) else row["check"]
    return [examples[name]["prompt"] for name in names]


def trainer_of(kind: str, rate: float, recipe: Recipe, run: Path, out: Path) -> Any:
    """A trainer that is ready to train."""
    model_folder, samples = start_folder(recipe.model), int(recipe.algorithm["samples"])
    total = recipe.rounds * (recipe.data.prompts_per_round or 0) * samples
    group = samples if kind == "grpo" else 2
    step = recipe.fit.batch_size * samples  # responses of an optimiser step, as many for both
    micro = 2 * group
    common: dict[str, Any] = {
        "output_dir": str(out / "trl"),
        "per_device_train_batch_size": micro if kind == "grpo" else micro // 2,
        "gradient_accumulation_steps": step // micro,
        "num_train_epochs": 1,
        "learning_rate": rate,
        "lr_scheduler_type": "constant_with_warmup",
        "warmup_steps": round(recipe.fit.warmup * total / step),
        "optim": "adamw_torch_fused",
        "max_grad_norm": recipe.fit.max_grad_norm,
        "temperature": recipe.sampling.temperature,
        "bf16": True,
        "use_cpu": not torch.cuda.is_available(),
        "gradient_checkpointing": False,
        "dataloader_pin_memory": False,
        "logging_steps": 1000,
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "seed": recipe.seed,
    }
    prompts = prompts_of(run, recipe, total // group)
    arguments: dict[str, Any] = {
        "model": AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32),
        "reward_funcs": reward,
        "train_dataset": Dataset.from_list([{"prompt": [{"role": "user", "content": text}]} for text in prompts]),
        "processing_class": AutoTokenizer.from_pretrained(model_folder, padding_side="left"),
    }
    tokens = recipe.sampling.max_new_tokens
    if kind == "grpo":
        own = {"num_generations": group, "max_completion_length": tokens, "shuffle_dataset": False}
        return GRPOTrainer(args=GRPOConfig(**common, **own), **arguments)
    return OnlineDPOTrainer(args=OnlineDPOConfig(**common, max_new_tokens=tokens, max_length=4096), **arguments)


class EndsAfter(TrainerCallback):
    """Ends training after the step in which so many minutes are over."""

    def __init__(self, minutes: float) -> None:
        self.end = time.monotonic() + 60 * minutes

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Look at the clock."""
        control.should_training_stop = time.monotonic() > self.end


def main() -> None:
    """Train, and leave policy/ and peer.json in the folder; a finished folder is left as it is."""
    run, kind, rate, out = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3]), Path(sys.argv[4])
    if (out / "peer.json").exists():
        return
    recipe = load_recipe(run / RECIPE)
    trainer = trainer_of(kind, rate, recipe, run, out)
    if len(sys.argv) > 5:
        trainer.add_callback(EndsAfter(float(sys.argv[5])))
    began = time.monotonic()
    trainer.train()
    result = {"trainer": kind, "learning_rate": rate, "seconds": time.monotonic() - began}
    result |= {"steps": trainer.state.global_step, **COUNTS}
    trainer.model.save_pretrained(out / "policy")
    trainer.processing_class.save_pretrained(out / "policy")
    (out / "peer.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
