"""A run on the workers of a Ray cluster is the run of one process, whatever is lost on the way."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
import yaml
from safetensors.torch import load_file

import fake_vllm_child
from command import sparring
from fleet_fakes import check_same, several_shards, wait_for
from sparring.fleet import folders
from sparring.fleet.join import cluster, has_ray
from sparring.fleet.work import Job, Listeners, Shards, Work, using
from sparring.recipe.reading import parse_recipe
from sparring.rounds.run import run
from sparring.runtime.progress import Progress

pytestmark = [
    pytest.mark.skipif(not has_ray(), reason="needs the extra: pip install 'sparring[ray]'"),
    pytest.mark.filterwarnings("default"),  # Ray's own
]
Fleet = Any
Tamper = Callable[[Fleet, str, int], None]
"""called with the fleet, a stage's title and how many of its shards have come"""


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A cluster of two machines with a processor each, and a head that has none."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
        patch.setenv("SPARRING_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_raylet_start_wait_time_s", "300")  # of a machine that is busy with other tests
        patch.setenv("RAY_worker_niceness", "0")  # beside other work workers of niceness 19 get no processor
        patch.setenv("RAY_health_check_period_ms", "500")
        patch.setenv("RAY_health_check_timeout_ms", "20000")
        patch.setenv("RAY_health_check_failure_threshold", "10")
        started = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        for _ in range(2):
            started.add_node(num_cpus=1)
        yield started
        started.shutdown()


@pytest.fixture
def plain(tiny_recipe: dict[str, Any]) -> dict[str, Any]:
    return several_shards(tiny_recipe)


def ran(plain: dict[str, Any], out: Path, machines: Any, tamper: Tamper = lambda *_: None) -> Counter[str]:
    """Run the recipe on the machines; returns how many shards came back, by the first word of their stage."""
    came: Counter[str] = Counter()
    with cluster(machines.address, None) as fleet, using(fleet):
        true = fleet.results

        def results(work: Work, shards: Shards) -> Iterator[tuple[int, Any]]:
            for count, result in enumerate(true(work, shards)):
                came[work.title.split()[0]] += 1
                tamper(fleet, work.title, count)
                yield result

        fleet.results = results
        run(parse_recipe(plain), out, Progress(quiet=True))
    return came


@pytest.fixture
def whole(plain: dict[str, Any], tmp_path: Path) -> Path:
    """The run of this process alone."""
    run(parse_recipe(plain), tmp_path / "whole", Progress(quiet=True))
    return tmp_path / "whole"


