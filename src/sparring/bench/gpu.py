"""What only a GPU can show, in minutes: each check in processes of its own, with a budget, a verdict and its figures.

Without a GPU the same checks run at toy size: a rehearsal, which says so and proves that they start. Models have
random weights. Leaves out: what runs in the processes (`worker_gpu.py`, `worker.py`, `peers/`), and the page
(`docs/make_gpu.py`).

    examine_gpu(minutes=8, file=Path("gpu.json"), say=print)
"""

from __future__ import annotations

import importlib.util
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from tokenizers import Tokenizer, models
from transformers import LlamaConfig, PreTrainedTokenizerFast

from sparring.bench.compare import (
    WORKER,
    Job,
    Result,
    Say,
    Setup,
    model_sizes,
    require_peer,
    run_own,
    run_peer,
    step_seconds,
    summary,
    useful_rate,
    work,
)
from sparring.bench.measure import machine, matrix_peak
from sparring.bench.workload import Workload
from sparring.recipe.sections import VllmConfig
from sparring.runtime import gpus
from sparring.runtime.doctor import installed
from sparring.runtime.errors import first_line
from sparring.runtime.files import read_object, write_json

VLLM_PYTHON, TRL_PYTHON = "SPARRING_VLLM_PYTHON", "SPARRING_TRL_PYTHON"
"""environment variables: Pythons that have vLLM and TRL, where this one has not"""
LEAST_SECONDS = 20.0
"""no check begins with less left: a process needs as long to start"""
MATRIX_PEAKS = {
    "NVIDIA A100-SXM4-40GB": 312e12,
    "NVIDIA A100-SXM4-80GB": 312e12,
    "NVIDIA H100 80GB HBM3": 989.4e12,
    "NVIDIA H200": 989.4e12,
}
"""dense bfloat16 operations per second, of NVIDIA's data sheets (which print twice that for sparse matrices)"""
EXACT = {"nats_per_token": 1e-3, "gradient_difference": 1e-3, "loss_difference": 1e-3}
"""bounds between forms in float32: the differences are those of sums in another order"""
ROUNDED = 2.0
"""bfloat16: at most so many times the difference to float32 that the plainest bfloat16 form has"""
ONE_STEP = 0.05
"""8-bit Adam: share of AdamW's first step by which its own may differ; nothing in 8 bits has been read yet"""
SAME_TOKENS = 0.9
"""greedy float32 responses of two engines: share of tokens before the first that differs, which a tie may cause"""
FREED = 0.9
"""share of its cache by which a resting engine must lower the GPU's memory in use"""

PATIENCE = 10.0
"""a rehearsal on a CPU may take so many times a GPU's seconds"""

Found = dict[str, Any]


class Skipped(Exception):
    """A check cannot run here; says why."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """Models and numbers of a GPU, or of a rehearsal."""

    small: dict[str, Any]
    """configurations of Llama: for exact comparisons, ..."""
    full: dict[str, Any]
    """for a fit of all weights and for sampling, ..."""
    large: dict[str, Any]
    """and for a fit of an adapter"""
    scale: float
    """times the lengths of the chat profile"""
    prompts: int
    """of an optimiser step"""
    full_tokens: int
    """run at once, ours"""
    large_tokens: int
    micro_batches: dict[str, tuple[int, ...]]
    """of the peer by model, in pairs, in the order in which they are tried while there is time"""
    samples: int
    """of each of as many prompts as a step has"""
    new_tokens: int
    cache_gib: float
    """vLLM's"""
    peak_side: int
    """of the square matrices whose product is the measured peak"""


