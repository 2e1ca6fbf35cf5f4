"""`sparring status` of a run that is worked on: what it does now, on which machines, at what rate."""

from __future__ import annotations

import fcntl
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from command import sparring
from sparring.runtime.layout import PROGRESS, RECIPE, RUN_LOCK

NODES = [
    {"node": "10.0.0.1", "workers": 8, "shards": 1200, "per_second": 6.0},
    {"node": "10.0.0.2", "workers": 0, "shards": 40, "per_second": 0.2},
]


@pytest.fixture
def working(tiny_recipe: dict[str, Any], tmp_path: Path) -> Iterator[Path]:
    """A run folder that a process holds, 100 seconds into a stage."""
    run = tmp_path / "run"
    run.mkdir()
    (run / RECIPE).write_text(yaml.safe_dump(tiny_recipe))
    row = {"doing": "round 1/2  sample own", "done": 400, "total": 1000, "note": "", "nodes": NODES}
    (run / PROGRESS).write_text(json.dumps({**row, "began": time.time() - 100, "at": time.time()}))
    with (run / RUN_LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield run


def test_nodes_rate_and_time_left(working: Path) -> None:
    code, out, _ = sparring("status", working, columns=80)
    assert code == 0
    line = next(line for line in out.splitlines() if line.startswith("round 1/2  sample own  400/1,000, "))
    rate, left = line.split(", ")[1:]
    assert 3.0 < float(rate.removesuffix(" a second")) <= 4.0  # 400 in the 100 seconds and those since
    assert left.startswith("about ")
    assert left.endswith(" min left")
    rows = [line.split() for line in out.splitlines() if line.strip().startswith("10.0.0.")]
    assert rows == [["10.0.0.1", "8", "1,200", "6"], ["10.0.0.2", "lost", "40", "0.2"]]
    assert max(map(len, out.splitlines())) <= max(80, len(str(working)) + 80)
    now = json.loads(sparring("status", working, "--json").out)["now"]
    assert now["nodes"] == NODES
    assert (now["done"], now["total"]) == (400, 1000)


def test_units_of_an_earlier_process_say_nothing_of_the_speed(working: Path) -> None:
    row = json.loads((working / PROGRESS).read_text())
    (working / PROGRESS).write_text(json.dumps({**row, "before": 390}))
    _, out, _ = sparring("status", working, columns=80)
    rate, left = next(line for line in out.splitlines() if "sample own  400/1,000" in line).split(", ")[1:]
    assert 0.05 < float(rate.removesuffix(" a second")) <= 0.1
    assert left.startswith("about 1 h ")


def test_a_run_that_nobody_works_on_does_nothing_now(working: Path) -> None:
    (working / RUN_LOCK).unlink()
    _, out, _ = sparring("status", working)
    assert "sample own  400" not in out
    assert "10.0.0.1" not in out
    assert json.loads(sparring("status", working, "--json").out)["now"] is None