def test_the_same_bytes_without_a_common_folder_and_with_losses_in_every_stage(
    plain: dict[str, Any], whole: Path, tmp_path: Path, machines: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    third = machines.add_node(num_cpus=1)
    hit: set[str] = set()

    def tamper(fleet: Fleet, title: str, count: int) -> None:
        stage = title.split()[0]
        if stage in hit or count != 0:
            return
        hit.add(stage)
        if stage == "anchor":
            machines.remove_node(third, allow_graceful=False)
        else:
            ray.kill(fleet.members[-1].actor)

    true = folders.listing
    # Files of another time are those of another disk: the workers must take the policies' bytes from here.
    later = lambda folder: {name: stat._replace(written_ns=0) for name, stat in true(folder).items()}  # noqa: E731
    monkeypatch.setattr(folders, "listing", later)
    came = ran(plain, tmp_path / "lossy", machines, tamper)
    check_same(whole, tmp_path / "lossy")
    assert hit == {"sample", "judge", "anchor", "KL", "evaluate"}
    assert min(came[stage] for stage in hit - {"evaluate"}) >= 2  # which has one shard here
    received = list((Path(os.environ["SPARRING_CACHE"]) / "fleet").iterdir())
    assert len(received) == 3  # start and two iterates, each once
    assert {path.name for path in received[0].iterdir()} >= {"config.json", "model.safetensors"}


def test_vllm_samples_on_the_workers_and_a_worker_ends_with_its_engine(
    plain: dict[str, Any], tmp_path: Path, machines: Any
) -> None:
    served, jobs, died = tmp_path / "python", tmp_path / "jobs", tmp_path / "died"
    served.write_text(
        f"#!/bin/sh\nshift\nexport FAKE_VLLM_MODEL=true FAKE_VLLM_JOBS={jobs} FAKE_VLLM=die_once={died}\n"
        f'exec {sys.executable} {fake_vllm_child.__file__} "$@"\n'
    )
    served.chmod(0o755)
    section = {**plain["sampling"], "engine": "vllm", "vllm": {"python": str(served), "shard_size": 4}}
    died.touch()
    run(parse_recipe({**plain, "sampling": section}), tmp_path / "whole", Progress(quiet=True))
    jobs.unlink()
    died.unlink()
    with cluster(machines.address, None) as fleet, using(fleet):
        run(parse_recipe({**plain, "sampling": section, "warm": True}), tmp_path / "shared", Progress(quiet=True))
    check_same(tmp_path / "whole", tmp_path / "shared")
    told = [json.loads(line) for line in jobs.read_text().splitlines()]
    assert died.exists()
    assert len({order["process"] for order in told}) == 3  # one of the two died, and was started again
    assert max(len(order["requests"]) for order in told if "requests" in order) <= 4


@pytest.mark.more
def test_a_killed_controller_leaves_no_worker_and_the_same_command_goes_on(
    plain: dict[str, Any], whole: Path, tmp_path: Path, machines: Any
) -> None:
    recipe, out = tmp_path / "recipe.yaml", tmp_path / "killed"
    recipe.write_text(yaml.safe_dump(plain))
    words = ["run", str(recipe), "--out", str(out), "--cluster", machines.address]
    process = subprocess.Popen([sys.executable, "-m", "sparring", *words], stdout=subprocess.DEVNULL)
    wait_for(lambda: list(out.glob("rounds/*/samples.partial/*.parquet")) or process.poll() is not None)
    assert alive()
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_for(lambda: not alive())
    assert not (out / "report.html").exists()
    ended = subprocess.run([sys.executable, "-m", "sparring", *words], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    check_same(whole, out)


def alive() -> list[int]:
    """The workers of this process' machines."""
    found = []
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if "".join(child.cmdline()).startswith("ray::Worker"):
                found.append(child.pid)
    return found


def doomed(places: object) -> Any:
    """Opens work of which one shard ends its process, and another one raises."""

    def make(payload: str) -> str:
        if payload == "ends":
            os._exit(1)
        if payload == "raises":
            raise ValueError("prompt 7 is empty")
        return payload.upper()

    return contextlib.nullcontext(make)


def test_what_no_worker_can_make_stops_the_stage_by_name(machines: Any) -> None:
    from sparring.fleet.pool import FleetError

    def made(*payloads: str) -> dict[int, Any]:
        shards = Shards(range(len(payloads)), lambda index: payloads[index])
        return dict(fleet.results(Work("sample own", "doomed", dict, doomed), shards))

    with cluster(machines.address, None) as fleet:
        assert made("a", "b", "c", "d", "e") == {0: "A", 1: "B", 2: "C", 3: "D", 4: "E"}
        with pytest.raises(ValueError, match=r"node [\d.]+: prompt 7 is empty"):
            made("a", "raises")
        with pytest.raises(FleetError, match="sample own: shard 1 lost 3 workers, the last on node"):
            made("a", "ends", "b")


def test_what_a_cluster_has_not(machines: Any) -> None:
    message = r"--devices 9: the cluster has 2 CPUs\. Give --devices 2"
    with pytest.raises(ValueError, match=message), cluster(machines.address, 9):
        pass
    message = r"--cluster 127\.0\.0\.1:1: nothing answers there"
    with pytest.raises(ValueError, match=message), cluster("127.0.0.1:1", None):
        pass


def test_the_doctor_shows_every_machine(machines: Any, tmp_path: Path) -> None:
    outcome = sparring("doctor", "--cluster", machines.address, "--run", tmp_path)
    assert outcome.code == 0, outcome.out + outcome.err
    assert "no problems found" in outcome.out
    rows = [line.split() for line in outcome.out.splitlines() if "CPUs" in line]
    assert sorted(row[1] for row in rows) == ["0", "1", "1"]  # the head has none
    assert all("yes" in row for row in rows)
    assert list(tmp_path.iterdir()) == []


def dying(run: Any, flag: Path, kept: Path, places: Any, root: Path, listeners: Any) -> Any:
    """A fit whose second rank ends in its fourth step, once, when the run has a checkpoint."""
    from sparring.runtime import devices
    from sparring.training import fit

    steps: list[Any] = []

    def end(row: Any, bounds: Any) -> None:
        steps.append(row)
        if len(steps) == 4:
            wait_for(kept.exists)
            os._exit(1)

    if devices.rank() == 1 and not flag.exists():
        flag.touch()
        fit.check_tripwires = end
    return run(places, root, listeners)


@pytest.mark.more
def test_ranks_on_two_machines_fit_one_policy_and_go_on_when_one_is_lost(
    plain: dict[str, Any], tmp_path: Path, machines: Any
) -> None:
    plain = {**plain, "rounds": 1, "fit": {**plain["fit"], "epochs": 3}}
    run(parse_recipe(plain), tmp_path / "one", Progress(quiet=True))
    told: list[str] = []
    flag, kept = tmp_path / "lost", tmp_path / "two/rounds/000/fit.partial/checkpoint.pt"
    with cluster(machines.address, None) as fleet, using(fleet):
        fleet.fits_on = 2
        true = fleet.together

        def together(job: Job, listeners: Listeners) -> Any:
            return true(replace(job, run=partial(dying, job.run, flag, kept)), {**listeners, "say": told.append})

        fleet.together = together
        run(parse_recipe(plain), tmp_path / "two", Progress(quiet=True))
    assert flag.exists()
    assert [line for line in told if "fit: a rank was lost" in line]
    assert [line for line in told if "going on after step" in line]
    one, two = (load_file(tmp_path / name / "rounds/000/policy/model.safetensors") for name in ("one", "two"))
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=1e-4, atol=2e-6)  # sums in another order
    start = load_file(Path(plain["model"]["path"]) / "model.safetensors")
    assert any(not torch.equal(start[name], tensor) for name, tensor in two.items())


@pytest.mark.more
def test_adapters_are_those_of_one_process_without_a_common_folder(
    plain: dict[str, Any], tmp_path: Path, machines: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain["model"]["lora"] = {"rank": 2}
    run(parse_recipe(plain), tmp_path / "one", Progress(quiet=True))
    true = folders.listing
    later = lambda folder: {name: stat._replace(written_ns=0) for name, stat in true(folder).items()}  # noqa: E731
    monkeypatch.setattr(folders, "listing", later)
    ran(plain, tmp_path / "two", machines)
    check_same(tmp_path / "one", tmp_path / "two")
    for place in ("rounds/000/policy", "rounds/001/policy"):
        texts = [(tmp_path / name / place / "adapter_config.json").read_text() for name in ("one", "two")]
        assert plain["model"]["path"] in texts[0]  # its base, as it is called here and not on the worker
        assert texts[0] == texts[1]


@pytest.mark.more
@pytest.mark.parametrize("lora", [None, {"rank": 2}])
def test_two_workers_with_a_half_of_the_weights_each_fit_one_policy(
    lora: Any, plain: dict[str, Any], tmp_path: Path, machines: Any
) -> None:
    plain["model"]["lora"] = lora
    run(parse_recipe(plain), tmp_path / "one", Progress(quiet=True))
    plain["fit"]["shard_weights"] = True
    with cluster(machines.address, None) as fleet, using(fleet):
        fleet.fits_on = 2
        run(parse_recipe(plain), tmp_path / "two", Progress(quiet=True))
    file = "adapter_model.safetensors" if lora else "model.safetensors"
    one, two = (load_file(tmp_path / name / "rounds/000/policy" / file) for name in ("one", "two"))
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=1e-4, atol=2e-6)  # sums in another order
    last = load_file(tmp_path / "two/rounds/001/policy" / file)
    assert any(not torch.equal(two[name], tensor) for name, tensor in last.items())