HEADS = {"max_position_embeddings": 4096, "bos_token_id": None, "eos_token_id": None}
GPU = Sizes(
    small={"vocab_size": 32_000, "hidden_size": 1024, "intermediate_size": 2816, "num_hidden_layers": 4,
           "num_attention_heads": 16, "num_key_value_heads": 4, "initializer_range": 0.05},
    # Llama 3.2 1B and Llama 3.1 8B
    full={"vocab_size": 128_256, "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16,
          "num_attention_heads": 32, "num_key_value_heads": 8, "tie_word_embeddings": True},
    large={"vocab_size": 128_256, "hidden_size": 4096, "intermediate_size": 14_336, "num_hidden_layers": 32,
           "num_attention_heads": 32, "num_key_value_heads": 8},
    scale=1.0, prompts=32, full_tokens=8192, large_tokens=2048, samples=4, new_tokens=256,
    micro_batches={"full": (16, 32, 8, 4), "large": (4, 8, 2, 1)}, cache_gib=8.0, peak_side=8192,
)  # fmt: skip
TINY = {"vocab_size": 512, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 1, "initializer_range": 0.1}  # fmt: skip
TOY = Sizes(
    small=TINY, full=TINY | {"tie_word_embeddings": True}, large=TINY, scale=0.05, prompts=2, full_tokens=64,
    large_tokens=64, micro_batches={"full": (1, 2), "large": (2,)}, samples=2, new_tokens=4,
    cache_gib=0.25, peak_side=64,
)  # fmt: skip


class Bench:
    """One session: sizes, folders of models, and the time that is left."""

    def __init__(self, folder: Path, log: Path, say: Say) -> None:
        self.rehearsal, self.folder, self.log, self.say = not gpus.there(), folder, log, say
        self.sizes = TOY if self.rehearsal else GPU
        self.patience = PATIENCE if self.rehearsal else 1.0
        self.deadline = 0.0

    def left(self) -> float:
        """Seconds until the check under way must have ended."""
        return max(1.0, self.deadline - time.monotonic())

    def model(self, kind: str) -> Path:
        """A folder with the configuration of `small`, `full` or `large`, and a tokenizer, which the peer asks for."""
        folder, fields = self.folder / kind, getattr(self.sizes, kind)
        if not folder.exists():
            config = LlamaConfig(**HEADS, **fields, architectures=["LlamaForCausalLM"])
            config.save_pretrained(folder)
            words = {f"w{i}": i for i in range(fields["vocab_size"])}
            tokenizer = Tokenizer(models.WordLevel(words, unk_token="w0"))
            PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="w1", eos_token="w1").save_pretrained(folder)
        return folder

    def workload(self, kind: str, prompts: int) -> Workload:
        """Random prompts, each with two responses."""
        return Workload.draw("chat", prompts, 2, getattr(self.sizes, kind)["vocab_size"], scale=self.sizes.scale)

    def job(self, kind: str, model: str, prompts: int) -> Job:
        """A job of our worker on rollouts."""
        workload = self.workload(model, prompts)
        return {"kind": kind, "model": str(self.model(model)), "rollouts": workload.plain(), "pairs": workload.pairs}

    def work(self, job: Job) -> Result:
        """Run a job of our worker, for as long as the check has."""
        return work(job, WORKER, self.left())


class Check(NamedTuple):
    """A named check: `run` returns its figures, with `passed` where there is a bound."""

    name: str
    seconds: float
    """it is stopped after these"""
    run: Callable[[Bench], Found]
    memory: float = 0.0
    """GB that the GPU must have"""


# ---- exact comparisons ---------------------------------------------------------------------------------------


def packed_and_padded(bench: Bench) -> Found:
    """One model, one batch: packed and padded, in float32 and bfloat16."""
    layouts, precisions = (["padded", "blocks"], ["packed", "blocks"]), ("float32", "bfloat16")
    forms = [[*layout, precision] for precision in precisions for layout in layouts]
    return within(bench.work(bench.job("forms", "small", 8) | {"forms": forms}))


def blocks_and_flex(bench: Bench) -> Found:
    """Attention by blocks and by FlexAttention, beside the padded form."""
    kinds = ("blocks", "blocks" if bench.rehearsal else "flex")
    forms = [["padded", "blocks", "float32"]]
    forms += [["packed", kind, precision] for precision in ("float32", "bfloat16") for kind in kinds]
    found = within(bench.work(bench.job("forms", "small", 8) | {"forms": forms}))
    return found | ({"stands_in": "blocks for flex, which needs CUDA"} if bench.rehearsal else {})


