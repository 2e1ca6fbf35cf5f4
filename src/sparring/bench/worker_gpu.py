"""Our worker's jobs that only a GPU can answer (`gpu.py`); each also runs on a CPU, where it is a rehearsal.

Leaves out: the bounds, and what is asked for.

    run_forms({"model": folder, "rollouts": [...], "pairs": [[0, 1]], "forms": [["padded", "blocks", "float32"], ...]})

Shape suffixes: R responses, W all weights of a model in one row.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sparring.bench.measure import UNTRIPPED
from sparring.bench.workload import as_examples, model_in
from sparring.models.weights import load_model
from sparring.objectives.pairs import PairLogistic
from sparring.recipe.sections import FitConfig, LoraConfig, SamplingConfig
from sparring.rounds.engines import PROBE_PROMPTS, PROBE_TOKENS, prompt_logps
from sparring.runtime import gpus
from sparring.runtime.devices import on_device
from sparring.runtime.memory import PeakMemory, process_memory, release_memory
from sparring.sampling.engine import Request
from sparring.sampling.transformers_engine import TransformersEngine
from sparring.sampling.vllm_child import fingerprint
from sparring.sampling.vllm_engine import ServedPolicy, VllmEngine, end_kept
from sparring.training.accumulate import accumulating
from sparring.training.adapters import with_adapter
from sparring.training.batches import TrainingExample, make_batch
from sparring.training.fit import fit
from sparring.training.packing import Rollout, make_pack
from sparring.training.quantised import load_quantised
from sparring.training.rollout_logps import rollout_logps
from sparring.training.scorer import PolicyScorer

BETA = 0.1
TIMED = 3
"""passes whose fastest is told, after the one that is compared"""
OBJECTIVE = PairLogistic({"reference": 1.0}, BETA)


def rollouts_of(job: dict[str, Any]) -> list[Rollout]:
    """The job's prompts with their responses."""
    return [Rollout(prompt, responses) for prompt, responses in job["rollouts"]]


# ---- forms of the same forward and backward pass -----------------------------------------------------------


def run_forms(job: dict[str, Any]) -> dict[str, Any]:
    """DPO's loss and gradient by each form (layout, attention, precision), compared with those by the first one.

    Packed forms are also checked as preflight checks them: against the model's own logits, and for leaks.
    """
    rollouts, pairs = rollouts_of(job), job["pairs"]
    first: tuple[Float[Tensor, " R"], Float[Tensor, ""], Float[Tensor, " W"]] | None = None
    examples: list[TrainingExample] = []
    rows: list[dict[str, Any]] = []
    lengths = torch.tensor([len(response) for rollout in rollouts for response in rollout.responses])
    for layout, attention, precision in job["forms"]:
        release_memory()
        scorer = PolicyScorer(model_in(Path(job["model"]), torch.float32), layout, attention)
        began = time.monotonic()
        scorer.compile_attention()
        scorer.verify()
        scorer.check_sight()
        ready_seconds = time.monotonic() - began
        # Under its own log-probabilities every pair pulls alike; far from them the loss would be flat.
        examples = examples or as_examples(rollouts, rollout_logps(scorer, rollouts, 1 << 30, "float32"), pairs)
        scorer.train()
        before = process_memory()
        with PeakMemory() as memory:
            logps_R, loss = backward(scorer, examples, precision)
        gradient_W = torch.cat([p.grad.flatten() for p in scorer.parameters() if p.grad is not None])
        first = first or (logps_R, loss, gradient_W)
        rows.append(
            {
                "form": f"{layout}, {attention}, {precision}" if layout == "packed" else f"{layout}, {precision}",
                "precision": precision,
                "loss": float(loss),
                "loss_difference": abs(float(loss - first[1])),
                "nats_per_token": float(((logps_R - first[0]).abs().cpu() / lengths).max()),
                "gradient_difference": float((gradient_W - first[2]).norm() / first[2].norm()),
                "seconds": min(timed(scorer, examples, precision) for _ in range(TIMED)),
                "ready_seconds": ready_seconds,
                "peak_bytes": memory.peak - before,
            }
        )
        del scorer, gradient_W
    return {"forms": rows, "tokens": make_pack(rollouts, "packed").input_ids_BT.numel()}


