"""Writes what a controller costs with hundreds of devices into docs/scale.json and docs/scale.md.

    python docs/make_scale.py                # needs sparring[ray]; about five minutes of one idle core
    python docs/make_scale.py --quick --show

Four parts, each by the code that a run uses: Ray's calls with workers that do nothing; the hand-out of shards
(`fleet/pool.py`) on a simulated clock, to which the controller's own processor time is added; the files of a sample
stage, whose responses come at once; and the whole controller's memory. Leaves out: the network, and what devices do.
"""

from __future__ import annotations

import argparse
import heapq
import json
import math
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
from tables import DOCS, table, write_section

from sparring.algorithms.algorithm import REFERENCE, Draw
from sparring.bench.measure import machine
from sparring.fleet import pool
from sparring.fleet.packed import pack, unpack
from sparring.fleet.pool import Member, deal
from sparring.fleet.work import Shards, Work, using
from sparring.recipe.sections import SamplingConfig
from sparring.rounds.sample import sample_draw
from sparring.runtime.progress import QUIET
from sparring.sampling.engine import Request, Response

PAGE, SCRIPT, DATA = "scale.md", "make_scale.py", DOCS / "scale.json"
PROMPTS, SAMPLES, BATCH = 1_000_000, 8, 32
"""of the imagined round: a quarter of a million shards"""
TOKENS = 200
"""of a response"""
SECONDS, SPREAD = 5.0, 0.5
"""median of a shard's time, and the spread of its logarithm"""
DEVICES = (8, 64, 256, 1000)
HAND_OUTS = (
    *((8, 2500, SECONDS), (64, 25_000, SECONDS), (256, 2500, SECONDS), (256, 25_000, SECONDS)),
    *((256, PROMPTS * SAMPLES // BATCH, SECONDS), (256, 25_000, 1.0), (1000, 250_000, SECONDS)),
)
"""devices, shards, and the median of their seconds"""
CALLS = 4000
"""shards by which Ray's calls are measured"""
FILES = (250, 1000, 4000)
"""shards by which memory and files are measured"""


# ---- 1. Ray's calls ---------------------------------------------------------------------------------


def ray_calls(devices: int, shards: int) -> dict[str, float]:
    """The real hand-out over real Ray to workers that do nothing, many of them in one process."""
    import ray  # type: ignore[reportMissingImports]

    class Idle:
        def __init__(self, rows: Any) -> None:
            self.rows = pack((rows, ""))

        async def prepare(self, key: str, box: Any) -> None:
            pass

        async def make(self, content: bytes) -> bytes | None:
            return self.rows if content else None

    actors = [ray.remote(Idle).options(num_cpus=0, max_concurrency=10_000).remote(rows_of(BATCH)) for _ in range(2)]
    prompts = [list(range(1000 * number, 1000 * number + 100)) for number in range(BATCH // SAMPLES)]
    payload = (REFERENCE,), [Request(prompt, seed) for prompt in prompts for seed in range(SAMPLES)]
    ray.get([actor.make.remote(b"") for actor in actors])
    members = [Member("id", "10.0.0.1", actors[number % 2], None) for number in range(devices)]
    began, busy = time.perf_counter(), time.process_time()
    done = sum(1 for _ in deal(Quiet(members), "scale", "key", [ray.put(1)], Shards(range(shards), lambda _: payload)))
    busy, wall = time.process_time() - busy, time.perf_counter() - began
    assert done == shards
    held = [actors[0].make.remote(b"") for _ in range(2 * devices)]
    ray.get(held)
    look = time.process_time()
    for _ in range(50):
        ray.wait(held, num_returns=1)
    return {
        "devices": devices,
        "busy_seconds_per_shard": busy / shards,
        "shards_per_second": shards / wall,
        "wait_seconds": (time.process_time() - look) / 50,
    }


@dataclass
class Quiet:
    """A cluster that loses nobody."""

    members: list[Member]
    made: Counter[str] = field(default_factory=Counter)

    def check(self, member: Member, theirs: Mapping[str, Any]) -> None:
        """See `pool.Pool`."""

    def replace(self, member: Member, error: Exception) -> None:
        """See `pool.Pool`."""
        raise error


def rows_of(count: int) -> list[tuple[Response, str]]:
    """What a worker sends back for a batch."""
    starts = range(1000, 1000 + TOKENS * count, TOKENS)
    return [
        (Response(list(range(start, start + TOKENS)), "stop"), f"{start} " + "some words " * 70) for start in starts
    ]


# ---- 2. the hand-out on a simulated clock ------------------------------------------------------------


@dataclass
class Clock:
    """Stands for Ray: a device makes its shards one after the other, and the controller's work takes time too."""

    seconds: Sequence[float]
    """of each shard"""
    call: float
    """seconds of the controller's processor for a shard's call and result"""
    look: float
    """for one look at a reference"""
    now: float = 0.0
    done: list[tuple[float, int]] = field(default_factory=list)
    finished: set[int] = field(default_factory=set)
    free: dict[int, float] = field(default_factory=dict)
    calls: int = 0
    looks: int = 0
    _last: float = field(default_factory=time.process_time)

    def own(self) -> None:
        """Add what the controller's own code took since the last call."""
        self.now += time.process_time() - self._last

    def resume(self) -> None:
        """The controller goes on."""
        self._last = time.process_time()

    def device(self, number: int) -> Any:
        """Stands for an actor."""
        make = SimpleNamespace(remote=lambda content: self.make(number, unpack(content)))
        return SimpleNamespace(make=make, prepare=SimpleNamespace(remote=lambda key, box: None))

    def make(self, device: int, index: int) -> int:
        """A device gets a shard."""
        self.own()
        self.now += self.call
        begin = max(self.now, self.free.get(device, 0.0))
        self.free[device] = begin + self.seconds[index]
        heapq.heappush(self.done, (self.free[device], index))
        self.calls += 1
        self.resume()
        return index

    def wait(self, references: list[int], num_returns: int, timeout: float | None) -> tuple[list[int], list[int]]:
        """As `ray.wait`."""
        self.own()
        self.now += self.look * len(references)
        self.looks += len(references)
        until = math.inf if timeout is None else self.now + timeout
        while self.done and self.done[0][0] <= until and len(self.finished) < num_returns:
            ended, index = heapq.heappop(self.done)
            self.now = max(self.now, ended)
            self.finished.add(index)
        if len(self.finished) < num_returns:
            self.now = until
        ready = list(self.finished)[:num_returns]
        self.resume()
        return ready, []

    def get(self, reference: int) -> bytes:
        """As `ray.get`."""
        self.finished.discard(reference)
        return pack(reference)


def hand_out(devices: int, shards: int, median: float, call: float, look: float) -> dict[str, float]:
    """The real hand-out on a simulated clock: what share of the devices' time is work."""
    pick = random.Random(7)
    clock = Clock([pick.lognormvariate(0.0, SPREAD) * median for _ in range(shards)], call, look)
    members = [Member("id", "10.0.0.1", clock.device(number), None) for number in range(devices)]
    true, memory = pool.ray, psutil.Process().memory_info().rss
    pool.ray = SimpleNamespace(wait=clock.wait, get=clock.get)  # type: ignore[assignment]
    busy, most, done = time.process_time(), memory, 0
    try:
        for _ in deal(Quiet(members), "scale", "key", [None], Shards(range(shards), lambda index: index)):
            done += 1
            if done % 1000 == 0:
                most = max(most, psutil.Process().memory_info().rss)
    finally:
        pool.ray = true
    assert done == shards
    return {
        "devices": devices,
        "shards": shards,
        "median_seconds": median,
        "efficiency": sum(clock.seconds) / devices / clock.now,
        "own_seconds_per_shard": (time.process_time() - busy) / shards,
        "grown_bytes": most - memory,
    }


# ---- 3. and 4. files and memory of a sample stage ----------------------------------------------------


class AtOnce:
    """A fleet whose results are there at once."""

    shares, ranks = True, 1

    def results(self, work: Work, shards: Shards) -> Iterator[tuple[int, Any]]:
        """Each shard's responses."""
        for index in shards.indices:
            yield index, (rows_of(len(shards.payload(index)[1])), "")


def sample_stage(shards: int) -> dict[str, float]:
    """A sample stage with its files: processor time, memory and bytes of each part."""
    policies: Any = SimpleNamespace(
        hash=lambda ref: "0" * 64,
        files_hash=lambda ref: "1" * 64,
        worker_key=lambda *parts: "key",
        folders=lambda refs: {},
    )
    examples: Any = [
        {"example": f"{i:016x}", "prompt_ids": list(range(1000, 1100))} for i in range(shards * BATCH // SAMPLES)
    ]
    settings = SamplingConfig(batch_size=BATCH)
    own = psutil.Process()
    with tempfile.TemporaryDirectory(dir=os.environ.get("SPARRING_SCALE_FOLDER")) as folder, using(AtOnce()):  # type: ignore[arg-type]
        target = Path(folder) / "samples.parquet"
        before, began, busy = own.memory_info().rss, time.perf_counter(), time.process_time()
        sample_draw(policies, Draw("own", SAMPLES, {REFERENCE: 1.0}), examples, settings, 0, "scale", target, QUIET)
        busy, wall = time.process_time() - busy, time.perf_counter() - began
        return {
            "shards": shards,
            "busy_seconds_per_shard": busy / shards,
            "wall_seconds_per_shard": wall / shards,
            "peak_bytes": peak() - before,
            "file_bytes": target.stat().st_size,
        }


def peak() -> int:
    """The most memory that this process held."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


# ---- all ------------------------------------------------------------------------------------------


def apart(function: str, *arguments: object) -> dict[str, float]:
    """A part in a process of its own, whose memory is its own."""
    words = [sys.executable, __file__, "--part", function, *map(json.dumps, arguments)]
    answer = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True)
    print(answer.stdout.splitlines()[-1], flush=True)
    return json.loads(answer.stdout.splitlines()[-1])


def measured(quick: bool) -> dict[str, Any]:
    """All parts."""
    scale = 10 if quick else 1
    calls = {devices: apart("ray_calls", devices, CALLS // scale) for devices in DEVICES}
    hand_outs = []
    for devices, shards, median in HAND_OUTS:
        row = calls[devices]
        costs = row["busy_seconds_per_shard"], row["wait_seconds"] / (2 * devices)
        hand_outs.append(apart("hand_out", devices, shards // scale, median, *costs))
    stages = [apart("sample_stage", max(1, shards // scale)) for shards in FILES]
    return {"machine": machine(), "ray": list(calls.values()), "hand_out": hand_outs, "sample_stage": stages}


def main() -> None:
    """Measure, and write the page; or one part, for the process that asked."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="a tenth of the shards")
    parser.add_argument("--show", action="store_true", help="print, and leave the page as it is")
    parser.add_argument("--part", nargs="+", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.part:
        print(json.dumps(part(given.part[0], [json.loads(word) for word in given.part[1:]])))
        return
    numbers = measured(given.quick)
    if not given.show:
        DATA.write_text(json.dumps(numbers, indent=2) + "\n", encoding="utf-8")
        write_page(numbers)


def part(name: str, arguments: Sequence[Any]) -> dict[str, float]:
    """One part, in this process."""
    if name != "ray_calls":
        return {"hand_out": hand_out, "sample_stage": sample_stage}[name](*arguments)
    from sparring.fleet.join import joined

    with joined(None):
        return ray_calls(*arguments)


def write_page(numbers: Mapping[str, Any]) -> None:
    """The tables of docs/scale.md."""
    rows = [
        [
            f"{row['devices']:,}",
            f"{1e3 * row['busy_seconds_per_shard']:.2f} ms",
            f"{1 / row['busy_seconds_per_shard']:,.0f}",
            f"{1e3 * row['wait_seconds']:.2f} ms",
        ]
        for row in numbers["ray"]
    ]
    write_section(
        PAGE, SCRIPT, table(["devices", "processor time a shard", "shards a second", "a look"], rows), "calls"
    )
    rows = [
        [
            f"{row['devices']:,}",
            f"{row['shards']:,}",
            f"{row['median_seconds']:g} s",
            f"{row['efficiency']:.1%}",
            f"{row['grown_bytes'] / 1e6:.1f} MB",
        ]
        for row in numbers["hand_out"]
    ]
    head = ["devices", "shards", "median of a shard", "efficiency", "memory that grew"]
    write_section(PAGE, SCRIPT, table(head, rows), "hand-out")
    rows = [
        [
            f"{row['shards']:,}",
            f"{row['shards'] * BATCH:,}",
            f"{1e3 * row['busy_seconds_per_shard']:.2f} ms",
            f"{row['peak_bytes'] / 1e6:.0f} MB",
            f"{row['peak_bytes'] / row['shards'] / BATCH:,.0f}",
        ]
        for row in numbers["sample_stage"]
    ]
    head = ["shards", "responses", "processor time a shard", "peak above the prompts", "bytes a response"]
    write_section(PAGE, SCRIPT, table(head, rows), "files")


if __name__ == "__main__":
    main()
