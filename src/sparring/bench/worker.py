"""Our side of a benchmark: one job file in, one result file out, in a process of its own.

python -m sparring.bench.worker job.json result.json
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from sparring.bench.measure import UNTRIPPED
from sparring.bench.round import run_round
from sparring.bench.worker_gpu import run_adam, run_forms, run_quantised, run_vllm
from sparring.bench.worker_memory import run_memory
from sparring.bench.workload import as_examples, model_in
from sparring.objectives.pairs import PairLogistic
from sparring.recipe.sections import FitConfig, LoraConfig, SamplingConfig
from sparring.runtime import gpus
from sparring.runtime.memory import PeakMemory, process_memory, release_memory
from sparring.sampling.engine import Request
from sparring.sampling.transformers_engine import TransformersEngine
from sparring.training.adapters import with_adapter
from sparring.training.fit import fit
from sparring.training.packing import Rollout
from sparring.training.rollout_logps import ANCHOR_ROOM, rollout_logps
from sparring.training.scorer import PolicyScorer


def run_fit(job: dict[str, Any]) -> dict[str, Any]:
    """DPO on the job's rollouts: the reference pass, then the fit, each timed; memory of the fit alone."""
    rollouts = [Rollout(prompt, responses) for prompt, responses in job["rollouts"]]
    before = process_memory()
    model = model_in(Path(job["model"]), torch.float32)
    if job["lora_rank"]:
        model = with_adapter(model, LoraConfig(rank=job["lora_rank"], alpha=2.0 * job["lora_rank"]))
    scorer = PolicyScorer(model, job["layout"], job["attention"])
    budget, precision = job["micro_batch_tokens"], job["precision"]
    start = time.monotonic()
    reference = rollout_logps(scorer, rollouts, ANCHOR_ROOM * budget, precision)
    reference_seconds = time.monotonic() - start
    release_memory()  # as a run does between its stages
    examples = as_examples(rollouts, reference, job["pairs"])
    config = FitConfig(
        learning_rate=job["learning_rate"],
        schedule="constant",
        warmup=0.0,
        batch_size=job["batch_size"],
        micro_batch_tokens=budget,
        precision=precision,
        layout=job["layout"],
        attention=job["attention"],
        checkpoint_minutes=1e9,
        tripwires=UNTRIPPED,
    )
    with tempfile.TemporaryDirectory() as folder, PeakMemory() as memory:
        rows = fit(scorer, examples, PairLogistic({"reference": 1.0}, job["beta"]), config, job["seed"], Path(folder))
    return {
        "losses": [row["loss"] for row in rows],
        "step_seconds": [row["seconds"] for row in rows],
        "reference_seconds": reference_seconds,
        "tokens": sum(row["tokens"] for row in rows),
        "peak_bytes": memory.peak,
        "before_model_bytes": before,
    }


def run_body(job: dict[str, Any]) -> dict[str, Any]:
    """The transformer body alone over the job's sequences, padded to nothing: the speed that a fit could reach."""
    model = model_in(Path(job["model"]), torch.float32).train()
    seconds: list[float] = []
    rows = [torch.tensor([[*prompt, *response]]) for prompt, responses in job["rollouts"] for response in responses]
    for _ in range(2):
        start = time.monotonic()
        with torch.autocast(model.device.type, torch.bfloat16, enabled=job["precision"] == "bfloat16"):
            for ids in rows:
                hidden = model.base_model(input_ids=ids.to(model.device), use_cache=False).last_hidden_state
                with torch.autocast(model.device.type, enabled=False):
                    hidden.float().sum().backward()
        model.zero_grad()
        gpus.finish()
        seconds.append(time.monotonic() - start)
    return {"step_seconds": seconds[1:], "tokens": sum(ids.numel() for ids in rows)}


def run_sample(job: dict[str, Any]) -> dict[str, Any]:
    """Our transformers engine on the job's prompts; no token ends a response, so both sides draw as many."""
    model = model_in(Path(job["model"]), getattr(torch, job["precision"]))
    fields = ("temperature", "top_p", "max_new_tokens", "batch_size")
    settings = SamplingConfig(**{field: job[field] for field in fields})
    engine = TransformersEngine([(model, 1.0)], settings, frozenset())
    rows = [ids for ids in job["prompts"] for _ in range(job["samples"])]
    requests = [Request(ids, seed) for seed, ids in enumerate(rows)]
    return _timed(job, lambda: sum(len(r.token_ids) for r in engine.sample(requests)))


def run_generate(job: dict[str, Any]) -> dict[str, Any]:
    """Sample as `run_sample` does, with `model.generate`: left-padded batches, several sequences a prompt."""
    model = model_in(Path(job["model"]), getattr(torch, job["precision"]))
    length, samples = job["max_new_tokens"], job["samples"]
    options = {"temperature": job["temperature"], "top_p": job["top_p"], "top_k": 0, "do_sample": True}

    def work() -> int:
        drawn, at_once = 0, max(1, job["batch_size"] // samples)
        for begin in range(0, len(job["prompts"]), at_once):
            prompts = job["prompts"][begin : begin + at_once]
            width = max(map(len, prompts))
            ids = torch.tensor([[0] * (width - len(p)) + p for p in prompts], device=model.device)
            mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=model.device)
            sequences = model.generate(
                input_ids=ids,
                attention_mask=mask,
                num_return_sequences=samples,
                max_new_tokens=length,
                min_new_tokens=length,
                pad_token_id=0,
                **options,
            )
            drawn += sequences[:, width:].numel()
        return drawn

    return _timed(job, work)


def _timed(job: dict[str, Any], work: Callable[[], int]) -> dict[str, Any]:
    seconds: list[float] = []
    tokens = 0
    with PeakMemory() as memory:
        for _ in range(job["passes"]):
            start = time.monotonic()
            tokens = work()
            seconds.append(time.monotonic() - start)
    return {"step_seconds": seconds, "tokens": tokens, "peak_bytes": memory.peak}


KINDS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    **{"fit": run_fit, "body": run_body, "sample": run_sample, "generate": run_generate, "memory": run_memory},
    **{"round": run_round, "forms": run_forms, "adam": run_adam, "quantised": run_quantised, "vllm": run_vllm},
}


def main() -> None:
    """Run the job."""
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    Path(sys.argv[2]).write_text(json.dumps(KINDS[job["kind"]](job)), encoding="utf-8")


if __name__ == "__main__":
    main()