def backward(
    scorer: PolicyScorer, examples: Sequence[TrainingExample], precision: str
) -> tuple[Float[Tensor, " R"], Float[Tensor, ""]]:
    """R log-probabilities and the loss, as in a step of a fit; gradients are in the weights."""
    device = scorer.causal.device.type
    scorer.zero_grad()
    with accumulating(), torch.autocast(device, torch.bfloat16, enabled=precision == "bfloat16"):
        logps_R = scorer(scorer.pack([example.rollout for example in examples]))
        with torch.autocast(device, enabled=False):
            loss = OBJECTIVE(make_batch(examples, logps_R)).total / len(examples)
            loss.backward()
    return logps_R.detach(), loss.detach()


def timed(scorer: PolicyScorer, examples: Sequence[TrainingExample], precision: str) -> float:
    """Seconds of `backward`."""
    gpus.finish()
    began = time.monotonic()
    backward(scorer, examples, precision)
    gpus.finish()
    return time.monotonic() - began


# ---- bitsandbytes ------------------------------------------------------------------------------------------


def run_adam(job: dict[str, Any]) -> dict[str, Any]:
    """How far a fit by `optimizer` ends from one by AdamW, as a share of the way, after one step and after several."""
    rollouts, ends = rollouts_of(job), {}
    start_W = whole(model_in(Path(job["model"]), torch.float32).parameters())
    for name in ("adamw", job["optimizer"]):
        for steps in (1, len(rollouts)):
            scorer = PolicyScorer(model_in(Path(job["model"]), torch.float32))
            fitted(scorer, rollouts[:steps], job["pairs"], batch_size=1, optimizer=name)
            ends[name, steps] = whole(scorer.parameters())
    shares = {}
    for steps in (1, len(rollouts)):
        plain_W, other_W = ends["adamw", steps], ends[job["optimizer"], steps]
        shares[str(steps)] = float((other_W - plain_W).norm() / (plain_W - start_W).norm())
    return {"optimizer": job["optimizer"], "difference_by_steps": shares}


def run_quantised(job: dict[str, Any]) -> dict[str, Any]:
    """One step of a fit of an adapter over a base in 4 bits; `plain`: over the whole base, where there is no GPU."""
    rollouts = rollouts_of(job)
    with tempfile.TemporaryDirectory() as folder:
        model_in(Path(job["model"]), torch.bfloat16).save_pretrained(folder)
        release_memory()
        if job["plain"]:
            base = on_device(load_model(Path(folder), torch.float32))
        else:
            base = load_quantised(Path(folder), torch.float32, torch.bfloat16)
        size = sum(p.numel() * p.element_size() for p in base.parameters())
        scorer = PolicyScorer(with_adapter(base, LoraConfig()))
        difference = scorer.verify()
        frozen = [(p, p.detach().clone()) for p in scorer.parameters() if not p.requires_grad]
        adapter_W = whole(p for p in scorer.parameters() if p.requires_grad)
        [row] = fitted(scorer, rollouts, job["pairs"], batch_size=len(rollouts), precision="bfloat16")
        after_W = whole(p for p in scorer.parameters() if p.requires_grad)
    return {
        "base_bytes": size,
        "nats_per_token": difference,
        "loss": row["loss"],
        "grad_norm": row["grad_norm"],
        "adapter_moved": float((after_W - adapter_W).norm()),
        "base_unchanged": all(torch.equal(p, before) for p, before in frozen),
    }


def fitted(
    scorer: PolicyScorer, rollouts: list[Rollout], pairs: list[list[int]], precision: str = "float32", **settings: Any
) -> list[dict[str, float]]:
    """The rows of a fit by DPO, whose reference is the model at its start."""
    settings |= {"precision": precision, "schedule": "constant", "warmup": 0.0, "checkpoint_minutes": 1e9}
    config = FitConfig(tripwires=UNTRIPPED, **settings)
    reference = rollout_logps(scorer, rollouts, config.micro_batch_tokens, precision)
    with tempfile.TemporaryDirectory() as folder:
        return fit(scorer, as_examples(rollouts, reference, pairs), OBJECTIVE, config, 0, Path(folder))


