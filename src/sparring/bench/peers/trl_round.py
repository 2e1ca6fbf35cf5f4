"""The peer's side of `sparring bench round --against trl`: TRL's experimental online DPO over the same prompts.

Stands alone: it needs torch, transformers, datasets and trl, and nothing of ours.

    python trl_round.py job.json result.json
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
from torch.utils.data import SequentialSampler
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl.experimental.online_dpo import OnlineDPOConfig, OnlineDPOTrainer  # type: ignore[import-not-found]

CUDA = torch.cuda.is_available()
DRAWN: list[int] = []


def distinct_words(prompts: list[Any], completions: list[Any], completion_ids: list[Any], **_: Any) -> list[float]:
    """The reward of both sides: how many different words an answer has."""
    DRAWN.extend(len(ids) for ids in completion_ids)
    texts = [c if isinstance(c, str) else c[-1]["content"] for c in completions]
    return [float(len(set(text.lower().split()))) for text in texts]


def main() -> None:
    """Run the job: two samples a prompt, one pair, one epoch."""
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    model: Any = AutoModelForCausalLM.from_pretrained(job["model"], dtype=torch.float32)
    if CUDA:
        model.to("cuda")
    config = OnlineDPOConfig(
        output_dir=sys.argv[2] + ".trl",
        per_device_train_batch_size=job["micro_batch"],
        gradient_accumulation_steps=job["batch_size"] // job["micro_batch"],
        num_train_epochs=1,
        learning_rate=job["learning_rate"],
        lr_scheduler_type="constant",
        optim="adamw_torch_fused",
        beta=job["beta"],
        max_new_tokens=job["max_new_tokens"],
        max_length=4096,
        temperature=job["temperature"],
        bf16=job["precision"] == "bfloat16",
        use_cpu=not CUDA,
        gradient_checkpointing=False,
        dataloader_pin_memory=False,
        logging_steps=10_000,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        seed=job["seed"],
    )
    OnlineDPOTrainer._get_train_sampler = lambda self, dataset=None: SequentialSampler(dataset or self.train_dataset)
    trainer = OnlineDPOTrainer(
        model=model,
        reward_funcs=distinct_words,
        args=config,
        train_dataset=Dataset.from_list([{"prompt": [{"role": "user", "content": text}]} for text in job["prompts"]]),
        processing_class=AutoTokenizer.from_pretrained(job["model"], padding_side="left"),
    )
    start = time.monotonic()
    trainer.train()
    result = {"seconds": time.monotonic() - start, "sampled_tokens": sum(DRAWN), "responses": len(DRAWN)}
    Path(sys.argv[2]).write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    main()
