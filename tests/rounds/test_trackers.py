"""Trackers: each writes offline what was logged; a broken one is left out with a note; none changes a run."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from sparring.recipe.reading import parse_recipe
from sparring.recipe.sections import TrackerConfig
from sparring.rounds import trackers
from sparring.rounds.run import run
from sparring.rounds.trackers import ADAPTERS, Trackers, run_id
from sparring.runtime.progress import Progress

ROWS = [({"fit/loss": 0.5, "fit/margin": 1.0}, 1), ({"fit/loss": 0.25, "fit/margin": 2.0}, 2)]


class Memory:
    """A tracker that remembers."""

    def __init__(self, config: TrackerConfig, folder: Path, recipe: Any) -> None:
        self.rows: list[tuple[dict[str, float], int]] = []
        self.recipe, self.closed, self.failed = recipe, False, False
        made.append(self)

    def log(self, values: Any, step: int) -> None:
        self.rows.append((dict(values), step))

    def close(self, failed: bool) -> None:
        self.closed, self.failed = True, failed


class Broken(Memory):
    def log(self, values: Any, step: int) -> None:
        raise ConnectionError("the service is down\nfor hours")


made: list[Memory] = []


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> list[Memory]:
    made.clear()
    monkeypatch.setitem(ADAPTERS, "wandb", Memory)
    monkeypatch.setitem(ADAPTERS, "mlflow", Broken)
    monkeypatch.setattr(trackers, "NEEDS", dict.fromkeys(trackers.NEEDS, "json"))
    return made


def test_a_run_reports_every_step_once_and_its_results(
    fake: list[Memory], tiny_recipe: dict[str, Any], tmp_path: Path
) -> None:
    recipe = parse_recipe({**tiny_recipe, "trackers": [{"name": "wandb"}]})
    summary = run(recipe, tmp_path / "run", Progress(quiet=True))
    (tracker,) = fake
    assert tracker.closed
    assert tracker.recipe == recipe.resolved()
    steps = [step for values, step in tracker.rows if "fit/loss" in values]
    assert steps == [1, 2, 3, 4]
    logs = [(tmp_path / f"run/rounds/00{t}/fit.jsonl").read_text() for t in (0, 1)]
    rows = [json.loads(line) for log in logs for line in log.splitlines()]
    assert [values["fit/loss"] for values, _ in tracker.rows[:4]] == [row["loss"] for row in rows]
    win = summary["judgments"][0]
    assert tracker.rows[-1] == ({f"evaluation/{win['name']}/win_rate": win["win_rate"].value}, 5)


def test_an_evaluation_in_between_is_sent_at_its_step(
    fake: list[Memory], tiny_recipe: dict[str, Any], tmp_path: Path
) -> None:
    recipe = parse_recipe({**tiny_recipe, "trackers": [{"name": "wandb"}], "evaluation": {"every": 1}})
    summary = run(recipe, tmp_path / "run", Progress(quiet=True))
    (tracker,) = fake
    steps = [step for _, step in tracker.rows]
    assert steps == sorted(steps)
    name = "evaluation/function (oracle_fakes:more_vowels)/win_rate"
    sent = [(values, step) for values, step in tracker.rows if name in values]
    wins = [policy["win_rate"].value for policy in summary["evaluated"]]
    assert sent == [({name: win}, step) for win, step in zip(wins, (2, 5), strict=True)]


def test_trackers_may_change_between_starts_and_a_broken_one_is_left_out(
    fake: list[Memory], tiny_recipe: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = {**tiny_recipe, "rounds": 1}
    first = run(parse_recipe(plain), tmp_path / "run", Progress(quiet=True))
    both = [{"name": "mlflow"}, {"name": "wandb"}]
    again = run(parse_recipe({**plain, "trackers": both}), tmp_path / "run", Progress())
    note = "note  tracker mlflow is left out from here: ConnectionError: the service is down\n"
    assert note in capsys.readouterr().out
    assert again["judgments"] == first["judgments"]
    assert [tracker.closed for tracker in fake] == [False, True]


def test_a_run_that_ends_with_an_error_is_closed_as_failed(fake: list[Memory], tmp_path: Path) -> None:
    config = TrackerConfig(name="wandb")
    with pytest.raises(RuntimeError, match="tripwire"), Trackers([config], tmp_path, {}, print):
        raise RuntimeError("tripwire")
    with Trackers([config], tmp_path, {}, print):
        pass
    assert [(tracker.closed, tracker.failed) for tracker in fake] == [(True, True), (True, False)]


class Client:
    """What is called of MLflow's client."""

    def __init__(self, uri: str) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def get_experiment_by_name(self, name: str) -> None:
        return None

    def create_experiment(self, name: str, artifact_location: str | None) -> str:
        self.calls.append((name, artifact_location))
        return "1"

    def search_runs(self, *_: Any) -> list[Any]:
        return []

    def create_run(self, *_: Any, **__: Any) -> Any:
        return SimpleNamespace(info=SimpleNamespace(run_id="r"))

    def log_dict(self, *_: Any) -> None: ...

    def set_terminated(self, *arguments: str) -> None:
        self.calls.append(arguments)


