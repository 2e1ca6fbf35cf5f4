"""Our worker's round for `sparring bench memory`, and the same round done plainly. Leaves out: choosing the sizes.

run_memory({"model": {...}, "rollouts": [...], "anchors": 2, "plain": False, ...})["peak_bytes"]

Shape suffixes: 2 responses of a pair, T tokens of the longest of them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from sparring.bench.measure import UNTRIPPED
from sparring.models.weights import load_model
from sparring.objectives.pairs import Pair, PairLogistic
from sparring.recipe.sections import FitConfig
from sparring.runtime.devices import on_device
from sparring.runtime.memory import PeakMemory, process_memory, release_memory
from sparring.training.batches import TrainingExample
from sparring.training.fit import fit
from sparring.training.packing import Rollout
from sparring.training.rollout_logps import ANCHOR_ROOM, rollout_logps
from sparring.training.scorer import PolicyScorer


def run_memory(job: dict[str, Any]) -> dict[str, Any]:
    """A round's memory for a random model of the job's size: anchors one after the other, then a fit against them.

    `plain` does the fit as one would without this package: all anchors loaded, every logit kept.
    """
    torch.manual_seed(0)
    config = LlamaConfig(**job["model"], tie_word_embeddings=True)
    model = on_device(LlamaForCausalLM(config))
    rollouts = [Rollout(prompt, responses) for prompt, responses in job["rollouts"]]
    names = [f"anchor {i}" for i in range(job["anchors"])]
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            model.save_pretrained(Path(folder) / name)
        release_memory()
        before = process_memory()
        work = _plain_round if job["plain"] else _own_round
        with PeakMemory() as memory:
            work(model, [Path(folder) / name for name in names], rollouts, job)
    trained = 12 * sum(p.numel() for p in model.parameters())  # gradients and two moments; the weights are in `before`
    return {"peak_bytes": memory.peak, "peak_above_constant_bytes": memory.peak - before - trained}


def _own_round(model: Any, anchors: list[Path], rollouts: list[Rollout], job: dict[str, Any]) -> None:
    anchor_logps: dict[str, list[list[float]]] = {}
    budget = ANCHOR_ROOM * job["micro_batch_tokens"]
    for folder in anchors:
        scorer = PolicyScorer(on_device(load_model(folder, torch.float32)))
        anchor_logps[folder.name] = rollout_logps(scorer, rollouts, budget, job["precision"])
        del scorer
        release_memory()
    by_example = [{name: logps[i] for name, logps in anchor_logps.items()} for i in range(len(rollouts))]
    pairs = (Pair(0, 1, weight=1.0),)
    examples = [
        TrainingExample(str(i), rollout, ("own", "own"), (0.5, 0.5), by_example[i], pairs)
        for i, rollout in enumerate(rollouts)
    ]
    config = FitConfig(
        batch_size=len(rollouts),
        micro_batch_tokens=job["micro_batch_tokens"],
        precision=job["precision"],
        tripwires=UNTRIPPED,
    )
    objective = PairLogistic(dict.fromkeys(anchor_logps, 1.0 / len(anchor_logps)), 0.1)
    with tempfile.TemporaryDirectory() as folder:
        fit(PolicyScorer(model), examples, objective, config, 0, Path(folder))


def _plain_round(model: Any, anchors: list[Path], rollouts: list[Rollout], job: dict[str, Any]) -> None:
    loaded = [on_device(load_model(folder, torch.float32)) for folder in anchors]
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    with torch.autocast(model.device.type, torch.bfloat16, enabled=job["precision"] == "bfloat16"):
        for prompt, responses in rollouts:
            with torch.no_grad():
                fixed = [_plain_margin(anchor, prompt, responses) for anchor in loaded]
            margin = _plain_margin(model, prompt, responses) - sum(fixed) / len(fixed)
            (-torch.nn.functional.logsigmoid(0.1 * margin)).backward()
    optimizer.step()


def _plain_margin(model: Any, prompt: Sequence[int], responses: Sequence[Sequence[int]]) -> Float[Tensor, ""]:
    """Scalar: log-probability of the first response less the second's, from logits; a pair is one padded batch."""
    width = max(map(len, responses))
    ids = torch.tensor([[*prompt, *r, *[0] * (width - len(r))] for r in responses], device=model.device)
    mask = torch.tensor([[1] * (len(prompt) + len(r)) + [0] * (width - len(r)) for r in responses], device=model.device)
    logits = model(input_ids=ids, attention_mask=mask).logits[:, len(prompt) - 1 : -1].float()
    logps_2T = logits.log_softmax(-1).gather(2, ids[:, len(prompt) :, None])[..., 0] * mask[:, len(prompt) :]
    return logps_2T[0].sum() - logps_2T[1].sum()