def within(found: Found) -> Found:
    """With `passed`: float32 forms agree, and bfloat16 forms round hardly more than the first of them."""
    rows = found["forms"]
    plain = next(row for row in rows if row["precision"] == "bfloat16")
    passed = all(
        row[name] <= (bound if row["precision"] == "float32" else bound + ROUNDED * plain[name])
        for row in rows
        for name, bound in EXACT.items()
    )
    return found | {"passed": passed}


def adam_in_8_bits(bench: Bench) -> Found:
    """8-bit Adam beside AdamW."""
    need_bitsandbytes(bench)
    found = bench.work(bench.job("adam", "small", 4) | {"optimizer": "adamw" if bench.rehearsal else "adamw_8bit"})
    found |= {"stands_in": "adamw for adamw_8bit, which needs CUDA"} if bench.rehearsal else {}
    return found | {"passed": found["difference_by_steps"]["1"] <= ONE_STEP}


def qlora(bench: Bench) -> Found:
    """One step of a fit over a base in 4 bits."""
    need_bitsandbytes(bench)
    found = bench.work(bench.job("quantised", "small", 4) | {"plain": bench.rehearsal})
    found |= {"stands_in": "a whole base for 4 bits, which need CUDA"} if bench.rehearsal else {}
    moved = found["adapter_moved"] > 0 and found["base_unchanged"]
    return found | {"passed": moved and abs(found["loss"] - 0.6931) < 0.05 and 0 < found["grad_norm"] < float("inf")}


def need_bitsandbytes(bench: Bench) -> None:
    """Skip where it is not installed; a rehearsal does without."""
    if not bench.rehearsal and importlib.util.find_spec("bitsandbytes") is None:
        raise Skipped("bitsandbytes is not installed: pip install 'sparring[qlora]'")


# ---- sampling ------------------------------------------------------------------------------------------------


def vllm_reload(bench: Bench) -> Found:
    """A kept vLLM reads a second policy: proved weights, greedy responses, memory while it rests. Small, float32."""
    settings = {"temperature": 0.0, "precision": "float32", "samples": 1}
    found = bench.work(vllm_job(bench, "small", eager=True) | settings)
    cache, served = bench.sizes.cache_gib * 2**30, found["policies"]
    proved = not found["started_anew"] and all(p["note"].endswith("every weight the policy's") for p in served)
    freed = bench.rehearsal or all(p["serving_bytes"] - p["resting_bytes"] >= FREED * cache for p in served)
    same = all(p["same_tokens"] >= SAME_TOKENS for p in served)
    return found | {"cache_bytes": cache, "proved": proved, "freed": freed, "passed": proved and freed and same}


def vllm_speed(bench: Bench) -> Found:
    """Tokens a second of vLLM in bfloat16, with CUDA graphs."""
    settings = {"temperature": 1.0, "precision": "bfloat16", "samples": bench.sizes.samples}
    return bench.work(vllm_job(bench, "full", eager=False) | settings)


def transformers_speed(bench: Bench) -> Found:
    """Tokens a second of our transformers engine on the same model, prompts and lengths."""
    settings = {"temperature": 1.0, "top_p": 1.0, "precision": "bfloat16", "samples": bench.sizes.samples}
    batch = bench.sizes.prompts * bench.sizes.samples
    found = bench.work(sample_job(bench, "full") | settings | {"kind": "sample", "batch_size": batch, "passes": 2})
    return {"tokens_per_second": found["tokens"] / step_seconds(found), "peak_bytes": found["peak_bytes"]}


def sample_job(bench: Bench, model: str) -> Job:
    """Prompts for an engine; no token ends a response, so all engines draw as many."""
    prompts = [list(r.prompt_ids) for r in bench.workload(model, bench.sizes.prompts).rollouts]
    return {"model": str(bench.model(model)), "prompts": prompts, "max_new_tokens": bench.sizes.new_tokens}


