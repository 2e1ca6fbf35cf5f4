"""How many devices one controller serves: simulated workers that sleep for as long as a shard would take.

python docs/make_scale.py --devices 256 --shards 125000 --mean 0.5      # prints the numbers of docs/scale.md as JSON

The workers are real actors of Ray and the controller's code is the one that runs use (`fleet/pool.py`,
`runtime/parts.py`); only the work is a sleep. Eight processes play all devices, each of them one shard after the other.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import resource
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import ray

from sparring.fleet.join import joined
from sparring.fleet.pool import Member, deal
from sparring.fleet.work import Shards
from sparring.runtime.parts import make_shards

HOSTS = 8
SCHEMA = pa.schema([("prompt", pa.int64()), ("response", pa.string())])
PROMPTS_A_SHARD = 8
"""times 8 responses: a batch of 64"""


class Host:
    """Plays some devices: each makes one shard at a time."""

    def __init__(self, devices: int) -> None:
        self.locks = [asyncio.Lock() for _ in range(devices)]

    async def make(self, device: int, payload: tuple[int, float, int]) -> list[dict[str, Any]]:
        """A shard's rows, after the time that it takes."""
        index, seconds, rows = payload
        async with self.locks[device]:
            await asyncio.sleep(seconds)
        return [{"prompt": index * PROMPTS_A_SHARD + row, "response": "x" * 64} for row in range(rows)]


class Device:
    """What the pool takes for an actor: `device.make.remote(key, box, payload)`."""

    def __init__(self, host: Any, number: int) -> None:
        self.host, self.number, self.make = host, number, self

    def remote(self, key: str, box: list[Any], payload: Any) -> Any:
        """Have the device make a shard."""
        return self.host.make.remote(self.number, payload)


class Simulated:
    """A pool of devices that are never lost."""

    def __init__(self, devices: int) -> None:
        each = devices // HOSTS
        host: Any = ray.remote(Host)
        hosts = [host.options(num_cpus=0, max_concurrency=4 * each).remote(each) for _ in range(HOSTS)]
        self.members = [
            Member(str(number), "127.0.0.1", Device(hosts[number % HOSTS], number // HOSTS), None, deque())
            for number in range(devices)
        ]
        ray.get([one.make.remote(0, (0, 0.0, 0)) for one in hosts])

    def replace(self, member: Member, error: Exception) -> None:
        """No device of a simulation is lost."""
        raise error


def play(devices: int, shards: int, mean: float, write: bool) -> dict[str, float]:
    """The controller's figures for so many shards of `mean` seconds, log-normal as lengths of answers are."""
    source = random.Random(0)
    seconds = [source.lognormvariate(0, 0.5) * mean / 1.1331 for _ in range(shards)]
    pool, process = Simulated(devices), psutil.Process()
    began, before = time.monotonic(), process.memory_info().rss

    def results(indices: Any) -> Iterator[tuple[int, Any]]:
        wanted = Shards(indices, lambda index: (index, seconds[index], PROMPTS_A_SHARD if write else 0))
        return deal(pool, "sample own", "key", [], wanted)

    if write:
        with tempfile.TemporaryDirectory() as folder:
            keys = [f"{index:016x}" for index in range(shards)]
            make_shards(Path(folder) / "t.parquet", keys, range(shards), SCHEMA, results, lambda _: None, print)
    else:
        for _ in results(range(shards)):
            pass
    wall = time.monotonic() - began
    ideal = max(sum(seconds) / devices, max(seconds))
    return {
        "devices": devices,
        "shards": shards,
        "written": write,
        "wall_s": round(wall, 1),
        "ideal_s": round(ideal, 1),
        "efficiency": round(ideal / wall, 4),
        "shards_per_s": round(shards / wall, 1),
        "memory_grown_mb": round((process.memory_info().rss - before) / 1e6, 1),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3, 1),
    }


def main() -> None:
    """One line per number of shards: a tenth first, so that growth with the rows shows."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--devices", type=int, default=256)
    parser.add_argument("--shards", type=int, default=125_000)
    parser.add_argument("--mean", type=float, default=0.5)
    parser.add_argument("--write", action="store_true", help="write every shard to disk, as a stage does")
    options = parser.parse_args()
    with joined(None, 2):
        for shards in (options.shards // 10, options.shards):
            print(json.dumps(play(options.devices, shards, options.mean, options.write)), flush=True)


if __name__ == "__main__":
    main()
