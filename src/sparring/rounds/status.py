"""How far a run is: its finished stages with their numbers, drops and time, and the next one.

Reads recipe and manifest; touches no model and no data. Leaves out: how it is shown (`cli/status.py`).

    read_status(Path("runs/demo")).next_stage  ->  "rounds/001/judge", or None when all is done
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from sparring.rounds.state import kept_rounds, read_manifest, read_stored, rounds_made, stopped
from sparring.runtime import layout
from sparring.runtime.locks import is_held
from sparring.runtime.words import counted

if TYPE_CHECKING:
    from sparring.evaluation.best_policy import Best, EvaluatedPolicy, Stopped
    from sparring.fleet.work import Standing

LEFT_OUT = ("dropped", "dropped_examples", "dropped_pairs", "dropped_prompts", "failed", "empty", "answers_cut")
"""counts of a stage that are shown unless they are 0"""
NUMBERS = {
    "data": "{train:training example}, {held_out} held out",
    "sample": "{turns:reply/replies}, {responses:response}, {tokens:token}, {cut_off} cut off, {trained} to train on",
    "judge": "{comparisons:comparison}, wins {win_rate:%}, gap {gap}",
    "pair": "{pairs:pair} of {examples:example}",
    "anchor": "{responses:response}, {policies:policy/policies}",
    "fit": "{steps:step}, loss {first_loss} to {last_loss}",
    "measure": "{tokens_mean} tokens an answer, KL {kl_to_start}",
    "freeze": "{pairs:pair}",
    "write": "{pairs:pair}",
    "teacher": "{examples:gold answer}",
    "stop": "after {after} of {of:round}, no gain in {patience:evaluated policy/evaluated policies}",
}
"""the numbers that matter, by kind of stage; after a colon: what is counted, and its plural where that is not an s"""


@dataclass(frozen=True, slots=True)
class StageStatus:
    """A finished stage."""

    name: str
    seconds: float
    peak_bytes: int | None
    numbers: str
    """the two or three that matter"""
    left_out: str
    """counts of dropped and failed items by reason; empty where nothing was"""
    counts: str
    """all numbers"""


@dataclass(frozen=True, slots=True)
class Now:
    """What the process that works on a run said last: the task that goes on, or the last one that ended."""

    doing: str
    done: int
    total: int | None
    note: str
    gone: float
    """seconds since it began"""
    nodes: Sequence[Standing]
    """the machines of a cluster that work on it; empty where one works alone"""
    before: int = 0
    """units that an earlier process left, which say nothing of the speed"""

    @property
    def per_second(self) -> float | None:
        """The rate so far; None where there is none yet."""
        return (self.done - self.before) / self.gone if self.done > self.before and self.gone else None

    @property
    def seconds_left(self) -> float | None:
        """At the rate so far; None where there is none yet, or nothing is left."""
        rate = self.per_second
        return None if rate is None or not self.total or self.done >= self.total else (self.total - self.done) / rate


@dataclass(frozen=True, slots=True)
class RunStatus:
    """A run so far."""

    algorithm: str
    rounds: int
    rounds_done: int
    finished: bool
    running: bool
    """whether a process works on it now"""
    now: Now | None
    """what it does; None where nobody works on it, or nothing that takes long"""
    next_stage: str | None
    """None when all is done, and where the recipe's algorithm cannot be built here"""
    seconds_left: float | None
    """about what the rest takes, by what the finished stages took; None before a round is measured, or after the end"""
    stages: tuple[StageStatus, ...]
    kept: Sequence[int] | None
    """after which rounds the policies were made that are on disk; None where none was deleted"""
    half_done: tuple[str, ...]
    """folders of stages that were interrupted, relative to the run"""
    fit_settings: Mapping[str, Mapping[str, Any]]
    """fields in which finished fits differ from the recipe, by folder"""
    evaluated: Sequence[EvaluatedPolicy]
    """with evaluation.every, the policies that are evaluated so far"""
    best: Best | None
    """the best of them"""
    stopped: Stopped | None
    """where evaluation.patience ended the training; `rounds` are then those that were trained"""

    @property
    def seconds(self) -> float:
        """Time of all finished stages."""
        return sum(stage.seconds for stage in self.stages)


def read_status(run: Path) -> RunStatus:
    """The state of the run in a folder.

    Raises:
        ValueError: the folder holds no run.
    """
    layout.refuse_folder_of_runs(run)
    if not layout.is_run(run):
        raise ValueError(f"{run} is not a run folder: it has no recipe.yaml.")
    recipe = read_stored(run)
    manifest = read_manifest(run)
    stop = stopped(manifest, recipe["rounds"])
    rounds = recipe["rounds"] = rounds_made(manifest, recipe["rounds"])
    finished = layout.is_finished(manifest, rounds)
    done = [t for t in range(rounds) if layout.round_folder(t).stage("fit") in manifest]
    next_stage, left = (None, None) if finished else _rest(recipe, manifest)
    evaluated, best = _evaluated(recipe, manifest)
    return RunStatus(
        algorithm=str(recipe["algorithm"].get("name")),
        rounds=rounds,
        rounds_done=len(done),
        finished=finished,
        running=(running := is_held(run / layout.RUN_LOCK)),
        now=read_now(run) if running else None,
        next_stage=next_stage,
        seconds_left=left,
        stages=tuple(_stage(name, entry) for name, entry in manifest.items()),
        kept=kept_rounds(run, manifest) if any(entry.get("pruned") for entry in manifest.values()) else None,
        half_done=tuple(sorted(str(p.relative_to(run)) for p in run.rglob("*.partial") if p.is_dir())),
        fit_settings=_fit_settings(run),
        evaluated=evaluated,
        best=best,
        stopped=cast("Stopped | None", stop),
    )


