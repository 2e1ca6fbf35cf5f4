"""Processes that are started and watched: who is to blame, what is said, and that the run goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
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
from fleet_fakes import wait_for
from sparring.models.identity import hash_weights
from sparring.runtime import devices, launch


def said(rank: int, code: int, folder: Path, output: str = "") -> None:
    """What comes of a rank that ended so."""
    if rank:
        (folder / str(rank)).write_text(output)
    launch._explain(rank, 3, code, folder)


@pytest.mark.parametrize(
    ("rank", "code", "message"),
    [
        (
            1,
            1,
            r"rank 1 of 3 ended with exit code 1, and the others were stopped\. It said:\n  line 3\n.*\n  line 14\n",
        ),
        (2, -9, r"rank 2 of 3 was killed by SIGKILL \(out of memory\?\)"),
        (2, -15, "rank 2 of 3 was killed by SIGTERM, and"),
        (0, -9, r"rank 0 of 3 was killed by SIGKILL \(out of memory\?\), and the others were stopped\.\n"),
    ],
)
def test_the_rank_to_blame_is_named(rank: int, code: int, message: str, tmp_path: Path) -> None:
    with pytest.raises(launch.LaunchError, match=f"(?s){message}.*give the same command"):
        said(rank, code, tmp_path, "".join(f"line {number}\n" for number in range(15)))


@pytest.mark.parametrize("code", [1, 2, 3])
def test_rank_0_speaks_for_itself(code: int, tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as stop:
        said(0, code, tmp_path)
    assert stop.value.code == code


def test_a_rank_that_lost_another_one_stays_until_that_was_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    stayed: list[float] = []

    def lose() -> None:
        raise devices.RankLost("another rank is gone")

    monkeypatch.setattr(launch.time, "sleep", stayed.append)
    with pytest.raises(devices.RankLost):
        launch.on_devices(None, [], lose)
    assert stayed == [launch.GRACE]


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
    before = dict(os.environ)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    launch.launch(["--help"], 2)
    shown = capfd.readouterr()
    assert shown.out.count("Usage: ") == 1  # rank 0's
    assert shown.err == ""
    assert dict(os.environ) == {**before, "PYTHONPATH": os.environ["PYTHONPATH"]}
    assert not ranks_of_this()


@pytest.mark.parametrize(
    ("stop", "code", "words"),
    [
        (signal.SIGINT, 130, "stopped. What was finished is kept"),
        (signal.SIGTERM, 143, "stopped."),
        (signal.SIGKILL, -9, ""),
    ],
)
def test_no_rank_outlives_its_launcher(
    stop: signal.Signals, code: int, words: str, tiny_recipe: dict[str, Any], tmp_path: Path
) -> None:
    """Ctrl-C reaches all processes of the terminal's group; the other signals the launcher alone."""
    plain = {**tiny_recipe, "fit": {**tiny_recipe["fit"], "epochs": 10_000}}
    recipe, out, errors = tmp_path / "recipe.yaml", tmp_path / "run", tmp_path / "errors"
    recipe.write_text(yaml.safe_dump(plain))
    command = [sys.executable, "-m", "sparring", "run", str(recipe), "--out", str(out), "--devices", "2"]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with errors.open("w") as stream:
        process = subprocess.Popen(
            command, env=environ, stdout=subprocess.DEVNULL, stderr=stream, start_new_session=True
        )
    started: list[psutil.Process] = []
    try:
        wait_for((out / "rounds/000/fit.partial/steps.jsonl").exists)
        started = psutil.Process(process.pid).children(recursive=True)
        assert len([child for child in started if is_rank(child)]) == 2
        (os.killpg if stop == signal.SIGINT else os.kill)(process.pid, stop)
        assert process.wait(60) == code
    finally:
        process.kill()
        process.wait()
        _, alive = psutil.wait_procs(started, timeout=30)
        assert alive == []
    assert words in errors.read_text()
    assert "Traceback" not in errors.read_text()


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
    """Processes that this one launched, in order."""
    found = [child for child in psutil.Process().children() if is_rank(child)]
    return dict(enumerate(sorted(found, key=lambda child: child.pid)))


def is_rank(process: psutil.Process) -> bool:
    """Whether a launcher started it; Python has a process beside them, which ends with the launcher."""
    return launch.LAUNCHED in process.environ() and any("spawn_main" in word for word in process.cmdline())


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
