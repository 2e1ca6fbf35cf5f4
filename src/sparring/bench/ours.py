"""Our side of a benchmark: one job file in, one result file out, in a process of its own.

python -m sparring.bench.ours job.json result.json
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from sparring.bench.measure import PeakMemory, process_memory
from sparring.memory import release_memory
from sparring.objectives import PairLogistic
from sparring.pairing import Pair
from sparring.recipe import FitConfig, TripwireConfig
from sparring.training.anchors import rollout_logps
from sparring.training.data import TrainingExample
from sparring.training.fit import fit
from sparring.training.packing import Rollout
from sparring.training.scorer import PolicyScorer
from sparring.weights import load_model

UNTRIPPED = TripwireConfig.model_construct(**dict.fromkeys(TripwireConfig.model_fields))


def run_fit(job: dict[str, Any]) -> dict[str, Any]:
    """DPO on the job's rollouts: the reference pass, then the fit, each timed; memory of the fit alone."""
    rollouts = [Rollout(prompt, responses) for prompt, responses in job["rollouts"]]
    before = process_memory()
    scorer = PolicyScorer(_placed(load_model(Path(job["model"]), torch.float32)), job["layout"])
    budget, precision = job["micro_batch_tokens"], job["precision"]
    start = time.monotonic()
    reference = rollout_logps(scorer, rollouts, budget, precision)
    reference_seconds = time.monotonic() - start
    release_memory()  # as a run does between its stages
    pairs = tuple(Pair(a, b, weight=1.0 / len(job["pairs"])) for a, b in job["pairs"])
    examples = [
        TrainingExample(str(i), r, ("own",) * len(r.responses), (0.5,) * len(r.responses), {"reference": logps}, pairs)
        for i, (r, logps) in enumerate(zip(rollouts, reference, strict=True))
    ]
    config = FitConfig(
        learning_rate=job["learning_rate"],
        schedule="constant",
        warmup=0.0,
        batch_size=job["batch_size"],
        micro_batch_tokens=budget,
        precision=precision,
        layout=job["layout"],
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
    model = _placed(load_model(Path(job["model"]), torch.float32)).train()
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
        seconds.append(time.monotonic() - start)
    return {"step_seconds": seconds[1:], "tokens": sum(ids.numel() for ids in rows)}


def _placed(model: Any) -> Any:
    return model.to("cuda") if torch.cuda.is_available() else model


def main() -> None:
    """Run the job."""
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    result = {"fit": run_fit, "body": run_body}[job["kind"]](job)
    Path(sys.argv[2]).write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    main()