def vllm_job(bench: Bench, model: str, eager: bool) -> Job:
    """The job of vLLM on a model.

    Raises:
        Skipped: there is no vLLM.
    """
    python = os.environ.get(VLLM_PYTHON) or None
    if python is None and importlib.util.find_spec("vllm") is None:
        raise Skipped(f"no vLLM here: set {VLLM_PYTHON} to the Python that has it")
    config = VllmConfig(python=python, eager=eager, kv_cache_gib=bench.sizes.cache_gib)
    job = sample_job(bench, model) | {"kind": "vllm", "log": str(bench.log)}
    return job | {"vllm": config.model_dump()}


# ---- the fit ---------------------------------------------------------------------------------------------------


def setup_of(bench: Bench, model: str) -> Setup:
    """Three optimiser steps, the first of which is left out; of an adapter for the large model."""
    prompts, tokens = bench.sizes.prompts, {"full": bench.sizes.full_tokens, "large": bench.sizes.large_tokens}[model]
    setup = Setup(str(bench.model(model)), bench.workload(model, 3 * prompts), prompts, tokens)
    return replace(setup, lora_rank=16 if model == "large" else 0)


def own_fit(bench: Bench, model: str, attention: str = "blocks") -> Found:
    """Our fit."""
    if attention == "flex" and bench.rehearsal:
        raise Skipped("flex needs CUDA")
    setup = replace(setup_of(bench, model), attention=attention)
    sizes = model_sizes(setup.model, setup.lora_rank)
    result = run_own(setup, seconds=bench.left())
    measured, sheet = matrix_peak(setup.precision, bench.sizes.peak_side), MATRIX_PEAKS.get(gpus.name() or "")
    rate = useful_rate([result], setup, sizes)
    shares = {"share_of_measured_peak": rate / measured} | ({"share_of_peak": rate / sheet} if sheet else {})
    found = summary([result], setup, sizes)
    found["bytes_per_token"] = found["peak_above_constant_bytes"] / setup.micro_batch_tokens
    return found | {"parameters": sizes["all"], "trained": sizes["trained"], "useful_rate": rate, **shares}


def peer_fit(bench: Bench, model: str) -> Found:
    """TRL's fit of the same, by the fastest micro-batch of those for which there is time."""
    python = os.environ.get(TRL_PYTHON) or sys.executable
    try:
        require_peer("trl", python)
    except ValueError as error:
        raise Skipped(f"no TRL here: set {TRL_PYTHON} to the Python that has it") from error
    setup, tried, results = setup_of(bench, model), dict[str, float | str](), dict[int, Result]()
    longest, too_large = 0.0, float("inf")
    for size in bench.sizes.micro_batches[model]:
        if size >= too_large or (results and bench.left() < 1.2 * longest):
            continue
        began = time.monotonic()
        try:
            results[size] = run_peer(setup, "trl", python, size, bench.left())
            tried[str(size)] = step_seconds(results[size])
        except ValueError as error:
            tried[str(size)] = cause(error)
            if "out of memory" not in str(error).lower():
                break
            too_large = size
        longest = max(longest, time.monotonic() - began)
        bench.say(f"  TRL, micro-batch {size}: {tried[str(size)]}")
    if not results:
        raise ValueError(f"no micro-batch of TRL ran: {tried}")
    best = min(results, key=lambda size: step_seconds(results[size]))
    found = summary([results[best]], setup, model_sizes(setup.model, setup.lora_rank))
    pair = setup.workload.pair_tokens() / len(setup.workload.rollouts)
    found["bytes_per_token"] = found["peak_above_constant_bytes"] / (best * pair)
    return found | {"micro_batch": best, "tried": tried, "version": results[best]["version"]}


