"""Processes that are started and watched: who is to blame, what is said, and that the run goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
import yaml

import ranks
from command import sparring
from sparring.models.identity import hash_weights
from sparring.runtime import launch


def ended(*scripts: str, monkeypatch: pytest.MonkeyPatch, grace: float = 0.5) -> None:
    """Watch one small process per script to its end."""
    monkeypatch.setattr(launch, "GRACE", grace)
    commands = [[sys.executable, "-S", "-c", f"import os, sys, time; {script}"] for script in scripts]
    with tempfile.TemporaryFile("w+") as log:
        processes = [subprocess.Popen(command, stderr=log) for command in commands]
        with launch._stopped(processes):
            culprit = launch._watch(processes)
        assert all(process.returncode is not None for process in processes)
        if culprit is not None:
            launch._explain(culprit, processes, [log])


@pytest.mark.parametrize(
    ("scripts", "message"),
    [
        (("sys.exit(17)", "time.sleep(0.3); sys.exit('out of memory')"), "rank 1 of 2 ended with exit code 1.*out of"),
        (("sys.exit(17)", "os.kill(os.getpid(), 9)"), r"rank 1 of 2 was killed by SIGKILL \(out of memory\?\)"),
        (("time.sleep(60)", "os.kill(os.getpid(), 15)"), "rank 1 of 2 was killed by SIGTERM"),
        (("os.kill(os.getpid(), 9)", "sys.exit(17)"), "rank 0 of 2 was killed by SIGKILL"),
    ],
)
def test_the_rank_to_blame_is_named(scripts: tuple[str, ...], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(launch.LaunchError, match=f"(?s){message}.*give the same command"):
        ended(*scripts, monkeypatch=monkeypatch)


@pytest.mark.parametrize(("code", "other"), [(2, "sys.exit(17)"), (3, "sys.exit(3)"), (1, "time.sleep(60)")])
def test_rank_0_speaks_for_itself(code: int, other: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit) as stop:
        ended(f"time.sleep(0.3); sys.exit({code})", other, monkeypatch=monkeypatch, grace=5.0)
    assert stop.value.code == code


def test_a_good_end(monkeypatch: pytest.MonkeyPatch) -> None:
    ended("pass", "pass", monkeypatch=monkeypatch)


def test_cores_are_divided(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert launch.environment(1, 3, 29500)["OMP_NUM_THREADS"] == "2"
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert launch.environment(1, 3, 29500)["OMP_NUM_THREADS"] == "5"


def test_more_devices_than_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ValueError, match=r"--devices 4: 2 GPUs are visible\. Give --devices 2"):
        launch.on_devices(4, [], lambda: None)


def test_another_number_than_torchrun_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="--devices 3: the environment says WORLD_SIZE=2"):
        launch.on_devices(3, [], lambda: None)


def test_one_device_needs_no_other_process() -> None:
    done: list[int] = []
    launch.on_devices(1, [], lambda: done.append(1))
    launch.on_devices(None, [], lambda: done.append(2))
    assert done == [1, 2]


def test_a_run_that_lost_a_rank_goes_on_with_one(
    tiny_recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = {**tiny_recipe, "rounds": 1, "fit": {**tiny_recipe["fit"], "epochs": 3, "checkpoint_minutes": 0}}
    recipe, out, whole = tmp_path / "recipe.yaml", tmp_path / "run", tmp_path / "whole"
    recipe.write_text(yaml.safe_dump(plain))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    threading.Thread(target=kill_rank, args=(1, out / "rounds/000/fit.partial/checkpoint.pt"), daemon=True).start()
    with pytest.raises(launch.LaunchError, match="rank 1 of 2 was killed by SIGKILL"):
        launch.launch(["run", str(recipe), "--out", str(out)], 2)
    assert not ranks_of_this()
    assert not (out / "report.html").exists()
    samples = (out / "rounds/000/samples.parquet").read_bytes()
    ranks.ran(plain, out)
    ranks.ran(plain, whole)
    assert (whole / "rounds/000/samples.parquet").read_bytes() == samples
    fitted = [weights(folder / "rounds/000/policy") for folder in (out, whole)]
    for name, tensor in fitted[1].items():
        torch.testing.assert_close(fitted[0][name], tensor, rtol=1e-4, atol=1e-6)
    assert hash_weights(whole / "rounds/000/policy") != hash_weights(Path(plain["model"]["path"]))


def test_every_rank_gets_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[tuple[list[str], int]] = []
    monkeypatch.setattr(launch, "launch", lambda arguments, count: started.append((list(arguments), count)))
    words = ["evaluate", "head-to-head", "a.json", "b.json", "--oracle", "random", "--out", str(tmp_path)]
    assert sparring(*words, "--devices", 2).code == 0
    assert started == [([*words, "--devices", "2"], 2)]


def test_processes_that_end_well_raise_nothing(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    launch.launch(["--help"], 2)
    assert "evaluate" in capfd.readouterr().out


@pytest.mark.more
def test_two_devices_answer_as_one_does(
    tiny_recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    judge, other = tmp_path / "judge.yaml", tmp_path / "other.json"
    judge.write_text(yaml.safe_dump(tiny_recipe["oracle"]))
    other.write_text(json.dumps([{"instruction": f"Say {word}", "output": word} for word in ("ant", "bee", "cat")]))
    settings = ("--sampling", "max_new_tokens=8", "--sampling", "batch_size=1")
    words = ("evaluate", "head-to-head", tiny_recipe["model"]["path"], other, "--oracle", judge, *settings)
    for name, more in (("one", ()), ("two", ("--devices", 2))):
        outcome = sparring(*words, "--out", tmp_path / name, *more)
        assert outcome.code == 0, outcome.err
    one, two = ((tmp_path / name / "answers/a.json").read_bytes() for name in ("one", "two"))
    assert one == two
    assert "1 of 2 shares" in capfd.readouterr().out


def kill_rank(rank: int, sign: Path) -> None:
    """Kill a rank of this process' launch once a file is there."""
    deadline = time.monotonic() + 120
    while not sign.exists() and time.monotonic() < deadline:
        time.sleep(0.002)
    ranks_of_this()[rank].send_signal(signal.SIGKILL)


def ranks_of_this() -> dict[int, psutil.Process]:
    """Processes that this one launched."""
    launched = [(child, child.environ()) for child in psutil.Process().children()]
    return {int(found["RANK"]): child for child, found in launched if launch.LAUNCHED in found}


def weights(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


ORPHAN = """
import os, subprocess, sys
rank = [sys.executable, "-m", "sparring.cli.main", "run", "none.yaml"]
subprocess.Popen(rank, env={**os.environ, sys.argv[1]: str(os.getpid())})
os._exit(0)
"""


def test_a_rank_ends_whose_launcher_died_before_it_began() -> None:
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "RANK": "1", "WORLD_SIZE": "2"}
    began = time.monotonic()
    ended = subprocess.run(
        [sys.executable, "-c", ORPHAN, launch.LAUNCHED], env=environ, capture_output=True, timeout=60
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, b"", b"")  # the rank held both until it ended
    assert time.monotonic() - began < 30