def whole(weights: Iterable[nn.Parameter]) -> Float[Tensor, " W"]:
    """W: a copy of all weights in one row."""
    return torch.cat([weight.detach().flatten().float() for weight in weights])


# ---- vLLM --------------------------------------------------------------------------------------------------


def run_vllm(job: dict[str, Any]) -> dict[str, Any]:
    """Two policies, one after the other, by one vLLM that is kept: seconds, tokens, memory, and what was proved.

    Greedy responses are compared with the transformers engine's: the share of tokens before the first that differs.
    """
    config, dtype = Path(job["model"]), getattr(torch, job["precision"])
    settings = SamplingConfig(engine="vllm", **{name: job[name] for name in ("precision", "temperature", "vllm")},
                              max_new_tokens=job["max_new_tokens"])  # fmt: skip
    samples = job["samples"]
    requests = [Request(ids, samples * i + k) for i, ids in enumerate(job["prompts"]) for k in range(samples)]
    longest, log = max(requests, key=lambda request: len(request.prompt_ids)), Path(job["log"])
    begin = log.stat().st_size if log.exists() else 0
    policies: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        release_memory()
        before = gpus.memory_in_use()
        try:
            for seed in (0, 1):
                policy, expected = stored_policy(config, dtype, seed, Path(folder), settings, requests)
                began = time.monotonic()
                with VllmEngine(policy, settings, frozenset(), log, keep=True) as engine:
                    list(engine.stream([longest]))
                    ready = time.monotonic()
                    drawn = dict(engine.stream(requests))
                    seconds, in_use = time.monotonic() - ready, gpus.memory_in_use() - before
                policies.append(
                    {
                        "note": engine.note,
                        "first_response_seconds": ready - began,
                        "tokens_per_second": sum(len(r.token_ids) for r in drawn.values()) / seconds,
                        "serving_bytes": in_use,
                        "resting_bytes": gpus.memory_in_use() - before,
                        "same_tokens": same_share([drawn[i].token_ids for i in range(len(requests))], expected),
                    }
                )
        finally:
            end_kept()
        after = gpus.memory_in_use() - before
    started_anew = "started anew" in log.read_bytes()[begin:].decode(errors="replace")
    return {"policies": policies, "ended_bytes": after, "started_anew": started_anew}


def stored_policy(
    config: Path, dtype: torch.dtype, seed: int, folder: Path, settings: SamplingConfig, requests: Sequence[Request]
) -> tuple[ServedPolicy, list[list[int]]]:
    """A random policy on disk with what it is recognised by, and its greedy responses (none where it samples)."""
    model = model_in(config, dtype, seed)
    path = folder / str(seed)
    model.save_pretrained(path)
    text = model.config.get_text_config()
    probe_ids = [list(request.prompt_ids[:PROBE_TOKENS]) for request in requests[:PROBE_PROMPTS]]
    policy = ServedPolicy(
        name=f"seed {seed}",
        start=folder,
        folder=path,
        adapter=None,
        adapter_hash="",
        adapter_rank=0,
        trust_remote_code=False,
        vocabulary=text.vocab_size,
        window=text.max_position_embeddings,
        probe_ids=probe_ids,
        probe_logps=[prompt_logps(model, ids) for ids in probe_ids],
        fingerprint=fingerprint(model.parameters()),
    )
    greedy = settings.temperature == 0
    drawn = TransformersEngine([(model, 1.0)], settings, frozenset()).sample(requests) if greedy else []
    del model
    release_memory()
    return policy, [response.token_ids for response in drawn]


def same_share(drawn: Sequence[Sequence[int]], expected: Sequence[Sequence[int]]) -> float | None:
    """The share of tokens that stand before the first one that differs; None where nothing is expected."""
    if not expected:
        return None
    same = sum(
        next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
        for one, other in zip(drawn, expected, strict=True)
    )
    return same / sum(map(len, expected))
