"""Run a fit beside a peer's: same model, tokens, precision, batch and optimiser; alternating, medians, ratios.

Before a speed is reported, the losses of the first steps must agree in float32. The peer gets the micro-batch that is
fastest for it. Leaves out: what runs inside the processes (`ours.py`, `peers/`).

    compare_fit(Setup(model_folder, workload), "trl", python="/opt/trl/bin/python")
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from sparring.bench.measure import matrix_peak
from sparring.bench.workload import Workload, useful_cost
from sparring.recipe.sections import FitConfig
from sparring.training.fit import batches
from sparring.training.packing import Layout, Rollout
from sparring.training.scorer import Attention

PEERS = Path(__file__).parent / "peers"
AGREEMENT = 1e-3
"""largest difference between the two sides' losses, float32"""
Job = dict[str, Any]
Result = dict[str, Any]
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Setup:
    """One case: a model folder, tokens, and how to train on them."""

    model: str
    workload: Workload
    batch_size: int = 8
    """prompts per optimiser step"""
    micro_batch_tokens: int = 1024
    precision: str = "bfloat16"
    attention: Attention = "blocks"
    layout: Layout = "packed"
    repeats: int = 3
    learning_rate: float = 1e-5
    beta: float = 0.1
    seed: int = 0

    def job(self, kind: str = "fit") -> Job:
        """What our worker reads."""
        job = asdict(self) | {"kind": kind, "pairs": self.workload.pairs}
        job["rollouts"] = [(list(p), list(map(list, r))) for p, r in self.workload.rollouts]
        del job["workload"]
        return job

    def peer_job(self, micro_batch: int) -> Job:
        """What a peer reads: the same, in the order in which our fit takes the prompts."""
        job: Job = self.job() | {"micro_batch": micro_batch}
        order = [
            i for step in batches(len(job["rollouts"]), FitConfig(batch_size=self.batch_size), self.seed) for i in step
        ]
        return job | {"rollouts": [job["rollouts"][i] for i in order]}

    @property
    def pairs(self) -> int:
        """Of an optimiser step."""
        return self.batch_size * len(self.workload.pairs)

    def micro_batches(self) -> list[int]:
        """Micro-batches, in pairs, that divide the batch: what the peer may choose from."""
        return [size for size in (1, 2, 4, 8, 16, 32, 64) if self.pairs % size == 0]


def work(job: Job, command: list[str]) -> Result:
    """Run one job in a process of its own.

    Raises:
        ValueError: it failed; with the end of what it printed.
    """
    with tempfile.TemporaryDirectory() as folder:
        given, made = Path(folder) / "job.json", Path(folder) / "result.json"
        given.write_text(json.dumps(job), encoding="utf-8")
        done = subprocess.run([*command, str(given), str(made)], capture_output=True, text=True, check=False)
        if done.returncode != 0 or not made.exists():
            tail = "\n".join((done.stdout + done.stderr).strip().splitlines()[-12:])
            raise ValueError(f"{' '.join(command)} ended with status {done.returncode}:\n{tail}")
        return json.loads(made.read_text(encoding="utf-8"))


def ours(setup: Setup, kind: str = "fit") -> Result:
    """Our side of a case."""
    return work(setup.job(kind), [sys.executable, "-m", "sparring.bench.ours"])


def theirs(setup: Setup, peer: str, python: str, micro_batch: int) -> Result:
    """The peer's side of a case."""
    return work(setup.peer_job(micro_batch), [python, str(PEERS / f"{peer}_dpo.py")])


def require_peer(peer: str, python: str) -> None:
    """Raise a ValueError where that Python cannot import the peer."""
    found = subprocess.run([python, "-c", f"import {peer}"], capture_output=True, text=True, check=False)
    if found.returncode != 0:
        why = (found.stderr.strip() or "it ended silently").splitlines()[-1]
        raise ValueError(
            f"--against {peer}: {python} has no {peer} that works ({why}). Install it in an environment of its own, "
            f"python3 -m venv ~/{peer} && ~/{peer}/bin/pip install {peer} psutil, and give "
            f"--peer-python ~/{peer}/bin/python."
        )


