"""What is known of a run or a contest while it goes on, read from its files.

Files are read again only when they change, and at most every two seconds however many look, so that watching costs the
run nothing that it would notice. Nothing is written. A folder that is gone, or half-written at that moment, is a
sentence on the page. Leaves out: the page (`pages/run.html`), routes (`watching.py`).

    Watched(Path("runs/demo")).look().sentence  ->  "1 of 3 rounds of inpo fitted, about 12 min left."
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from sparring.endpoints.usage import UsageFile
from sparring.report.figures import Figure, fit_figures, policy_figures
from sparring.report.html import lead, policy_name
from sparring.report.summary import FitRow, Summary, load_summary
from sparring.rounds.side_by_side import in_training
from sparring.rounds.state import read_manifest, read_stored
from sparring.rounds.status import RunStatus, read_now, read_status
from sparring.runtime import layout
from sparring.runtime.files import read_json, read_object
from sparring.runtime.locks import is_held
from sparring.runtime.words import counted, duration, rough
from sparring.serve.site import is_contest
from sparring.votes.ballot import Ballot
from sparring.votes.counting import Standing
from sparring.votes.database import Unavailable

T = TypeVar("T")
LOOK_SECONDS = 2.0
SAMPLES = 6
"""prompts on the page"""


@dataclass(frozen=True, slots=True)
class Task:
    """What a run does at this moment."""

    doing: str
    done: int
    total: int | None
    note: str
    left: str
    """about how long this task still takes, in words; empty where nothing is known"""


@dataclass(frozen=True, slots=True)
class Seen:
    """A folder as it is now."""

    name: str
    state: str
    """running, stopped, finished, or gone"""
    sentence: str
    status: RunStatus | None = None
    task: Task | None = None
    lead: str = ""
    """the result, of a finished run"""
    warnings: Sequence[str] = ()
    standing: Standing | None = None
    """of the votes, where people are asked"""
    curves: Sequence[Figure] = ()
    policies: Sequence[Figure] = ()
    best: str = ""
    """which evaluated policy is best, and why the training ended early, in words"""
    samples: Sequence[Mapping[str, Any]] = ()
    samples_of: str = ""
    """whose they are"""
    report: bool = False
    used: Sequence[str] = ()
    """what the run had of served models, in words"""
    recipe: Mapping[str, Any] = field(default_factory=dict)

    @property
    def share(self) -> float | None:
        """How much of the run's rounds is fitted; None where it has none."""
        return None if self.status is None else self.status.rounds_done / self.status.rounds

    @property
    def left_out(self) -> list[tuple[str, str]]:
        """What stages dropped or failed at: the stage and its counts."""
        stages = () if self.status is None else self.status.stages
        return [(layout.title_of(stage.name), stage.left_out) for stage in stages if stage.left_out]


UNREADABLE = (ValueError, OSError, TypeError, KeyError, AttributeError, IndexError, Unavailable)
"""what a damaged file, or a database that is gone, may raise"""


