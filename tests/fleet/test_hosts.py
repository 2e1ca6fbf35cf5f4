"""Three hosts with addresses of their own and no common folder: a run is that of one process, whatever host is lost.

Network namespaces stand for hosts (`fleet_hosts.py`); they need root, and say so where they are left out.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from fleet_fakes import check_same, several_shards, wait_for
from fleet_hosts import Hosts, can_have_hosts
from sparring.fleet.join import has_ray
from sparring.recipe.reading import parse_recipe
from sparring.rounds.run import run
from sparring.runtime.progress import Progress

pytestmark = [
    pytest.mark.skipif(not has_ray(), reason="needs the extra: pip install 'sparring[ray]'"),
    pytest.mark.skipif(not can_have_hosts(), reason="needs root, iproute2 and unshare, to make network namespaces"),
    pytest.mark.more,
]
STAGES = ("sample", "judge", "anchor", "fit", "evaluate")
WHEN = ("inside", "boundary")
CONTROLLER_KILLS = 20
LIFE = 60.0
"""seconds in which a controller is killed, or fewer where one finished in fewer"""
ENDS = 300.0
"""seconds in which a worker must end after its controller: one that is still importing torch does so after that"""
SEED = 15


@pytest.fixture(scope="module")
def hosts() -> Iterator[Hosts]:
    with Hosts(workers=2) as started:
        yield started


@pytest.fixture
def plain(tiny_recipe: dict[str, Any]) -> dict[str, Any]:
    return several_shards(tiny_recipe)


@pytest.fixture
def whole(plain: dict[str, Any], tmp_path: Path) -> Path:
    """The run of this process alone."""
    run(parse_recipe(plain), tmp_path / "whole", Progress(quiet=True))
    return tmp_path / "whole"


@pytest.mark.parametrize("turn", range(4))
def test_a_host_lost_in_every_stage(
    turn: int, plain: dict[str, Any], whole: Path, tmp_path: Path, hosts: Hosts
) -> None:
    """Five hosts are lost in a run, and come back after a while: four runs are twenty losses, ten of each kind."""
    plan = {stage: WHEN[(number + turn) % 2] for number, stage in enumerate(STAGES)}
    recipe, out = tmp_path / "recipe.yaml", tmp_path / "lossy"
    recipe.write_text(yaml.safe_dump(plain))
    words = [sys.executable, "-m", "watched_run", str(recipe), str(out), hosts.address, json.dumps(plan)]
    lost: dict[str, str] = {}
    with hosts.controller(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if not line.startswith('{"stage"'):  # Ray speaks here too
                    continue
                loss = json.loads(line)
                host = hosts.host_at(loss["address"])
                hosts.restart(host)
                print(f"{time.strftime('%X')} {loss['stage']} ({loss['when']}): host {host} is lost", flush=True)
                lost[loss["stage"]] = loss["when"]
                process.stdin.write("lost\n")
                process.stdin.flush()
            assert process.wait() == 0
        finally:
            process.kill()
    assert lost == plan
    check_same(whole, out)
    assert not [path.name for path in out.rglob("*.partial*")]
    wait_for(lambda: not hosts.actors(), ENDS)


def test_a_controller_killed_at_random(plain: dict[str, Any], whole: Path, tmp_path: Path, hosts: Hosts) -> None:
    """Twenty times, at any moment of its life; each time no worker outlives it, and the same command goes on."""
    recipe, out = tmp_path / "recipe.yaml", tmp_path / "killed"
    recipe.write_text(yaml.safe_dump(plain))
    words = [sys.executable, "-m", "sparring", "run", str(recipe), "--out", str(out), "--cluster", hosts.address]
    pick, killed, finished, longest = random.Random(SEED), 0, 0, LIFE
    while killed < CONTROLLER_KILLS or out.exists() or not finished:
        began = time.monotonic()
        process = hosts.controller(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        last = killed == CONTROLLER_KILLS
        try:
            _, errors = process.communicate(timeout=None if last else pick.uniform(0.2, 1.0) * longest)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            killed += 1
            done = len(json.loads((out / "manifest.json").read_text())) if (out / "manifest.json").exists() else 0
            print(f"{time.strftime('%X')} kill {killed}: {time.monotonic() - began:.1f} s, {done} stages", flush=True)
        else:
            assert process.returncode == 0, errors
            check_same(whole, out)
            longest, finished = min(longest, time.monotonic() - began), finished + 1
            print(f"{time.strftime('%X')} finished run {finished}, after {killed} kills", flush=True)
            out.rename(tmp_path / f"finished-{finished}")
        wait_for(lambda: not hosts.actors(), ENDS)