def compare_sampling(job: Job, repeats: int, say: Say) -> dict[str, Any]:
    """Our transformers engine beside `model.generate`, alternating: tokens per second, medians, the ratio."""
    worker = [sys.executable, "-m", "sparring.bench.ours"]
    rates: dict[str, list[float]] = {"sample": [], "generate": []}
    peaks: dict[str, list[int]] = {"sample": [], "generate": []}
    for repeat in range(repeats):
        for kind, found in rates.items():
            result = work(job | {"kind": kind}, worker)
            found.append(result["tokens"] / step_seconds(result))
            peaks[kind].append(result["peak_bytes"])
            say(f"repeat {repeat + 1}, {kind}: {found[-1]:.0f} tokens a second")
    mine, other = (statistics.median(rates[kind]) for kind in ("sample", "generate"))
    return {
        **{k: v for k, v in job.items() if k not in ("prompts", "model")},
        "ours": {"tokens_per_second": mine, "peak_bytes": statistics.median(peaks["sample"])},
        "theirs": {
            "peer": "transformers generate",
            "tokens_per_second": other,
            "peak_bytes": statistics.median(peaks["generate"]),
        },
        "speed_ratio": mine / other,
    }


SCALING_MODEL = {
    "hidden_size": 384,
    "intermediate_size": 1024,
    "num_hidden_layers": 6,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
}


def compare_memory(
    vocabularies: list[int], anchors: list[int], precision: str, budget: int, say: Say
) -> list[dict[str, Any]]:
    """Peak of a round above weights, gradients and moments, by vocabulary (one anchor) and by number of anchors."""
    first = vocabularies[0]
    points = [(v, 1) for v in vocabularies] + [(first, a) for a in anchors if a != 1]
    cases: list[dict[str, Any]] = []
    for vocabulary, count in points:
        drawn = Workload.draw("chat", 8, 2, vocabulary)
        job: Job = {
            "kind": "memory",
            "model": SCALING_MODEL | {"vocab_size": vocabulary},
            "rollouts": [(list(p), list(map(list, r))) for p, r in drawn.rollouts],
            "anchors": count,
            "precision": precision,
            "micro_batch_tokens": budget,
        }
        case: dict[str, Any] = {"vocabulary": vocabulary, "anchors": count}
        for side, plain in (("ours", False), ("plain", True)):
            case[side] = work(job | {"plain": plain}, [sys.executable, "-m", "sparring.bench.ours"])
        ours, plain = (case[side]["peak_above_constant_bytes"] for side in ("ours", "plain"))
        say(
            f"vocabulary {vocabulary}, anchors {count}: {ours / 1e9:.2f} GB above the state, plain {plain / 1e9:.2f} GB"
        )
        cases.append(case)
    return cases


def check_agreement(setup: Setup, peer: str, python: str, vocabulary: int, steps: int = 20) -> dict[str, Any]:
    """The losses of the first steps on short sequences, float32, on both sides.

    Raises:
        ValueError: they differ by more than `AGREEMENT`.
    """
    short = Workload.draw("chat", steps, len(setup.workload.rollouts[0].responses), vocabulary, seed=1, scale=0.12)
    small = replace(setup, workload=short, batch_size=1, precision="float32")
    mine, other = ours(small)["losses"], theirs(small, peer, python, len(short.pairs))["losses"]
    worst = max(abs(a - b) for a, b in zip(mine, other, strict=True))
    if not worst <= AGREEMENT:
        raise ValueError(
            f"the losses of {peer} and ours differ by {worst:.2g} (allowed: {AGREEMENT:g}), so their speeds are not "
            f"those of the same work: {list(zip(mine, other, strict=True))[:5]} ..."
        )
    return {"steps": steps, "largest_difference": worst, "first_loss": mine[0], "last_loss": mine[-1]}


def best_micro_batch(setup: Setup, peer: str, python: str, say: Say) -> int:
    """The peer's fastest micro-batch, from one step with each; ends when a larger one is a fifth slower."""
    one = replace(setup, workload=replace(setup.workload, rollouts=setup.workload.rollouts[: setup.batch_size]))
    found: dict[int, float] = {}
    for size in one.micro_batches():
        found[size] = step_seconds(theirs(one, peer, python, size))
        say(f"{peer}, micro-batch of {size}: {found[size]:.1f} s a step")
        if found[size] > 1.2 * min(found.values()):
            break
    return min(found, key=lambda size: found[size])


def step_seconds(result: Result) -> float:
    """The median step, the first one left out where there are others."""
    return statistics.median(result["step_seconds"][1:] or result["step_seconds"])


