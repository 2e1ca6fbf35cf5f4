"""Measures what a Ray cluster of one machine costs and gains, into docs/benchmarks/fleet-on-a-cpu.json.

    python docs/make_fleet_times.py                  # an idle machine with two cores and sparring[ray]: about an hour
    python docs/make_fleet_times.py --repeats 1 --set rounds=1 --set data.prompts_per_round=16 --show

The demo's recipe three ways, each with one thread a process, in turns: this process alone, Ray with one worker, Ray
with two. Seconds are those of the stages, as the manifest has them; what the command took besides, Ray's start with it,
stands apart. Leaves out: GPUs, and several machines.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from tables import DOCS

from sparring.bench.measure import machine
from sparring.runtime.layout import MANIFEST, stage_name

WAYS = {
    "alone": (),
    "one worker": ("--cluster", "local", "--devices", "1"),
    "two workers": ("--cluster", "local", "--devices", "2"),
}
SHARED = ("sample", "judge", "anchor")
"""stages that two workers share"""
FILE = DOCS / "benchmarks" / "fleet-on-a-cpu.json"


def timed(way: str, recipe: str, settings: list[str], out: Path) -> dict[str, Any]:
    """Seconds of a run: by kind of stage, all stages, and what the command took besides."""
    words = [sys.executable, "-m", "sparring", "run", recipe, "--out", str(out), *WAYS[way]]
    words += [word for setting in settings for word in ("--set", setting)]
    began = time.perf_counter()
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"})
    wall, by_stage = time.perf_counter() - began, Counter[str]()
    manifest = json.loads((out / MANIFEST).read_text(encoding="utf-8"))
    for name, entry in manifest.items():
        by_stage[stage_name(name)] += entry["seconds"]
    return {"way": way, "stages": dict(by_stage), "all_stages": by_stage.total(), "besides": wall - by_stage.total()}


def median(runs: list[dict[str, Any]], way: str, stage: str | None = None) -> float:
    """Over the repeats, of all stages or of one kind."""
    return statistics.median(
        run["all_stages"] if stage is None else run["stages"].get(stage, 0.0) for run in runs if run["way"] == way
    )


def ratios(runs: list[dict[str, Any]]) -> dict[str, float]:
    """What one worker costs beside this process alone, and how much faster two are than one."""
    numbers = {"one worker over alone": median(runs, "one worker") / median(runs, "alone")}
    for stage in SHARED:
        if two := median(runs, "two workers", stage):
            numbers[f"{stage}: two workers over one"] = median(runs, "one worker", stage) / two
    return numbers


def main() -> None:
    """Run, and write the file."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--recipe", default="demo")
    parser.add_argument("--set", action="append", default=[], help="as of `sparring run`")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--show", action="store_true", help="print, and write no file")
    given = parser.parse_args()
    runs: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for repeat in range(given.repeats):
            for way in WAYS:
                runs.append(timed(way, given.recipe, given.set, Path(folder) / f"{way}-{repeat}".replace(" ", "-")))
                print(json.dumps(runs[-1]), flush=True)
    found = {"machine": machine(), "recipe": given.recipe, "set": given.set, "ratios": ratios(runs), "runs": runs}
    print(json.dumps(found["ratios"], indent=2))
    if not given.show:
        FILE.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
