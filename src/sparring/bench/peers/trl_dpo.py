"""The peer's side of `sparring bench fit --against trl`: TRL's DPO on the same tokens, in its own Python.

Stands alone: it needs torch, transformers, datasets and trl, and nothing of ours.

    python trl_dpo.py job.json result.json
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import torch
import trl  # type: ignore[import-not-found]
from datasets import Dataset
from torch.utils.data import SequentialSampler
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import DPOConfig, DPOTrainer  # type: ignore[import-not-found]

CUDA = torch.cuda.is_available()


class Steps(TrainerCallback):
    """Seconds of every optimiser step."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.start = 0.0

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        """Start the clock."""
        self.start = time.monotonic()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Stop it when the device is done."""
        if CUDA:
            torch.cuda.synchronize()
        self.seconds.append(time.monotonic() - self.start)


def reset_peak() -> None:
    """Forget the memory peak so far."""
    if CUDA:
        torch.cuda.reset_peak_memory_stats()
    else:
        Path("/proc/self/clear_refs").write_text("5")


def peak() -> int:
    """Bytes since `reset_peak`."""
    if CUDA:
        return torch.cuda.max_memory_allocated()
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def load(folder: Path) -> Any:
    """The folder's model on the device; one with random weights where the folder holds none."""
    device = "cuda" if CUDA else "cpu"
    if any(folder.glob("*.safetensors")):
        model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        return model.to(device)
    torch.manual_seed(0)
    with torch.device(device):
        return AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder), dtype=torch.float32)


def adapter(rank: int) -> Any:
    """The adapter of this rank that our side trains; None for 0."""
    if not rank:
        return None
    from peft import LoraConfig

    return LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM")


def main() -> None:
    """Run the job: every pair of every prompt a row of its own, in our order; tokens are given, not made again."""
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    rows = [
        {"prompt_ids": prompt, "chosen_ids": responses[a], "rejected_ids": responses[b]}
        for prompt, responses in job["rollouts"]
        for a, b in job["pairs"]
    ]
    before = torch.cuda.memory_allocated() if CUDA else psutil.Process().memory_info().rss
    model = load(Path(job["model"]))
    micro, pairs_a_step = job["micro_batch"], job["batch_size"] * len(job["pairs"])
    config = DPOConfig(
        output_dir=sys.argv[2] + ".trl",
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=pairs_a_step // micro,
        num_train_epochs=1,
        learning_rate=job["learning_rate"],
        lr_scheduler_type="constant",
        optim="adamw_torch_fused",
        weight_decay=0.0,
        max_grad_norm=1.0,
        beta=job["beta"],
        max_length=None,
        bf16=job["precision"] == "bfloat16",
        use_cpu=not CUDA,
        gradient_checkpointing=False,
        precompute_ref_log_probs=True,
        dataloader_pin_memory=False,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        seed=job["seed"],
    )
    DPOTrainer._prepare_dataset = lambda self, dataset, *_: dataset  # the tokens are there already
    reference: list[float] = []
    plain_pass = DPOTrainer._precompute_ref_logps

    def timed_pass(*arguments: Any, **options: Any) -> Any:
        start = time.monotonic()
        logps = plain_pass(*arguments, **options)
        reference.append(time.monotonic() - start)
        return logps

    DPOTrainer._precompute_ref_logps = timed_pass
    DPOTrainer._get_train_sampler = lambda self, dataset=None: SequentialSampler(dataset or self.train_dataset)
    steps = Steps()
    trainer = DPOTrainer(
        model=model,
        args=config,
        train_dataset=Dataset.from_list(rows),
        processing_class=AutoTokenizer.from_pretrained(job["model"]),
        callbacks=[steps],
        peft_config=adapter(job["lora_rank"]),
    )
    assert reference, "TRL computed no reference log-probabilities"
    reset_peak()
    trainer.train()
    result = {
        "losses": [entry["loss"] for entry in trainer.state.log_history if "loss" in entry],
        "step_seconds": steps.seconds,
        "reference_seconds": sum(reference),
        "version": trl.__version__,
        "peak_bytes": peak(),
        "before_model_bytes": before,
        "micro_batch": micro,
    }
    Path(sys.argv[2]).write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    main()