def compare_fit(
    setup: Setup, peer: str | None, python: str, say: Say, micro_batch: int | None = None
) -> dict[str, Any]:
    """One case: our medians, the share of the matrix peak, and where there is a peer its medians and the ratios."""
    case: dict[str, Any] = {
        "name": setup.workload.name,
        "prompts_per_step": setup.batch_size,
        "pairs_per_prompt": len(setup.workload.pairs),
        "mean_length": round(setup.workload.mean_length()),
        "micro_batch_tokens": setup.micro_batch_tokens,
        "precision": setup.precision,
        "layout": setup.layout,
        "attention": setup.attention,
        "repeats": setup.repeats,
    }
    if peer is not None and micro_batch is None:
        micro_batch = best_micro_batch(setup, peer, python, say)
    runs: dict[str, list[Result]] = {"ours": [], "theirs": []}
    for repeat in range(setup.repeats):
        runs["ours"].append(ours(setup))
        say(f"repeat {repeat + 1}, ours: {step_seconds(runs['ours'][-1]):.1f} s a step")
        if peer is not None and micro_batch is not None:
            runs["theirs"].append(theirs(setup, peer, python, micro_batch))
            say(f"repeat {repeat + 1}, {peer}: {step_seconds(runs['theirs'][-1]):.1f} s a step")
    facts = _model_facts(setup.model)
    case["ours"] = _summary(runs["ours"], setup, facts) | _efficiency(runs["ours"], setup, facts)
    if peer is not None:
        case["theirs"] = _summary(runs["theirs"], setup, facts) | {"peer": peer, "micro_batch": micro_batch}
        case["theirs"]["version"] = runs["theirs"][0].get("version", "")
        case |= _ratios(case["ours"], case["theirs"])
    return case


def _model_facts(folder: str) -> dict[str, float]:
    """Parameters of body and head, layers and attention width, from the configuration alone."""
    config = AutoConfig.from_pretrained(folder)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    embedding, head = (model.get_input_embeddings().weight, model.get_output_embeddings().weight)  # type: ignore
    text = config.get_text_config()
    width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return {
        "all": sum(p.numel() for p in model.parameters()),
        "body": sum(p.numel() for p in model.base_model.parameters()) - embedding.numel(),
        "head": head.numel(),
        "layers": text.num_hidden_layers,
        "width": text.num_attention_heads * width,
    }


def _summary(results: list[Result], setup: Setup, facts: dict[str, float]) -> dict[str, Any]:
    """Medians over repeats, per optimiser step; the reference pass is spread over the steps that it served."""
    steps = len(setup.workload.rollouts) / setup.batch_size
    seconds = [step_seconds(r) for r in results]
    constant = 16.0 * facts["all"]  # float32 weights, gradients and two moments
    peak = statistics.median(r["peak_bytes"] for r in results)
    return {
        "step_seconds": statistics.median(seconds),
        "step_seconds_all": seconds,
        "with_reference_seconds": statistics.median(
            s + r["reference_seconds"] / steps for s, r in zip(seconds, results, strict=True)
        ),
        "pair_tokens_per_second": setup.workload.pair_tokens() / steps / statistics.median(seconds),
        "peak_bytes": peak,
        "peak_above_constant_bytes": peak - statistics.median(r["before_model_bytes"] for r in results) - constant,
    }


def _efficiency(results: list[Result], setup: Setup, facts: dict[str, float]) -> dict[str, Any]:
    """Useful operations per second, as a share of a large matrix product's and of what the body alone reaches."""
    rollouts, steps = setup.workload.rollouts, len(setup.workload.rollouts) / setup.batch_size
    shape = int(facts["body"]), int(facts["head"]), int(facts["layers"]), int(facts["width"])
    cost = useful_cost(rollouts, *shape)
    rate = cost.total / steps / statistics.median(step_seconds(r) for r in results)
    alone = ours(setup, "body")
    # The last token of a response is fed too there, which a rollout's is not.
    rows = [Rollout(prompt, [[*response, 0]]) for prompt, responses in rollouts for response in responses]
    body = useful_cost(rows, *shape)
    body_rate = (body.body + body.attention) / step_seconds(alone)
    peak = matrix_peak(setup.precision)
    return {
        "tokens_per_step": results[0]["tokens"] / steps,
        "useful_flops_per_step": cost.total / steps,
        "matrix_peak": peak,
        "share_of_matrix_peak": rate / peak,
        "body_alone_share_of_matrix_peak": body_rate / peak,
        "share_of_body_alone": rate / body_rate,
    }


def _ratios(mine: dict[str, Any], other: dict[str, Any]) -> dict[str, float]:
    return {
        "speed_ratio": other["step_seconds"] / mine["step_seconds"],
        "speed_ratio_with_reference": other["with_reference_seconds"] / mine["with_reference_seconds"],
        "memory_ratio": mine["peak_bytes"] / other["peak_bytes"],
        "memory_ratio_above_constant": mine["peak_above_constant_bytes"] / other["peak_above_constant_bytes"],
    }
