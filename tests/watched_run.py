"""A run on a cluster that tells what happens, and waits where it is to lose a host: `test_hosts.py` starts it.

    python -m watched_run RECIPE OUT ADDRESS PLAN

PLAN: {stage: "inside" | "boundary"} as JSON. Standard output has a JSON line for each loss that is due, {stage, when,
address}; a line on standard input says that the host is gone.
"""

from __future__ import annotations

import contextlib
import json
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from sparring.fleet.join import cluster
from sparring.fleet.work import Job, Listeners, Make, Places, Shards, Work, using
from sparring.recipe.reading import load_recipe
from sparring.rounds.run import run
from sparring.runtime.progress import Progress

LONG = 2.0
"""seconds that a shard, or a step of a fit, takes where a host is to be lost inside it; it is after half of them"""
STAGES = {"sample own": "sample", "judge": "judge", "anchor": "anchor", "fit": "fit"}


@dataclass(frozen=True)
class Slowly:
    """Opens work whose shards take `LONG` more."""

    open: Any

    def __call__(self, places: Places) -> AbstractContextManager[Make]:
        """As `Work.open`."""
        return self._slow(places)

    @contextlib.contextmanager
    def _slow(self, places: Places) -> Iterator[Make]:
        with self.open(places) as make:
            yield lambda payload: (time.sleep(LONG), make(payload))[1]


def slow_fit(run_: Any, places: Places, root: Path, listeners: Any) -> Any:
    """A fit whose steps take longer."""
    from sparring.training import fit

    fit.check_tripwires = lambda row, bounds: time.sleep(LONG)
    return run_(places, root, listeners)


def stage_of(title: str) -> str:
    """Of a work's title; all that the evaluation does is one stage."""
    return next((stage for start, stage in STAGES.items() if title.startswith(start)), "evaluate")


class Losses:
    """Asks for the losses that are due, each once."""

    def __init__(self, plan: dict[str, str]) -> None:
        self.plan, self._begun = dict(plan), set[str]()

    def due(self, stage: str, when: str) -> bool:
        """Whether a host is to be lost now; says so once."""
        due = self.plan.get(stage) == when and stage not in self._begun
        self._begun |= {stage} if due else set()
        return due

    def lose(self, stage: str, address: str) -> None:
        """Have a host killed, and wait until it is."""
        print(json.dumps({"stage": stage, "when": self.plan.pop(stage), "address": address}), flush=True)
        sys.stdin.readline()


def watch(fleet: Any, losses: Losses, out: Path) -> None:
    """Have the fleet tell of its stages."""
    true_results, true_together = fleet.results, fleet.together

    def results(work: Work, shards: Shards) -> Iterator[tuple[int, Any]]:
        stage = stage_of(work.title)
        if shards.indices and losses.due(stage, "inside"):
            work = replace(work, key=f"slow {work.key}", open=Slowly(work.open))
            threading.Thread(target=soon, args=(losses, stage, fleet), daemon=True).start()
        yield from true_results(work, shards)
        if shards.indices and losses.due(stage, "boundary"):
            losses.lose(stage, fleet.members[-1].address)

    def together(job: Job, listeners: Listeners) -> Any:
        if losses.due("fit", "boundary"):
            losses.lose("fit", fleet.members[0].address)
        if losses.due("fit", "inside"):
            kept = [job.root / name for name in job.growing]
            job = replace(job, run=partial(slow_fit, job.run))
            threading.Thread(target=after, args=(kept, losses, fleet.members[0].address), daemon=True).start()
        return true_together(job, listeners)

    fleet.results, fleet.together = results, together


def soon(losses: Losses, stage: str, fleet: Any) -> None:
    """Lose the host of the first worker while it makes its first shard."""
    while fleet.members[0].ready is not None or not fleet.members[0].held:
        time.sleep(0.01)
    time.sleep(LONG / 2)
    losses.lose(stage, fleet.members[0].address)


def after(kept: list[Path], losses: Losses, address: str) -> None:
    """Lose a host when the fit has a checkpoint."""
    while not all(path.exists() for path in kept):
        time.sleep(0.05)
    losses.lose("fit", address)


def main(recipe: str, out: str, address: str, plan: str) -> None:
    """Run it."""
    losses = Losses(json.loads(plan))
    with cluster(address, None) as fleet, using(fleet):
        watch(fleet, losses, Path(out))
        run(load_recipe(recipe), Path(out), Progress(quiet=True))
    assert not losses.plan, f"never lost a host in {losses.plan}"


if __name__ == "__main__":
    main(*sys.argv[1:])
