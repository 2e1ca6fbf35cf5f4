"""The fit stage: pairs and anchors in, a policy folder and fit.jsonl out. Leaves out: the loop (`training/fit.py`)."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sparring.algorithms.algorithm import PolicyRef, Step
from sparring.fleet.folders import folder_key
from sparring.fleet.work import Job, Listeners, Places, current
from sparring.objectives.pairs import Objective, Pair
from sparring.recipe.sections import FitConfig
from sparring.rounds.anchor import rollouts_of
from sparring.rounds.policies import Policies
from sparring.rounds.store import Made
from sparring.rounds.tables import AnchorRow, PairRow
from sparring.runtime import devices
from sparring.runtime.files import hash_file, write_json_lines
from sparring.runtime.layout import StepFolder, previous, round_folder
from sparring.runtime.progress import Progress
from sparring.training.batches import TrainingExample
from sparring.training.checkpoint import CHECKPOINT
from sparring.training.fit import Row, fit
from sparring.training.moments import Moments
from sparring.training.sharding import make_scorer, unsharded_weights


def training_examples(
    pairs: Sequence[PairRow], anchors: Sequence[AnchorRow], names: Mapping[str, str]
) -> list[TrainingExample]:
    """Join pairs with anchors; `names` maps each anchor name to a weight hash.

    Raises:
        ValueError: log-probabilities are missing for some examples (the first ten are named).
    """
    logps = {(row["example"], row["weights"]): row["logps"] for row in anchors}
    missing = [row["example"] for row in pairs if any((row["example"], h) not in logps for h in names.values())]
    if missing:
        raise ValueError(
            f"anchors.parquet lacks {len(missing)} examples: {missing[:10]}. Delete it to have it made again."
        )
    return [
        TrainingExample(
            id=row["example"],
            rollout=rollout,
            roles=tuple(r["role"] for r in row["responses"]),
            win_rates=tuple(r["win_rate"] for r in row["responses"]),
            anchors={name: logps[row["example"], weights] for name, weights in names.items()},
            pairs=tuple(Pair(**pair) for pair in row["pairs"]),
        )
        for row, rollout in zip(pairs, rollouts_of(pairs), strict=True)
    ]


def fit_step(
    policies: Policies,
    step: Step,
    made: PolicyRef,
    examples: list[TrainingExample],
    config: FitConfig,
    seed: int,
    progress: Progress,
    report: Callable[[dict[str, float]], None],
    moments_before: str = "",
) -> Made:
    """Train the step's policy and save it as `made`; every step's metrics go to `report` at once.

    `moments_before`: the hash of the optimiser's moments that the round before handed on; empty where it did not.
    """
    folder = round_folder(made.round - 1, made.seat)
    half_done = policies.store.path(f"{folder}/fit.partial/x").parent
    task = FitTask(policies, step.start, made, examples, step.objective, config, seed, moments_before)
    steps = config.epochs * -(-len(examples) // config.batch_size)
    with progress.task("fit", steps) as advance:
        shown = Shown(advance, partial(_report_and_keep, report, policies.store.path(folder.fit_steps)))
        listeners: dict[str, Any] = {"advance": shown.advance, "report": shown.report, "say": progress.say}
        if devices.count() > 1:
            model, weights, verified, rows = devices.on_all_ranks(train, task, half_done, **listeners)
            policies.save(model, made, weights)
        else:
            listeners["begin"] = shown.begin
            verified, rows = current().together(task.job(tuple(listeners)), listeners)
    write_json_lines(policies.store.path(folder.fit_log), rows)
    shutil.rmtree(half_done, ignore_errors=True)
    counts = {
        "steps": len(rows),
        "first_loss": rows[0]["loss"],
        "last_loss": rows[-1]["loss"],
        "clip_share": sum(row["clipped"] for row in rows) / len(rows),
        "tokens": sum(row["tokens"] for row in rows),
        "logp_check": verified,
    }
    handed_on = (folder.moments,) if config.keep_optimizer else ()
    return Made((policies.location(made), folder.fit_log, *handed_on), counts)


def _report_and_keep(report: Callable[[dict[str, float]], None], steps: Path, row: dict[str, float]) -> None:
    """Report a step, and add it to the file that pages read while the fit goes on; no fit stops for that."""
    with contextlib.suppress(OSError), steps.open("a") as stream:
        stream.write(json.dumps(row) + "\n")
    report(row)


class Shown:
    """Shows each step once: after a lost rank the others do the steps since the checkpoint again."""

    def __init__(self, advance: Callable[..., None], report: Callable[[dict[str, float]], None]) -> None:
        self._advance, self._report = advance, report
        self._done = self._most = 0
        self._reported = 0.0

    def begin(self) -> None:
        """A fit begins: it goes through all steps, those of its checkpoint too."""
        self._done = 0

    def advance(self, done: int = 1, note: str = "") -> None:
        """`done` more steps of this fit are finished."""
        self._done += done
        if self._done > self._most:
            self._advance(self._done - self._most, note=note)
            self._most = self._done

    def report(self, row: dict[str, float]) -> None:
        """The metrics of a step."""
        if row["step"] > self._reported:
            self._reported = row["step"]
            self._report(row)


@dataclass(frozen=True, slots=True)
class FitTask:
    """What a fit needs: where it starts, what it learns from and how."""

    policies: Policies
    start: PolicyRef
    made: PolicyRef
    examples: list[TrainingExample]
    objective: Objective
    config: FitConfig
    seed: int
    moments_before: str
    """as of `fit_step`"""

    def job(self, listeners: tuple[str, ...]) -> Job:
        """The fit as a job of a cluster's workers, which send its checkpoints and its policy."""
        return Job(
            "fit",
            self.folders,
            self.run,
            self.policies.store.root,
            listeners,
            growing=(f"{self._partial}/{CHECKPOINT}",),
            made=(self.policies.location(self.made), *((self.folder.optimizer,) if self.config.keep_optimizer else ())),
        )

    @property
    def folder(self) -> StepFolder:
        """Of the policy that is trained."""
        return round_folder(self.made.round - 1, self.made.seat)

    @property
    def _partial(self) -> str:
        return f"{self.folder}/fit.partial"

    @property
    def moments(self) -> Moments | None:
        """The files through which the optimiser's moments go from fit to fit, where they do."""
        if not self.config.keep_optimizer:
            return None
        root, before = self.policies.store.root, previous(self.folder)
        if before is None or not self.moments_before:
            return Moments(None, "", root / self.folder.moments)
        place = self.policies.places.get(before.optimizer, root / before.optimizer)
        return Moments(place / Path(before.moments).name, self.moments_before, root / self.folder.moments)

    def folders(self) -> dict[str, Path]:
        """The start policy's folders, and those of the checkpoint and of the moments where there are some."""
        root = self.policies.cwd / self.policies.store.root
        partial, before = root / self._partial, previous(self.folder)
        folders = self.policies.folders([self.start])
        if before is not None and self.moments_before:
            folders[folder_key("moments", self.moments_before)] = root / before.optimizer
        if (partial / CHECKPOINT).exists():
            folders[folder_key("checkpoint", hash_file(partial / CHECKPOINT))] = partial
        return folders

    def run(self, places: Places, root: Path, listeners: Listeners) -> tuple[float, list[Row]]:
        """Fit on a worker and save the policy below `root`: the largest difference to its own logits, and the log."""
        there, partial = self.policies.at(places, root), root / self._partial
        for origin, place in places.items():
            if origin.name == partial.name:
                partial.mkdir(parents=True)
                shutil.copy(place / CHECKPOINT, partial)
        listeners = dict(listeners)
        begin = listeners.pop("begin", None)
        if begin is not None:  # on rank 0
            begin()
        model, weights, verified, rows = train(replace(self, policies=there), partial, **listeners)
        if devices.rank() == 0:
            there.save(model, self.made, weights)
            _rename_base(root / there.location(self.made), there.base, self.policies.base)
        return verified, rows


def _rename_base(folder: Path, there: Path, here: Path) -> None:
    """Have an adapter's files name its base as it is called where the run is."""
    if there == here:
        return
    for path in [*folder.glob("adapter_config.json"), *folder.glob("README.md")]:
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace(str(there), str(here)), encoding="utf-8")


def train(
    task: FitTask, partial: Path, **listeners: Callable[..., None]
) -> tuple[nn.Module, dict[str, Float[Tensor, " ..."]] | None, float, list[Row]]:
    """Model, full weights where they are sharded, difference to the model's own logits, and log; all ranks call it."""
    torch.manual_seed(task.seed)  # a fresh adapter starts from random weights, everywhere the same
    scorer, verified = make_scorer(lambda: task.policies.load_training(task.start), task.config)
    arguments = scorer, task.examples, task.objective, task.config, task.seed, partial
    rows = fit(*arguments, **listeners, moments=task.moments)  # type: ignore[arg-type]
    weights = unsharded_weights(scorer.model) if task.config.shard_weights else None
    return scorer.model, weights, verified, rows