class Watched:
    """A folder that is watched; one object serves all who look."""

    def __init__(self, folder: Path, ballot: Ballot | None = None) -> None:
        self.folder, self.ballot = folder, ballot
        self._lock, self._at = threading.Lock(), 0.0
        self._seen: Seen | None = None
        self._kept: dict[str, tuple[object, Any]] = {}
        self._usage = UsageFile(folder / layout.USAGE)

    def look(self) -> Seen:
        """The folder now, or as it was two seconds ago at most."""
        with self._lock:
            if self._seen is None or time.monotonic() - self._at > LOOK_SECONDS:
                self._seen, self._at = self._look(), time.monotonic()
            return self._seen

    def _look(self) -> Seen:
        name = self.folder.name or str(self.folder)
        if not self.folder.is_dir():
            return Seen(
                name, "gone", f"{self.folder} is gone: it was moved or deleted. Start the server anew without it."
            )
        try:
            return self._contest(name) if is_contest(self.folder) else self._run(name)
        except UNREADABLE as error:  # deleted between two reads, or damaged
            reason = str(error) if isinstance(error, ValueError | OSError | Unavailable) else f"damaged ({error!r})"
            return Seen(name, "gone", f"{self.folder} cannot be read now: {reason}")

    def _contest(self, name: str) -> Seen:
        done = (self.folder / "index.html").exists()
        running = is_held(self.folder / layout.RUN_LOCK)
        state = "finished" if done and not running else "running" if running else "stopped"
        words = {"finished": "finished", "running": "running now", "stopped": "stopped; the same command goes on"}
        result = self.folder / "result.json"
        said = self._when(result, lambda: str(read_object(result)["verdict"])) if done and result.exists() else ""
        return Seen(name, state, f"A comparison of policies, {words[state]}.", lead=said, standing=self._standing())

    def _run(self, name: str) -> Seen:
        run = self.folder
        status = self._status()
        seen = Seen(
            name,
            "running" if status.running else "finished" if status.finished else "stopped",
            "",
            status,
            standing=None if status.finished else self._standing(),
            recipe=self._when(run / layout.RECIPE, lambda: read_stored(run)),
            report=(run / layout.REPORT).exists() and status.finished,
            task=self._task() if status.running else None,
            used=self._usage.lines(),
        )
        shown = {"curves": self._curves(seen.recipe), "policies": self._policies(seen), "best": _best(status)}
        seen = replace(seen, sentence=_sentence(seen), **shown)
        if status.finished and (run / layout.SUMMARY).exists():
            return replace(seen, **self._result())
        return replace(seen, **self._newest())

    def _status(self) -> RunStatus:
        """Read anew where the manifest, or who works on it, has changed."""
        run, held = self.folder, is_held(self.folder / layout.RUN_LOCK)
        return self._when(run / layout.MANIFEST, lambda: read_status(run), held, name="status")

    def _task(self) -> Task | None:
        now = read_now(self.folder)
        if now is None:
            return None
        left = "" if now.seconds_left is None else f"about {rough(now.seconds_left)} left"
        return Task(now.doing, now.done, now.total, now.note, left)

    def _standing(self) -> Standing | None:
        standing = None if self.ballot is None else self.ballot.standing()
        return standing if standing is not None and standing.wanted else None

    def _curves(self, recipe: Mapping[str, Any]) -> Sequence[Figure]:
        """The fits so far, that which goes on included."""
        folders = [layout.round_folder(t) for t in range(recipe["rounds"])]
        paths = [self.folder / name for f in folders for name in (f.fit_log, f.fit_steps)]

        def draw() -> Sequence[Figure]:
            fits = [_rows(self.folder / f.fit_log) or _rows(self.folder / f.fit_steps) for f in folders]
            return fit_figures(fits, recipe)

        return self._when(paths, draw, name="curves")

    def _policies(self, seen: Seen) -> Sequence[Figure]:
        """Win rate, length, diversity and KL of the policies that were measured so far."""
        paths = [self.folder / layout.policy_measures(t) for t in range(seen.recipe["rounds"] + 1)]
        evaluated = () if seen.status is None else seen.status.evaluated

        def draw() -> Sequence[Figure]:
            return policy_figures([read_json(path) for path in paths if path.exists()], seen.recipe, evaluated)

        return self._when(paths, draw, len(evaluated), name="policies")

    def _result(self) -> dict[str, Any]:
        def read() -> dict[str, Any]:
            summary: Summary = load_summary(self.folder)
            rows = [
                {
                    "prompt": one["prompt"],
                    "answers": [(who, text) for who in ("start", "final") for text in one[who][:1]],
                }
                for one in summary["samples"][:SAMPLES]
            ]
            about = {"lead": lead(summary), "warnings": summary["warnings"]}
            return {**about, "samples": rows, "samples_of": "held-out prompts, the start and the final policy"}

        return self._when(self.folder / layout.SUMMARY, read)

    def _newest(self) -> dict[str, Any]:
        def read() -> dict[str, Any]:
            stages = [name for name in read_manifest(self.folder) if layout.stage_name(name) == "sample"]
            if not [name for name in stages if not layout.in_evaluation(name)]:
                return {}
            rows = in_training(self.folder, SAMPLES)
            shown = [
                {"prompt": row["prompt"], "answers": [(policy_name(a["policy"]), a["text"]) for a in row["answers"]]}
                for row in rows
            ]
            return {"samples": shown, "samples_of": f"what {rows[0]['stage']} trains on" if rows else ""}

        return self._when(self.folder / layout.MANIFEST, read, name="newest")

    def _when(self, paths: Path | Sequence[Path], read: Callable[[], T], *more: object, name: str = "") -> T:
        """What `read` returned, asked again when one of the files changes."""
        paths = [paths] if isinstance(paths, Path) else paths
        sign = (*more, *map(_signature, paths))
        known = self._kept.get(name or str(paths[0]))
        if known is None or known[0] != sign:
            self._kept[name or str(paths[0])] = known = (sign, read())
        return known[1]


def _signature(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


def _rows(path: Path) -> list[FitRow]:
    """The steps of a fit, in order; those that a resumed fit did again count once, and a half-written line not."""
    rows: list[FitRow] = []
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if not isinstance(row, dict) or not isinstance(row.get("step", 0), int):
            continue
        while rows and (rows[-1].get("step") or 0) >= row.get("step", 0):
            rows.pop()
        rows.append(row)
    return rows


def _best(status: RunStatus) -> str:
    """What evaluation.every says so far."""
    if not status.evaluated:
        return ""
    from sparring.evaluation.best_policy import in_words, stop_in_words

    best = [in_words(status.best)] if status.best else []
    return " ".join([*best, *([f"{stop_in_words(status.stopped)}."] if status.stopped else [])])


def _sentence(seen: Seen) -> str:
    """The state in a sentence."""
    status = seen.status
    assert status is not None
    if status.finished:
        return f"{counted(status.rounds, 'round')} of {status.algorithm} in {duration(status.seconds)}."
    where = f"{status.rounds_done} of {counted(status.rounds, 'round')} of {status.algorithm} fitted"
    left = "" if status.seconds_left is None else f", about {rough(status.seconds_left)} left"
    if status.running:
        return f"{where}{left}."
    following = f" Next: {layout.title_of(status.next_stage, status.rounds)}." if status.next_stage else ""
    return f"{where}.{following} The same command goes on."