@pytest.mark.parametrize("destination", [None, "http://host:5000"])
def test_mlflow_s_files_are_in_the_run_and_its_status_is_the_run_s(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, destination: str | None
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", ModuleType("mlflow"))
    monkeypatch.setitem(sys.modules, "mlflow.tracking", SimpleNamespace(MlflowClient=Client))
    tracker = trackers.MLflow(TrackerConfig(name="mlflow", destination=destination), tmp_path, {})
    tracker.close(True)
    tracker.close(False)
    place = None if destination else (tmp_path / "mlflow").as_uri()
    assert tracker.client.calls == [("sparring", place), ("r", "FAILED"), ("r", "FINISHED")]


def test_one_that_is_not_installed_is_an_error_before_any_work(
    monkeypatch: pytest.MonkeyPatch, tiny_recipe: dict[str, Any], tmp_path: Path
) -> None:
    monkeypatch.setitem(trackers.NEEDS, "trackio", "no_such_package")
    recipe = parse_recipe({**tiny_recipe, "trackers": [{"name": "trackio"}]})
    with pytest.raises(ValueError, match=r"'trackio' is not installed.*pip install 'sparring\[trackio\]'"):
        run(recipe, tmp_path / "run", Progress(quiet=True))
    assert not (tmp_path / "run/manifest.json").exists()
    with pytest.raises(ValueError, match=r"trackers\.0\.name = 'comet'"):
        parse_recipe({**tiny_recipe, "trackers": [{"name": "comet"}]})


@pytest.mark.parametrize("address", ["http://me:hunter2@host", "https://token@host/x", "postgresql://me:pw@db"])
def test_an_address_with_a_password_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match=r"trackers\.0\.destination holds a password or token.*environment") as caught:
        trackers.check_trackers([TrackerConfig(name="mlflow", destination=address)])
    assert address not in str(caught.value)


def test_a_resumed_run_has_the_same_identity(tmp_path: Path) -> None:
    assert run_id(tmp_path / "a") == run_id(tmp_path / "b/../a")
    assert run_id(tmp_path / "a") != run_id(tmp_path / "b")


# ---------------------------------------------------------------- the real packages, offline


def logged(name: str, folder: Path, **options: Any) -> None:
    """Two starts of a run, a row each."""
    pytest.importorskip(trackers.NEEDS[name])
    folder.mkdir()
    config = TrackerConfig.model_validate({"name": name, "offline": True, **options})
    notes: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for row in ROWS:
            with Trackers([config], folder, {"rounds": 1}, notes.append) as found:
                found.log(*row)
    assert notes == []


def test_tensorboard_writes_event_files(tmp_path: Path) -> None:
    logged("tensorboard", tmp_path / "run")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        found = EventAccumulator(str(tmp_path / "run/tensorboard"))
        found.Reload()
    assert [(e.step, e.value) for e in found.Scalars("fit/loss")] == [(1, 0.5), (2, 0.25)]


def test_wandb_writes_offline_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    logged("wandb", tmp_path / "run")
    files = sorted((tmp_path / "run/wandb").glob(f"offline-run-*/run-{run_id(tmp_path / 'run')}.wandb"))
    assert files
    assert any(b"fit/loss" in file.read_bytes() for file in files)


def test_mlflow_writes_its_database(tmp_path: Path) -> None:
    logged("mlflow", tmp_path / "run")
    client = pytest.importorskip("mlflow.tracking").MlflowClient(f"sqlite:///{tmp_path / 'run/mlflow.db'}")
    experiment = client.get_experiment_by_name("sparring")
    assert experiment is not None
    (found,) = client.search_runs([experiment.experiment_id])
    history = client.get_metric_history(found.info.run_id, "fit/loss")
    assert [(m.step, m.value) for m in history] == [(1, 0.5), (2, 0.25)]


def test_trackio_writes_its_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    logged("trackio", tmp_path / "run")
    assert any((tmp_path / "trackio").rglob("sparring*"))