def read_now(run: Path) -> Now | None:
    """What the process that works on a run said last; None where it has said nothing."""
    path = run / layout.PROGRESS
    if not path.exists():
        return None
    row = json.loads(path.read_text(encoding="utf-8"))
    gone = max(0.0, time.time() - row["began"])
    return Now(row["doing"], row["done"], row["total"], row["note"], gone, row.get("nodes", []), row.get("before", 0))


def _evaluated(plain: dict[str, Any], manifest: Mapping[str, Any]) -> tuple[Sequence[EvaluatedPolicy], Best | None]:
    """The policies that evaluation.every has evaluated, and the best of them."""
    evaluation = plain.get("evaluation", {})
    if evaluation.get("every") is None:
        return (), None
    from sparring.evaluation.best_policy import find_best  # it loads scipy
    from sparring.rounds.so_far import evaluated_policies

    policies = evaluated_policies(manifest, layout.evaluated_rounds(evaluation["every"], plain["rounds"]))
    return policies, find_best(policies, evaluation["best_by"])


def _fit_settings(run: Path) -> Mapping[str, Mapping[str, Any]]:
    if not (run / layout.FIT_SETTINGS).exists():
        return {}
    from sparring.rounds.resume import other_settings  # here and below: it loads torch, which takes seconds

    return other_settings(run)


def _rest(plain: dict[str, Any], manifest: Mapping[str, Any]) -> tuple[str | None, float | None]:
    """The next stage, and seconds of it and all later ones."""
    from sparring.recipe.reading import parse_recipe
    from sparring.rounds.remaining import seconds_left
    from sparring.rounds.resume import stage_names

    try:
        recipe = parse_recipe(plain)
        names = list(stage_names(recipe))
    except ValueError:  # a recipe of another version, or an algorithm of the user's that is not here
        return None, None
    return next((name for name in names if name not in manifest), None), seconds_left(recipe, names, manifest)


def _stage(name: str, entry: Mapping[str, Any]) -> StageStatus:
    counts = entry["facts"]
    left_out = {key: counts[key] for key in LEFT_OUT if counts.get(key)}
    form = NUMBERS.get(layout.stage_name(name))
    numbers = _numbers(form, counts) if form else in_words({k: v for k, v in counts.items() if k not in left_out})
    return StageStatus(name, entry["seconds"], entry.get("peak_bytes"), numbers, in_words(left_out), in_words(counts))


def _numbers(form: str, counts: Mapping[str, Any]) -> str:
    """The numbers that matter, and how many training examples are of which set of a mixture."""
    sets = ", ".join(f"{name} {count:,}" for name, count in counts.get("train_sets", {}).items())
    return _filled(form, counts) + (f" (training: {sets})" if sets else "")


def _filled(form: str, counts: Mapping[str, Any]) -> str:
    """The parts of a form whose numbers the stage has."""
    words = {name: _Number(value) for name, value in counts.items() if value is not None}
    parts = []
    for part in form.split(", "):
        with contextlib.suppress(KeyError):  # not measured
            parts.append(part.format_map(words))
    return ", ".join(parts)


@dataclass(frozen=True, slots=True)
class _Number:
    """A number in a form."""

    value: Any

    def __format__(self, noun: str) -> str:
        if isinstance(self.value, dict):  # an interval
            form = ".1%" if noun == "%" else ".3f"
            return f"{self.value['value']:{form}} ({self.value['low']:{form}} to {self.value['high']:{form}})"
        if isinstance(self.value, int):
            return counted(self.value, *noun.split("/")) if noun else f"{self.value:,}"
        return f"{self.value:.4g}" if isinstance(self.value, float) else str(self.value)


def in_words(counts: Mapping[str, Any]) -> str:
    """All of a stage's numbers: "examples 1, pairs 2, dropped pairs 4: identical responses"."""
    parts: list[str] = []
    for name, value in counts.items():
        if isinstance(value, float):
            parts.append(f"{name} {value:.4g}")
        elif isinstance(value, (int, str)) and len(str(value)) < 40:
            parts.append(f"{name} {value}")
        elif isinstance(value, dict) and value.keys() >= {"value", "low", "high"}:
            parts.append(f"{name} {_Number(value)}")
        elif isinstance(value, dict) and "win_rate" in value:
            win = value["win_rate"]
            parts.append(f"{value['oracle']}: wins {win['value']:.1%} ({win['low']:.1%} to {win['high']:.1%})")
        elif isinstance(value, dict):
            parts += _by_reason(name, value)
    return ", ".join(parts)


def _by_reason(name: str, counts: Mapping[str, Any]) -> list[str]:
    """Counts by reason, or by data set and reason: dropped train 2: duplicate."""
    title, parts = name.replace("_", " "), []
    for reason, count in counts.items():
        parts += _by_reason(f"{title} {reason}", count) if isinstance(count, dict) else [f"{title} {count}: {reason}"]
    return parts