CHECKS = (
    Check("packed and padded", 60, packed_and_padded),
    Check("blocks and flex", 100, blocks_and_flex),
    Check("8-bit Adam", 45, adam_in_8_bits),
    Check("QLoRA", 45, qlora),
    Check("vLLM reload", 100, vllm_reload),
    Check("fit 1B", 60, lambda bench: own_fit(bench, "full"), memory=60),
    Check("fit 1B, flex", 90, lambda bench: own_fit(bench, "full", "flex"), memory=60),
    Check("fit 1B, TRL", 110, lambda bench: peer_fit(bench, "full"), memory=60),
    Check("sampling, transformers", 60, transformers_speed, memory=20),
    Check("sampling, vLLM", 120, vllm_speed, memory=20),
    Check("fit 8B LoRA", 80, lambda bench: own_fit(bench, "large"), memory=75),
    Check("fit 8B LoRA, TRL", 100, lambda bench: peer_fit(bench, "large"), memory=75),
)
"""in the order in which they run: what can be wrong first, then what is measured"""


# ---- all -------------------------------------------------------------------------------------------------------


def examine_gpu(minutes: float, file: Path | None, say: Say) -> Found:
    """Run the checks that the file does not hold yet as done, while there is time; it is written after each.

    Checks of another machine, other versions or a rehearsal are all run again.
    """
    about = {"rehearsal": not gpus.there(), "machine": machine(), "memory": gpus.memory(), "versions": versions()}
    if about["rehearsal"]:
        say("No GPU: this is a REHEARSAL at toy size on a CPU. It shows that the checks run, and nothing of a GPU.")
    found = about | {"checks": done_before(file, about)}
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), (file or Path(folder) / "gpu.json").with_suffix(".vllm.log"), say)
        end = time.monotonic() + 60 * minutes * bench.patience
        for check in CHECKS:
            if check.name in found["checks"]:
                say(f"{check.name}: {found['checks'][check.name]['status']} before")
                continue
            found["checks"][check.name] = one = outcome(check, bench, end)
            say(
                f"{check.name}: {one['status']}{f', {why}' if (why := one.get('why')) else ''} ({one['seconds']:.0f} s)"
            )
            if file is not None:
                write_json(file, found)
    return found


def versions() -> dict[str, str | None]:
    """Of the packages that the checks need and this Python has."""
    return {name: installed(name) for name in ("sparring", "peft", "bitsandbytes", "vllm", "trl")}


def done_before(file: Path | None, about: Found) -> dict[str, Found]:
    """The checks of a file that passed or were measured, on this machine by these versions."""
    if file is None or not file.exists():
        return {}
    before = read_object(file, "checks")
    if any(before.get(name) != value for name, value in about.items()):
        return {}
    return {name: one for name, one in before["checks"].items() if one["status"] in ("passed", "measured")}


def outcome(check: Check, bench: Bench, end: float) -> Found:
    """Status (passed, failed, measured, skipped, not begun), seconds, why, and the figures of one check."""
    began = time.monotonic()
    if end - began < LEAST_SECONDS:
        return {"status": "not begun", "seconds": 0.0, "why": "the time is over"}
    bench.deadline = min(end, began + check.seconds * bench.patience)
    try:
        if not bench.rehearsal and gpus.memory() < check.memory * 1e9:
            raise Skipped(f"needs a GPU of {check.memory:.0f} GB, this one has {gpus.memory() / 1e9:.0f}")
        figures = check.run(bench)
    except Skipped as reason:
        result: Found = {"status": "skipped", "why": str(reason)}
    except Exception as error:  # whatever it is, the other checks are still worth their time
        result = {"status": "failed", "why": cause(error), "details": str(error)}
    else:
        passed = figures.pop("passed", None)
        status = "measured" if passed is None else "passed" if passed else "failed"
        result = {"status": status, "figures": figures} | ({} if status != "failed" else {"why": "beyond its bounds"})
    return {**result, "seconds": time.monotonic() - began, "budget_seconds": check.seconds}


def cause(error: Exception) -> str:
    """The line that says why, without folders: of a process that failed the last one that names an exception."""
    lines = [line.strip() for line in str(error).splitlines()]
    named: Iterator[str] = (line for line in reversed(lines) if re.match(r"[\w.]*(Error|Exception|Exit)\b", line))
    return re.sub(r"/\S*/", "", next(named, first_line(error)))[:300]
