"""Experiment trackers: TensorBoard, Weights & Biases, trackio, MLflow, each a few lines over its own library.

A run's numbers are always in its folder (fit.jsonl, manifest.json, evaluation/summary.json); trackers get copies while
it goes. A tracker that fails is left out with a note: it must not end a run. Leaves out: pictures, tables, weights.

    with Trackers(recipe.trackers, Path("runs/demo"), recipe.resolved(), print) as t: t.log({"fit/loss": 0.2}, 1)
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self
from urllib.parse import urlsplit

from sparring.recipe.sections import TrackerConfig
from sparring.runtime.errors import first_line
from sparring.runtime.secrets import hide

NEEDS = {"tensorboard": "tensorboard", "wandb": "wandb", "trackio": "trackio", "mlflow": "mlflow"}
"""importable package of each; the extra has the tracker's name"""


REFUSED = re.compile(r"[^\w.:/ -]")
"""characters that no metric's name may have in MLflow"""
KEYS = ("WANDB_API_KEY", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "HF_TOKEN")
"""variables whose values no note may show"""


class Tracker(Protocol):
    """Somewhere that numbers by step are sent."""

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Send; steps never fall."""
        ...

    def close(self, failed: bool) -> None:
        """Send what is waiting; `failed`: the run ended with an error."""
        ...


def check_trackers(configs: Sequence[TrackerConfig]) -> None:
    """Raise ValueError for a tracker that is not installed or has a password in its address; imports nothing."""
    for index, config in enumerate(configs):
        address = urlsplit(config.destination or "")
        if address.password or (address.username and address.scheme in ("http", "https")):
            raise ValueError(
                f"trackers.{index}.destination holds a password or token, which the run's folder would keep. Leave it "
                "out and give it by the environment (MLFLOW_TRACKING_USERNAME, MLFLOW_TRACKING_PASSWORD)."
            )
        if importlib.util.find_spec(NEEDS[config.name]) is None:
            raise ValueError(
                f"trackers: {config.name!r} is not installed. Install it with: pip install 'sparring[{config.name}]'"
            )


class Trackers:
    """All trackers of a run."""

    def __init__(
        self, configs: Sequence[TrackerConfig], run: Path, recipe: Mapping[str, Any], say: Callable[[str], None]
    ) -> None:
        self.say = say
        self.live: dict[str, Tracker] = {}
        for config in configs:
            start = partial(ADAPTERS[config.name], config, run, recipe)
            self._try(config.name, lambda name=config.name, start=start: self.live.update({name: start()}))

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Send to every tracker."""
        for name, tracker in list(self.live.items()):
            self._try(name, lambda tracker=tracker: tracker.log(values, step))

    def _try(self, name: str, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:  # of another's service: the run goes on after any of them
            self.live.pop(name, None)
            reason = hide(first_line(error), [os.environ.get(key, "") for key in KEYS])
            self.say(f"note  tracker {name} is left out from here: {reason}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for name, tracker in list(self.live.items()):
            self._try(name, lambda tracker=tracker: tracker.close(error is not None))


def run_id(run: Path) -> str:
    """A name for the run in this folder, the same at every start, so that a resumed run continues its curves."""
    return hashlib.sha256(str(run.resolve()).encode()).hexdigest()[:16]


class TensorBoard:
    """Event files, in the run's folder unless `destination` names another."""

    def __init__(self, config: TrackerConfig, run: Path, recipe: Mapping[str, Any]) -> None:
        from torch.utils.tensorboard import SummaryWriter

        folder = Path(config.destination).expanduser() / run.name if config.destination else run / "tensorboard"
        self.writer = SummaryWriter(str(folder))

    def log(self, values: Mapping[str, float], step: int) -> None:
        """One scalar per value."""
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)
        self.writer.flush()

    def close(self, failed: bool) -> None:
        """Close the event file."""
        self.writer.close()


class Wandb:
    """Weights & Biases; `destination` is the entity, `offline` writes files that `wandb sync` sends later."""

    def __init__(self, config: TrackerConfig, run: Path, recipe: Mapping[str, Any]) -> None:
        import wandb  # type: ignore[import-not-found]

        self.run = wandb.init(
            project=config.project,
            entity=config.destination,
            name=run.name,
            id=run_id(run),
            resume="allow",
            mode="offline" if config.offline else "online",
            dir=str(run),
            config=dict(recipe),
            settings=wandb.Settings(silent=True),
        )

    def log(self, values: Mapping[str, float], step: int) -> None:
        """One row."""
        self.run.log(dict(values), step=step)

    def close(self, failed: bool) -> None:
        """Send or write the rest."""
        self.run.finish(exit_code=int(failed))


class Trackio:
    """trackio keeps its data on this machine; `destination` names a space of the hub to send them to."""

    def __init__(self, config: TrackerConfig, run: Path, recipe: Mapping[str, Any]) -> None:
        import trackio  # type: ignore[import-not-found]

        if config.offline and config.destination is not None:
            raise ValueError("offline with a destination: trackio's data stay on this machine without one")
        self.run = trackio.init(
            project=config.project,
            name=f"{run.name}-{run_id(run)[:6]}",
            space_id=config.destination,
            config=dict(recipe),
            resume="allow",
            embed=False,
        )

    def log(self, values: Mapping[str, float], step: int) -> None:
        """One row."""
        self.run.log(dict(values), step=step)

    def close(self, failed: bool) -> None:
        """Write the rest."""
        self.run.finish()


class MLflow:
    """MLflow; `destination` is a tracking URI, by default a database file in the run's folder."""

    def __init__(self, config: TrackerConfig, run: Path, recipe: Mapping[str, Any]) -> None:
        from mlflow.tracking import MlflowClient  # type: ignore[import-not-found]

        if config.offline and config.destination is not None:
            raise ValueError("offline with a destination: MLflow's data stay in the run's folder without one")
        self.client = MlflowClient(config.destination or f"sqlite:///{run.resolve() / 'mlflow.db'}")
        # In the run's folder: MLflow would put files into ./mlruns.
        place = None if config.destination else (run.resolve() / "mlflow").as_uri()
        experiment = self.client.get_experiment_by_name(config.project)
        number = experiment.experiment_id if experiment else self.client.create_experiment(config.project, place)
        if runs := self.client.search_runs([number], f"tags.sparring = '{run_id(run)}'"):
            self.id = runs[0].info.run_id
        else:
            tags = {"sparring": run_id(run)}
            self.id = self.client.create_run(number, run_name=run.name, tags=tags).info.run_id
            self.client.log_dict(self.id, dict(recipe), "recipe.json")

    def log(self, values: Mapping[str, float], step: int) -> None:
        """One metric per value."""
        for name, value in values.items():
            self.client.log_metric(self.id, REFUSED.sub("", name), value, step=step)

    def close(self, failed: bool) -> None:
        """Mark the run as ended, or as failed."""
        self.client.set_terminated(self.id, "FAILED" if failed else "FINISHED")


ADAPTERS: dict[str, Callable[[TrackerConfig, Path, Mapping[str, Any]], Tracker]] = {
    "tensorboard": TensorBoard,
    "wandb": Wandb,
    "trackio": Trackio,
    "mlflow": MLflow,
}
