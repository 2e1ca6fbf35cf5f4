"""The batch script of docs/how-to/cluster on a real Slurm: to its end, and past its time limit and again.

Slurm's nodes are network namespaces (`slurm_hosts.py`).
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from fleet_fakes import HOLD, check_same, several_shards, wait_for
from slurm_hosts import OVER, Slurm, can_have_slurm
from sparring.fleet.join import has_ray
from sparring.recipe.reading import parse_recipe
from sparring.rounds.run import run
from sparring.runtime.progress import Progress

pytestmark = [
    pytest.mark.skipif(not has_ray(), reason="needs the extra: pip install 'sparring[ray]'"),
    pytest.mark.skipif(not can_have_slurm(), reason="needs root, iproute2, and apt-get install slurm-wlm munge"),
    pytest.mark.more,
]
SCRIPT = Path(__file__).parents[2] / "docs/how-to/cluster/slurm.sbatch"
SMALL = {"nodes": "2", "gpus-per-node": "0", "cpus-per-task": "1"}
"""for the script's own `#SBATCH` lines, which ask for more than two nodes with a processor each have"""


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    with pytest.MonkeyPatch.context() as patch:
        shared = tmp_path_factory.getbasetemp()
        (shared / "home").mkdir()
        patch.setenv("HOME", str(shared / "home"))
        patch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
        patch.setenv("RAY_raylet_start_wait_time_s", "300")
        with Slurm(workers=2, shared=shared) as started:
            yield started


def test_a_job_whose_time_is_up_goes_on_when_it_is_submitted_again(
    tiny_recipe: dict[str, Any], tmp_path: Path, slurm: Slurm
) -> None:
    plain = {**several_shards(tiny_recipe), "oracle": {"name": "function", "path": "fleet_fakes:patient"}}
    recipe, out, hold = tmp_path / "recipe.yaml", tmp_path / "run", tmp_path / "hold"
    recipe.write_text(yaml.safe_dump(plain))
    run(parse_recipe(plain), tmp_path / "whole", Progress(quiet=True))
    slurm.environment[HOLD] = str(hold)

    def submit(output: str) -> int:
        return slurm.submit(SCRIPT, ["run", str(recipe), "--out", str(out)], {**SMALL, "time": "20"}, tmp_path / output)

    first = submit("first")
    wait_for(lambda: stages(out) or slurm.state(first) in OVER)
    hold.touch()  # the judge waits, at the latest in the second round, until the job's time is up
    slurm.ask("scontrol", "update", f"JobId={first}", "TimeLimit=1")
    assert slurm.end(first, 300) == "TIMEOUT", (tmp_path / "first").read_text()
    wait_for(lambda: not slurm.left(), 60)
    assert not (out / "report.html").exists()
    done = stages(out)
    assert done
    hold.unlink()
    second = submit("second")
    assert slurm.end(second, 1800) == "COMPLETED", (tmp_path / "second").read_text()
    assert {name: stages(out)[name] for name in done} == done
    check_same(tmp_path / "whole", out)
    wait_for(lambda: not slurm.left(), 60)


def test_the_doctor_asks_the_nodes_of_a_job(tmp_path: Path, slurm: Slurm) -> None:
    output = tmp_path / "doctor"
    job = slurm.submit(SCRIPT, ["doctor", "--run", str(tmp_path)], {**SMALL, "time": "20"}, output)
    assert slurm.end(job, 1800) == "COMPLETED", output.read_text()
    assert "no problems found" in output.read_text()
    wait_for(lambda: not slurm.left(), 60)


def stages(out: Path) -> dict[str, Any]:
    """Finished ones beyond the data."""
    path = out / "manifest.json"
    finished: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return {name: entry for name, entry in finished.items() if name.startswith("rounds/")}
