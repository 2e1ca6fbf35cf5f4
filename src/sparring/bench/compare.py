"""Run a fit beside a peer's: same model, tokens, precision, batch and optimiser; alternating, medians, ratios.

Before a speed is reported, the losses of the first steps must agree in float32. The peer gets the micro-batch that is
fastest for it. Leaves out: what runs inside the processes (`worker.py`, `peers/`).

    compare_fit(Setup(model_folder, workload), "trl", python="/opt/trl/bin/python")
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from sparring.bench.measure import matrix_peak
from sparring.bench.workload import Workload, useful_cost
from sparring.recipe.sections import FitConfig, LoraConfig
from sparring.training.adapters import with_adapter
from sparring.training.fit import batches
from sparring.training.packing import Layout, Rollout, dialogues
from sparring.training.scorer import Attention

PEERS = Path(__file__).parent / "peers"
WORKER = [sys.executable, "-m", "sparring.bench.worker"]
"""the command of our side, without the job's file and the result's"""
AGREEMENT = 1e-3
"""largest difference between the two sides' losses, float32"""
TAIL = 30
"""lines that are shown of what a failed process printed"""
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
    lora_rank: int = 0
    """0: all weights are trained"""

    def job(self, kind: str = "fit") -> Job:
        """The settings, tokens and pairs of this case, as our worker reads them."""
        job = asdict(self) | {"kind": kind, "pairs": self.workload.pairs, "rollouts": self.workload.plain()}
        del job["workload"]
        return job

    def peer_job(self, micro_batch: int) -> Job:
        """The job for a peer, with the prompts in the order in which our fit takes them."""
        job: Job = self.job() | {"micro_batch": micro_batch}
        groups = dialogues([prompt for prompt, _ in job["rollouts"]])
        order = [i for step in batches(groups, FitConfig(batch_size=self.batch_size), self.seed) for i in step]
        return job | {"rollouts": [job["rollouts"][i] for i in order]}

    @property
    def pairs(self) -> int:
        """Pairs of an optimiser step."""
        return self.batch_size * len(self.workload.pairs)

    def micro_batches(self) -> list[int]:
        """Sizes in pairs that divide the batch, from which the peer's micro-batch is chosen."""
        return [size for size in (1, 2, 4, 8, 16, 32, 64) if self.pairs % size == 0]


def work(job: Job, command: list[str], seconds: float | None = None) -> Result:
    """Run one job in a process of its own.

    Raises:
        ValueError: it failed, with the end of what it printed; or it was killed after so many seconds.
    """
    with tempfile.TemporaryDirectory() as folder:
        job_file, result_file = Path(folder) / "job.json", Path(folder) / "result.json"
        job_file.write_text(json.dumps(job), encoding="utf-8")
        files = [str(job_file), str(result_file)]
        try:
            process = subprocess.run([*command, *files], capture_output=True, text=True, check=False, timeout=seconds)
        except subprocess.TimeoutExpired as error:
            raise ValueError(f"{' '.join(command)} was killed after {seconds:.0f} seconds.") from error
        if process.returncode != 0 or not result_file.exists():
            tail = "\n".join((process.stdout + process.stderr).strip().splitlines()[-TAIL:])
            raise ValueError(f"{' '.join(command)} ended with status {process.returncode}:\n{tail}")
        return json.loads(result_file.read_text(encoding="utf-8"))


def run_own(setup: Setup, kind: str = "fit", seconds: float | None = None) -> Result:
    """Our side of a case."""
    return work(setup.job(kind), WORKER, seconds)


def run_peer(setup: Setup, peer: str, python: str, micro_batch: int, seconds: float | None = None) -> Result:
    """The peer's side of a case."""
    return work(setup.peer_job(micro_batch), [python, str(PEERS / f"{peer}_dpo.py")], seconds)


def require_peer(peer: str, python: str) -> None:
    """Raise a ValueError where that Python cannot import the peer."""
    process = subprocess.run(
        [python, "-c", f"import {peer}, datasets, psutil"], capture_output=True, text=True, check=False
    )
    if process.returncode != 0:
        why = (process.stderr.strip() or "it ended silently").splitlines()[-1]
        raise ValueError(
            f"--against {peer}: {python} has no {peer} that works ({why}). Install it in an environment of its own, "
            f"python3 -m venv ~/{peer} && ~/{peer}/bin/pip install {peer} psutil, and give "
            f"--peer-python ~/{peer}/bin/python."
        )


