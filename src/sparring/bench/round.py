"""One whole round - sample, judge, fit - beside a peer's trainer: same prompts, samples, lengths and reward.

Our seconds are those of the round's stages, with loading the weights and writing the policy; the peer's begin when its
trainer stands. Leaves out: evaluation.

    compare_round(job, peer="trl", python="/opt/trl/bin/python", repeats=3, say=print)
"""

from __future__ import annotations

import json
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sparring.bench.compare import PEERS, WORKER, Job, fastest, work
from sparring.recipe.reading import parse_recipe
from sparring.rounds.run import run
from sparring.rounds.store import Store
from sparring.rounds.tables import SampleRow
from sparring.runtime.files import read_table
from sparring.runtime.layout import round_folder, stage_name
from sparring.runtime.progress import Progress


def prefer_distinct_words(prompt: str, a: str, b: str) -> float:
    """1 where `a` has more different words than `b`, 1/2 where as many: the reward of both sides."""
    words_a, words_b = (len(set(text.lower().split())) for text in (a, b))
    return 0.5 if words_a == words_b else float(words_a > words_b)


def run_round(job: Job) -> dict[str, Any]:
    """Our round in a folder of its own: iterative DPO with two samples a prompt."""
    with tempfile.TemporaryDirectory() as folder:
        out, prompts = Path(folder) / "run", Path(folder) / "prompts.jsonl"
        prompts.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in job["prompts"]), encoding="utf-8")
        held_out = Path(folder) / "held-out.jsonl"
        held_out.write_text(json.dumps({"prompt": "Say hello."}) + "\n", encoding="utf-8")
        run(parse_recipe(_recipe(job, prompts, held_out)), out, Progress(quiet=True))
        manifest = Store(out).manifest
        folder = round_folder(0)
        stages = {stage_name(key): manifest[key]["seconds"] for key in manifest if key.startswith(f"{folder}/")}
        drawn: list[SampleRow] = read_table(out / folder.samples)
        tokens = sum(len(row["token_ids"]) for row in drawn)
    return {"seconds": sum(stages.values()), "stages": stages, "sampled_tokens": tokens, "responses": len(drawn)}


def _recipe(job: Job, prompts: Path, held_out: Path) -> dict[str, Any]:
    return {
        "model": {"path": job["model"]},
        "data": {"train": {"path": str(prompts)}, "held_out": {"path": str(held_out)}},
        "algorithm": {"name": "dpo", "source": "own", "samples": 2, "pairing": "iid", "beta": job["beta"]},
        "oracle": {"name": "function", "path": "sparring.bench.round:prefer_distinct_words"},
        "rounds": 1,
        "seed": job["seed"],
        "sampling": {"temperature": job["temperature"], "max_new_tokens": job["max_new_tokens"], "batch_size": 128},
        "fit": {
            "learning_rate": job["learning_rate"],
            "schedule": "constant",
            "warmup": 0.0,
            "batch_size": job["batch_size"],
            "micro_batch_tokens": job["micro_batch_tokens"],
            "precision": job["precision"],
            "checkpoint_minutes": 1000.0,
            "tripwires": {"repetition": None},
        },
        "evaluation": {"prompts": 1, "samples": 1, "every_iterate": False},
    }


def compare_round(job: Job, peer: str | None, python: str, repeats: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Medians of alternating rounds and their ratio; the peer's micro-batch by search over one step."""
    case: dict[str, Any] = {k: v for k, v in job.items() if k not in ("prompts", "model")}
    command = [python, str(PEERS / f"{peer}_round.py")]
    micro = _best(job, peer, command, say) if peer is not None else 0
    ours: list[dict[str, Any]] = []
    theirs: list[dict[str, Any]] = []
    for repeat in range(repeats):
        ours.append(work(job | {"kind": "round"}, WORKER))
        say(f"repeat {repeat + 1}, ours: {ours[-1]['seconds']:.1f} s, {ours[-1]['sampled_tokens']} tokens sampled")
        if peer is not None:
            theirs.append(work(job | {"micro_batch": micro}, command))
            say(f"repeat {repeat + 1}, {peer}: {theirs[-1]['seconds']:.1f} s, {theirs[-1]['sampled_tokens']} tokens")
    case |= {"prompts": len(job["prompts"]), "ours": _median(ours)}
    if peer is not None:
        case["theirs"] = _median(theirs) | {"peer": peer, "micro_batch": micro}
        case["speed_ratio"] = case["theirs"]["seconds"] / case["ours"]["seconds"]
    return case


def _best(job: Job, peer: str, command: list[str], say: Callable[[str], None]) -> int:
    one = job | {"prompts": job["prompts"][: job["batch_size"]]}
    sizes = [size for size in (2, 4, 8, 16) if job["batch_size"] % size == 0]
    if not sizes:
        raise ValueError(f"--batch-size {job['batch_size']}: give an even one, the peer wants whole pairs of samples.")
    return fastest(sizes, lambda size: work(one | {"micro_batch": size}, command)["seconds"], peer, say)


def _median(results: list[dict[str, Any]]) -> dict[str, Any]:
    middle = sorted(results, key=lambda r: r["seconds"])[(len(results) - 1) // 2]
    return middle | {"seconds": statistics.median(r["seconds"] for r in results)}