def compare_sampling(job: Job, repeats: int, say: Say) -> dict[str, Any]:
    """Our transformers engine beside `model.generate`, alternating: tokens per second, medians, the ratio."""
    rates: dict[str, list[float]] = {"sample": [], "generate": []}
    peaks: dict[str, list[int]] = {"sample": [], "generate": []}
    for repeat in range(repeats):
        for kind, measured in rates.items():
            result = work(job | {"kind": kind}, WORKER)
            measured.append(result["tokens"] / step_seconds(result))
            peaks[kind].append(result["peak_bytes"])
            say(f"repeat {repeat + 1}, {kind}: {measured[-1]:.0f} tokens a second")
    engine_rate, generate_rate = (statistics.median(rates[kind]) for kind in ("sample", "generate"))
    return {
        **{k: v for k, v in job.items() if k not in ("prompts", "model")},
        "ours": {"tokens_per_second": engine_rate, "peak_bytes": statistics.median(peaks["sample"])},
        "theirs": {
            "peer": "transformers generate",
            "tokens_per_second": generate_rate,
            "peak_bytes": statistics.median(peaks["generate"]),
        },
        "speed_ratio": engine_rate / generate_rate,
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
        job: Job = {
            "kind": "memory",
            "model": SCALING_MODEL | {"vocab_size": vocabulary},
            "rollouts": Workload.draw("chat", 8, 2, vocabulary).plain(),
            "anchors": count,
            "precision": precision,
            "micro_batch_tokens": budget,
        }
        case: dict[str, Any] = {"vocabulary": vocabulary, "anchors": count}
        for side, plain in (("ours", False), ("plain", True)):
            case[side] = work(job | {"plain": plain}, WORKER)
        own, plain = (case[side]["peak_above_constant_bytes"] / 1e9 for side in ("ours", "plain"))
        say(f"vocabulary {vocabulary}, anchors {count}: {own:.2f} GB above the state, plain {plain:.2f} GB")
        cases.append(case)
    return cases


def check_agreement(setup: Setup, peer: str, python: str, vocabulary: int, steps: int = 20) -> dict[str, Any]:
    """Compare the losses of the first steps on short sequences, computed in float32 by both sides.

    Raises:
        ValueError: they differ by more than `AGREEMENT`.
    """
    short = Workload.draw("chat", steps, len(setup.workload.rollouts[0].responses), vocabulary, seed=1, scale=0.12)
    small = replace(setup, workload=short, batch_size=1, precision="float32")
    losses = run_own(small)["losses"]
    peer_losses = run_peer(small, peer, python, len(short.pairs))["losses"]
    worst = max(abs(a - b) for a, b in zip(losses, peer_losses, strict=True))
    if not worst <= AGREEMENT:
        raise ValueError(
            f"the losses of {peer} and ours differ by {worst:.2g} (allowed: {AGREEMENT:g}), so their speeds are not "
            f"those of the same work: {list(zip(losses, peer_losses, strict=True))[:5]} ..."
        )
    return {"steps": steps, "largest_difference": worst, "first_loss": losses[0], "last_loss": losses[-1]}


def best_micro_batch(setup: Setup, peer: str, python: str, say: Say) -> int:
    """The peer's fastest micro-batch in pairs, from one optimiser step with each."""
    one = replace(setup, workload=replace(setup.workload, rollouts=setup.workload.rollouts[: setup.batch_size]))
    return fastest(one.micro_batches(), lambda size: step_seconds(run_peer(one, peer, python, size)), peer, say)


def fastest(sizes: Iterable[int], seconds: Callable[[int], float], peer: str, say: Say) -> int:
    """The micro-batch of the fewest seconds a step; ends when a larger one is a fifth slower than the best."""
    by_size: dict[int, float] = {}
    for size in sizes:
        by_size[size] = seconds(size)
        say(f"{peer}, micro-batch of {size}: {by_size[size]:.1f} s a step")
        if by_size[size] > 1.2 * min(by_size.values()):
            break
    return min(by_size, key=lambda size: by_size[size])


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
        runs["ours"].append(run_own(setup))
        say(f"repeat {repeat + 1}, ours: {step_seconds(runs['ours'][-1]):.1f} s a step")
        if peer is not None and micro_batch is not None:
            runs["theirs"].append(run_peer(setup, peer, python, micro_batch))
            say(f"repeat {repeat + 1}, {peer}: {step_seconds(runs['theirs'][-1]):.1f} s a step")
    sizes = model_sizes(setup.model, setup.lora_rank)
    case["ours"] = summary(runs["ours"], setup, sizes) | _efficiency(runs["ours"], setup, sizes)
    if peer is not None:
        case["theirs"] = summary(runs["theirs"], setup, sizes) | {"peer": peer, "micro_batch": micro_batch}
        case["theirs"]["version"] = runs["theirs"][0].get("version", "")
        case |= _ratios(case["ours"], case["theirs"])
    return case


def model_sizes(folder: str, lora_rank: int = 0) -> dict[str, int]:
    """Parameters of all, body, head and what is trained; layers and attention width: from the configuration alone."""
    config = AutoConfig.from_pretrained(folder)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    embedding, head = (model.get_input_embeddings().weight, model.get_output_embeddings().weight)  # type: ignore
    text = config.get_text_config()
    width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    every = sum(p.numel() for p in model.parameters())
    body = sum(p.numel() for p in model.base_model.parameters()) - embedding.numel()
    if lora_rank:
        with torch.device("meta"):
            model = with_adapter(model, LoraConfig(rank=lora_rank))
    return {
        "all": every,
        "body": body,
        "head": head.numel(),
        "trained": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "layers": text.num_hidden_layers,
        "width": text.num_attention_heads * width,
    }


def summary(results: list[Result], setup: Setup, sizes: dict[str, int]) -> dict[str, Any]:
    """Medians over repeats, per optimiser step; the reference pass is spread over the steps that it served."""
    steps = len(setup.workload.rollouts) / setup.batch_size
    seconds = [step_seconds(r) for r in results]
    # float32 weights, and of the trained ones gradients and two moments; an adapter is beside the model
    beside = sizes["trained"] if setup.lora_rank else 0
    constant = 4.0 * (sizes["all"] + beside) + 12.0 * sizes["trained"]
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


def useful_rate(results: list[Result], setup: Setup, sizes: dict[str, int]) -> float:
    """Useful operations per second of an optimiser step."""
    rollouts = setup.workload.rollouts
    shape = sizes["body"], sizes["head"], sizes["layers"], sizes["width"]
    steps = len(rollouts) / setup.batch_size
    operations = useful_cost(rollouts, *shape, frozen=setup.lora_rank > 0).total / steps
    return operations / statistics.median(step_seconds(r) for r in results)


def _efficiency(results: list[Result], setup: Setup, sizes: dict[str, int]) -> dict[str, Any]:
    """Useful operations per second, as a share of a large matrix product's and of what the body alone reaches."""
    rollouts, steps = setup.workload.rollouts, len(setup.workload.rollouts) / setup.batch_size
    shape = sizes["body"], sizes["head"], sizes["layers"], sizes["width"]
    rate = useful_rate(results, setup, sizes)
    alone = run_own(setup, "body")
    # The last token of a response is fed too there, which a rollout's is not.
    rows = [Rollout(prompt, [[*response, 0]]) for prompt, responses in rollouts for response in responses]
    body = useful_cost(rows, *shape)
    body_rate = (body.body + body.attention) / step_seconds(alone)
    peak = matrix_peak(setup.precision)
    return {
        "tokens_per_step": results[0]["tokens"] / steps,
        "useful_flops_per_step": rate * statistics.median(step_seconds(r) for r in results),
        "matrix_peak": peak,
        "share_of_matrix_peak": rate / peak,
        "body_alone_share_of_matrix_peak": body_rate / peak,
        "share_of_body_alone": rate / body_rate,
    }


def _ratios(own: dict[str, Any], peer: dict[str, Any]) -> dict[str, float]:
    """Speeds above 1 and memories below 1 are in our favour."""
    return {
        "speed_ratio": peer["step_seconds"] / own["step_seconds"],
        "speed_ratio_with_reference": peer["with_reference_seconds"] / own["with_reference_seconds"],
        "memory_ratio": own["peak_bytes"] / peer["peak_bytes"],
        "memory_ratio_above_constant": own["peak_above_constant_bytes"] / peer["peak_above_constant_bytes"],
    }
